# SPDX-License-Identifier: Apache-2.0
"""Read a node's whole stack of links, and what decides on their MTUs (I/O in)."""

from __future__ import annotations

import socket
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .. import persist
from ..errors import NodeError
from ..host import Host, read_text
from ..nic.ethtool import Ethtool
from . import cni, keeper, pins
from .links import decode_address, decode_link, decode_route
from .model import CLOUD_LIMITS, FAMILY_NAME, MtuSetting, parse_setting
from .netlink import (
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    Netlink,
    address_request,
    link_request,
    route_request,
)
from .stack import BOND_KINDS, UPPER_KINDS, Stack, faults

#: Entries of the path MTU cache that are told; a router may have thousands.
_MOST_CACHED = 100
Row = Dict[str, Any]


def observe(settings: Sequence[MtuSetting], host: Host) -> Dict[str, Any]:
    """Read everything that MTUs depend on here. The settings do not change what is read.

    Returns:
        JSON-able: ``links``, ``addresses``, ``routes`` (see links.py; of the routes the default ones and those with an
        MTU or MSS of their own), ``cached`` (path MTU cache), ``cni`` (see cni.py), ``keepers`` (see keeper.py) and
        ``drivers`` of the links that are not made by the CNI, ``kernel``, ``cloud``, ``faults``, and ``pinning``:
        ``summary`` of the routes by link (see pins.py) and ``kept``, the pins that this node keeps.

    Raises:
        NodeError: the kernel does not answer.
    """
    found = _rtnetlink()
    found["pinning"]["kept"] = kept_pins(persist.load(host).get(FAMILY_NAME, {}))
    return complete(found, host)


def kept_pins(settings: Mapping[str, Mapping[str, Any]]) -> Dict[str, int]:
    """Return link -> pin of the settings that a node keeps (pure). Raises NodeError for a damaged one."""
    return {name: pin for raw in settings.values() for name, pin in parse_setting(raw).pins.items()}


def complete(found: Dict[str, Any], host: Host) -> Dict[str, Any]:
    """Add what files of the node say to what the kernel said."""
    found["kernel"] = host.kernel
    found["cni"] = cni.observe([link["name"] for link in found["links"]], host)
    found["cloud"] = _cloud(host)
    found["keepers"] = {}
    stack = Stack(found)
    own = [link for link in found["links"] if _is_configurable(stack, link)]
    found["keepers"] = keeper.observe(own, host)
    found["drivers"] = _drivers([str(link["name"]) for link in own]) if host.root == "/" else {}
    found["faults"] = [fault._asdict() for fault in faults(stack)]
    return found


def _is_configurable(stack: Stack, link: Row) -> bool:
    """Tell whether a link is the node's own, and not made by its CNI or container runtime."""
    if link["kind"] == "bridge":
        return not stack.is_cni_bridge(link)
    if link["kind"] == "veth":  # a node that is a container itself has one
        return link["away"] and not stack.is_pod(link) and (not link["master"] or link in stack.default_links())
    return link["name"] != "lo" and link["kind"] in ("", *UPPER_KINDS, *BOND_KINDS)


def _rtnetlink() -> Dict[str, Any]:
    with Netlink() as socket_:
        bodies: List[bytes] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            bodies += socket_.dump(RTM_GETROUTE, route_request(family))
        routes = _decoded(bodies, decode_route)
        links = _decoded(socket_.dump(RTM_GETLINK, link_request()), decode_link)
        known = [route for route in map(pins.decode, bodies) if route is not None]
        return {
            "links": links,
            "pinning": {"summary": pins.summary(known, {link["index"]: link["name"] for link in links}), "kept": {}},
            "addresses": _decoded(socket_.dump(RTM_GETADDR, address_request()), decode_address),
            "routes": [r for r in routes if not r["cached"] and (r["to"] == "default" or r["mtu"] or r["advmss"])],
            "cached": [r for r in routes if r["cached"] and r["mtu"]][:_MOST_CACHED],
        }


def _decoded(bodies: Sequence[bytes], decode: Callable[[bytes], Optional[Row]]) -> List[Row]:
    return [row for row in map(decode, bodies) if row is not None]


def _cloud(host: Host) -> str:
    """Return the cloud this machine runs in, as far as its limit is known, by what its firmware says."""
    vendor = (read_text(host.path("sys/class/dmi/id/sys_vendor"), 256) or "").strip()
    return vendor if vendor in CLOUD_LIMITS else ""


def _drivers(names: Sequence[str]) -> Dict[str, str]:
    found = {}
    with Ethtool() as tool:
        for name in names:
            try:
                found[name] = tool.driver(name) or ""
            except NodeError:
                found[name] = ""  # gone since it was listed
    return found
