"""Letting the nodes watch: one request after the other until the time is over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.match import match_nodes
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod, Snapshot
from tune_nodes.policy.observing.flows import Observed, Row, rows_of, talks
from tune_nodes.runs.models import NodeRecord, Outcome

#: Seconds of one request.
STRETCH = 15.0
#: Pods of a namespace that are watched.
MOST = 2000


def observe(cluster: Cluster, snapshot: Snapshot, namespace: str, inventory: Sequence[str], seconds: float) -> Observed:
    """Watch the connections of a namespace's pods.

    Args:
        cluster: for Nodes and services.
        snapshot: whose pods.
        namespace: which of them matter.
        inventory: names of inventories with the nodes.
        seconds: for how long, at least; every node is asked once in any case.

    Raises:
        UsageError: the namespace has no pod with a network of its own.
        ClusterError: nodes or services may not be listed.
        TuneError: the inventory cannot be read, or Ansible cannot be run.
    """
    from tune_nodes.fleet.inventory import read_inventory
    from tune_nodes.fleet.runner import AnsibleOptions, AnsibleRunner

    mine = [pod for pod in snapshot.pods if pod.namespace == namespace and pod.ips and not pod.host_network][:MOST]
    if not mine:
        raise UsageError(f"no pod of {namespace} has an address to watch", "", f"kubectl get pods -n {namespace}")
    read = read_inventory(inventory, "")
    matches, _ = match_nodes({node.name: node.address for node in read.nodes.values()}, cluster.nodes())
    names = {match.node.name: name for name, match in matches.items()}
    runner = AnsibleRunner(AnsibleOptions(inventory=tuple(read.sources)))
    begun, until = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic() + seconds
    answers: dict[str, _Node] = {name: _Node() for name in names.values()}
    while True:
        left = max(0.0, min(STRETCH, until - time.monotonic()))
        for name, record in runner.run(_request(answers, mine, left)).records.items():
            answers[name].take(record)
        if time.monotonic() >= until:
            break
    services = list(cluster.api.items(Call("list", "services")))
    rows = [row for node in answers.values() for row in node.rows]
    watched = [name for name, node in answers.items() if node.heard]
    lost = [f"the node {one_line(name, 80)} was not watched: {node.why}" for name, node in answers.items() if node.why]
    here = {pod.node for pod in mine} - set(names)
    lost += [f"the node {one_line(node, 80)} runs pods of it and is not in the inventory" for node in sorted(here)]
    lost += [f"the node {one_line(n, 80)} had more connections than it told" for n, one in answers.items() if one.more]
    return Observed(
        talks=talks(rows, snapshot, services),
        nodes=tuple(sorted(watched)),
        seconds=seconds,
        begun=begun,
        pods=sum(node.pods for node in answers.values()),
        untracked=tuple(sorted(name for name in watched if not answers[name].tracked)),
        missing=tuple(lost),
    )


def _request(answers: Mapping[str, _Node], mine: Sequence[Pod], seconds: float) -> Any:
    from tune_nodes.fleet.runner import Call as Request

    wanted = {
        "addresses": [address for pod in mine for address in pod.ips][:MOST],
        "uids": [pod.uid for pod in mine],
        "seconds": seconds,
    }
    nodes = {name: {"paths": {"flows": wanted}} for name in answers}
    document = {"operation": "probe", "common": {"schema": 1}, "nodes": nodes}
    return Request(document, lambda record: None, lambda: False, STRETCH + 60)


class _Node:
    """What one node has told so far."""

    def __init__(self) -> None:
        self.rows: set[Row] = set()
        self.heard = self.tracked = self.more = False
        self.pods = 0
        self.why = ""

    def take(self, record: NodeRecord) -> None:
        """Add what a request brought."""
        told = record.paths.get("flows")
        if record.outcome is not Outcome.OK or not isinstance(told, Mapping):
            error = record.error
            self.why = one_line(f"{error.what}: {error.why}" if error else "it told nothing", 200)
            return
        self.heard = True
        self.rows |= set(rows_of(told.get("flows")))
        self.tracked = self.tracked or told.get("conntrack") is True
        self.more = self.more or told.get("more") is True
        pods = told.get("pods")
        self.pods = max(self.pods, pods if isinstance(pods, int) else 0)
