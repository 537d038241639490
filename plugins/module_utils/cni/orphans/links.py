# SPDX-License-Identifier: Apache-2.0
"""Network devices of a CNI, from what ``ip -j -d`` prints, and the words that make them again (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import catalogue
from .model import Artefact, Step

#: Fallback devices of the kernel: they come with a module and cannot be deleted.
_FALLBACK = ("tunl0", "ip6tnl0", "sit0", "gre0", "gretap0", "erspan0")
_UP = "UP"


@dataclass(frozen=True)
class Link:
    """One network device.

    Attributes:
        lower: the device beneath it or, of a veth in this namespace, its peer; "" where that is elsewhere.
        peer_namespace: number by which the kernel names the namespace of a veth's peer; None where it is this one.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    master: str
    lower: str
    peer_namespace: Optional[int]
    data: Mapping[str, Any]


def parse_links(text: str) -> List[Link]:
    """Return the devices of ``ip -j -d link``'s output."""
    return [_link(row) for row in rows(text) if _named(row)]


def rows(text: str) -> List[Dict[str, Any]]:
    """Return the rows of a JSON list of mappings; [] for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _named(row: Mapping[str, Any]) -> bool:
    return bool(_text(row.get("ifname")))


def _link(row: Mapping[str, Any]) -> Link:
    told = row.get("linkinfo")
    info: Mapping[str, Any] = told if isinstance(told, dict) else {}
    data, flags, mtu, nsid = info.get("info_data"), row.get("flags"), row.get("mtu"), row.get("link_netnsid")
    return Link(
        _text(row.get("ifname")),
        _text(info.get("info_kind")),
        _text(row.get("address")),
        mtu if isinstance(mtu, int) else 0,
        _UP in flags if isinstance(flags, list) else False,
        _text(row.get("master")),
        _text(row.get("link")),
        nsid if isinstance(nsid, int) and not isinstance(nsid, bool) else None,
        data if isinstance(data, dict) else {},
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def parse_addresses(text: str) -> Dict[str, List[str]]:
    """Return device -> its addresses with prefix lengths, of ``ip -j addr``; those of one link only are left out."""
    found: Dict[str, List[str]] = {}
    for row in rows(text):
        told = row.get("addr_info")
        for one in told if isinstance(told, list) else ():
            if isinstance(one, dict) and one.get("scope") != "link" and _text(one.get("local")):
                found.setdefault(_text(row.get("ifname")), []).append("%s/%s" % (one["local"], one.get("prefixlen")))
    return found


def parse_namespaces(text: str) -> Dict[int, str]:
    """Return the kernel's number of a namespace -> its name below /run/netns, of ``ip -j netns list-id``."""
    found = {}
    for row in rows(text):
        number, name = row.get("nsid"), _text(row.get("name"))
        if isinstance(number, int) and name:
            found[number] = name
    return found


def making(link: Link, namespace: str = "") -> Tuple[str, ...]:
    """Return the words after ``ip link add`` that make a device again; () where that is not known for its kind.

    Args:
        namespace: of a veth's peer, by its name below /run/netns.
    """
    words = ["name", link.name, "address", link.mac, "mtu", str(link.mtu), "type", link.kind]
    if link.kind in ("bridge", "dummy"):
        return tuple(words)
    if link.kind == "veth":
        if namespace:
            return (*words, "peer", "name", "eth0", "netns", namespace)
        return (*words, "peer", "name", link.lower) if link.lower else ()
    if link.kind == "vxlan":
        return (*words, *_vxlan(link.data))
    return ()


def _vxlan(data: Mapping[str, Any]) -> List[str]:
    found = ["id", str(data.get("id", 0)), "dstport", str(data.get("port", 4789))]
    for ours, theirs in (("dev", "link"), ("local", "local"), ("local", "local6"), ("group", "group")):
        if _text(data.get(theirs)):
            found += [ours, data[theirs]]
    if data.get("external"):
        found = ["dstport", str(data.get("port", 4789)), "external"]
    if data.get("learning") is False:
        found.append("nolearning")
    return found


def artefact(link: Link, owner: str, addresses: Sequence[str], namespace: str = "") -> Artefact:
    """Return a device's artefact."""
    made = making(link, namespace)
    stuck = ""
    if link.name in _FALLBACK:
        stuck = "the kernel's own: it goes with its module"
    elif not made:
        stuck = "a device of kind %s cannot be made again as it was" % (link.kind or "unknown")
    remove = (Step(("ip", "link", "del", "dev", link.name)),)
    there = ("ip", "link", "show", "dev", link.name)
    restore = [Step(("ip", "link", "add", *made), unless=there)] if made else []
    # Of a pair of veths the second is there as soon as the first is made, with what the kernel thought of.
    same = ("address", link.mac, "mtu", str(link.mtu))
    restore.append(Step(("ip", "link", "set", "dev", link.name, *same)))
    if link.master:
        restore.append(Step(("ip", "link", "set", "dev", link.name, "master", link.master)))
    restore += [Step(("ip", "addr", "replace", address, "dev", link.name)) for address in addresses]
    if link.up:
        restore.append(Step(("ip", "link", "set", "dev", link.name, "up")))
    content = ("%s mac %s mtu %d" % (link.kind, link.mac, link.mtu), *addresses)
    return Artefact("link", link.name, owner, content, remove, tuple(restore), stuck=stuck)


def owner_of(link: Link) -> str:
    """Return the CNI that makes a device of this name and kind, "" for none."""
    one = catalogue.of_link(link.name)
    if one is None or (link.kind and link.kind not in catalogue.kinds_of(link.name)):
        return ""
    return one.name
