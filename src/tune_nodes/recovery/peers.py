"""What the API server says of a node's Flannel and of its peers', and which of a node's agents are not ready (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.recovery import facts

#: Nodes that one request names: beyond that it would be larger than what it is worth.
MOST = 1000
_FLANNEL = "flannel.alpha.coreos.com/"


def peer_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``name``, ``pod_cidrs``, ``public_ip``, ``vtep_mac`` and ``vni`` of a Node object.

    What it does not say is "", and None for the number of the tunnel.
    """
    marks = objects.texts(node, "metadata", "annotations")
    listed = objects.at(node, "spec", "podCIDRs")
    cidrs = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    return {
        "name": objects.name_of(node),
        "pod_cidrs": cidrs or [one for one in (objects.text(node, "spec", "podCIDR"),) if one],
        "public_ip": marks.get(f"{_FLANNEL}public-ip", ""),
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


def unready_of(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the CNIs whose agents' pods on a node are not ready, being deleted without another one included."""
    ready: set[str] = set()
    there: set[str] = set()
    for pod in pods:
        told = objects.agent_facts(pod)
        names = facts.agents_of([pod]) if told is not None else []
        there |= set(names)
        if told is not None and told.ready:
            ready |= set(names)
    return sorted(there - ready)
