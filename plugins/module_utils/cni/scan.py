# SPDX-License-Identifier: Apache-2.0
"""Take one scan of a node: leases first, then sandboxes, then addresses. In any other order a pod that starts in
between has a lease and no sandbox.
"""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..host import Host, read_text
from ..pods import parse_stat
from ..transaction.store import now
from . import addresses, command, cri
from .command import Run
from .leases import read_leases
from .model import Lease, Network, Sandbox, Scan

_ID = re.compile(r"[0-9a-f]{64}")


def take(
    networks: Sequence[Network],
    host_of: Callable[[], Host],
    pods: Optional[Sequence[str]],
    run: Run = command.run,
    look: addresses.Enter = addresses.enter,
) -> Tuple[Scan, Dict[str, List[str]]]:
    """Return a scan, and by network the names in its directory that are no leases.

    Args:
        networks: whose leases are read.
        host_of: observes the node; called after the sandboxes were listed, so that its namespaces are newer.
        pods: canonical addresses of the node's pods in the API; None where nobody asked.

    Raises:
        NodeError: code ``leases``, ``cri`` or ``addresses``: one of them cannot be read to its end.
    """
    taken, wall = now(), time.time()
    before = host_of()
    leases: List[Lease] = []
    strange = {}
    for network in networks:
        found, strange[network.name] = read_leases(network, before)
        leases += found
    sandboxes = cri.sandboxes(before, run)
    host = host_of()
    return (
        Scan(
            boot_id=host.boot_id,
            taken=taken,
            wall=wall,
            leases=leases,
            sandboxes=sandboxes,
            used=addresses.used(host, look),
            pods=pods,
            kubelet_pods=kubelet_pods(host),
            skew=skew(sandboxes, host, wall - taken),
        ),
        strange,
    )


def kubelet_pods(host: Host) -> int:
    """Return how many pods the kubelet keeps directories of."""
    try:
        return len(os.listdir(host.path("var/lib/kubelet/pods")))
    except OSError:
        return 0


def started(host: Host) -> Dict[str, Tuple[float, int]]:
    """Return sandbox or container id -> (seconds since boot when its first process started, pid)."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: Dict[str, Tuple[float, int]] = {}
    pids = sorted({*host.sandboxes.values(), *host.processes.get("pause", [])})
    for pid in pids:
        ids = _ID.findall(read_text(host.path("proc", str(pid), "cgroup"), 1 << 14) or "")
        stat = parse_stat(read_text(host.path("proc", str(pid), "stat"), 1 << 12) or "")
        if ids and stat is not None:
            begun = int(stat[1]) / ticks
            if ids[-1] not in found or begun < found[ids[-1]][0]:
                found[ids[-1]] = (begun, pid)
    return found


def skew(sandboxes: Mapping[str, Sandbox], host: Host, offset: float) -> Optional[float]:
    """Return by how many seconds the clock moved since the newest sandbox was made, None where none tells.

    The runtime notes the wall clock when it makes a sandbox; the kernel counts from boot when its process starts.

    Args:
        offset: the wall clock at boot, as it is reckoned now.
    """
    newest: Optional[Tuple[float, float]] = None
    for sandbox, (begun, _pid) in started(host).items():
        known = sandboxes.get(sandbox)
        if known is not None and known.created_ns and (newest is None or begun > newest[0]):
            newest = (begun, offset + begun - known.created_ns / 1e9)
    return None if newest is None else newest[1]
