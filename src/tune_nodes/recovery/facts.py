"""What the API server says beside the pods' addresses: which CNIs' agents a node has, and where all nodes' pods are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tune_nodes.cluster import objects

#: CNI -> (label, value) pairs of its agent's pods, as the projects' own manifests and charts set them.
LABELS = {
    "flannel": (("app", "flannel"), ("app.kubernetes.io/name", "flannel"), ("k8s-app", "canal")),
    "calico": (("k8s-app", "calico-node"), ("k8s-app", "canal")),
    "canal": (("k8s-app", "canal"),),
    "cilium": (("k8s-app", "cilium"), ("app.kubernetes.io/name", "cilium-agent")),
    "weave": (("name", "weave-net"),),
    "kube-router": (("k8s-app", "kube-router"),),
    "multus": (("app", "multus"), ("name", "multus")),
}
#: CNI -> names of its agent's container, where somebody has given the pods labels of their own.
CONTAINERS = {
    "flannel": ("kube-flannel", "flanneld"),
    "calico": ("calico-node",),
    "cilium": ("cilium-agent",),
    "weave": ("weave",),
    "kube-router": ("kube-router",),
    "multus": ("kube-multus",),
}


def agents_of(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the CNIs whose agents are among a node's pods, in whatever state short of their end (pure)."""
    found: set[str] = set()
    for pod in pods:
        if objects.text(pod, "status", "phase") in ("Succeeded", "Failed"):
            continue
        labels = objects.texts(pod, "metadata", "labels")
        names = {objects.text(one, "name") for one in objects.mappings(pod, "spec", "containers")}
        found |= {cni for cni, pairs in LABELS.items() if any(labels.get(key) == value for key, value in pairs)}
        found |= {cni for cni, known in CONTAINERS.items() if names & set(known)}
    return sorted(found)


def places_of(nodes: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return ``pod_cidrs`` and ``node_ips`` of all Node objects (pure)."""
    cidrs: set[str] = set()
    ips: set[str] = set()
    for node in nodes:
        listed = objects.at(node, "spec", "podCIDRs")
        cidrs |= {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
        cidrs |= {objects.text(node, "spec", "podCIDR")} - {""}
        rows = objects.mappings(node, "status", "addresses")
        ips |= {objects.text(row, "address") for row in rows if objects.text(row, "type").endswith("IP")}
    return {"pod_cidrs": sorted(cidrs), "node_ips": sorted(ips)}
