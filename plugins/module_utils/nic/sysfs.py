# SPDX-License-Identifier: Apache-2.0
"""What /sys/class/net says of an interface, and the one kind of write made there (RPS and XPS masks).

A process may see the /sys of another network namespace than the one it lives in. Nothing is believed of an
interface here, and nothing written, unless index and address agree with what the kernel's sockets say.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Any, Dict, List, Optional

from ..errors import NodeError
from ..host import Host, read_text
from . import cpus
from .ethtool import Ethtool

_QUEUE = re.compile(r"(rx|tx)-([0-9]{1,5})\Z")
_FILES = {"rps": "rps_cpus", "xps": "xps_cpus"}
_REPRESENTOR = re.compile(r"(c\d+)?pf\d+(vf|sf)\d+\Z")
_NUMA_LEVELS = 5  # NIC, virtio device, its PCI function, a bridge or two


def text(host: Host, *parts: str) -> str:
    """Return a small /sys file's stripped text, "" where it cannot be read."""
    return (read_text(host.path("sys", *parts), 1 << 16) or "").strip()


def number(value: str) -> Optional[int]:
    """Return a decimal number, None for anything else."""
    try:
        return int(value)
    except ValueError:
        return None


def interface_path(host: Host, name: str, *parts: str) -> str:
    """Return a path below /sys/class/net/NAME."""
    return host.path("sys/class/net", name, *parts)


def is_ours(host: Host, name: str, tool: Ethtool) -> bool:
    """Tell whether this /sys shows the interface that this process would change."""
    if host.root != "/":
        return os.path.isdir(interface_path(host, name))
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return False
    if number(text(host, "class/net", name, "ifindex")) != index:
        return False
    address = text(host, "class/net", name, "address")
    return len(address) != 17 or address in (tool.mac(name), "00:00:00:00:00:00")


def outline(host: Host, name: str) -> Dict[str, Any]:
    """Return the cheap facts that say what kind of interface this is; read for every interface of a node."""
    base = interface_path(host, name)
    try:
        entries = os.listdir(base)
    except OSError:
        entries = []
    return {
        "device": "device" in entries,
        "function": os.path.exists(os.path.join(base, "device/physfn")),
        "representor": bool(_REPRESENTOR.match(text(host, "class/net", name, "phys_port_name"))),
        "wireless": "phy80211" in entries or "wireless" in entries,
        "type": number(text(host, "class/net", name, "type")) or 0,
        "bond": "bonding" in entries,
        "active": text(host, "class/net", name, "bonding/active_slave") if "bonding" in entries else "",
        "bridge": "bridge" in entries,
        "master": _link_name(os.path.join(base, "master")),
        "lower": sorted(e[len("lower_") :] for e in entries if e.startswith("lower_")),
    }


def _link_name(path: str) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


def memory_domain(host: Host, name: str) -> Dict[str, Any]:
    """Return the NIC's NUMA node and its CPUs: {"node": -1, "cpus": []} where it has none."""
    path = os.path.realpath(interface_path(host, name, "device"))
    for _ in range(_NUMA_LEVELS):
        node = number((read_text(os.path.join(path, "numa_node"), 64) or "").strip())
        if node is not None:
            local = read_text(os.path.join(path, "local_cpulist"), 1 << 16) or ""
            listed = text(host, "devices/system/node", "node%d" % node, "cpulist") if node >= 0 else ""
            return {"node": node, "cpus": (cpus.parse_list(listed or local) or []) if node >= 0 else []}
        path = os.path.dirname(path)
    return {"node": -1, "cpus": []}


def queues(host: Host, name: str) -> Dict[str, List[int]]:
    """Return the numbers of the queues there are now: {"rx": [0, 1], "tx": [0, 1]}."""
    found: Dict[str, List[int]] = {"rx": [], "tx": []}
    try:
        entries = os.listdir(interface_path(host, name, "queues"))
    except OSError:
        return found
    for entry in entries:
        match = _QUEUE.match(entry)
        if match:
            found[match.group(1)].append(int(match.group(2)))
    return {side: sorted(numbers) for side, numbers in found.items()}


def default_mask(host: Host, aspect: str) -> str:
    """Return the mask that the kernel gives a new queue."""
    if aspect == "xps":
        return "0"
    return cpus.canonical_mask(read_text(host.path("proc/sys/net/core/rps_default_mask"), 1 << 14)) or "0"


def read_mask(host: Host, name: str, aspect: str, queue: str) -> Optional[str]:
    """Return a queue's canonical CPU mask, None where the interface or the file is not there.

    A queue that does not exist holds what it would be born with: so a change of a queue that comes or goes
    has a value before and after, and can be put back in the reverse order.
    """
    path = interface_path(host, name, "queues", queue, _FILES[aspect])
    mask = cpus.canonical_mask(read_text(path, 1 << 14))
    if mask is None and not os.path.exists(os.path.dirname(path)) and os.path.isdir(interface_path(host, name)):
        return default_mask(host, aspect)
    return mask


def writable(host: Host, name: str) -> bool:
    """Tell whether queue files may be written: /sys is read-only in many containers."""
    path = interface_path(host, name, "queues")
    try:
        return not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return False


def write_mask(host: Host, name: str, aspect: str, queue: str, mask: str) -> None:
    """Write a queue's CPU mask. Raises NodeError: ``gone`` without the queue, ``unsupported`` where not possible."""
    path = interface_path(host, name, "queues", queue, _FILES[aspect])
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(handle, mask.encode("ascii"))
        finally:
            os.close(handle)
    except OSError as exc:
        raise _refused(exc, "%s/%s/%s" % (name, aspect, queue), os.path.isdir(os.path.dirname(path))) from exc


def _refused(exc: OSError, key: str, exists: bool) -> NodeError:
    if not exists or exc.errno == errno.ENODEV:
        return NodeError("%s is gone" % key, "the device has no such queue now", code="gone")
    if exc.errno in (errno.ENOENT, errno.EROFS, errno.EOPNOTSUPP):
        why = {errno.EROFS: "/sys is read-only here", errno.ENOENT: "the device has one queue: nothing to steer"}
        return NodeError(
            "%s cannot be set" % key,
            why.get(exc.errno, "the kernel does not support it"),
            code="unsupported",
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return NodeError("%s cannot be set" % key, "root is needed")
    return NodeError("%s cannot be set" % key, "%s: is every CPU of the mask online?" % os.strerror(exc.errno or 0))
