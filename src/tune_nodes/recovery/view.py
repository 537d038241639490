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
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.recovery import facts, peers

#: Phases in which a pod's addresses are nobody's any more, though they still stand in its status.
OVER = ("Succeeded", "Failed")
#: Seconds between two looks at pods that wait.
LOOK = 1.0
#: Warnings of a pod whose sandbox is not even tried yet: it waits for a volume, such as a Secret that is not there.
_VOLUMES = ("FailedMount", "FailedAttachVolume")
#: Pods whose events are asked for; where more wait, the network is the likelier cause of all.
_ASKED = 10


def waits_for_volume(events: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a pod's last warning is about a volume (pure)."""
    return objects.last_warning(events, "reason") in _VOLUMES


@dataclass(frozen=True)
class PodsOfNode:
    """A node's pods in the API: canonical addresses, and how many wait for a network."""

    ips: tuple[str, ...]
    waiting: int


def read(items: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[Mapping[str, Any]]]:
    """Return the addresses of a node's pods, and the pods that have none yet (pure)."""
    ips: set[str] = set()
    waiting = []
    for pod in items:
        if objects.text(pod, "status", "phase") in OVER:
            continue
        found = [objects.text(row, "ip") for row in objects.mappings(pod, "status", "podIPs")]
        found.append(objects.text(pod, "status", "podIP"))
        known = {address for address in map(_address, found) if address}
        ips |= known
        own = objects.at(pod, "spec", "hostNetwork") is not True
        if own and not known and not objects.text(pod, "metadata", "deletionTimestamp"):
            waiting.append(pod)
    return tuple(sorted(ips)), waiting


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
        """Return a node's pods; one that waits for a volume does not wait for a network. Raises ClusterError."""
        ips, waiting = read(pods_on(self.cluster.api, self._nodes[name]))
        if len(waiting) <= _ASKED:
            waiting = [pod for pod in waiting if not waits_for_volume(self._events(pod))]
        return PodsOfNode(ips, len(waiting))

    def _events(self, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a pod's events, none where they may not be listed."""
        uid, space = objects.text(pod, "metadata", "uid"), objects.text(pod, "metadata", "namespace")
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        try:
            return list(self.cluster.api.items(Call("list", "events", namespace=space), query))
        except ClusterError:
            return []

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
