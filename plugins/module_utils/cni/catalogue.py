# SPDX-License-Identifier: Apache-2.0
"""What each CNI leaves on a node, by exact name or by prefix. Data only.

Sources are the CNIs' own trees: flannel-io/flannel, projectcalico/calico, cilium/cilium, weaveworks/weave,
cloudnativelabs/kube-router, k8snetworkplumbingwg/{multus-cni,sriov-cni,whereabouts}, containernetworking/plugins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

VERSION = "2026-11-24"


@dataclass(frozen=True)
class Names:
    """Names that are exact, prefixes that end where the owner's own part of a name does, and whole patterns.

    A pattern stands where a prefix alone would take in what others make: ``lxc`` is Cilium's and LXC's.
    """

    exact: Tuple[str, ...] = ()
    prefixes: Tuple[str, ...] = ()
    patterns: Tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Tell whether a name is one of these."""
        if name in self.exact or any(name.startswith(prefix) for prefix in self.prefixes):
            return True
        return any(re.fullmatch(pattern, name) for pattern in self.patterns)


@dataclass(frozen=True)
class Artefacts:
    """What one CNI puts on a node.

    Attributes:
        types: names of its plugins in a configuration, which are its binaries too.
        confs: names of its configuration files.
        links, chains, ipsets, tables: its network devices, iptables chains, sets and nft tables.
        comments: of its rules in chains of others.
        dirs: directories and files of its own.
        agents: its programs, as the kernel names their processes (15 characters).
        pins: names of its BPF programs and maps below /sys/fs/bpf.
        routes: (protocol's number, type) of routes that its daemon makes beside those to its links.
        rules: (priority, mark, table) of its policy rules.
        ipam: who gives out addresses: ``host-local`` (files on the node) or where else they are.
    """

    name: str
    types: Tuple[str, ...]
    confs: Names
    links: Names = Names()
    chains: Names = Names()
    ipsets: Names = Names()
    tables: Names = Names()
    comments: Names = Names()
    dirs: Tuple[str, ...] = ()
    agents: Tuple[str, ...] = ()
    pins: Names = Names()
    routes: Tuple[Tuple[str, str], ...] = ()
    rules: Tuple[Tuple[int, str, str], ...] = ()
    ipam: str = "host-local"


#: They carry Flannel and kube-router's policy controller in themselves.
K3S = ("k3s-server", "k3s-agent", "k3s", "rke2", "rke2-server", "rke2-agent")

CATALOGUE: Sequence[Artefacts] = (
    Artefacts(
        "flannel",
        ("flannel",),
        Names(("10-flannel.conflist", "10-flannel.conf")),
        Names(
            ("cni0", "flannel.ipip", "flannel-wg", "flannel-wg-v6"),
            patterns=(r"flannel\.[0-9]+", r"flannel-v6\.[0-9]+"),
        ),
        Names(("FLANNEL-POSTRTG", "FLANNEL-FWD")),
        tables=Names(("flannel-ipv4", "flannel-ipv6")),
        comments=Names(("flanneld masq", "flanneld forward")),
        dirs=("/run/flannel", "/var/lib/cni/flannel"),
        agents=("flanneld", *K3S),
    ),
    Artefacts(
        "calico",
        ("calico", "calico-ipam"),
        Names(("10-calico.conflist", "10-canal.conflist", "calico-kubeconfig")),
        Names(
            ("tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "bpfin.cali", "bpfout.cali"),
            patterns=(r"cali[0-9a-f]{11}",),
        ),
        Names((), ("cali-", "felix-")),
        Names((), ("cali40", "cali60", "felix-")),
        Names(("calico",)),
        Names((), ("cali:",)),
        ("/var/lib/calico", "/var/run/calico", "/var/run/nodeagent"),
        ("calico-node", "calico-felix", "bird", "bird6"),
        Names((), ("cali_", "calico_", "xdp_cali_")),
        (("12", "blackhole"), ("80", "blackhole")),
        ipam="blocks in the Kubernetes API (calicoctl ipam check)",
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
            patterns=(r"lxc[0-9a-f]{12}",),
        ),
        Names((), ("CILIUM_", "OLD_CILIUM_")),  # renamed so while an agent starts
        comments=Names((), ("cilium-feeder:",)),
        dirs=("/var/run/cilium", "/var/lib/cilium", "/sys/fs/bpf/cilium"),
        agents=("cilium-agent",),
        pins=Names(("cilium",), ("cilium_", "cil_")),
        rules=((9, "0x200/0xf00", "2004"), (10, "0xa00/0xf00", "2005")),
        ipam="the agent (restart it: it gives back what no endpoint has)",
    ),
    Artefacts(
        "weave",
        ("weave-net", "weave-ipam"),
        Names(("10-weave.conflist", "10-weave.conf")),
        Names(
            ("weave", "datapath", "vethwe-bridge", "vethwe-datapath", "vethwe-pcap", "vxlan-6784"),
            patterns=(r"vethwepl[0-9a-f]{7}",),
        ),
        Names(("WEAVE",), ("WEAVE-NPC", "WEAVE-EXPOSE", "WEAVE-IPSEC-")),
        Names(("weaver-no-masq-local",), ("weave-",)),
        dirs=("/var/lib/weave",),
        agents=("weaver", "weave-npc", "weaveutil"),
        ipam="the peers (weave rmpeer)",
    ),
    Artefacts(
        "kube-router",
        (),
        Names(("10-kuberouter.conflist", "10-kuberouter.conf")),
        Names(("kube-bridge", "kube-dummy-if"), patterns=(r"tun-[0-9a-z]{11}",)),
        Names((), ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")),
        Names((), ("kube-router-", "KUBE-SRC-", "KUBE-DST-")),
        Names(("kube-router-filter-ipv4", "kube-router-filter-ipv6")),
        dirs=("/var/lib/kube-router",),
        agents=("kube-router", *K3S),
    ),
    Artefacts(
        "multus",
        ("multus", "multus-shim"),
        Names(("00-multus.conf", "00-multus.conflist", "multus.d")),
        dirs=("/run/multus", "/var/lib/cni/multus", "/run/k8s.cni.cncf.io"),
        agents=("multus-daemon", "thin_entrypoint"),
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


_KINDS: Sequence[Tuple[Names, Tuple[str, ...]]] = (
    (Names(("cni0", "weave", "kube-bridge")), ("bridge", "openvswitch")),
    (Names(("datapath",)), ("openvswitch",)),
    (Names(("flannel.ipip",)), ("ipip",)),
    (Names(("vxlan.calico", "vxlan-v6.calico", "cilium_vxlan", "vxlan-6784"), ("flannel.", "flannel-v6.")), ("vxlan",)),
    (Names(("cilium_geneve",)), ("geneve",)),
    (Names(("tunl0",), ("tun-",)), ("ipip",)),
    (Names(("flannel-wg", "flannel-wg-v6", "wireguard.cali", "wg-v6.cali", "cilium_wg0")), ("wireguard",)),
    (Names(("kube-dummy-if",)), ("dummy",)),
)


def kinds_of(name: str) -> Tuple[str, ...]:
    """Return which kinds of device a CNI gives such a name; another program's of that name is another kind."""
    return next((kinds for names, kinds in _KINDS if names.has(name)), ("veth", "dummy"))
