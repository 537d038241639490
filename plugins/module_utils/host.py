# SPDX-License-Identifier: Apache-2.0
"""What this node is: read once per request, handed to every family."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from .errors import NodeError
from .files import read_bytes

#: Systems whose /etc does not last, with what they offer instead.
FOREIGN_SYSTEMS = {
    "cos": "set sysctls through the node pool's system configuration",
    "talos": "set sysctls and ethernet settings in the machine config",
    "bottlerocket": "set sysctls through the settings API (settings.kernel.sysctl)",
}

# Inode numbers of the initial namespaces (include/linux/proc_ns.h; net since Linux 6.18).
_INIT_PID_NS = 0xEFFFFFFC
_INIT_NET_NS = 0xEFFFFFF9

_CONTROL_PLANE_FILES = (
    "etc/kubernetes/manifests/kube-apiserver.yaml",
    "var/lib/rancher/k3s/server/token",
    "var/lib/rancher/rke2/server/token",
)
_ETCD_FILES = ("etc/kubernetes/manifests/etcd.yaml", "etc/etcd.env")


@dataclass
class Host:
    """One node's identity and the facts that decisions use. ``root`` is "/" except in tests."""

    root: str = "/"
    hostname: str = ""
    machine_id: str = ""
    boot_id: str = ""
    kernel: str = ""
    os_id: str = ""
    os_name: str = ""
    python: str = ""
    init: str = "none"  # "systemd" where this process lives in a systemd's world, else "none"
    initial_netns: bool = False  # host-scope keys may be written only here
    cpus: int = 1
    memory_mib: int = 0
    roles: List[str] = field(default_factory=list)  # control-plane, etcd, worker
    processes: Dict[str, List[int]] = field(default_factory=dict)  # comm -> pids in this network namespace
    sandboxes: Dict[int, int] = field(default_factory=dict)  # inode of another network namespace -> its lowest pid

    def path(self, *parts: str) -> str:
        """Return an absolute path below this host's root."""
        return os.path.join(self.root, *[p.lstrip("/") for p in parts])

    def identity(self) -> Dict[str, str]:
        """Return what tells this machine from every other one (clones share a machine-id)."""
        return {"machine_id": self.machine_id, "boot_id": self.boot_id}

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON-able facts, processes by name only."""
        raw = asdict(self)
        raw["processes"] = sorted(self.processes)
        del raw["root"], raw["sandboxes"]
        return raw


def read_text(path: str, limit: int = 1 << 20) -> Optional[str]:
    """Return a file's text (bad bytes replaced), None if it cannot be read."""
    data = read_bytes(path, limit)
    return None if data is None else data.decode("utf-8", "replace")


def namespace(pid: str, kind: str, root: str = "/") -> Optional[int]:
    """Return the inode number of a process's namespace, None where it may not be read."""
    try:
        return os.stat(os.path.join(root, "proc", pid, "ns", kind)).st_ino
    except OSError:
        return None


def parse_os_release(text: str) -> Dict[str, str]:
    """Parse os-release(5); unreadable lines are skipped."""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        name, sep, value = line.strip().partition("=")
        if not sep or not name.isidentifier():
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        found[name] = words[0] if words else ""
    return found


def _initial_netns(root: str) -> bool:
    mine = namespace("self", "net", root)
    if mine == _INIT_NET_NS:
        return True
    # In the initial pid namespace PID 1 is the machine's init, which lives in the initial network namespace.
    return mine is not None and namespace("self", "pid", root) == _INIT_PID_NS and namespace("1", "net", root) == mine


def _init_system(root: str) -> str:
    """Return "systemd" only if PID 1 is one and this process lives in its network namespace."""
    mine = namespace("self", "net", root)
    comm = (read_text(os.path.join(root, "proc/1/comm")) or "").strip()
    if (
        comm == "systemd"
        and os.path.isdir(os.path.join(root, "run/systemd/system"))
        and mine is not None
        and namespace("1", "net", root) == mine
    ):
        return "systemd"
    return "none"


def _processes(root: str) -> Tuple[Dict[str, List[int]], Dict[int, int]]:
    """Return comm -> pids of the processes in this network namespace; inode of each other one -> its lowest pid."""
    mine = namespace("self", "net", root)
    found: Dict[str, List[int]] = {}
    others: Dict[int, int] = {}
    try:
        names = os.listdir(os.path.join(root, "proc"))
    except OSError:
        return found, others
    for pid in sorted(int(name) for name in names if name.isdecimal()):
        if mine is not None:
            theirs = namespace(str(pid), "net", root)
            if theirs != mine:
                # A process whose namespace may not be read lives in a world of its own as well.
                if theirs is not None:
                    others.setdefault(theirs, pid)
                continue
        comm = (read_text(os.path.join(root, "proc", str(pid), "comm"), 64) or "").strip()
        if comm:
            found.setdefault(comm, []).append(pid)
    return found, others


def _roles(root: str, processes: Dict[str, List[int]]) -> List[str]:
    roles = []
    if "kube-apiserver" in processes or any(os.path.exists(os.path.join(root, f)) for f in _CONTROL_PLANE_FILES):
        roles.append("control-plane")
    if "etcd" in processes or any(os.path.exists(os.path.join(root, f)) for f in _ETCD_FILES):
        roles.append("etcd")
    return roles or ["worker"]


def _memory_mib(root: str) -> int:
    for line in (read_text(os.path.join(root, "proc/meminfo")) or "").splitlines():
        if line.startswith("MemTotal:"):
            digits = line.split()[1]
            return int(digits) // 1024 if digits.isdigit() else 0
    return 0


def observe_host(root: str = "/") -> Host:
    """Read what this node is. Raises NodeError(code="unsupported") on a system we must not change."""
    release = parse_os_release(read_text(os.path.join(root, "etc/os-release")) or "")
    os_id = release.get("ID", "")
    if os_id in FOREIGN_SYSTEMS:
        raise NodeError(
            "%s is not tuned from inside" % (release.get("PRETTY_NAME") or os_id),
            "its /etc does not last",
            FOREIGN_SYSTEMS[os_id],
            code="unsupported",
        )
    processes, sandboxes = _processes(root)
    return Host(
        root=root,
        hostname=platform.node(),
        machine_id=(read_text(os.path.join(root, "etc/machine-id")) or "").strip(),
        boot_id=(read_text(os.path.join(root, "proc/sys/kernel/random/boot_id")) or "").strip(),
        kernel=platform.release(),
        os_id=os_id,
        os_name=release.get("PRETTY_NAME", os_id),
        python=sys.executable or "",
        init=_init_system(root),
        initial_netns=_initial_netns(root),
        cpus=os.cpu_count() or 1,
        memory_mib=_memory_mib(root),
        roles=_roles(root, processes),
        processes=processes,
        sandboxes=sandboxes,
    )
