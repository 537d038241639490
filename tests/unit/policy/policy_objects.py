"""Policies as an API server returns them, for tests."""

from __future__ import annotations

from typing import Any

from tune_nodes.policy.kinds import KNOWN
from tune_nodes.policy.model import Kind, Policy

KINDS = {
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies", True),
    "AdminNetworkPolicy": ("policy.networking.k8s.io", "v1alpha1", "adminnetworkpolicies", False),
    "CiliumNetworkPolicy": ("cilium.io", "v2", "ciliumnetworkpolicies", True),
    "CiliumClusterwideNetworkPolicy": ("cilium.io", "v2", "ciliumclusterwidenetworkpolicies", False),
    "CiliumCIDRGroup": ("cilium.io", "v2", "ciliumcidrgroups", False),
    "GlobalNetworkPolicy": ("projectcalico.org", "v3", "globalnetworkpolicies", False),
    "GlobalNetworkSet": ("projectcalico.org", "v3", "globalnetworksets", False),
    "StagedNetworkPolicy": ("projectcalico.org", "v3", "stagednetworkpolicies", True),
    "Tier": ("projectcalico.org", "v3", "tiers", False),
}


def kind(name: str) -> Kind:
    """Return a kind as discovery returns it."""
    group, version, resource, namespaced = KINDS[name]
    known = KNOWN[group][resource]
    return Kind(group, version, resource, name, namespaced, known.engine, known.role)


def policy(of: str, name: str, spec: Any = None, namespace: str = "shop", **metadata: Any) -> Policy:
    """Return a policy with what a server adds to it."""
    found = kind(of)
    place = {"namespace": namespace} if found.namespaced else {}
    given = {"uid": f"uid-{name}", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-11-24T08:15:30Z"}
    raw = {"metadata": {"name": name, **place, **given, **metadata}, "spec": spec if spec is not None else {}}
    return Policy(found, namespace if found.namespaced else "", name, raw)
