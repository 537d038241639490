"""The machine's network: a namespace of its own on this host, with nothing in it but the machine's taps.

No address of it can clash with one of this host, nothing else is reachable from the machine, and all of it goes
with the namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_nodes.lab.command import run

HOST, GUEST = "198.18.77.1", "198.18.77.2"  # on eth0; a range for tests of networks (RFC 2544)
BRIDGE = "br0"
BRIDGE_HOST = "198.18.78.1"
PREFIX = 24
MTU = 9000
QUEUES = 4
_NAME = re.compile(r"tnvm-([0-9]+)")  # the test process's pid is in the name


@dataclass(frozen=True)
class Nic:
    """One virtio NIC of the machine: its tap, and where the tap leads.

    Attributes:
        number: eth0 of the machine is 0.
        bridged: whether the tap is a port of the bridge, else it stands alone.
        rss: whether the device has an RSS table.
    """

    number: int
    bridged: bool = False
    rss: bool = False

    @property
    def tap(self) -> str:
        """The tap's name in the bed's namespace."""
        return f"tap{self.number}"

    @property
    def mac(self) -> str:
        """The machine's hardware address."""
        return f"52:54:00:12:77:{self.number:02x}"


#: eth0 is how the bed itself comes in; the others are for bonds, and eth3 is what their VLANs lead to.
NICS = (Nic(0), Nic(1, bridged=True, rss=True), Nic(2, bridged=True, rss=True), Nic(3, bridged=True))


def namespace(pid: int) -> str:
    """Return the name of a process's network namespace."""
    return f"tnvm-{pid}"


def orphans(names: Iterable[str], proc: Path = Path("/proc")) -> list[str]:
    """Return the namespaces among ``names`` that a killed test process left."""
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    return [match[0] for match in matches if not (proc / match[1]).exists()]


def commands(nics: Sequence[Nic]) -> list[list[str]]:
    """Return the ip commands that furnish an empty namespace."""
    found = [
        ["link", "set", "lo", "up"],
        ["link", "add", BRIDGE, "type", "bridge"],
        ["link", "set", BRIDGE, "mtu", str(MTU), "up"],
        ["address", "add", f"{BRIDGE_HOST}/{PREFIX}", "dev", BRIDGE],
    ]
    for nic in nics:
        found.append(["tuntap", "add", nic.tap, "mode", "tap", "multi_queue"])
        master = ["master", BRIDGE] if nic.bridged else []
        found.append(["link", "set", nic.tap, *master, "mtu", str(MTU), "up"])
        if not nic.bridged:
            found.append(["address", "add", f"{HOST}/{PREFIX}", "dev", nic.tap])
    return found


class Network:
    """The namespace of one machine. ``inside`` + argv runs a program in it."""

    def __init__(self, name: str, nics: Sequence[Nic] = NICS) -> None:
        self.name = name
        self.nics = tuple(nics)
        self.inside = ["nsenter", f"--net=/run/netns/{name}", "--"]

    def up(self) -> None:
        """Make it. Raises TuneError."""
        sweep()
        run(["ip", "netns", "add", self.name])
        for words in commands(self.nics):
            run(["ip", "-netns", self.name, *words])

    def down(self) -> None:
        """Remove it with everything in it; no error where it is gone."""
        run(["ip", "netns", "delete", self.name], check=False)


def sweep() -> None:
    """Remove what killed test processes left. Their machines died with them."""
    directory = Path("/run/netns")
    for name in orphans(path.name for path in directory.glob("tnvm-*")):
        run(["ip", "netns", "delete", name], check=False)
