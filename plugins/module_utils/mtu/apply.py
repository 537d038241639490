# SPDX-License-Identifier: Apache-2.0
"""Read and write one MTU by its key: a link's own, or the one that its routes are pinned at (I/O out)."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any, Dict, List, Optional

from ..errors import NodeError
from ..host import Host
from . import pins
from .links import decode_link
from .model import MTU, parse_key, parse_mtu
from .netlink import RTM_GETROUTE, Netlink, route_request

#: Seconds a link may take to come back after its MTU was changed.
LINK_WAIT = 10.0
_POLL = 0.1

_REASONS = {
    errno.EPERM: "root or CAP_NET_ADMIN is needed",
    errno.EINVAL: "the device, or what it lies on, does not take this size",
    errno.ERANGE: "the interface it lies on has less",
    errno.EBUSY: "the device is busy with a reset or another change",
    errno.EOPNOTSUPP: "the driver cannot change this",
}
#: A route that went since it was listed.
_GONE = (errno.ENOENT, errno.ESRCH)


def read(key: str, host: Host) -> Optional[str]:
    """Return an interface's MTU in bytes, or its routes' pins, as text; None where there is no such interface."""
    name, aspect = parse_key(key)
    with Netlink() as rtnetlink:
        link = _link(name, rtnetlink)
        if link is None:
            return None
        return str(link["mtu"]) if aspect == MTU else pins.value(routes(rtnetlink), link["index"])


def write(key: str, value: str, host: Host) -> None:
    """Make an interface, or its routes, have an MTU; nothing is touched where it already has.

    That matters for more than speed: a bridge follows its ports only until somebody writes its MTU.

    Returns only when a link that was up is up again. Raises NodeError: ``gone`` where there is no such interface,
    ``failed`` with the kernel's own words where it refuses.
    """
    name, aspect = parse_key(key)
    with Netlink() as rtnetlink:
        link = _link(name, rtnetlink)
        if link is None:
            raise _gone(name)
        if aspect != MTU:
            _pin(name, link["index"], 0 if value == pins.NONE else parse_mtu(value), rtnetlink)
        elif link["mtu"] != parse_mtu(value):
            _set_mtu(link, parse_mtu(value), rtnetlink)


def routes(rtnetlink: Netlink) -> List[pins.Route]:
    """Return every route that can be pinned."""
    bodies = [b for f in (socket.AF_INET, socket.AF_INET6) for b in rtnetlink.dump(RTM_GETROUTE, route_request(f))]
    return [route for route in map(pins.decode, bodies) if route is not None]


def _set_mtu(link: Dict[str, Any], mtu: int, rtnetlink: Netlink) -> None:
    """Set a link's MTU, and see that no pin is lost by it.

    The kernel moves an IPv6 route's MTU along with its link's where both are the same, unless it is locked
    (rt6_mtu_change_route in net/ipv6/route.c). A lock is of use for this moment only: it makes the kernel deaf to what
    routers say of the path.
    """
    name = str(link["name"])
    mine = [r for r in routes(rtnetlink) if link["index"] in r.links and r.pin and r.family == socket.AF_INET6]
    for route in mine:
        _replace(name, pins.request(route, route.pin, locked=True), rtnetlink)
    code, words = rtnetlink.set_mtu(link["index"], mtu)
    for route in mine:
        _replace(name, pins.request(route, route.pin), rtnetlink)
    if code == errno.ENODEV:
        raise _gone(name)
    if code:
        why = words or _REASONS.get(code, os.strerror(code))
        raise NodeError("the MTU of %s cannot be set to %d" % (name, mtu), why)
    if link["running"]:
        _await_link(name, rtnetlink)


def _pin(name: str, index: int, pin: int, rtnetlink: Netlink) -> None:
    for route, wanted in pins.to_write(routes(rtnetlink), index, pin):
        _replace(name, pins.request(route, wanted), rtnetlink)


def _replace(name: str, request: bytes, rtnetlink: Netlink) -> None:
    code, words = rtnetlink.replace_route(request)
    if code and code not in _GONE:
        why = words or _REASONS.get(code, os.strerror(code))
        raise NodeError("the MTU of a route by %s cannot be set" % name, why)


def _gone(name: str) -> NodeError:
    return NodeError("%s is gone" % name, "there is no such interface now", code="gone")


def _link(name: str, rtnetlink: Netlink) -> Optional[Dict[str, Any]]:
    body = rtnetlink.get_link(name)
    return None if body is None else decode_link(body)


def _await_link(name: str, rtnetlink: Netlink) -> None:
    deadline = time.monotonic() + LINK_WAIT
    while True:
        link = _link(name, rtnetlink)
        if link is not None and link["running"]:
            return
        if time.monotonic() >= deadline:
            raise NodeError(
                "the link of %s did not come back" % name,
                "it was up before its MTU was changed, and is down %.0f s later" % LINK_WAIT,
            )
        time.sleep(_POLL)
