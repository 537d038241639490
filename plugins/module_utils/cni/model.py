# SPDX-License-Identifier: Apache-2.0
"""Plain data: a lease, the network it belongs to, one scan of a node, and what was decided."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def address_of(text: Any) -> Optional[Address]:
    """Return an IP address, None for anything else. Addresses are compared as objects, never as text."""
    if not isinstance(text, str):
        return None
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None


@dataclass(frozen=True)
class Span:
    """A run of addresses that host-local may give out, both ends included, without the gateway."""

    first: Address
    last: Address
    gateway: Optional[Address] = None

    def holds(self, address: Address) -> bool:
        """Tell whether an address may be given out of this span."""
        same = address.version == self.first.version and address != self.gateway
        return same and int(self.first) <= int(address) <= int(self.last)

    @property
    def size(self) -> int:
        """How many addresses can be given out."""
        within = self.gateway is not None and replace(self, gateway=None).holds(self.gateway)
        return int(self.last) - int(self.first) + 1 - (1 if within else 0)


@dataclass(frozen=True)
class Network:
    """A network whose addresses host-local gives out on this node.

    Attributes:
        name: of the network, which names the directory of its leases.
        directory: of its leases, as the node sees it.
        spans: what can be given out; empty where the configuration does not say.
        source: the configuration file.
    """

    name: str
    directory: str
    spans: Tuple[Span, ...] = ()
    source: str = ""

    @property
    def usable(self) -> Optional[int]:
        """How many addresses can be given out, None where it is not known."""
        return sum(span.size for span in self.spans) if self.spans else None


@dataclass(frozen=True)
class Lease:
    """One file of host-local: an address held by a sandbox.

    Attributes:
        network: the network's name.
        ip: canonical text of the address.
        id: the sandbox; "" where the file's content is not understood.
        ifname: the interface in the sandbox, "" in files of old versions.
        inode, mtime_ns: of the file. With the id they tell this lease from a later one of the same address.
    """

    network: str
    ip: str
    id: str
    ifname: str
    inode: int
    mtime_ns: int

    @property
    def key(self) -> Tuple[str, str]:
        """Network and address."""
        return self.network, self.ip

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Any) -> Optional[Lease]:
        """Build a lease from :meth:`to_dict`'s mapping, None from anything else."""
        row: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        network, ip, sandbox, ifname = (row.get(name) for name in ("network", "ip", "id", "ifname"))
        inode, mtime_ns = row.get("inode"), row.get("mtime_ns")
        if not (isinstance(network, str) and isinstance(ip, str) and isinstance(sandbox, str)):
            return None
        if not (isinstance(ifname, str) and isinstance(inode, int) and isinstance(mtime_ns, int)):
            return None
        return cls(network, ip, sandbox, ifname, inode, mtime_ns)


@dataclass(frozen=True)
class Sandbox:
    """A pod's sandbox as the container runtime lists it, in whatever state.

    Attributes:
        created_ns: wall clock when it was made, 0 where the runtime did not say.
    """

    id: str
    ready: bool = True
    name: str = ""
    namespace: str = ""
    uid: str = ""
    created_ns: int = 0


@dataclass
class Scan:
    """What a node held at one moment, read in this order: leases, sandboxes, addresses.

    Attributes:
        taken: CLOCK_BOOTTIME in seconds.
        wall: the wall clock in seconds at the same moment.
        leases: all leases of the scanned networks.
        sandboxes: every sandbox, by id.
        used: canonical addresses found in network namespaces and host routes -> where.
        pods: canonical addresses of this node's pods in the API, None where nobody asked.
        kubelet_pods: how many pods the kubelet keeps directories of.
        skew: seconds by which the wall clock moved against the clock since boot while the oldest sandbox runs;
            None where no sandbox tells.
    """

    boot_id: str
    taken: float
    wall: float
    leases: List[Lease] = field(default_factory=list)
    sandboxes: Dict[str, Sandbox] = field(default_factory=dict)
    used: Dict[str, str] = field(default_factory=dict)
    pods: Optional[Sequence[str]] = None
    kubelet_pods: int = 0
    skew: Optional[float] = None

    @property
    def offset(self) -> float:
        """The wall clock at boot, in seconds: it moves only when the clock is set."""
        return self.wall - self.taken


@dataclass(frozen=True)
class Judged:
    """A lease, what it is, and why.

    Attributes:
        verdict: ``live`` (a sandbox has its id), ``stale``, ``young`` (no sandbox, but too new to tell), ``in-use``
            (no sandbox, but somebody has the address), ``unclear`` (the file is not understood).
    """

    lease: Lease
    verdict: str
    why: str


@dataclass(frozen=True)
class Refusal:
    """Why nothing is released, and what a person does next. ``code`` is stable."""

    code: str
    what: str
    why: str = ""
    next: str = ""

    def to_dict(self) -> Dict[str, str]:
        """Return a JSON-able mapping."""
        return asdict(self)
