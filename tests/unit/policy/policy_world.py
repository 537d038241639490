"""A small cluster to judge connections in: pods by name, and policies as short documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tune_nodes.cluster.api import members
from tune_nodes.policy import surroundings
from tune_nodes.policy.discovery import Found, kinds_of
from tune_nodes.policy.judging.decision import Verdict
from tune_nodes.policy.model import Kind, NamedPort, Node, Pod, Policy, Snapshot, policy_of

#: Anything that JSON can hold.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "policy"

_G, _P = "networking.k8s.io", "policy.networking.k8s.io"
_C, _X = "cilium.io", "projectcalico.org"
KINDS = {
    kind.kind if kind.engine != "calico" else f"Calico{kind.kind}": kind
    for kind in (
        Kind(_G, "v1", "networkpolicies", "NetworkPolicy", True, "kubernetes"),
        Kind(_P, "v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", False, "admin"),
        Kind(_P, "v1alpha1", "baselineadminnetworkpolicies", "BaselineAdminNetworkPolicy", False, "admin"),
        Kind(_P, "v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", False, "admin"),
        Kind(_C, "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy", True, "cilium"),
        Kind(_C, "v2", "ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy", False, "cilium"),
        Kind(_C, "v2", "ciliumcidrgroups", "CiliumCIDRGroup", False, "cilium", "set"),
        Kind(_X, "v3", "networkpolicies", "NetworkPolicy", True, "calico"),
        Kind(_X, "v3", "globalnetworkpolicies", "GlobalNetworkPolicy", False, "calico"),
        Kind(_X, "v3", "tiers", "Tier", False, "calico", "tier"),
        Kind(_X, "v3", "networksets", "NetworkSet", True, "calico", "set"),
        Kind(_X, "v3", "globalnetworksets", "GlobalNetworkSet", False, "calico", "set"),
        Kind(_X, "v3", "stagedglobalnetworkpolicies", "StagedGlobalNetworkPolicy", False, "calico", "staged"),
    )
}
WEB = Pod(
    "shop",
    "web",
    "u1",
    "w1",
    ("10.0.1.1", "fd00:1::1"),
    {"app": "web"},
    False,
    (NamedPort("http", 8080),),
    "web",
    "Running",
)
CLIENT = Pod(
    "shop", "client", "u2", "w2", ("10.0.2.1", "fd00:2::1"), {"app": "client"}, False, (), "default", "Running"
)
BATCH = Pod("jobs", "batch", "u3", "w2", ("10.0.2.2",), {"app": "client"}, False, (), "default", "Running")
AGENT = Pod("kube-system", "agent", "u4", "w1", ("192.168.0.1",), {"app": "client"}, True, (), "agent", "Running")
PODS = {pod.name: pod for pod in (WEB, CLIENT, BATCH, AGENT)}
NODES = (Node("w1", ("192.168.0.1",), {"zone": "a"}), Node("w2", ("192.168.0.2",), {"zone": "b"}))
NAMESPACES = {"shop": {"team": "shop"}, "jobs": {"team": "data"}, "kube-system": {}}


def world(engine: str, policies: Iterable[Policy] = (), settings: Mapping[str, str] | None = None) -> Snapshot:
    """Return the cluster with these policies, enforced by an engine."""
    return Snapshot(
        tuple(KINDS.values()), tuple(policies), tuple(PODS.values()), NAMESPACES, NODES, engine,
        apiservers=("192.168.0.2",), settings=settings or {},
    )  # fmt: skip


def made(kind: str, name: str, namespace: str = "", labels: Mapping[str, str] | None = None, /, **spec: Any) -> Policy:
    """Return an object of a kind of KINDS."""
    metadata = {"name": name, "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    policy = policy_of(KINDS[kind], {"metadata": metadata, "spec": spec})
    assert policy is not None
    return policy


def np(name: str = "np", /, **spec: Any) -> Policy:
    """Return a NetworkPolicy in the namespace shop, for all of its pods unless it says which."""
    return made("NetworkPolicy", name, "shop", **{"podSelector": {}, **spec})


def load(name: str) -> Any:
    """Return what a real API server answered."""
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def served() -> Found:
    """Return the kinds of the real API server."""
    answers = load("resources")
    return kinds_of((tuple(path.split("/")), answer) for path, answer in answers.items())


@cache
def real(engine: str = "cilium") -> Snapshot:
    """Return the real cluster, with all policies that it had at once."""
    found = served()
    policies = [policy_of(kind, item) for kind in found.kinds for item in members(load(kind.resource))]
    pods = [surroundings.pod_of(item) for item in members(load("pods"))]
    nodes = [surroundings.node_of(item) for item in members(load("nodes"))]
    return Snapshot(
        found.kinds,
        tuple(one for one in policies if one),
        tuple(one for one in pods if one),
        {item["metadata"]["name"]: item["metadata"]["labels"] for item in members(load("namespaces"))},
        tuple(one for one in nodes if one),
        engine,
        apiservers=tuple(load("apiserver-slice")["endpoints"][0]["addresses"]),
        settings=load("cilium-config")["data"],
    )


def many(number: int, namespaces: int) -> list[dict[str, Any]]:
    """Return as many NetworkPolicies as a large cluster has."""
    rows = []
    for index in range(number):
        metadata = {"name": f"p{index}", "namespace": f"ns{index % namespaces}"}
        peers = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": f"a{index % 7}"}}}]
        spec = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": peers, "ports": [{"port": 80}]}]}
        rows.append({"metadata": metadata, "spec": spec})
    return rows


def assert_judged(verdict: Verdict, allowed: bool | None, decider: str) -> None:
    """Check a verdict and who decides it: where it is allowed the first that allows, else the end that does not."""
    assert verdict.allowed is allowed, verdict
    if allowed:
        deciders = [one.decided_by.ref for one in (verdict.egress, verdict.ingress) if one.decided_by]
        assert (deciders or [""])[0] == decider, verdict
    else:
        by = verdict.deciding.decided_by
        assert (by.ref if by else "") == decider, verdict
