"""A node's CNI state as the node reported it (pure). What is missing or of a wrong type counts as not said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import NodeRecord

#: The key of a record's host facts that carries the report.
KEY = "cni"


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping that lies deeper in a value, {} for anything else."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def rows(value: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the mappings of a list."""
    found = mapping(value).get(key)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def text(value: Any, key: str, limit: int = 300) -> str:
    """Return a text, cleaned; "" for anything else."""
    found = mapping(value).get(key)
    return one_line(found, limit) if isinstance(found, str) else ""


def texts(value: Any, key: str) -> tuple[str, ...]:
    """Return the texts of a list, cleaned."""
    found = mapping(value).get(key)
    return tuple(one_line(item, 300) for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def number(value: Any, key: str) -> int | None:
    """Return a whole number, None for anything else."""
    found = mapping(value).get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


@dataclass(frozen=True)
class NetworkState:
    """How full one network of a node is. ``usable`` and ``free`` are None where the node does not know them."""

    name: str
    leases: int = 0
    usable: int | None = None
    free: int | None = None
    live: int = 0
    stale: int = 0
    young: int = 0
    in_use: int = 0
    unclear: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether no new pod can get an address."""
        return self.free == 0


@dataclass(frozen=True)
class Refusal:
    """Why a node would release nothing."""

    code: str
    what: str
    why: str = ""
    next: str = ""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a node's CNI, as the node judged it. ``rung``: the number of the one that helps."""

    code: str
    what: str
    why: str = ""
    next: str = ""
    rung: int | None = None


@dataclass(frozen=True)
class Orphan:
    """A thing of a CNI that nobody uses, as the node judged it. ``refused``: why it stays, "" where it may go."""

    id: str
    kind: str
    name: str
    owner: str
    refused: str = ""
    proof: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ping:
    """One echo request from the node to one of its pods."""

    ip: str
    pod: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class NodeState:
    """One look at a node.

    Args:
        name: the node, as the inventory calls it.
        cni: the CNI in use, "" for none.
        conf: its configuration file.
        leftovers: sentences about what other CNIs left behind.
        missing: plugins that the configuration names and that are not there.
        network_ready: what the runtime says; None where it does not.
        sandboxes: how many the runtime has, None where it could not be asked.
        scan: what the node wants back with a release, as it gave it.
        waiting: pods of the node that wait for a network, by the API; None where nobody asked.
    """

    name: str
    cni: str = ""
    conf: str = ""
    network: str = ""
    loaded: str = ""
    leftovers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    network_ready: bool | None = None
    reason: str = ""
    sandboxes: int | None = None
    networks: tuple[NetworkState, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    faults: tuple[Fault, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    not_checked: tuple[str, ...] = ()
    pings: tuple[Ping, ...] = ()
    scan: Mapping[str, Any] = field(default_factory=dict)
    waiting: int | None = None

    @property
    def stale(self) -> int:
        """How many leases look stale."""
        return sum(network.stale for network in self.networks)

    @property
    def exhausted(self) -> bool:
        """Whether a network has no address left."""
        return any(network.exhausted for network in self.networks)


def report_of(record: NodeRecord) -> Mapping[str, Any]:
    """Return the report that a node's record carries, {} for none."""
    return mapping(record.host, KEY)


def state_of(record: NodeRecord, waiting: int | None = None) -> NodeState:
    """Return what a node's record says of its CNI."""
    report = report_of(record)
    cni = mapping(report, "cni")
    ready = cni.get("network_ready")
    return NodeState(
        name=record.name,
        cni=text(cni, "name"),
        conf=text(cni, "file"),
        network=text(cni, "network"),
        loaded=text(cni, "loaded"),
        leftovers=texts(cni, "leftovers"),
        missing=texts(cni, "missing"),
        network_ready=ready if isinstance(ready, bool) else None,
        reason=text(cni, "reason"),
        sandboxes=number(mapping(report, "sandboxes"), "all"),
        networks=tuple(_network(row) for row in rows(report, "networks")),
        refusals=tuple(
            Refusal(*(text(row, part, 500) for part in ("code", "what", "why", "next")))
            for row in rows(report, "refusals")
        ),
        faults=tuple(
            Fault(**{part: text(row, part, 500) for part in ("code", "what", "why", "next")}, rung=number(row, "rung"))
            for row in rows(report, "faults")
        ),
        orphans=tuple(_orphan(row) for row in rows(report, "orphans")),
        not_checked=tuple(
            sentence
            for key in ("not_checked", "orphans_not_checked", "faults_not_checked")
            for sentence in texts(report, key)
        ),
        pings=tuple(
            Ping(text(row, "ip", 60), text(row, "pod"), row.get("ok") is True, text(row, "detail"))
            for row in rows(report, "pings")
        ),
        scan=mapping(report, "scan"),
        waiting=waiting,
    )


def _orphan(row: Mapping[str, Any]) -> Orphan:
    told = {part: text(row, part) for part in ("id", "kind", "name", "owner", "refused")}
    return Orphan(**told, proof=texts(row, "proof"))


def _network(row: Mapping[str, Any]) -> NetworkState:
    counts = {key: number(row, key) or 0 for key in ("leases", "live", "stale", "young", "in_use", "unclear")}
    return NetworkState(text(row, "name", 130), usable=number(row, "usable"), free=number(row, "free"), **counts)
