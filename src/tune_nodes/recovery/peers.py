"""What the API server says of a node's Flannel and of its peers', and which of a node's agents are not ready (pure)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.recovery import facts

#: Nodes that one request names: beyond that it would be larger than what it is worth.
MOST = 1000
#: Seconds in which an agent that has just started, or is about to end, need not be ready.
GRACE = 60.0
#: A container that waits for another reason than these has a trouble of its own.
STARTING = ("ContainerCreating", "PodInitializing")
_FLANNEL = "flannel.alpha.coreos.com/"


def peer_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``name``, ``pod_cidrs``, ``public_ip``, ``managed``, ``vtep_mac`` and ``vni`` of a Node object.

    What it does not say is "", and None for the number of the tunnel.
    """
    marks = objects.texts(node, "metadata", "annotations")
    listed = objects.at(node, "spec", "podCIDRs")
    cidrs = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    return {
        "name": objects.name_of(node),
        "pod_cidrs": cidrs or [one for one in (objects.text(node, "spec", "podCIDR"),) if one],
        "public_ip": marks.get(f"{_FLANNEL}public-ip", ""),
        "managed": marks.get(f"{_FLANNEL}kube-subnet-manager") == "true",
        **_tunnel(marks.get(f"{_FLANNEL}backend-data", "")),
    }


def _tunnel(text: str) -> dict[str, Any]:
    """Return what flanneld wrote about its tunnel; other backends than VXLAN write other things there."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    told = found if isinstance(found, dict) else {}
    mac, vni = told.get("VtepMAC"), told.get("VNI")
    known = isinstance(vni, int) and not isinstance(vni, bool)
    return {"vtep_mac": mac.lower() if isinstance(mac, str) else "", "vni": vni if known else None}


def unready_of(pods: Iterable[Mapping[str, Any]], now: float | None = None) -> list[str]:
    """Return the CNIs whose agents' pods on a node are not ready and are not merely on their way.

    One that was replaced a moment ago is left in peace: to start it anew once more would help nobody.
    """
    at = time.time() if now is None else now
    well: set[str] = set()
    there: set[str] = set()
    for pod in pods:
        told = objects.agent_facts(pod)
        names = facts.agents_of([pod]) if told is not None else []
        there |= set(names)
        if told is not None and (told.ready or not _stuck(pod, at)):
            well |= set(names)
    return sorted(there - well)


def _stuck(pod: Mapping[str, Any], now: float) -> bool:
    """Return whether a pod that is not ready is in trouble, or has been so for longer than a start takes."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in objects.mappings(pod, "status", kind):
            if objects.text(container, "state", "waiting", "reason", limit=80) not in ("", *STARTING):
                return True
    since = _time(objects.text(pod, "metadata", "deletionTimestamp"))
    if since is None:
        ready = [one for one in objects.mappings(pod, "status", "conditions") if one.get("type") == "Ready"]
        times = [objects.text(one, "lastTransitionTime") for one in ready]
        since = _time(next(iter(times), "") or objects.text(pod, "metadata", "creationTimestamp"))
    return since is not None and now - since > GRACE


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
