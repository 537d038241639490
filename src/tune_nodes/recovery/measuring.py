"""Measuring the verification matrix on one node: pods of ours are made, the nodes send, the pods are taken away."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tune_nodes.cluster import objects
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.model import NodeFacts
from tune_nodes.recovery import matrix
from tune_nodes.recovery.matrix import Check, Ends
from tune_nodes.recovery.probepods import ProbePod, ProbePods
from tune_nodes.recovery.services import BESIDE, CLOSED, PEER, POD, Service, node_port_of, services_of
from tune_nodes.recovery.view import OVER
from tune_nodes.runs.models import NodeRecord

#: Times and seconds that a policy engine gets to enforce anew what it enforced before.
_ENFORCED_TRIES, _ENFORCED_PAUSE = 3, 4.0


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
        outside: addresses outside the cluster to connect to.
    """

    def __init__(
        self,
        cluster: Cluster,
        pods: ProbePods,
        ask: Asking,
        nodes: Mapping[str, str],
        avoid: Sequence[str],
        note: Callable[[str], None],
        outside: Sequence[Service] = (),
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._ask = ask
        self._nodes = nodes
        self._avoid = avoid
        self._note = note
        self._outside = outside

    def measure(self, name: str, when: str, earlier: Sequence[Check] = ()) -> list[Check]:
        """Measure one node. What the API server refuses is noted, and not measured.

        Args:
            name: of the node, as the inventory calls it.
            when: before or after.
            earlier: what was measured before.
        """
        try:
            return self._measure(name, when, earlier)
        except ClusterError as problem:
            self._note(f"warning: {name}: what its pods reach was not measured {when}: {problem}")
            return []

    def _measure(self, name: str, when: str, earlier: Sequence[Check]) -> list[Check]:
        facts = self._cluster.nodes()
        peer = peer_of(name, self._nodes, facts, self._avoid)
        wanted = dict.fromkeys((POD, BESIDE, CLOSED), self._nodes[name])
        if peer:
            wanted[PEER] = self._nodes[peer]
        own = _addresses(facts, self._nodes[name])
        services = self._services(own, _addresses(facts, wanted.get(PEER, "")))
        pods = self._pods.up(wanted, when)
        mine = [pod for role, pod in pods.items() if role != PEER]
        try:
            ends = Ends(name, peer, pods, own, services)
            found = self._asked(ends, earlier)
            found.append(self._alone(mine))
        finally:
            left = self._pods.down(pods)
        return [*found, matrix.given_back(mine, left, self._ask.look(name))]

    def _asked(self, ends: Ends, earlier: Sequence[Check]) -> list[Check]:
        found = matrix.checks(ends, self._ask.probe(matrix.requests(ends)))
        for _ in range(_ENFORCED_TRIES):  # an agent that has just started enforces policies a while later
            if not matrix.opened(earlier, found):
                break
            time.sleep(_ENFORCED_PAUSE)
            found = matrix.checks(ends, self._ask.probe(matrix.requests(ends)))
        return found

    def _services(self, node: Mapping[int, str], peer: Mapping[int, str]) -> list[Service]:
        api = self._cluster.api
        found = services_of(
            api.items(Call("list", "services", namespace="default")),
            api.items(Call("list", "services", namespace="kube-system")),
        )
        port = node_port_of(api.items(Call("list", "services")), node, peer)
        return [*found, *([port] if port else []), *self._outside]

    def _alone(self, pods: Iterable[ProbePod]) -> Check:
        """Return whether nobody else has the addresses that the new pods were given."""
        what, shared = "a new pod's address is its own", []
        addresses = {address: pod.uid for pod in pods for address in pod.ips.values()}
        for address, uid in addresses.items():
            query = {"fieldSelector": f"status.podIP={address}"}
            shared += [
                f"{address}: {other}" for other in others(self._cluster.api.items(Call("list", "pods"), query), uid)
            ]
        if not addresses:
            return Check(what, None, "no pod has one")
        return Check(what, not shared, "; ".join(shared[:3]) or f"{len(addresses)} asked about")


def others(pods: Iterable[Mapping[str, Any]], uid: str) -> list[str]:
    """Return the pods but this one that have an address and are not about to give it back (pure)."""
    return [
        f"{objects.text(pod, 'metadata', 'namespace')}/{objects.name_of(pod)}"
        for pod in pods
        if objects.text(pod, "metadata", "uid") != uid
        and objects.text(pod, "status", "phase") not in OVER
        and not objects.text(pod, "metadata", "deletionTimestamp")
        and objects.at(pod, "spec", "hostNetwork") is not True
    ]


def _addresses(nodes: Mapping[str, NodeFacts], name: str) -> dict[int, str]:
    """Return a node's addresses by family, {} where it is not known."""
    found: dict[int, str] = {}
    for address in nodes[name].addresses if name in nodes else ():
        found.setdefault(ipaddress.ip_address(address).version, address)
    return found


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
