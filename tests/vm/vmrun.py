"""What the tests of the vm lane share: the command line where the machine is reachable, and looks at the machine.

Looks use the machine's own programs (sysctl, ethtool, journalctl), never the node code.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clirun import Cli
from nodecall import BOOTSTRAP, answer, payload
from vmbed.machine import Machine
from vmbed.network import NICS

from commandline import Done

STATE = "/var/lib/tune-nodes"
ARTICLE = {"net.core.rmem_max": "134217728", "net.core.wmem_max": "134217728"}
#: What the machine's kernel starts with, of all that the tests change.
OLD = {
    "net.core.rmem_max": "212992",
    "net.core.wmem_max": "212992",
    "net.core.somaxconn": "4096",
    "net.core.netdev_max_backlog": "1000",
    "net.ipv4.tcp_fin_timeout": "60",
}
#: Everything of ours, as a shell removes it: a test that failed may have left any part of it.
_FORGET = """
for unit in $(systemctl list-units --all --plain --no-legend 'tune-nodes-revert-*' | cut -d' ' -f1); do
  systemctl stop "$unit"
done
rm -rf /var/lib/tune-nodes /etc/tune-nodes /etc/sysctl.d/90-tune-nodes.conf /etc/sysctl.d/99-test.conf
rm -f /etc/systemd/system/tune-nodes-boot.service /etc/systemd/system/*.wants/tune-nodes-boot.service
rm -f /etc/udev/rules.d/90-tune-nodes.rules
systemctl daemon-reload
"""


class VmCli(Cli):
    """The command line, run in the machine's network namespace."""

    def __init__(self, directory: Path, machine: Machine, inventory: Path | None = None) -> None:
        super().__init__(directory, inventory or machine.inventory)
        self.machine = machine

    def argv(self, *words: str) -> list[str]:
        """Return the command line with the way into the namespace, and patience: an emulated CPU logs in slowly."""
        patient = ("--timeout", "60") if words and words[0] in ("plan", "apply", "rollback") else ()
        return [*self.machine.inside, *super().argv(*words, *patient)]

    def __call__(self, *words: str, timeout: float = 600, **env: str) -> Done:
        """Run a command without a terminal and wait for it."""
        return super().__call__(*words, timeout=timeout, **env)


def reset(vm: Machine) -> None:
    """Make the machine as it was before any test; one that is off is switched on."""
    if not vm.running():
        vm.power_on()
    lines = [_FORGET, *(f"sysctl -qw {key}={value}" for key, value in OLD.items())]
    for nic in NICS:
        lines.append(f"ethtool -L eth{nic.number} combined 2 || true")
        lines.append(f"for f in /sys/class/net/eth{nic.number}/queues/rx-*/rps_cpus; do echo 0 >$f; done")
    vm.run("sh", "-e", input="\n".join([*lines, "modprobe -r nf_conntrack || true", ""]))


def held(vm: Machine, *keys: str) -> dict[str, str]:
    """Return values as the sysctl program reads them; those of OLD unless keys are given."""
    wanted = keys or tuple(OLD)
    lines = vm.run("sysctl", "-n", *wanted).splitlines()
    return dict(zip(wanted, (" ".join(line.split()) for line in lines), strict=True))


def channels(vm: Machine, nic: str = "eth0") -> int:
    """Return the combined queues in use as the ethtool program reads them."""
    now = vm.run("ethtool", "-l", nic).split("Current hardware settings:")[1]
    return int(now.split("Combined:")[1].split()[0])


def ours(vm: Machine) -> list[str]:
    """Return the files of ours below /etc."""
    return sorted(vm.run("find", "/etc", "-name", "*tune-nodes*").split())


def processes(vm: Machine) -> list[str]:
    """Return the command lines of tune-nodes processes on the machine."""
    lines = vm.run("ps", "-eo", "args").splitlines()
    return [line for line in lines if ("tune-nodes" in line or "tune_nodes" in line) and "find /etc" not in line]


def states(vm: Machine) -> dict[str, str]:
    """Return transaction -> state as their files are named; the node is not asked, so nothing is settled by it."""
    found = vm.run("find", f"{STATE}/tx", "-mindepth", "2", "-maxdepth", "2", "-name", "[A-Z]*", check=False).split()
    return {Path(path).parent.name: Path(path).name for path in found}


def boot_report(vm: Machine) -> dict[str, Any]:
    """Return what the boot unit last said in this boot's journal."""
    lines = vm.run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "tune-nodes-boot.service").splitlines()
    found = json.loads([line for line in lines if line.startswith("{")][-1])
    assert isinstance(found, dict)
    return found


def boottime(vm: Machine) -> float:
    """Return the machine's seconds since boot, sleep included (CLOCK_BOOTTIME)."""
    return float(vm.run("cat", "/proc/uptime").split()[0])


def wait_on(vm: Machine, condition: str, seconds: int = 60) -> None:
    """Wait on the machine itself until a shell command succeeds: a look through ssh would come too late."""
    vm.run("timeout", str(seconds), "sh", "-c", f"until {condition}; do sleep 0.05; done", timeout=seconds + 20)


def node_argv(vm: Machine, hook: str = "") -> list[str]:
    """Return the argument list that sends a request to the node code as the action does, over a new connection.

    Args:
        hook: Python that runs first in the interpreter that answers.
    """
    return vm.ssh("/usr/bin/python3", "-I", "-S", "-c", hook + BOOTSTRAP)


def call(vm: Machine, op: str, hook: str = "", **request: Any) -> dict[str, Any]:
    """Send a request to the node code and return its answer."""
    asked = payload({**request, "op": op})
    done = subprocess.run(node_argv(vm, hook), input=asked, capture_output=True, timeout=200, check=False)
    return answer(done)


def profile(sysctl: Mapping[str, tuple[Any, str]], nic: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a profile document of key -> (value, class) and wishes for NICs."""
    why = {"reason": "a test", "source": "https://docs.kernel.org/networking/ip-sysctl.html"}
    keys = {key: {"value": value, "class": kind, **why} for key, (value, kind) in sysctl.items()}
    found: dict[str, Any] = {"description": "For a test"}
    if keys:
        found["sysctl"] = keys
    if nic:
        found["nic_queues"] = [{**wish, **why} for wish in nic]
    return found
