"""What a request carries of the cluster: whose agents a node has, and where all nodes' pods are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tune_nodes.recovery import facts

CLUSTER = Path(__file__).parents[2] / "fixtures/cluster"


def pod(labels: dict[str, str], container: str = "c", phase: str = "Running") -> dict[str, Any]:
    """Return a pod of a DaemonSet."""
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": container}]}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("pods", "agents"),
    [
        ([pod({"app": "flannel"})], ["flannel"]),
        ([pod({"app": "flannel"}, phase="Pending")], ["flannel"]),
        ([pod({"app": "flannel"}, phase="Failed")], []),
        ([pod({"k8s-app": "canal"})], ["calico", "canal", "flannel"]),
        ([pod({"team": "net"}, "cilium-agent"), pod({"name": "multus"})], ["cilium", "multus"]),
        ([pod({"app": "shop"}, "web")], []),
        ([{}, {"metadata": 7, "spec": {"containers": "x"}}], []),
    ],
)
def test_agents_by_label_or_container(pods: list[dict[str, Any]], agents: list[str]) -> None:
    assert facts.agents_of(pods) == agents


def test_places_of_captured_nodes() -> None:
    nodes = json.loads((CLUSTER / "nodes.json").read_text())["items"]
    found = facts.places_of(nodes)
    assert len(found["node_ips"]) == len(nodes) and all("/" in cidr for cidr in found["pod_cidrs"])
    assert facts.places_of([{}, {"spec": {"podCIDRs": 3}, "status": {"addresses": [None, {"type": "Hostname"}]}}]) == {
        "pod_cidrs": [],
        "node_ips": [],
    }
