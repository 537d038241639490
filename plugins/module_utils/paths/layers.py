# SPDX-License-Identifier: Apache-2.0
"""What of a node's stack of links matters to its paths, in few words: for whoever explains a path later. Pure."""

from __future__ import annotations

from typing import Any, Dict, List

from ..mtu.stack import Stack, faults

_MOST = 8  # of each: more say nothing more


def summary(stack: Stack) -> Dict[str, Any]:
    """Return a node's layers.

    Returns:
        ``underlay`` (links ``{"name", "mtu"}`` to other nodes), ``tunnels`` (with ``kind``, and ``overhead`` in bytes,
        None where it is not known), ``bridges`` (the CNI's), ``pods`` (MTUs of this end of pods' cables), ``cni``,
        ``faults`` (see mtu/stack.py).
    """
    tunnels = [link for link in stack.links if stack.is_cni_tunnel(link) and link["up"]]
    return {
        "cni": stack.state["name"],
        "underlay": [_link(link) for link in stack.underlays()[:_MOST]],
        "tunnels": [dict(_link(t), kind=t["kind"], overhead=stack.overhead(t)) for t in tunnels[:_MOST]],
        "bridges": [_link(link) for link in stack.links if stack.is_cni_bridge(link)][:_MOST],
        "pods": sorted({int(pod["mtu"]) for pod in stack.pods()})[:_MOST],
        "faults": [fault._asdict() for fault in faults(stack)][:_MOST],
    }


def _link(link: Any) -> Dict[str, Any]:
    return {"name": str(link["name"]), "mtu": int(link["mtu"])}


def own_addresses(stack: Stack) -> Dict[str, str]:
    """Return this node's address to other nodes, by family ("4", "6"): the first on what carries their packets."""
    found: Dict[str, str] = {}
    for link in stack.underlays():
        for family, address in addresses_of(stack.addresses, int(link["index"])).items():
            found.setdefault(family, address)
    return found


def bridge_addresses(stack: Stack) -> Dict[str, str]:
    """Return the addresses of the CNI's bridge, by family."""
    bridges = [link for link in stack.links if stack.is_cni_bridge(link)]
    return addresses_of(stack.addresses, int(bridges[0]["index"])) if bridges else {}


def addresses_of(rows: List[Any], index: int) -> Dict[str, str]:
    """Return the first address of each family that a link has and others can reach."""
    found: Dict[str, str] = {}
    for row in rows:
        address = str(row["address"])
        if row["index"] == index and not address.startswith(("fe80:", "169.254.", "127.")) and address != "::1":
            found.setdefault(str(row["family"]), address)
    return found
