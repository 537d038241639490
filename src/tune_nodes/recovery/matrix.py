"""The verification matrix: what a node's pods reach, before a recovery and after it, by packets.

A pod of ours on the node, a second one beside it, one on a healthy peer. Names and services are also tried from the
peer: what fails there too is not this node's fault.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tune_nodes.cluster import objects
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.model import NodeFacts
from tune_nodes.probing.ends import Measured, measured
from tune_nodes.recovery.probepods import ProbePod, ProbePods
from tune_nodes.recovery.state import report_of, rows, text
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.models import NodeRecord

#: Roles of the pods.
POD, BESIDE, PEER = "a", "b", "p"
#: Seconds that a node measures paths at most.
SECONDS = 15.0
_ANSWERED = "answered"


@dataclass(frozen=True)
class Check:
    """One cell of the matrix. ``ok``: None where it was not, or could not be, measured."""

    what: str
    ok: bool | None
    said: str


@dataclass(frozen=True)
class Service:
    """An address in the cluster to connect to, and how it is called."""

    what: str
    address: str
    port: int
    protocol: str


@dataclass(frozen=True)
class Ends:
    """What is measured between.

    Args:
        node: the node, as the inventory calls it.
        peer: a healthy one; "" where there is none.
        pods: by role.
        addresses: the node's own, by family.
        services: to connect to.
    """

    node: str
    peer: str
    pods: Mapping[str, ProbePod]
    addresses: Mapping[int, str] = field(default_factory=dict)
    services: Sequence[Service] = ()

    def ip(self, role: str, family: int) -> str:
        """Return an end's address, "" where it has none."""
        return self.pods[role].ips.get(family, "") if role in self.pods else ""


@dataclass(frozen=True)
class _Path:
    """Whose packets go where; ``source`` and ``target`` are roles, "" for the node itself."""

    asked: str
    source: str
    target: str
    what: str


_PATHS = (
    _Path("node", POD, BESIDE, "pod to pod on the node"),
    _Path("node", POD, PEER, "pod to pod on {peer}"),
    _Path("peer", PEER, POD, "pod on {peer} to pod"),
    _Path("node", "", POD, "node to pod"),
    _Path("node", POD, "", "pod to node"),
)


def requests(ends: Ends) -> dict[str, dict[str, Any]]:
    """Return what the nodes are asked to send, by inventory name (pure)."""
    found: dict[str, dict[str, Any]] = {}
    for asked, role in ((ends.node, POD), (ends.peer, PEER)):
        if not asked or role not in ends.pods:
            continue
        side = "node" if role == POD else "peer"
        targets = [target for path in _PATHS if path.asked == side for target in _targets(path, ends)]
        uid = ends.pods[role].uid
        probes = [{"kind": "pod", "target": _probe(uid, one)} for one in ends.services if ends.pods[role].ips]
        request: dict[str, Any] = {"probes": probes}
        if targets:  # without any, a node would only say what it is
            request["paths"] = {"targets": targets, "seconds": SECONDS}
        found[asked] = request
    return found


def _probe(uid: str, service: Service) -> str:
    return f"{uid} {service.address} {service.port} {service.protocol}"


def _targets(path: _Path, ends: Ends) -> Iterable[dict[str, Any]]:
    for family in (4, 6):
        source = ends.ip(path.source, family) if path.source else ends.addresses.get(family, "")
        target = ends.ip(path.target, family) if path.target else ends.addresses.get(family, "")
        if source and target:
            uid = ends.pods[path.source].uid if path.source else ""
            yield {"id": _ident(path, family), "address": target, "pod": uid, "size": None}


def _ident(path: _Path, family: int) -> str:
    return f"{path.source or 'node'}>{path.target or 'node'}|{family}"


def checks(ends: Ends, records: Mapping[str, NodeRecord]) -> list[Check]:
    """Return what came of the requests, in a fixed order (pure)."""
    found = [_network(ends)]
    paths: dict[tuple[str, str], Measured] = {}
    for side, name in (("node", ends.node), ("peer", ends.peer)):
        if name in records:
            paths |= {(side, one.id): one for one in measured(records[name].paths)}
    for path in _PATHS:
        if (path.asked == "peer" or PEER in (path.source, path.target)) and not ends.peer:
            continue
        what = path.what.format(peer=ends.peer)
        for family in (4, 6):
            if any(True for target in _targets(path, ends) if target["id"] == _ident(path, family)):
                named = what if family == 4 else f"{what} (IPv6)"
                found.append(_of_path(named, paths.get((path.asked, _ident(path, family)))))
        if not any(True for _ in _targets(path, ends)):
            found.append(Check(what, None, "an end has no address"))
    return found + [_of_service(ends, one, records) for one in ends.services]


def _network(ends: Ends) -> Check:
    what = "a new pod gets a network"
    bad = next((pod for role, pod in ends.pods.items() if role != PEER and not pod.ips), None)
    if bad is not None:
        return Check(what, False, bad.why or "no address")
    return Check(what, True, f"within {max(pod.seconds for pod in ends.pods.values()):.1f} s")


def _of_path(what: str, one: Measured | None) -> Check:
    if one is None:
        return Check(what, None, "the node did not say")
    if one.small != _ANSWERED:
        return Check(what, False, one.trouble or "no answer")
    if one.exact == _ANSWERED:
        return Check(what, True, f"{one.size} bytes, DF")
    passes = f"only {one.passes} of {one.size} bytes pass" if one.passes else f"not with {one.size} bytes"
    return Check(what, False if one.exact else None, passes)


def _of_service(ends: Ends, service: Service, records: Mapping[str, NodeRecord]) -> Check:
    here = _answer(ends, ends.node, POD, service, records)
    if here is None:
        return Check(service.what, None, "not tried: the pod has no network")
    ok, said = here
    there = _answer(ends, ends.peer, PEER, service, records)
    if not ok and there is not None and not there[0]:
        return Check(service.what, None, f"{said}; from {ends.peer} neither")
    return Check(service.what, ok, said)


def _answer(
    ends: Ends, name: str, role: str, service: Service, records: Mapping[str, NodeRecord]
) -> tuple[bool, str] | None:
    record = records.get(name)
    if record is None or role not in ends.pods:
        return None
    target = _probe(ends.pods[role].uid, service)
    probes = [*record.probes_before, *record.probes_after]
    return next(((one.ok, one.detail) for one in probes if one.target == target), None)


def given_back(pods: Iterable[ProbePod], left: Sequence[str], look: NodeRecord | None) -> Check:
    """Return whether the pods' addresses are free again after they were deleted (pure).

    Args:
        pods: those of the node.
        left: names of pods that did not go.
        look: the node's report afterwards.
    """
    what = "deleted pods give their addresses back"
    mine = [pod for pod in pods if pod.ips]
    stuck = [pod.name for pod in mine if pod.name in left]
    if stuck:
        return Check(what, False, f"{len(stuck)} of {len(mine)} pods are still there: their network is not taken down")
    report = report_of(look) if look is not None else {}
    if not mine or not rows(report, "networks"):
        return Check(what, None, "no pod had one" if not mine else "the node keeps no leases")
    held = {text(row, "ip", 60) for row in rows(report, "leases")}
    kept = sorted(address for pod in mine for address in pod.ips.values() if address in held)
    if kept:
        return Check(what, False, f"still held: {', '.join(kept)}")
    return Check(what, True, f"{len(mine)} of {len(mine)}")


def compared(before: Sequence[Check], after: Sequence[Check]) -> list[Row]:
    """Return the rows of the table (pure). What cannot be told says nothing about how the recovery went."""
    earlier = {check.what: check for check in before}
    found = []
    for check in after:
        first = earlier.get(check.what)
        found.append(Row(check.what, _said(first), _said(check), check.ok))
    return found


def _said(check: Check | None) -> str:
    if check is None:
        return "not measured"
    return check.said if check.ok is None else f"{'yes' if check.ok else 'no'}: {check.said}"


def peer_of(node: str, names: Mapping[str, str], nodes: Mapping[str, NodeFacts], avoid: Iterable[str]) -> str:
    """Return a healthy node to measure with, as the inventory calls it; "" for none (pure).

    Args:
        node: the one that is recovered.
        names: inventory name to Node name.
        nodes: the Node objects.
        avoid: nodes of the same run.
    """
    others = [name for name in sorted(names) if name != node and name not in set(avoid)]
    fit = [name for name in others if names[name] in nodes and nodes[names[name]].ready]
    fit.sort(key=lambda name: (nodes[names[name]].cordoned, "control-plane" in nodes[names[name]].roles))
    return fit[0] if fit else ""


def services_of(kubernetes: Iterable[Mapping[str, Any]], system: Iterable[Mapping[str, Any]]) -> list[Service]:
    """Return what is connected to (pure).

    Args:
        kubernetes: services of the namespace default.
        system: those of kube-system.
    """
    found = []
    for service in kubernetes:
        address, port = _address(service), _port(service)
        if objects.name_of(service) == "kubernetes" and address and port:
            found.append(Service("pod to ClusterIP (kubernetes)", address, port, "TCP"))
    for service in system:
        address = _address(service)
        if objects.texts(service, "metadata", "labels").get("k8s-app") == "kube-dns" and address:
            found += [Service(f"DNS over {kind}", address, 53, kind) for kind in ("UDP", "TCP")]
            break
    return found


def _address(service: Mapping[str, Any]) -> str:
    try:
        return str(ipaddress.ip_address(objects.text(service, "spec", "clusterIP", limit=60)))
    except ValueError:
        return ""  # "None": headless


def _port(service: Mapping[str, Any]) -> int:
    ports = objects.mappings(service, "spec", "ports")
    port = ports[0].get("port") if ports else None
    return port if isinstance(port, int) and 0 < port < 65536 else 0


class Asking(Protocol):
    """Sends requests to nodes of a run."""

    def probe(self, nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, NodeRecord]:
        """Let nodes send packets."""

    def look(self, name: str) -> NodeRecord:
        """Look at a node's leases."""


class Matrix:
    """Measures nodes of one run.

    Args:
        cluster: the API server.
        pods: makes the ends.
        ask: reaches the nodes.
        nodes: inventory name to Node name, of all that can be a peer.
        avoid: the nodes that are recovered.
        note: told what could not be measured.
    """

    def __init__(
        self,
        cluster: Cluster,
        pods: ProbePods,
        ask: Asking,
        nodes: Mapping[str, str],
        avoid: Sequence[str],
        note: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._ask = ask
        self._nodes = nodes
        self._avoid = avoid
        self._note = note

    def measure(self, name: str, when: str) -> list[Check]:
        """Measure one node; ``when``: before or after. What the API server refuses is noted, and not measured."""
        try:
            return self._measure(name, when)
        except ClusterError as problem:
            self._note(f"warning: {name}: what its pods reach was not measured {when}: {problem}")
            return []

    def _measure(self, name: str, when: str) -> list[Check]:
        facts = self._cluster.nodes()
        peer = peer_of(name, self._nodes, facts, self._avoid)
        wanted = {POD: self._nodes[name], BESIDE: self._nodes[name]}
        if peer:
            wanted[PEER] = self._nodes[peer]
        api = self._cluster.api
        services = services_of(
            api.items(Call("list", "services", namespace="default")),
            api.items(Call("list", "services", namespace="kube-system")),
        )
        pods = self._pods.up(wanted, when)
        try:
            own = _by_family(facts[self._nodes[name]].addresses) if self._nodes[name] in facts else {}
            ends = Ends(name, peer, pods, own, services)
            found = checks(ends, self._ask.probe(requests(ends)))
        finally:
            left = self._pods.down(pods)
        mine = [pod for role, pod in pods.items() if role != PEER]
        return [*found, given_back(mine, left, self._ask.look(name))]


def _by_family(addresses: Iterable[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for address in addresses:
        found.setdefault(ipaddress.ip_address(address).version, address)
    return found
