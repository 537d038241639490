"""Cilium enforces policies on its cluster: what a change to a node must not loosen, and what it must not cut."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kindbed.cluster import Cluster

LIMIT = 30.0  # seconds for a policy to reach every node
PROBES = {"matchLabels": {"app": "probe"}}
POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
CILIUM_POLICY = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
DENY_ALL = {
    **POLICY,
    "metadata": {"name": "deny-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
ALLOW_PROBES = {
    **POLICY,
    "metadata": {"name": "allow-probes"},
    "spec": {
        "podSelector": PROBES,
        "ingress": [{"from": [{"podSelector": PROBES}], "ports": [{"protocol": "TCP", "port": 8080}]}],
    },
}
CILIUM_ALLOW_PROBES = {
    **CILIUM_POLICY,
    "metadata": {"name": "cilium-allow-probes"},
    "spec": {
        "endpointSelector": PROBES,
        "ingress": [
            {"fromEndpoints": [PROBES], "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]},
        ],
    },
}
CILIUM_DENY_PROBES = {
    **CILIUM_POLICY,
    "metadata": {"name": "cilium-deny-probes"},
    "spec": {"endpointSelector": PROBES, "ingressDeny": [{"fromEndpoints": [PROBES]}]},
}


@pytest.fixture(scope="module")
def probes(cilium_cluster: Cluster) -> dict[str, tuple[str, str]]:
    return cilium_cluster.probe_pods()


@contextmanager
def policy(cluster: Cluster, document: dict[str, Any]) -> Iterator[None]:
    """Have a policy in the cluster."""
    text = json.dumps(document)
    cluster.kubectl("apply", "-f", "-", input=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--wait", "-f", "-", input=text)


def flows(cluster: Cluster, probes: dict[str, tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Return (from node, to node) -> whether the one's pod is answered by the other's."""
    return {
        (node, other): cluster.fetch(pod, address) == other_pod
        for node, (pod, _) in probes.items()
        for other, (other_pod, address) in probes.items()
        if node != other
    }


def all_become(cluster: Cluster, probes: dict[str, tuple[str, str]], flowing: bool) -> None:
    """Wait until traffic flows between all pods, or between none."""
    end = time.monotonic() + LIMIT
    while set((seen := flows(cluster, probes)).values()) != {flowing}:
        assert time.monotonic() < end, seen


def test_nodes_are_ready(cilium_cluster: Cluster) -> None:
    assert len(cilium_cluster.nodes) == 2
    assert cilium_cluster.not_ready("cilium", {}) == []


def test_the_agent_runs_its_own_datapath(cilium_cluster: Cluster) -> None:
    for node in cilium_cluster.nodes:
        links = json.loads(cilium_cluster.ssh(node, "ip", "-j", "link", "show").stdout)
        assert {"cilium_host", "cilium_net", "cilium_vxlan"} <= {link["ifname"] for link in links}
        configured = cilium_cluster.ssh(node, "ls", "/etc/cni/net.d").stdout.split()
        assert configured == ["05-cilium.conflist"]


def test_pods_reach_pods_on_other_nodes(cilium_cluster: Cluster, probes: dict[str, tuple[str, str]]) -> None:
    assert set(probes) == set(cilium_cluster.nodes)
    all_become(cilium_cluster, probes, True)


@pytest.mark.parametrize("allow", [ALLOW_PROBES, CILIUM_ALLOW_PROBES], ids=lambda document: str(document["kind"]))
def test_a_default_deny_cuts_and_an_allow_restores(
    cilium_cluster: Cluster, probes: dict[str, tuple[str, str]], allow: dict[str, Any]
) -> None:
    all_become(cilium_cluster, probes, True)
    with policy(cilium_cluster, DENY_ALL):
        all_become(cilium_cluster, probes, False)
        with policy(cilium_cluster, allow):
            all_become(cilium_cluster, probes, True)
        all_become(cilium_cluster, probes, False)
    all_become(cilium_cluster, probes, True)


def test_a_cilium_policy_denies_what_another_allows(
    cilium_cluster: Cluster, probes: dict[str, tuple[str, str]]
) -> None:
    with policy(cilium_cluster, ALLOW_PROBES):
        all_become(cilium_cluster, probes, True)
        with policy(cilium_cluster, CILIUM_DENY_PROBES):
            all_become(cilium_cluster, probes, False)
        all_become(cilium_cluster, probes, True)
