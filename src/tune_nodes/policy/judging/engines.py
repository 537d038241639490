"""Who enforces policies in a cluster, by what its network is made of (pure)."""

from __future__ import annotations

from collections.abc import Iterable

#: Name of a CNI: who enforces NetworkPolicies where it is the network. "" for nobody.
ENFORCED_BY = {
    "antrea": "antrea",
    "aws-vpc-cni": "",
    "azure-cni": "",
    "calico": "calico",
    "canal": "calico",
    "cilium": "cilium",
    "flannel": "",
    "gke-netd": "",
    "kindnet": "kindnet",
    "kube-ovn": "kube-ovn",
    "kube-router": "kube-router",
    "openshift-sdn": "openshift-sdn",
    "ovn-kubernetes": "ovn-kubernetes",
    "terway": "",
    "weave": "weave",
}
#: Which of several counts: one that filters beside a network that does not.
_FIRST = ("cilium", "calico", "antrea", "ovn-kubernetes", "kube-ovn", "kube-router", "weave", "kindnet")
#: Those that know AdminNetworkPolicy and its kin. Calico and Cilium have ways of their own.
RANKS = frozenset({"antrea", "kindnet", "ovn-kubernetes"})
#: Networks that may enforce by a part that can be switched off, and how to see it.
MAYBE = {
    "aws-vpc-cni": "the VPC CNI enforces NetworkPolicies only where its network policy agent is enabled",
    "azure-cni": "Azure enforces NetworkPolicies only where a network policy engine was chosen for the cluster",
    "gke-netd": "GKE enforces NetworkPolicies only where network policy is enabled for the cluster",
    "terway": "Terway enforces NetworkPolicies only where it was set up to",
}
#: k3s runs kube-router's policy controller inside itself, beside Flannel.
_K3S = "+k3s"


def enforcer(cni: Iterable[str], version: str = "") -> tuple[str, tuple[str, ...]]:
    """Return who enforces, "" where nobody is known to, and sentences on what that rests on.

    Args:
        cni: what makes the network, "flannel v0.28.10".
        version: of the API server, "v1.34.4+k3s1".
    """
    names = [label.partition(" ")[0] for label in cni]
    found = {ENFORCED_BY[name] for name in names if ENFORCED_BY.get(name)}
    for name in _FIRST:
        if name in found:
            return name, ()
    if found:
        return min(found), ()
    if "flannel" in names and _K3S in version:
        return "kube-router", (
            "k3s enforces by kube-router inside itself, unless it runs with --disable-network-policy",
        )
    maybe = next((name for name in names if name in MAYBE), "")
    if maybe:
        return maybe, (f"{MAYBE[maybe]}: here it is taken to be",)
    if not names:
        return "", ("what makes this cluster's network is not known",)
    return "", (f"{', '.join(names)} does not enforce policies, and nothing else here is known to",)
