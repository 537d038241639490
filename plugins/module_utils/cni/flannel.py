# SPDX-License-Identifier: Apache-2.0
"""What Flannel has made of this node: its subnet, its tunnel's MAC, its bridge, its ways to other nodes. Reads only.

A node of Flannel sends to the pods of another through its tunnel device: the route names the first address of that
node's podCIDR, the neighbour entry of that address names the other tunnel's MAC, and the forwarding entry of that MAC
names the other node (flannel-io/flannel, pkg/backend/vxlan).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ..errors import NodeError
from ..host import Host, read_text
from . import command, leases
from .command import Run

BRIDGE = "cni0"
LIMIT = 10.0  # seconds for one program
_MOST = 10000
_TUNNEL = re.compile(r"flannel\.[0-9]+\Z")
T = TypeVar("T")


@dataclass
class Seen:
    """What was read.

    Attributes:
        subnets: what subnet.env gives this node, as addresses with a prefix length; empty where it does not.
        env: whether there is a subnet.env.
        links: whether this node's devices could be listed.
        tunnel, mac: the VXLAN device and its address; "" where there is none.
        bridge: IPv4 addresses of cni0 with their prefix lengths; None where there is no such bridge or
            it does not say.
        ports: what hangs on it.
        neighbours: address -> MAC of the tunnel's neighbour entries; None, here and below, where that is not known.
        forwarding: MAC -> nodes' addresses in the tunnel's forwarding entries.
        routes: network -> (gateway, device).
        unread: sentences about what could not be read.
    """

    subnets: List[str] = field(default_factory=list)
    env: bool = False
    links: bool = False
    tunnel: str = ""
    mac: str = ""
    bridge: Optional[List[str]] = None
    ports: List[str] = field(default_factory=list)
    neighbours: Optional[Dict[str, str]] = None
    forwarding: Optional[Dict[str, List[str]]] = None
    routes: Optional[Dict[str, Tuple[str, str]]] = None
    unread: List[str] = field(default_factory=list)


def rows(text: str) -> Optional[List[Mapping[str, Any]]]:
    """Return the mappings of a JSON list, None for anything else or for more than is read here (pure)."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) > _MOST:
        return None
    return [row for row in found if isinstance(row, dict)]


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value[:64] if isinstance(value, str) else ""


def parse_neighbours(text: str) -> Optional[Dict[str, str]]:
    """Return address -> MAC of ``ip -j neigh``, None for what is not understood (pure)."""
    found = rows(text)
    if found is None:
        return None
    return {_text(row, "dst"): _text(row, "lladdr").lower() for row in found if _text(row, "lladdr")}


def parse_forwarding(text: str) -> Optional[Dict[str, List[str]]]:
    """Return MAC -> addresses of ``bridge -j fdb``, None for what is not understood (pure)."""
    listed = rows(text)
    if listed is None:
        return None
    found: Dict[str, List[str]] = {}
    for row in listed:
        if _text(row, "mac") and _text(row, "dst"):
            found.setdefault(_text(row, "mac").lower(), []).append(_text(row, "dst"))
    return found


def parse_routes(text: str) -> Optional[Dict[str, Tuple[str, str]]]:
    """Return network -> (gateway, device) of ``ip -j route``, None for what is not understood (pure).

    Of several to one network the first counts, as for the kernel; the device of one with several ways is "".
    """
    listed = rows(text)
    if listed is None:
        return None
    found: Dict[str, Tuple[str, str]] = {}
    for row in listed:
        if _text(row, "dst"):
            found.setdefault(_text(row, "dst"), (_text(row, "gateway"), _text(row, "dev")))
    return found


def parse_addresses(text: str) -> Optional[List[str]]:
    """Return a device's global addresses with their prefix lengths, of ``ip -j addr``, None as above (pure)."""
    listed = rows(text)
    if listed is None:
        return None
    found = []
    for link in listed:
        told = link.get("addr_info")
        for row in told if isinstance(told, list) else []:
            if isinstance(row, dict) and row.get("scope") == "global" and isinstance(row.get("prefixlen"), int):
                found.append("%s/%d" % (_text(row, "local"), row["prefixlen"]))
    return found


class _Reader:
    def __init__(self, run: Run, seen: Seen) -> None:
        self.run, self.seen = run, seen

    def ask(self, parse: Callable[[str], Optional[T]], *argv: str) -> Optional[T]:
        """Return what a program says, None where it does not answer or is not understood: it is not known then."""
        try:
            done = self.run(list(argv), LIMIT)
        except NodeError as exc:
            self.seen.unread.append(str(exc)[:200])
            return None
        if done.code:
            self.seen.unread.append("%s: %s" % (" ".join(argv[:4]), done.said[:200]))
            return None
        found = parse(done.out.decode("utf-8", "replace"))
        if found is None:
            self.seen.unread.append("%s: its answer is not understood" % " ".join(argv[:4]))
        return found


def tunnel_of(links: Sequence[str], vni: Optional[int]) -> str:
    """Return the name of Flannel's VXLAN device, "" where it is not there or which one it is cannot be told (pure).

    Args:
        vni: the number that flanneld wrote to the API (backend-data); None where it is not known.
    """
    found = [name for name in links if _TUNNEL.match(name)]
    if vni is not None:
        return next((name for name in found if name == "flannel.%d" % vni), "")
    return found[0] if len(found) == 1 else ""


def observe(host: Host, run: Run = command.run, vni: Optional[int] = None) -> Seen:
    """Return what Flannel has made of this node; ``vni`` as for :func:`tunnel_of`."""
    seen = Seen()
    env = leases.read_env(host)
    seen.env = bool(env)
    seen.subnets = [env[key] for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if env.get(key)]
    links = _listed(host.path("sys/class/net"))
    seen.links = bool(links)
    reader = _Reader(run, seen)
    seen.tunnel = tunnel_of(links, vni)
    if seen.tunnel:
        seen.mac = (read_text(host.path("sys/class/net", seen.tunnel, "address")) or "").strip().lower()
        dev = ("show", "dev", seen.tunnel)
        seen.neighbours = reader.ask(parse_neighbours, "ip", "-j", "neigh", *dev)
        seen.forwarding = reader.ask(parse_forwarding, "bridge", "-j", "fdb", *dev)
    if BRIDGE in links:
        seen.bridge = reader.ask(parse_addresses, "ip", "-j", "-4", "addr", "show", "dev", BRIDGE)
        seen.ports = _listed(host.path("sys/class/net", BRIDGE, "brif"))
    seen.routes = reader.ask(parse_routes, "ip", "-j", "route")
    return seen


def _listed(path: str) -> List[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
