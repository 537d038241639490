"""What pods are let connect to: services of the cluster, a node's port, addresses outside (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.errors import UsageError

#: Roles of the pods that measure: two on the node, one on a peer; and one on the node that nobody may reach.
POD, BESIDE, PEER, CLOSED = "a", "b", "p", "d"


@dataclass(frozen=True)
class Try:
    """A connection: from the pod of a role, to where. The protocol is TCP, or UDP for a name server."""

    role: str
    address: str
    port: int
    protocol: str = "TCP"

    def probe(self, uid: str) -> str:
        """Return it as a node is asked for it: from the pod with this uid."""
        return f"{uid} {self.address} {self.port} {self.protocol}"


@dataclass(frozen=True)
class Service:
    """Something to connect to, and how it is called.

    Args:
        what: the row's name.
        here: the connection that depends on the node.
        there: the same without the node: where it fails too, the node is not to blame.
    """

    what: str
    here: Try
    there: Try


def _alike(what: str, address: str, port: int, protocol: str = "TCP") -> Service:
    """Return what both a pod on the node and one on the peer connect to."""
    return Service(what, Try(POD, address, port, protocol), Try(PEER, address, port, protocol))


def services_of(kubernetes: Iterable[Mapping[str, Any]], system: Iterable[Mapping[str, Any]]) -> list[Service]:
    """Return the cluster's own services.

    Args:
        kubernetes: services of the namespace default.
        system: those of kube-system.
    """
    found = []
    for service in kubernetes:
        address, port = _address(service), _port(service, "port")
        if objects.name_of(service) == "kubernetes" and address and port:
            found.append(_alike("pod to ClusterIP (kubernetes)", address, port))
    for service in system:
        address = _address(service)
        if objects.texts(service, "metadata", "labels").get("k8s-app") == "kube-dns" and address:
            found += [_alike(f"DNS over {kind}", address, 53, kind) for kind in ("UDP", "TCP")]
            break
    return found


def node_port_of(
    services: Iterable[Mapping[str, Any]], node: Mapping[int, str], peer: Mapping[int, str]
) -> Service | None:
    """Return the first service with a port on every node: asked for at the node, by the peer's pod; None for none.

    One whose traffic stays on the node (externalTrafficPolicy Local) answers only where it has pods, and tells nothing.

    Args:
        services: of any namespace; read only as far as needed.
        node: the node's addresses by family.
        peer: the peer's.
    """
    both = [family for family in (4, 6) if family in node and family in peer]
    for service in services if both else ():
        kind = objects.text(service, "spec", "type", limit=20)
        local = objects.text(service, "spec", "externalTrafficPolicy", limit=20) == "Local"
        port = _port(service, "nodePort")
        if kind not in ("NodePort", "LoadBalancer") or local or not port:
            continue
        families = objects.at(service, "spec", "ipFamilies")
        wanted = {"IPv4": 4, "IPv6": 6}.get(str(families[0])) if isinstance(families, list) and families else 4
        if wanted in both:
            name = f"{objects.text(service, 'metadata', 'namespace')}/{objects.name_of(service)}"
            return Service(f"NodePort {port} ({name})", Try(PEER, node[wanted], port), Try(PEER, peer[wanted], port))
    return None


def outside(text: str) -> Service:
    """Return the service for ``ADDRESS:PORT``, with brackets around an IPv6 address. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        number = int(port) if port.isascii() and port.isdigit() else 0
    except ValueError:
        number = 0
    if not colon or not 0 < number < 65536 or (address.version == 6) is not (bare != host):
        raise UsageError(
            f"--egress cannot be {text[:60]!r}",
            "a name would need a name server, which may be what is broken",
            "--egress ADDRESS:PORT, such as 192.0.2.10:443 or [2001:db8::10]:443",
        )
    return _alike(f"pod to {text} (outside)", str(address), number)


def _address(service: Mapping[str, Any]) -> str:
    try:
        return str(ipaddress.ip_address(objects.text(service, "spec", "clusterIP", limit=60)))
    except ValueError:
        return ""  # "None": headless


def _port(service: Mapping[str, Any], key: str) -> int:
    """Return the first TCP port, 0 for none."""
    for row in objects.mappings(service, "spec", "ports"):
        port = row.get(key)
        if row.get("protocol", "TCP") == "TCP" and type(port) is int and 0 < port < 65536:
            return port
    return 0
