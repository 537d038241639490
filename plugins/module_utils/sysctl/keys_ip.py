# SPDX-License-Identifier: Apache-2.0
"""The key catalogue's rows of addresses, fragments and neighbours."""

from __future__ import annotations

from .entry import EXACT, FLOOR, HOST, INT_MAX, NETNS, STRING, VECTOR, Entry

_IP = "https://docs.kernel.org/networking/ip-sysctl.html"
_AKS = "https://learn.microsoft.com/azure/aks/custom-node-configuration"
_NEIGH = "one entry per pod or veth; an overflow cuts pods off"

IP = (
    Entry(
        "net.ipv4.ip_local_port_range",
        EXACT,
        NETNS,
        "ports for outgoing connections; below NodePorts if possible",
        _AKS,
        shape=VECTOR,
        length=2,
        minimum=1,
        maximum=65535,
        ordered=True,
    ),
    Entry(
        "net.ipv4.ip_local_reserved_ports",
        EXACT,
        NETNS,
        "ports never picked for outgoing connections",
        _IP,
        shape=STRING,
    ),
    Entry(
        "net.ipv4.ip_unprivileged_port_start",
        EXACT,
        NETNS,
        "first port that needs no privilege",
        _IP,
        minimum=0,
        maximum=65535,
    ),
    Entry(
        "net.ipv4.igmp_max_memberships",
        FLOOR,
        NETNS,
        "multicast groups a socket may join",
        _IP,
        minimum=1,
        maximum=INT_MAX,
    ),
    Entry(
        "net.ipv4.ipfrag_high_thresh",
        FLOOR,
        NETNS,
        "bytes for reassembly",
        _IP,
        minimum=0,
        maximum=(1 << 63) - 1,
        owners=("bpftune",),
    ),
    Entry(
        "net.ipv4.ipfrag_low_thresh",
        FLOOR,
        NETNS,
        "bytes for reassembly after a purge",
        _IP,
        minimum=0,
        maximum=(1 << 63) - 1,
        owners=("bpftune",),
    ),
    Entry(
        "net.ipv6.ip6frag_high_thresh",
        FLOOR,
        NETNS,
        "bytes for reassembly",
        _IP,
        minimum=0,
        maximum=(1 << 63) - 1,
        owners=("bpftune",),
    ),
    Entry(
        "net.ipv6.ip6frag_low_thresh",
        FLOOR,
        NETNS,
        "bytes for reassembly after a purge",
        _IP,
        minimum=0,
        maximum=(1 << 63) - 1,
        owners=("bpftune",),
    ),
    Entry(
        "net.ipv6.route.max_size",
        FLOOR,
        NETNS,
        "routes and exceptions of IPv6",
        _IP,
        minimum=1,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.ipv4.fib_multipath_hash_policy",
        EXACT,
        NETNS,
        "what ECMP hashes",
        _IP,
        minimum=0,
        maximum=3,
        node_only=True,
    ),
    Entry(
        "net.ipv6.conf.*.accept_ra",
        EXACT,
        NETNS,
        "router advertisements; 2 where the node forwards",
        _IP,
        minimum=0,
        maximum=2,
        owners=("systemd-networkd", "NetworkManager"),
        node_only=True,
    ),
    Entry(
        "net.ipv6.conf.*.disable_ipv6",
        EXACT,
        NETNS,
        "IPv6 on the interface",
        _IP,
        minimum=0,
        maximum=1,
        owners=("NetworkManager",),
        node_only=True,
    ),
)

NEIGH = tuple(
    Entry(
        "net.%s.neigh.default.gc_thresh%d" % (family, level),
        FLOOR,
        HOST,
        _NEIGH,
        _AKS,
        minimum=1,
        maximum=INT_MAX,
        owners=("bpftune",),
    )
    for family in ("ipv4", "ipv6")
    for level in (1, 2, 3)
)
