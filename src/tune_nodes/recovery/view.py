"""What the API server says of a node's pods: their addresses, and which of them wait for a network."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.drain import pods_on

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
        self._cluster = cluster
        self._nodes = nodes

    def pods(self, name: str) -> PodsOfNode:
        """Return a node's pods. Raises ClusterError."""
        return read(pods_on(self._cluster.api, self._nodes[name]))

    def settle(self, name: str, limit: float, stopped: Callable[[], bool]) -> PodsOfNode:
        """Return a node's pods once none of them waits for a network, or as they are after ``limit`` seconds."""
        until = time.monotonic() + limit
        while (found := self.pods(name)).waiting and time.monotonic() < until and not stopped():
            time.sleep(LOOK)
        return found
