"""What the API server says of a node's pods: their addresses, and which of them wait for a network."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.drain import pods_on
from tune_nodes.recovery import facts, peers

#: Phases in which a pod's addresses are nobody's any more, though they still stand in its status.
OVER = ("Succeeded", "Failed")
#: Seconds between two looks at pods that wait.
LOOK = 1.0


@dataclass(frozen=True)
class PodsOfNode:
    """A node's pods in the API: canonical addresses, and how many wait for a network."""

    ips: tuple[str, ...]
    waiting: int


def read(items: Iterable[Mapping[str, Any]]) -> PodsOfNode:
    """Return what a node's pods say (pure)."""
    ips: set[str] = set()
    waiting = 0
    for pod in items:
        if objects.text(pod, "status", "phase") in OVER:
            continue
        found = [objects.text(row, "ip") for row in objects.mappings(pod, "status", "podIPs")]
        found.append(objects.text(pod, "status", "podIP"))
        known = {address for address in map(_address, found) if address}
        ips |= known
        own = objects.at(pod, "spec", "hostNetwork") is not True
        waiting += own and not known and not objects.text(pod, "metadata", "deletionTimestamp")
    return PodsOfNode(tuple(sorted(ips)), waiting)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


class View:
    """The pods of the nodes of a run.

    Args:
        cluster: the API server.
        nodes: inventory name to the name of its Node object.
    """

    def __init__(self, cluster: Cluster, nodes: Mapping[str, str]) -> None:
        self.cluster = cluster
        self._nodes = nodes
        self._places: dict[str, list[str]] = {}
        self._peers: list[dict[str, Any]] = []

    def node_of(self, name: str) -> str:
        """Return the name of a node's Node object."""
        return self._nodes[name]

    def pods(self, name: str) -> PodsOfNode:
        """Return a node's pods. Raises ClusterError."""
        return read(pods_on(self.cluster.api, self._nodes[name]))

    def facts(self, name: str) -> dict[str, Any]:
        """Return the cluster's part of a request: ``agents``, ``pod_cidrs``, ``node_ips``, ``own``, ``peers``.

        Raises:
            ClusterError: the API server does not say.
        """
        node, api = self._nodes[name], self.cluster.api
        if not self._places:  # once, until forget(): a list of 5,000 nodes is 70 MB
            self._peers.clear()
            self._places = facts.places_of(self._noted(api.items(Call("list", "nodes"))))
        pods = pods_on(api, node)
        own = {**peers.peer_of(api.get(Call("get", "nodes", name=node))), "unready": peers.unready_of(pods)}
        others = [peer for peer in self._peers if peer["name"] != node and peer["public_ip"]]
        return {"agents": facts.agents_of(pods), **self._places, "own": own, "peers": others[: peers.MOST]}

    def _noted(self, nodes: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
        """Pass Node objects on, and keep what they say of their Flannel."""
        for node in nodes:
            self._peers.append(peers.peer_of(node))
            yield node

    def forget(self) -> None:
        """Ask for all nodes again with the next request: one of them has changed."""
        self._places = {}

    def settle(self, name: str, limit: float, stopped: Callable[[], bool]) -> PodsOfNode:
        """Return a node's pods once none of them waits for a network, or as they are after ``limit`` seconds."""
        until = time.monotonic() + limit
        while (found := self.pods(name)).waiting and time.monotonic() < until and not stopped():
            time.sleep(LOOK)
        return found
