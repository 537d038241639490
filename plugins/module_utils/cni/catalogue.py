# SPDX-License-Identifier: Apache-2.0
"""What each CNI leaves on a node, by exact name or by prefix. Data only.

Sources are the CNIs' own trees: flannel-io/flannel, projectcalico/calico, cilium/cilium, weaveworks/weave,
cloudnativelabs/kube-router, k8snetworkplumbingwg/{multus-cni,sriov-cni,whereabouts}, containernetworking/plugins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

VERSION = "2026-11-24"


@dataclass(frozen=True)
class Names:
    """Names that are exact, and prefixes that end where the owner's own part of a name does."""

    exact: Tuple[str, ...] = ()
    prefixes: Tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Tell whether a name is one of these."""
        return name in self.exact or any(name.startswith(prefix) for prefix in self.prefixes)


@dataclass(frozen=True)
class Artefacts:
    """What one CNI puts on a node.

    Attributes:
        types: names of its plugins in a configuration, which are its binaries too.
        confs: names of its configuration files.
        links, chains, ipsets, tables: its network devices, iptables chains, sets and nft tables.
        dirs: directories and files of its own.
        ipam: who gives out addresses: ``host-local`` (files on the node) or where else they are.
    """

    name: str
    types: Tuple[str, ...]
    confs: Names
    links: Names = Names()
    chains: Names = Names()
    ipsets: Names = Names()
    tables: Names = Names()
    dirs: Tuple[str, ...] = ()
    ipam: str = "host-local"


CATALOGUE: Sequence[Artefacts] = (
    Artefacts(
        "flannel",
        ("flannel",),
        Names(("10-flannel.conflist", "10-flannel.conf")),
        Names(
            ("cni0", "flannel.ipip", "flannel-wg", "flannel-wg-v6"),
            ("flannel.", "flannel-v6."),
        ),
        Names(("FLANNEL-POSTRTG", "FLANNEL-FWD")),
        tables=Names(("flannel-ipv4", "flannel-ipv6")),
        dirs=("/run/flannel", "/var/lib/cni/flannel"),
    ),
    Artefacts(
        "calico",
        ("calico", "calico-ipam"),
        Names(("10-calico.conflist", "10-canal.conflist", "calico-kubeconfig")),
        Names(
            ("tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "bpfin.cali", "bpfout.cali"),
            ("cali",),
        ),
        Names((), ("cali-", "felix-")),
        Names((), ("cali40", "cali60", "felix-")),
        Names(("calico",)),
        ("/var/lib/calico", "/var/run/calico", "/var/run/nodeagent"),
        "blocks in the Kubernetes API (calicoctl ipam check)",
    ),
    Artefacts(
        "cilium",
        ("cilium-cni",),
        Names(
            (
                "05-cilium.conflist",
                "05-cilium.conf",
                "05-cilium-cni.conf",
                "00-cilium-cni.conf",
                "10-cilium-cni.conf",
            )
        ),
        Names(
            ("cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "cilium_wg0", "lxc_health"),
            ("lxc",),
        ),
        Names((), ("CILIUM_",)),
        dirs=("/var/run/cilium", "/var/lib/cilium", "/sys/fs/bpf/cilium"),
        ipam="the agent (restart it: it gives back what no endpoint has)",
    ),
    Artefacts(
        "weave",
        ("weave-net", "weave-ipam"),
        Names(("10-weave.conflist", "10-weave.conf")),
        Names(("weave", "datapath", "vethwe-bridge", "vethwe-datapath", "vethwe-pcap", "vxlan-6784"), ("vethwepl",)),
        Names(("WEAVE",), ("WEAVE-NPC", "WEAVE-EXPOSE", "WEAVE-IPSEC-")),
        Names(("weaver-no-masq-local",), ("weave-",)),
        dirs=("/var/lib/weave",),
        ipam="the peers (weave rmpeer)",
    ),
    Artefacts(
        "kube-router",
        (),
        Names(("10-kuberouter.conflist", "10-kuberouter.conf")),
        Names(("kube-bridge", "kube-dummy-if"), ("tun-",)),
        Names((), ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")),
        Names((), ("kube-router-", "KUBE-SRC-", "KUBE-DST-")),
        Names(("kube-router-filter-ipv4", "kube-router-filter-ipv6")),
        ("/var/lib/kube-router",),
    ),
    Artefacts(
        "multus",
        ("multus", "multus-shim"),
        Names(("00-multus.conf", "00-multus.conflist", "multus.d")),
        dirs=("/run/multus", "/var/lib/cni/multus", "/run/k8s.cni.cncf.io"),
        ipam="the networks it delegates to",
    ),
    Artefacts(
        "sriov",
        ("sriov",),
        Names(),
        dirs=("/var/lib/cni/sriov",),
        ipam="the network's own IPAM",
    ),
    Artefacts(
        "whereabouts",
        ("whereabouts",),
        Names(("whereabouts.d",)),
        ipam="IPPools in the Kubernetes API (its reconciler)",
    ),
    Artefacts(
        "plain",
        ("bridge", "ptp", "macvlan", "ipvlan", "host-device"),
        Names(("87-podman-bridge.conflist",), ("nerdctl-",)),
    ),
)

#: Never touched, whoever asks: kube-proxy's, the node-local DNS cache's, and what shared plugins keep for all.
NEVER_CHAINS = Names(
    ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD", "KUBE-FIREWALL"),
    ("KUBE-SVC-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-PROXY-", "CNI-HOSTPORT-", "CNI-DN-", "DOCKER"),
)
NEVER_LINKS = Names(("lo", "kube-ipvs0", "nodelocaldns", "docker0", "podman0"), ("eth", "en", "bond", "team"))
NEVER_TABLES = Names(("kube-proxy", "cni_hostport", "cni_plugins_masquerade"), ("firewalld", "docker-"))


def by_type(kind: str) -> Optional[Artefacts]:
    """Return the CNI that a plugin's type belongs to, None where it is of none."""
    return next((one for one in CATALOGUE if kind in one.types), None)


def of_conf(name: str) -> Optional[Artefacts]:
    """Return the CNI that a file in the configuration directory belongs to by its name."""
    return next((one for one in CATALOGUE if one.confs.has(name)), None)


def of_link(name: str) -> Optional[Artefacts]:
    """Return the CNI that a network device belongs to; a device that is never touched belongs to none."""
    if NEVER_LINKS.has(name):
        return None
    return next((one for one in CATALOGUE if one.links.has(name)), None)
