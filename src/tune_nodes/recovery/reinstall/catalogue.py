"""What belongs to a CNI beside its DaemonSets: its operators, its kinds, and which objects of those are configuration.

State that agents write themselves (identities, endpoints, blocks of addresses) is never among it: put back, it would
give addresses away twice. Network policies have a backup of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Deployments that run a CNI's other half.
OPERATORS = frozenset(
    {
        "antrea-controller",
        "calico-apiserver",
        "calico-kube-controllers",
        "calico-typha",
        "cilium-operator",
        "kube-ovn-controller",
        "tigera-operator",
        "whereabouts-controller",
    }
)
#: Where those may be, beside the namespaces of the DaemonSets.
NAMESPACES = ("calico-apiserver", "calico-system", "kube-system", "tigera-operator")
#: CNI: the API groups of its own kinds.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "antrea": ("crd.antrea.io",),
    "calico": ("crd.projectcalico.org", "operator.tigera.io"),
    "canal": ("crd.projectcalico.org",),
    "cilium": ("cilium.io",),
    "kube-ovn": ("kubeovn.io",),
    "multus": ("k8s.cni.cncf.io",),
    "whereabouts": ("whereabouts.cni.cncf.io",),
}
#: Group: kinds whose objects people write.
CONFIGURATION: Mapping[str, tuple[str, ...]] = {
    "cilium.io": (
        "CiliumBGPAdvertisement",
        "CiliumBGPClusterConfig",
        "CiliumBGPPeerConfig",
        "CiliumL2AnnouncementPolicy",
        "CiliumLoadBalancerIPPool",
        "CiliumNodeConfig",
    ),
    "crd.projectcalico.org": (
        "BGPConfiguration",
        "BGPFilter",
        "BGPPeer",
        "FelixConfiguration",
        "IPPool",
        "IPReservation",
        "KubeControllersConfiguration",
    ),
    "k8s.cni.cncf.io": ("NetworkAttachmentDefinition",),
    "operator.tigera.io": ("APIServer", "Installation"),
}
