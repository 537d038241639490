"""Faults to inject into a node, and how each is taken back.

Most lie outside what the tool manages (in the hub's bridge, in what sshd reads at a login), so that a node under a
fault is byte for byte what it was. ``drift`` and ``foreign-sysctl`` are changes in the node: that is their point.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tune_nodes.errors import TuneError
from tune_nodes.lab import hop
from tune_nodes.lab.command import run
from tune_nodes.lab.filesystem import authorize
from tune_nodes.lab.model import Layout
from tune_nodes.lab.process import netns_of, signal_members

if TYPE_CHECKING:
    from tune_nodes.lab.node import LabNode

DELAY = 3  # seconds before a slow node begins a command

DRIFT_KEY, DRIFT_VALUE = "net.core.somaxconn", "128"
FOREIGN_KEY, FOREIGN_VALUE = "net.ipv4.tcp_slow_start_after_idle", "1"
FOREIGN_FILE = "/etc/sysctl.d/99-foreign.conf"
FOREIGN_TEXT = f"# Set by someone else's installer.\n{FOREIGN_KEY} = {FOREIGN_VALUE}\n"

# What sshd runs for the client instead of its command; a shell without one, sftp like any command.
_FORCED = 'exec "$SHELL" -c "${SSH_ORIGINAL_COMMAND:-exec $SHELL -l}"'
_SLOW = f"sleep {DELAY}; {_FORCED}"
_HANG = "exec sleep infinity"

_SWALLOWS = f"one hop swallows packets above {hop.LIMIT} bytes"

Data = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One fault: ``apply`` returns what ``heal`` needs to take it back."""

    summary: str
    apply: Callable[[LabNode], Data]
    heal: Callable[[LabNode, Data], None]


def hub_rules(cut: Iterable[str]) -> str:
    """Return the hub's whole ruleset for nft: the ports whose ssh is cut. Established connections stall too."""
    ports = sorted(cut)
    rules = "".join(f"    oifname {port} tcp dport 22 drop\n    iifname {port} tcp sport 22 drop\n" for port in ports)
    table = "table bridge tn_lab"
    chain = "  chain forward {\n    type filter hook forward priority 0\n" + rules + "  }\n"
    return f"{table}\ndelete {table}\n" + (f"{table} {{\n{chain}}}\n" if ports else "")


def apply_hub_rules(layout: Layout, cut: Iterable[int]) -> None:
    """Make the hub drop ssh to and from the nodes of these numbers, and nothing else."""
    rules = hub_rules(layout.port(number) for number in cut)
    run(["ip", "netns", "exec", layout.hub, "nft", "-f", "-"], input=rules)


def _others_cut(node: LabNode) -> set[int]:
    return {state.number for state in node.lab.state.nodes if "no-ssh" in state.faults} - {node.number}


def _cut(node: LabNode) -> Data:
    apply_hub_rules(node.lab.state.layout, _others_cut(node) | {node.number})
    return {}


def _join(node: LabNode, data: Data) -> None:
    apply_hub_rules(node.lab.state.layout, _others_cut(node))


def _blackhole(inward: bool, outward: bool, ssh: bool = False) -> Callable[[LabNode], Data]:
    def apply(node: LabNode) -> Data:
        layout = node.lab.state.layout
        hop.insert(layout, node.number, inward, outward, None if ssh else layout.controller)
        return {}

    return apply


def _fill_blackhole(node: LabNode, data: Data) -> None:
    hop.remove(node.lab.state.layout, node.number)


def _force(command: str) -> Callable[[LabNode], Data]:
    def apply(node: LabNode) -> Data:
        authorize(node.files, node.user, node.lab.public_key, command)
        return {}

    return apply


def _unforce(node: LabNode, data: Data) -> None:
    authorize(node.files, node.user, node.lab.public_key)


def _freeze(node: LabNode) -> Data:
    signal_members({netns_of(node.init.pid) or -1}, signal.SIGSTOP, spare=node.init)
    return {}


def _thaw(node: LabNode, data: Data) -> None:
    signal_members({netns_of(node.init.pid) or -1}, signal.SIGCONT, spare=node.init)


def _drift(node: LabNode) -> Data:
    before = node.read_sysctl(DRIFT_KEY)
    node.write_sysctl(DRIFT_KEY, DRIFT_VALUE)
    return {"before": before}


def _undrift(node: LabNode, data: Data) -> None:
    if node.read_sysctl(DRIFT_KEY) == DRIFT_VALUE:
        node.write_sysctl(DRIFT_KEY, str(data["before"]))


def _foreign(node: LabNode) -> Data:
    before = node.read_sysctl(FOREIGN_KEY)
    if node.run(["test", "-e", FOREIGN_FILE], check=False).returncode == 0:
        raise TuneError(f"{FOREIGN_FILE} exists on {node.name} already", "the lab overwrites no one's file")
    node.run(["tee", FOREIGN_FILE], input=FOREIGN_TEXT)
    node.write_sysctl(FOREIGN_KEY, FOREIGN_VALUE)
    return {"before": before}


def _unforeign(node: LabNode, data: Data) -> None:
    if node.run(["cat", FOREIGN_FILE], check=False).stdout == FOREIGN_TEXT:
        node.run(["rm", FOREIGN_FILE])
    if node.read_sysctl(FOREIGN_KEY) == FOREIGN_VALUE:
        node.write_sysctl(FOREIGN_KEY, str(data["before"]))


FAULTS: dict[str, Fault] = {
    "no-ssh": Fault("ssh is cut, open connections too; the node and its sshd go on", _cut, _join),
    "mtu-blackhole": Fault(
        f"{_SWALLOWS} between the node and the others, both ways; ssh goes on",
        _blackhole(inward=True, outward=True),
        _fill_blackhole,
    ),
    "mtu-blackhole-in": Fault(
        f"{_SWALLOWS} on their way to the node", _blackhole(inward=True, outward=False), _fill_blackhole
    ),
    "mtu-blackhole-out": Fault(
        f"{_SWALLOWS} on their way from the node", _blackhole(inward=False, outward=True), _fill_blackhole
    ),
    "mtu-blackhole-ssh": Fault(
        f"{_SWALLOWS} to and from the node, this machine's too: new logins hang",
        _blackhole(inward=True, outward=True, ssh=True),
        _fill_blackhole,
    ),
    "slow": Fault(f"each new connection's command begins {DELAY} s late", _force(_SLOW), _unforce),
    "hang": Fault("each new connection logs in and then hangs", _force(_HANG), _unforce),
    "freeze": Fault("all processes of the node stand still, open connections with them", _freeze, _thaw),
    "drift": Fault(f"{DRIFT_KEY} is set to {DRIFT_VALUE} by hand", _drift, _undrift),
    "foreign-sysctl": Fault(
        f"{FOREIGN_FILE} and the kernel hold {FOREIGN_KEY} = {FOREIGN_VALUE}", _foreign, _unforeign
    ),
}

#: A node has one hop of its own.
HOPS = ("mtu-blackhole", "mtu-blackhole-in", "mtu-blackhole-out", "mtu-blackhole-ssh")
#: Of each group a node has one fault at most, with the reason.
EXCLUSIVE = ((("slow", "hang"), "a login has one forced command"), (HOPS, "there is one hop"))
#: Gone after the power was cut; the other faults lie outside the node or on its disk.
RUNTIME_ONLY = ("freeze", "drift")
