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
from tune_nodes.lab.command import run
from tune_nodes.lab.filesystem import authorize
from tune_nodes.lab.model import Layout
from tune_nodes.lab.process import netns_of, signal_members

if TYPE_CHECKING:
    from tune_nodes.lab.node import LabNode

BLACKHOLE_ABOVE = 1400  # bytes of IP packet that still pass
DELAY = 3  # seconds before a slow node begins a command

DRIFT_KEY, DRIFT_VALUE = "net.core.somaxconn", "128"
FOREIGN_KEY, FOREIGN_VALUE = "net.ipv4.tcp_slow_start_after_idle", "1"
FOREIGN_FILE = "/etc/sysctl.d/99-foreign.conf"
FOREIGN_TEXT = f"# Set by someone else's installer.\n{FOREIGN_KEY} = {FOREIGN_VALUE}\n"

# What sshd runs for the client instead of its command; a shell without one, sftp like any command.
_FORCED = 'exec "$SHELL" -c "${SSH_ORIGINAL_COMMAND:-exec $SHELL -l}"'
_SLOW = f"sleep {DELAY}; {_FORCED}"
_HANG = "exec sleep infinity"

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


def blackhole_rules(on: bool) -> str:
    """Return the rules for nft in a node: frames from the wire above the limit vanish, without a word to the sender."""
    table = "table netdev tn_lab"
    body = (
        f"{table} {{\n  chain wire {{\n    type filter hook ingress device eth0 priority 0\n"
        f"    ip length > {BLACKHOLE_ABOVE} drop\n  }}\n}}\n"
    )
    return f"{table}\ndelete {table}\n" + (body if on else "")


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


def _segmentation(node: LabNode, state: str) -> None:
    # Offloaded segments would reach the node as one giant frame, which no wire carries and the rule would misjudge.
    layout = node.lab.state.layout
    port = layout.port(node.number)
    run(["ip", "netns", "exec", layout.hub, "ethtool", "-K", port, "tso", state, "gso", state])


def _blackhole(node: LabNode) -> Data:
    _segmentation(node, "off")
    node.run(["nft", "-f", "-"], input=blackhole_rules(True))
    return {}


def _fill_blackhole(node: LabNode, data: Data) -> None:
    node.run(["nft", "-f", "-"], input=blackhole_rules(False))
    _segmentation(node, "on")


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
        f"packets above {BLACKHOLE_ABOVE} bytes to the node vanish silently", _blackhole, _fill_blackhole
    ),
    "slow": Fault(f"each new connection's command begins {DELAY} s late", _force(_SLOW), _unforce),
    "hang": Fault("each new connection logs in and then hangs", _force(_HANG), _unforce),
    "freeze": Fault("all processes of the node stand still, open connections with them", _freeze, _thaw),
    "drift": Fault(f"{DRIFT_KEY} is set to {DRIFT_VALUE} by hand", _drift, _undrift),
    "foreign-sysctl": Fault(
        f"{FOREIGN_FILE} and the kernel hold {FOREIGN_KEY} = {FOREIGN_VALUE}", _foreign, _unforeign
    ),
}

#: These replace each other: both are the command that sshd runs at a login.
FORCED = ("slow", "hang")
#: Gone after the power was cut; the other faults lie outside the node or on its disk.
RUNTIME_ONLY = ("mtu-blackhole", "freeze", "drift")
