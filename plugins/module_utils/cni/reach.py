# SPDX-License-Identifier: Apache-2.0
"""Whether this node reaches its own pods: one small echo request to each, side by side."""

from __future__ import annotations

import concurrent.futures
from typing import Dict, List, Mapping, Sequence

from ..probe import ping
from .model import Lease, Sandbox

SIZE = 84  # bytes, IP header included: of an ordinary ping
AT_ONCE = 32
MOST = 512


def of_pods(leases: Sequence[Lease], sandboxes: Mapping[str, Sandbox], used: Mapping[str, str]) -> Dict[str, str]:
    """Return address -> pod of the running pods that have a lease and an address in a network namespace."""
    found: Dict[str, str] = {}
    for lease in leases:
        sandbox = sandboxes.get(lease.id)
        if sandbox is not None and sandbox.ready and lease.ip in used and len(found) < MOST:
            found[lease.ip] = "%s/%s" % (sandbox.namespace, sandbox.name) if sandbox.name else sandbox.id[:12]
    return found


def pings(addresses: Mapping[str, str]) -> List[Dict[str, object]]:
    """Return a row for each address: ``ip``, ``pod``, ``ok``, ``ms`` and ``detail``."""
    if not addresses:
        return []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda address: ping(address, size=SIZE), addresses))
    return [
        {"ip": ip, "pod": pod, "ok": bool(answer["ok"]), "ms": answer.get("ms"), "detail": str(answer["detail"])[:120]}
        for (ip, pod), answer in zip(addresses.items(), answers)
    ]
