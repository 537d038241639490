"""From rows of addresses, as nodes tell them, to who talks to whom (pure). The rows are not to be trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.cluster.objects import at, mappings, text
from tune_nodes.policy.model import Cidr, Peer, Pod, Snapshot, strings

PROTOCOLS = ("TCP", "UDP", "SCTP")
#: How a connection was seen.
CONNTRACK, SOCKET = "conntrack", "socket"


@dataclass(frozen=True)
class Row:
    """A connection as a node saw it: plain addresses."""

    source: str
    target: str
    port: int
    protocol: str
    seen: str


@dataclass(frozen=True)
class Talk:
    """Who called whom. An end is a pod, or one address that no pod has."""

    source: Peer
    target: Peer
    port: int
    protocol: str


@dataclass(frozen=True)
class Observed:
    """What was seen.

    Args:
        talks: each once, in a fixed order.
        nodes: that watched.
        seconds: for how long.
        begun: when (UTC).
        pods: whose sockets were looked at.
        untracked: nodes whose kernel shows no conntrack: short connections and UDP were not seen there.
        missing: sentences on what was not watched, and why.
    """

    talks: tuple[Talk, ...] = ()
    nodes: tuple[str, ...] = ()
    seconds: float = 0
    begun: str = ""
    pods: int = 0
    untracked: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())


def rows_of(raw: Any, limit: int = 10000) -> Iterator[Row]:
    """Yield the rows of a node's answer; what is none is passed over."""
    for one in (raw if isinstance(raw, list) else [])[:limit]:
        if not (isinstance(one, list) and len(one) == 5):
            continue
        source, target, port, protocol, seen = one
        good = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536 and protocol in PROTOCOLS
        if good and seen in (CONNTRACK, SOCKET) and _address(source) and _address(target):
            yield Row(source, target, port, protocol, seen)


def _address(raw: Any) -> bool:
    if not isinstance(raw, str) or len(raw) > 60:
        return False
    try:
        found = ipaddress.ip_address(raw)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_multicast or found.is_unspecified)


def talks(rows: Iterable[Row], snapshot: Snapshot, services: Sequence[Mapping[str, Any]]) -> tuple[Talk, ...]:
    """Return who talks to whom.

    Args:
        rows: of all nodes.
        snapshot: whose pods have the addresses.
        services: Service objects: a socket shows a service's address where another was called in its place.
    """
    behind = _behind(services, snapshot)
    found: dict[tuple[str, ...], Talk] = {}
    for row in rows:
        source = snapshot.pod_at(row.source) or Cidr(row.source)
        called = behind.get((row.target, row.port, row.protocol))
        plain: list[tuple[Peer, int]] = [(snapshot.pod_at(row.target) or Cidr(row.target), row.port)]
        for target, port in called if called is not None else plain:
            talk = Talk(source, target, port, row.protocol)
            found[shown(source), shown(target), f"{port:05d}", row.protocol] = talk
    return tuple(talk for _, talk in sorted(found.items()))


def shown(peer: Peer) -> str:
    """Return an end as it is named: "shop/web-0", or its address."""
    return peer.ref if isinstance(peer, Pod) else peer.text


def _behind(
    services: Iterable[Mapping[str, Any]], snapshot: Snapshot
) -> dict[tuple[str, int, str], list[tuple[Peer, int]]]:
    """Return the pods behind each service's address and port, with their own ports."""
    found: dict[tuple[str, int, str], list[tuple[Peer, int]]] = {}
    for service in services:
        selector, namespace = strings(at(service, "spec", "selector")), text(service, "metadata", "namespace")
        addresses = at(service, "spec", "clusterIPs")
        mine = [
            pod
            for pod in snapshot.pods
            if selector and pod.namespace == namespace and selector.items() <= dict(pod.labels).items()
        ]
        for row in mappings(service, "spec", "ports"):
            port, protocol = row.get("port"), row.get("protocol", "TCP")
            if not isinstance(port, int) or protocol not in PROTOCOLS:
                continue
            for address in addresses if isinstance(addresses, list) else ():
                if isinstance(address, str):
                    pairs = [(pod, number) for pod in mine if (number := _number(row, pod, protocol))]
                    found[address, port, protocol] = list(pairs)
    return found


def _number(row: Mapping[str, Any], pod: Pod, protocol: str) -> int:
    """Return the port of a pod that a service's port leads to, 0 where it leads nowhere."""
    wanted = row.get("targetPort", row.get("port"))
    if isinstance(wanted, str):
        wanted = next((one.number for one in pod.ports if (one.name, one.protocol) == (wanted, protocol)), 0)
    return wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else 0
