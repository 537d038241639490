# SPDX-License-Identifier: Apache-2.0
"""The key catalogue's net.core rows. Scope was checked in a fresh network namespace (Linux 6.18)."""

from __future__ import annotations

from .entry import BITMAP, EXACT, FLOOR, HOST, INT_MAX, NETNS, STRING, Entry

_NET = "https://docs.kernel.org/admin-guide/sysctl/net.html"
_SCALING = "https://docs.kernel.org/networking/scaling.html"
_TUNED = "https://github.com/redhat-performance/tuned/blob/master/profiles/network-throughput/tuned.conf"
_LATENCY = "https://github.com/redhat-performance/tuned/blob/master/profiles/network-latency/tuned.conf"
_ESNET = "https://github.com/bltierney/fasterdata-tuning"

# A socket buffer below this breaks ordinary sockets; the kernel's own minimum depends on its build.
_BUFFER_MIN = 4096

CORE = (
    Entry(
        "net.core.rmem_max",
        FLOOR,
        HOST,
        "bounds what a program may ask for with SO_RCVBUF",
        _NET,
        minimum=_BUFFER_MIN,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.wmem_max",
        FLOOR,
        HOST,
        "bounds what a program may ask for with SO_SNDBUF",
        _NET,
        minimum=_BUFFER_MIN,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.rmem_default",
        FLOOR,
        HOST,
        "receive buffer of sockets other than TCP",
        _NET,
        minimum=_BUFFER_MIN,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.wmem_default",
        FLOOR,
        HOST,
        "send buffer of sockets other than TCP",
        _NET,
        minimum=_BUFFER_MIN,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.optmem_max",
        FLOOR,
        NETNS,
        "ancillary data and zero-copy bookkeeping per socket",
        _ESNET,
        minimum=2048,
        maximum=INT_MAX,
    ),
    Entry(
        "net.core.somaxconn",
        FLOOR,
        NETNS,
        "longest accept queue a listener may have",
        _TUNED,
        minimum=1,
        maximum=INT_MAX,
    ),
    Entry(
        "net.core.netdev_max_backlog",
        FLOOR,
        HOST,
        "queue per CPU behind RPS; drops when it is full",
        _SCALING,
        minimum=1,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.netdev_budget",
        FLOOR,
        HOST,
        "packets one NAPI round may take; raise on time_squeeze",
        _NET,
        minimum=1,
        maximum=1000000,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.netdev_budget_usecs",
        FLOOR,
        HOST,
        "microseconds one NAPI round may take",
        _NET,
        minimum=1,
        maximum=1000000,
        owners=("bpftune",),
    ),
    Entry("net.core.dev_weight", FLOOR, HOST, "packets a device's poll may take", _NET, minimum=1, maximum=65536),
    Entry(
        "net.core.default_qdisc",
        EXACT,
        HOST,
        "queue discipline of new interfaces",
        _NET,
        shape=STRING,
        owners=("cilium-bandwidth",),
        opt_in=True,
    ),
    Entry(
        "net.core.busy_poll",
        EXACT,
        HOST,
        "poll the NIC in select and poll: latency for power and CPU",
        _LATENCY,
        minimum=0,
        maximum=1000000,
        opt_in=True,
    ),
    Entry(
        "net.core.busy_read",
        EXACT,
        HOST,
        "poll the NIC in read: latency for power and CPU",
        _LATENCY,
        minimum=0,
        maximum=1000000,
        opt_in=True,
    ),
    Entry(
        "net.core.rps_sock_flow_entries",
        FLOOR,
        HOST,
        "size of the RFS flow table",
        _SCALING,
        minimum=0,
        maximum=536870912,
    ),
    Entry(
        "net.core.rps_default_mask",
        EXACT,
        NETNS,
        "RPS mask of new interfaces",
        _NET,
        shape=BITMAP,
        opt_in=True,
        node_only=True,
    ),
    Entry(
        "net.core.flow_limit_cpu_bitmap",
        EXACT,
        HOST,
        "CPUs that shed large flows first under overload",
        _SCALING,
        shape=BITMAP,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.flow_limit_table_len",
        FLOOR,
        HOST,
        "buckets of the flow limit table",
        _SCALING,
        minimum=1,
        maximum=INT_MAX,
        owners=("bpftune",),
    ),
    Entry(
        "net.core.bpf_jit_enable", EXACT, HOST, "compile BPF programs", _NET, minimum=0, maximum=2, owners=("cilium",)
    ),
    Entry(
        "net.core.bpf_jit_limit",
        FLOOR,
        HOST,
        "memory for compiled BPF programs",
        _NET,
        minimum=4096,
        maximum=(1 << 63) - 1,
    ),
)
