"""The kinds of objects that decide which connections pod networks let through, and what each is for (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from tune_nodes.policy.model import POLICY, SET, STAGED, TIER

CALICO = "projectcalico.org"
#: Calico without its own API server: the same objects, as plain custom resources.
CALICO_CRD = "crd.projectcalico.org"


@dataclass(frozen=True)
class Known:
    """A kind that is handled: whose rules judge it, and its role."""

    engine: str
    role: str = POLICY


_CALICO = {
    "networkpolicies": Known("calico"),
    "globalnetworkpolicies": Known("calico"),
    "tiers": Known("calico", TIER),
    "networksets": Known("calico", SET),
    "globalnetworksets": Known("calico", SET),
    "stagednetworkpolicies": Known("calico", STAGED),
    "stagedglobalnetworkpolicies": Known("calico", STAGED),
    "stagedkubernetesnetworkpolicies": Known("calico", STAGED),
}
#: Group: resource: what it is.
KNOWN: dict[str, dict[str, Known]] = {
    "networking.k8s.io": {"networkpolicies": Known("kubernetes")},
    "policy.networking.k8s.io": {
        "adminnetworkpolicies": Known("admin"),
        "baselineadminnetworkpolicies": Known("admin"),
        "clusternetworkpolicies": Known("admin"),
    },
    CALICO: _CALICO,
    CALICO_CRD: _CALICO,
    "cilium.io": {
        "ciliumnetworkpolicies": Known("cilium"),
        "ciliumclusterwidenetworkpolicies": Known("cilium"),
        "ciliumcidrgroups": Known("cilium", SET),
    },
}
#: Group: what of it also decides about connections, and is not handled here.
NOT_HANDLED: dict[str, tuple[str, ...]] = {
    "crd.antrea.io": ("networkpolicies", "clusternetworkpolicies", "tiers"),
    "k8s.ovn.org": ("egressfirewalls", "networkqoses"),
    "kubeovn.io": ("security-groups", "securitygroups"),
    "security.istio.io": ("authorizationpolicies", "peerauthentications"),
    "policy.linkerd.io": ("authorizationpolicies", "serverauthorizations"),
    "security.antrea.tanzu.vmware.com": ("networkpolicies", "clusternetworkpolicies"),
    CALICO: ("hostendpoints",),
    CALICO_CRD: ("hostendpoints",),
    "k8s.cni.cncf.io": ("multi-networkpolicies",),
    "vpcresources.k8s.aws": ("securitygrouppolicies",),
    "networking.k8s.aws": ("clusternetworkpolicies", "applicationnetworkpolicies"),
}
