# SPDX-License-Identifier: Apache-2.0
"""The key catalogue's rows of fs, vm and kernel: one value per kernel."""

from __future__ import annotations

from .entry import EXACT, FLOOR, HOST, INT_MAX, STRING, Entry

_KUBELET = "https://github.com/kubernetes/kubernetes/blob/master/pkg/util/sysctl/sysctl.go"
_FS = "https://docs.kernel.org/admin-guide/sysctl/fs.html"
_VM = "https://docs.kernel.org/admin-guide/sysctl/vm.html"
_KERNEL = "https://docs.kernel.org/admin-guide/sysctl/kernel.html"
_EKS = "https://github.com/awslabs/amazon-eks-ami/tree/main/templates/al2023/runtime/rootfs"
_INSTANCES = "https://github.com/kubernetes-sigs/kubespray/pull/13075"

FS = (
    Entry(
        "fs.inotify.max_user_instances",
        FLOOR,
        HOST,
        "usual limiter of kubelet, log agents and controllers",
        _INSTANCES,
        minimum=1,
        maximum=INT_MAX,
    ),
    Entry(
        "fs.inotify.max_user_watches",
        FLOOR,
        HOST,
        "files one user may watch; sized from RAM since 5.11",
        _EKS,
        minimum=1,
        maximum=INT_MAX,
    ),
    Entry("fs.inotify.max_queued_events", FLOOR, HOST, "events before some are lost", _FS, minimum=1, maximum=INT_MAX),
    Entry("fs.file-max", FLOOR, HOST, "open files of the whole node", _FS, minimum=8192, maximum=(1 << 63) - 1),
    Entry("fs.nr_open", FLOOR, HOST, "open files one process may have", _FS, minimum=1024, maximum=2147483584),
    Entry(
        "fs.aio-max-nr", FLOOR, HOST, "asynchronous requests of the whole node", _FS, minimum=1, maximum=(1 << 63) - 1
    ),
    Entry("fs.pipe-max-size", FLOOR, HOST, "largest pipe without privilege", _FS, minimum=4096, maximum=1 << 31),
)

VM = (
    Entry(
        "vm.max_map_count",
        FLOOR,
        HOST,
        "memory areas of a process; search engines need 262144",
        _VM,
        minimum=1,
        maximum=INT_MAX,
    ),
    Entry(
        "vm.overcommit_memory",
        EXACT,
        HOST,
        "kubelet expects 1: drift is an alert, not a wish",
        _KUBELET,
        minimum=0,
        maximum=2,
        owners=("kubelet", "k3s"),
    ),
    Entry(
        "vm.panic_on_oom",
        EXACT,
        HOST,
        "kubelet expects 0: drift is an alert, not a wish",
        _KUBELET,
        minimum=0,
        maximum=2,
        owners=("kubelet", "k3s"),
    ),
    Entry("vm.swappiness", EXACT, HOST, "how readily anonymous memory is swapped", _VM, minimum=0, maximum=200),
    Entry("vm.min_free_kbytes", FLOOR, HOST, "memory kept for atomic allocations", _VM, minimum=1, maximum=1 << 26),
    Entry("vm.dirty_ratio", EXACT, HOST, "dirty memory before writers wait (percent)", _VM, minimum=0, maximum=100),
    Entry(
        "vm.dirty_background_ratio",
        EXACT,
        HOST,
        "dirty memory before write-back (percent)",
        _VM,
        minimum=0,
        maximum=100,
    ),
)

KERNEL = (
    Entry(
        "kernel.pid_max", FLOOR, HOST, "processes and threads of the whole node", _KERNEL, minimum=301, maximum=4194304
    ),
    Entry("kernel.threads-max", FLOOR, HOST, "threads of the whole node", _KERNEL, minimum=20, maximum=1 << 29),
    Entry(
        "kernel.panic",
        EXACT,
        HOST,
        "kubelet expects 10: drift is an alert, not a wish",
        _KUBELET,
        minimum=-1,
        maximum=INT_MAX,
        owners=("kubelet", "k3s"),
    ),
    Entry(
        "kernel.panic_on_oops",
        EXACT,
        HOST,
        "kubelet expects 1: drift is an alert, not a wish",
        _KUBELET,
        minimum=0,
        maximum=1,
        owners=("kubelet", "k3s"),
    ),
    Entry(
        "kernel.keys.root_maxkeys",
        FLOOR,
        HOST,
        "one key per container",
        _KUBELET,
        minimum=1,
        maximum=INT_MAX,
        owners=("kubelet", "k3s"),
    ),
    Entry(
        "kernel.keys.root_maxbytes",
        FLOOR,
        HOST,
        "25 bytes per key",
        _KUBELET,
        minimum=1,
        maximum=INT_MAX,
        owners=("kubelet", "k3s"),
    ),
    Entry(
        "kernel.numa_balancing",
        EXACT,
        HOST,
        "move memory to the CPU that uses it",
        _KERNEL,
        minimum=0,
        maximum=3,
        opt_in=True,
    ),
    Entry("kernel.sched_autogroup_enabled", EXACT, HOST, "group tasks by session", _KERNEL, minimum=0, maximum=1),
    Entry(
        "kernel.timer_migration",
        EXACT,
        HOST,
        "move timers off idle CPUs",
        _KERNEL,
        minimum=0,
        maximum=1,
        owners=("cilium",),
    ),
    Entry("kernel.core_pattern", EXACT, HOST, "where core dumps go", _KERNEL, shape=STRING),
)
