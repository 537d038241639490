# SPDX-License-Identifier: Apache-2.0
"""Running pods that have another MTU than new ones get: theirs was set when they were made."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import pods
from .errors import NodeError
from .host import Host
from .model import Change
from .mtu.links import decode_link
from .mtu.netlink import Netlink

#: The interface of the cluster's own network in every pod: the kubelet's name for it, whatever the CNI.
INTERFACE = "eth0"
#: Seconds for all pods of a node.
LIMIT = 15.0


def wanted(changes: Sequence[Change]) -> Optional[int]:
    """Return the MTU that pods of this node should have by its plan, None where the plan says nothing of it."""
    for change in changes:
        if change.family == "mtu" and change.key == "pods/mtu" and change.want is not None:
            return int(change.want)
    return None


def stale(changes: Sequence[Change], host: Host, warnings: List[str], limit: float = LIMIT) -> List[Dict[str, Any]]:
    """Return this node's running pods whose MTU is not the wanted one, oldest first.

    Args:
        changes: the node's plan; without a word about pods nobody is looked at.
        host: the node.
        warnings: gets a line where some pods could not be read.
        limit: seconds for all of them.

    Returns:
        ``uid``, ``name`` (its hostname) and ``mtu`` (bytes) of each.
    """
    want = wanted(changes)
    if want is None or not pods.has_kubelet(host):
        return []
    until, found, problems = time.monotonic() + limit, [], []
    for pod in pods.own(host):
        left = until - time.monotonic()
        if left <= 0:
            problems.append("no time was left for the rest")
            break
        try:
            said = pods.within(pod, _look, host, min(left, pods.LIMIT))
        except NodeError as exc:
            if exc.code != "gone":
                problems.append(str(exc))
            continue
        if said.get("mtu") not in (None, want):
            found.append({"uid": pod.uid, "name": str(said["name"]), "mtu": int(said["mtu"])})
    if problems:
        warnings.append("not every pod's MTU is known: %s" % problems[0])
    return found


def _look() -> Mapping[str, Any]:
    """Read the MTU of the network namespace this process is in; null without an interface of the usual name."""
    try:
        with Netlink() as socket:
            body = socket.get_link(INTERFACE)
    except NodeError as exc:
        return {"error": str(exc)}
    link = None if body is None else decode_link(body)
    return {"name": os.uname().nodename, "mtu": None if link is None else link["mtu"]}
