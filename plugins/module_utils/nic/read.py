# SPDX-License-Identifier: Apache-2.0
"""Read what the plan needs to know of this node's network devices, in one go (I/O in)."""

from __future__ import annotations

import os
import socket
from typing import Any, Dict, List, Optional, Sequence, Set

from ..errors import NodeError
from ..host import Host, read_text
from . import cpus, sysfs
from .ethtool import Channels, Ethtool, Rings, Rss, Rules, as_dict
from .model import ASPECTS, PHYSICAL, NicSetting, format_counts
from .targets import resolve
from .xdp import XdpUsers, xdp_users


def observe(settings: Sequence[NicSetting], host: Host) -> Dict[str, Any]:
    """Read every interface in outline, and those that the settings mean in detail.

    Without settings the physical NICs are read in full.

    Returns:
        JSON-able: ``kernel``; ``cpus`` {online, isolated, cores}; ``default_routes`` [name];
        ``interfaces`` {name: outline}; ``nics`` {name: detail}.
    """
    with Ethtool() as tool:
        interfaces = {name: _outline(host, name, tool) for name in interface_names(host)}
        routes = default_routes(host)
        patterns = [s.interfaces for s in settings] or [(PHYSICAL,)]
        wanted: Set[str] = {n for p in patterns for n in resolve(p, interfaces, routes).names}
        aspects = {a for s in settings for a in s.aspects()} or set(ASPECTS)
        users = xdp_users(host) if "channels" in aspects else XdpUsers({}, "")
        nics: Dict[str, Any] = {}
        for name in sorted(wanted):
            try:
                nics[name] = _detail(host, name, tool, aspects, users)
            except NodeError as exc:
                if exc.code == "gone":  # removed since it was listed: a pod's end, no error
                    del interfaces[name]
                else:
                    nics[name] = {"error": str(exc)}
    return {
        "kernel": host.kernel,
        "cpus": read_cpus(host),
        "default_routes": routes,
        "interfaces": interfaces,
        "nics": nics,
    }


def interface_names(host: Host) -> List[str]:
    """Return the interfaces of this network namespace."""
    if host.root == "/":
        return sorted(name for _index, name in socket.if_nameindex())
    try:
        return sorted(os.listdir(host.path("sys/class/net")))
    except OSError:
        return []


def default_routes(host: Host) -> List[str]:
    """Return the interfaces that carry an IPv4 or IPv6 default route."""
    return parse_routes(read_text(host.path("proc/net/route")) or "", read_text(host.path("proc/net/ipv6_route")) or "")


def parse_routes(v4: str, v6: str) -> List[str]:
    """Return the devices of the default routes in /proc/net/route and /proc/net/ipv6_route."""
    found = set()
    for line in v4.splitlines()[1:]:
        words = line.split()
        if len(words) >= 8 and words[1] == "00000000" and words[7] == "00000000":
            found.add(words[0])
    for line in v6.splitlines():
        words = line.split()
        if len(words) >= 10 and words[0] == "0" * 32 and words[1] == "00" and not _rejects(words[8]):
            found.add(words[9])
    return sorted(found - {"lo"})


def _rejects(flags: str) -> bool:
    try:
        return bool(int(flags, 16) & 0x200)  # RTF_REJECT: the kernel's own "no route"
    except ValueError:
        return True


def read_cpus(host: Host) -> Dict[str, Any]:
    """Return {online, isolated, cores}: CPU numbers, and the online CPUs grouped by physical core."""
    base = "devices/system/cpu"
    online = cpus.parse_list(sysfs.text(host, base, "online")) or list(range(host.cpus))
    isolated: Set[int] = set()
    for name in ("isolated", "nohz_full"):
        isolated.update(cpus.parse_list(sysfs.text(host, base, name)) or [])
    cores: List[List[int]] = []
    for cpu in online:
        topology = (base, "cpu%d" % cpu, "topology")
        listed = sysfs.text(host, *topology, "core_cpus_list") or sysfs.text(host, *topology, "thread_siblings_list")
        siblings = [c for c in cpus.parse_list(listed) or [cpu] if c in online]
        if siblings not in cores:
            cores.append(siblings)
    return {"online": online, "isolated": sorted(isolated & set(online)), "cores": cores}


def _outline(host: Host, name: str, tool: Ethtool) -> Dict[str, Any]:
    ours = _is_ours(host, name, tool)
    outline = sysfs.outline(host, name if ours else "")
    outline["sysfs"] = ours
    if not ours:
        outline["type"] = 1  # nothing is known of it but its name
    return outline


def _is_ours(host: Host, name: str, tool: Ethtool) -> bool:
    try:
        return sysfs.is_ours(host, name, tool)
    except NodeError:
        return False


def _detail(host: Host, name: str, tool: Ethtool, aspects: Set[str], users: XdpUsers) -> Dict[str, Any]:
    ours = _is_ours(host, name, tool)
    permanent = tool.permanent_mac(name)
    channels, rings = tool.channels(name), tool.rings(name)
    detail: Dict[str, Any] = {
        "driver": tool.driver(name),
        "mac": permanent or tool.mac(name),
        "mac_lasts": bool(permanent) or sysfs.text(host, "class/net", name, "addr_assign_type") in ("0", "3"),
        "up": bool(tool.flags(name) & 1),
        "speed": tool.speed(name),
        "channels": as_dict(channels) if channels else None,
        "rings": rings_dict(rings) if rings else None,
        "domain": sysfs.memory_domain(host, name) if ours else {"node": -1, "cpus": []},
        "queues": sysfs.queues(host, name) if ours else {"rx": [], "tx": []},
        "sysfs": "foreign" if not ours else "rw" if sysfs.writable(host, name) else "ro",
        "rps_default": sysfs.default_mask(host, "rps"),
    }
    detail["rps"] = {q: sysfs.read_mask(host, name, "rps", q) for q in ["rx-%d" % n for n in detail["queues"]["rx"]]}
    detail["xps"] = {q: sysfs.read_mask(host, name, "xps", q) for q in ["tx-%d" % n for n in detail["queues"]["tx"]]}
    if "channels" in aspects:
        detail["users"] = queue_users(name, tool, users)
    return detail


def queue_users(name: str, tool: Ethtool, users: XdpUsers) -> Dict[str, Any]:
    """Return who holds on to a device's queues, which may therefore not vanish.

    Returns:
        ``rss``: the default context's table as a list, None without one; ``contexts`` [queue], ``ntuple``
        [queue], ``xdp`` [queue]; ``unknown`` {"ntuple" or "xdp": why}.
    """
    unknown: Dict[str, str] = {}
    contexts: Set[int] = set()
    rss: Optional[Rss] = None
    rules: Optional[Rules] = None
    try:
        rss = tool.rss(name)
        rules = tool.rules(name)
        for number in rules.contexts if rules else ():
            context = tool.rss(name, number)
            contexts.update(context.table if context else ())
            if context is None:
                unknown["ntuple"] = "RSS context %d cannot be read" % number
    except NodeError as exc:
        if exc.code == "gone":
            raise
        unknown["ntuple"] = str(exc)
    if rules and not rules.complete:
        unknown["ntuple"] = "the receive flow rules cannot all be read"
    if users.unknown:
        unknown["xdp"] = users.unknown
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        index = 0
    return {
        "rss": list(rss.table) if rss else None,
        "contexts": sorted(contexts),
        "ntuple": list(rules.queues) if rules else [],
        "xdp": users.queues.get(index, []),
        "unknown": unknown,
    }


def rings_dict(rings: Rings) -> Dict[str, Dict[str, int]]:
    """Return the sizes as {"max": {rx, tx}, "now": {rx, tx}}."""
    return {"max": {"rx": rings.max_rx, "tx": rings.max_tx}, "now": {"rx": rings.rx, "tx": rings.tx}}


def channels_text(channels: Optional[Channels]) -> Optional[str]:
    """Return the canonical text of the queue counts in use, None without channels."""
    return format_counts(as_dict(channels)["now"]) if channels else None


def rings_text(rings: Optional[Rings]) -> Optional[str]:
    """Return the canonical text of the ring sizes in use, None without rings."""
    return format_counts(rings_dict(rings)["now"]) if rings else None
