# SPDX-License-Identifier: Apache-2.0
"""Routes pinned at a smaller MTU than their link has: a node that takes large packets and sends none. Pure.

A pin is a route's MTU together with the MSS that follows from it (MTU less 40 bytes, over IPv6 less 60). The kernel
would advertise that very MSS anyway, so it changes nothing; it tells our pins from an MTU that somebody else gave a
route, which is never touched. Messages are those of rtnetlink(7); linux/rtnetlink.h has the numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from .links import address
from .netlink import RTM_F_CLONED, attribute_list, attributes, number, pack_attribute

NONE = "none"

_AF_INET, _AF_INET6 = 2, 10
_UNICAST, _LOCAL_TABLE = 1, 255
_DST, _OIF, _GATEWAY, _PRIORITY, _METRICS, _MULTIPATH, _CACHEINFO, _TABLE = 1, 4, 5, 6, 8, 9, 12, 15
_VIA, _ENCAP_TYPE, _ENCAP, _EXPIRES, _NEXTHOP = 18, 21, 22, 23, 30
_LOCK, _MTU, _ADVMSS = 1, 2, 8
_DEAD, _PERVASIVE, _ONLINK = 1, 2, 4
#: What the kernel tells of a route and does not want back.
_TOLD = (_METRICS, _CACHEINFO)
#: What a route of a nexthop object must not name itself.
_OF_NEXTHOP = (_OIF, _GATEWAY, _VIA, _MULTIPATH, _ENCAP_TYPE, _ENCAP)
_MSS = {_AF_INET: 40, _AF_INET6: 60}


@dataclass(frozen=True)
class Route:
    """One unicast route that packets may take.

    Attributes:
        links: indexes of the devices it leaves by.
        place: what the kernel tells routes apart by when it replaces one: family, table, prefix, TOS, metric.
        mtu, advmss: its own metrics in bytes, 0 where it has none.
        expires: it is a router's advertisement, and goes by itself.
        body: the message that describes it.
    """

    family: int
    links: FrozenSet[int]
    place: Tuple[Any, ...]
    to: str
    mtu: int
    advmss: int
    locked: bool
    expires: bool
    body: bytes

    @property
    def pin(self) -> int:
        """The MTU it is pinned at, 0 where it is not pinned by us."""
        return self.mtu if self.mtu and self.advmss == self.mtu - _MSS[self.family] else 0


def decode(body: bytes) -> Optional[Route]:
    """Decode an RTM_NEWROUTE message's body; None for what is never pinned.

    That is: all but unicast, the kernel's own table, path MTU cache, dead routes, and IPv6's link-local prefixes (every
    link has the same, so that one could be taken for another; only neighbours find each other by them).
    """
    if len(body) < 12:
        return None
    family, length, _src, tos, short, _proto, _scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = attributes(body[12:])
    table = number(found.get(_TABLE), short)
    if family not in _MSS or kind != _UNICAST or table == _LOCAL_TABLE or flags & (RTM_F_CLONED | _DEAD):
        return None
    target = found.get(_DST, b"")
    if family == _AF_INET6 and target[:1] == b"\xfe" and len(target) == 16 and target[1] & 0xC0 == 0x80:
        return None
    links = {number(found.get(_OIF))} | {index for index, _ in _hops(found.get(_MULTIPATH, b""))}
    metrics = attributes(found.get(_METRICS) or b"")
    cache = found.get(_CACHEINFO, b"")
    return Route(
        family=family,
        links=frozenset(links - {0}),
        place=(family, table, target, length, tos, number(found.get(_PRIORITY))),
        to="default" if length == 0 else "%s/%d" % (address(target), length),
        mtu=number(metrics.get(_MTU)),
        advmss=number(metrics.get(_ADVMSS)),
        locked=bool(number(metrics.get(_LOCK)) & (1 << _MTU)),
        expires=_EXPIRES in found or (len(cache) >= 12 and struct.unpack_from("=i", cache, 8)[0] != 0),
        body=body,
    )


def _hops(data: bytes) -> List[Tuple[int, bytes]]:
    """Return a multipath route's next hops: (index of the device, the hop as a request may hold it)."""
    found, offset = [], 0
    while offset + 8 <= len(data):
        length, flags, weight, index = struct.unpack_from("=HBBi", data, offset)
        if length < 8 or offset + length > len(data):
            break
        hop = struct.pack("=HBBi", length, flags & (_PERVASIVE | _ONLINK), weight, index)
        found.append((index, hop + data[offset + 8 : offset + length] + b"\0" * (-length % 4)))
        offset += (length + 3) & ~3
    return found


def request(route: Route, mtu: int, locked: bool = False) -> bytes:
    """Return the message that gives a route a pin (0: none) in its own stead; all else of it stays as it is."""
    family, length, src, tos, table, proto, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", route.body)
    head = struct.pack(
        "=BBBBBBBBI", family, length, src, tos, table, proto, scope, kind, flags & (_PERVASIVE | _ONLINK)
    )
    rows = attribute_list(route.body[12:])
    by_nexthop = any(name == _NEXTHOP for name, _ in rows)
    body = b""
    for name, value in rows:
        if name in _TOLD or (by_nexthop and name in _OF_NEXTHOP):
            continue
        body += pack_attribute(name, b"".join(h for _, h in _hops(value)) if name == _MULTIPATH else value)
    return head + body + pack_attribute(_METRICS, _metrics(route, mtu, locked))


def _metrics(route: Route, mtu: int, locked: bool) -> bytes:
    kept = dict(attributes(attributes(route.body[12:]).get(_METRICS) or b""))
    locks = number(kept.pop(_LOCK, None)) & ~(1 << _MTU)
    wanted = {_MTU: mtu, _ADVMSS: mtu - _MSS[route.family]} if mtu else {}
    kept = {name: value for name, value in kept.items() if name not in (_MTU, _ADVMSS)}
    kept.update({name: struct.pack("=I", value) for name, value in wanted.items()})
    if locked:
        locks |= 1 << _MTU
    if locks:
        kept[_LOCK] = struct.pack("=I", locks)
    return b"".join(pack_attribute(name, value) for name, value in sorted(kept.items()))


def value(routes: Iterable[Route], index: int) -> str:
    """Return the pins of a link's routes as canonical text: "none", "1500"; several in order, "1450,1500".

    Routes without a pin do not count: what others make anew meanwhile is theirs.
    """
    found = sorted({route.pin for route in routes if index in route.links and route.pin})
    return ",".join(str(pin) for pin in found) or NONE


def parse(text: str) -> int:
    """Return the one pin in canonical text, 0 for none. Raises ValueError."""
    return 0 if text == NONE else int(text)


def to_write(routes: Iterable[Route], index: int, pin: int) -> List[Tuple[Route, int]]:
    """Return the routes of a link that must be written so that all are pinned (0: none is), with their new pin."""
    mine = [route for route in routes if index in route.links]
    if not pin:
        return [(route, 0) for route in mine if route.pin]
    return [(route, pin) for route in mine if (route.pin or not route.mtu) and route.pin != pin]


def summary(routes: Sequence[Route], names: Mapping[int, str]) -> Dict[str, Dict[str, Any]]:
    """Return what a plan needs to know of each link's routes.

    Returns:
        name -> ``pins`` (canonical text), ``free`` (routes without an MTU of their own), ``own`` (the largest MTU that
        somebody else gave a route, 0 for none), ``hindered`` (why one cannot be pinned, "" where all can).
    """
    places: Dict[Tuple[Any, ...], int] = {}
    for route in routes:
        places[route.place] = places.get(route.place, 0) + 1
    found: Dict[str, Dict[str, Any]] = {}
    for route in routes:
        for name in (names[index] for index in route.links if index in names):
            row = found.setdefault(name, {"free": 0, "own": 0, "hindered": ""})
            if not route.mtu:
                row["free"] += 1
                row["hindered"] = row["hindered"] or _hindrance(route, places[route.place])
            elif not route.pin:
                row["own"] = max(row["own"], route.mtu)
    for index, name in names.items():
        if name in found:
            found[name]["pins"] = value(routes, index)
    return found


def _hindrance(route: Route, twins: int) -> str:
    if twins > 1:
        return "there are %d routes to %s of the same metric, of which the kernel replaces any" % (twins, route.to)
    if route.expires:
        return "the route to %s comes from a router's advertisement and goes with it" % route.to
    if route.advmss:
        return "the route to %s has an MSS of its own" % route.to
    return ""
