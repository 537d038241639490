# SPDX-License-Identifier: Apache-2.0
"""Read and write one MTU by its key (I/O out)."""

from __future__ import annotations

import errno
import os
import time
from typing import Any, Dict, Optional

from ..errors import NodeError
from ..host import Host
from .links import decode_link
from .model import interface_of, parse_mtu
from .netlink import Netlink

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


def read(key: str, host: Host) -> Optional[str]:
    """Return an interface's MTU in bytes as text, None where there is no such interface."""
    name = interface_of(key)
    with Netlink() as socket:
        link = _link(name, socket)
    return None if link is None else str(link["mtu"])


def write(key: str, value: str, host: Host) -> None:
    """Make an interface have an MTU; nothing is touched where it already has.

    That matters for more than speed: a bridge follows its ports only until somebody writes its MTU.

    Returns only when a link that was up is up again. Raises NodeError: ``gone`` where there is no such interface,
    ``failed`` with the kernel's own words where it refuses.
    """
    name, mtu = interface_of(key), parse_mtu(value)
    with Netlink() as socket:
        link = _link(name, socket)
        if link is None:
            raise NodeError("%s is gone" % name, "there is no such interface now", code="gone")
        if link["mtu"] == mtu:
            return
        code, words = socket.set_mtu(link["index"], mtu)
        if code == errno.ENODEV:
            raise NodeError("%s is gone" % name, "there is no such interface now", code="gone")
        if code:
            why = words or _REASONS.get(code, os.strerror(code))
            raise NodeError("the MTU of %s cannot be set to %d" % (name, mtu), why)
        if link["running"]:
            _await_link(name, socket)


def _link(name: str, socket: Netlink) -> Optional[Dict[str, Any]]:
    body = socket.get_link(name)
    return None if body is None else decode_link(body)


def _await_link(name: str, socket: Netlink) -> None:
    deadline = time.monotonic() + LINK_WAIT
    while True:
        link = _link(name, socket)
        if link is not None and link["running"]:
            return
        if time.monotonic() >= deadline:
            raise NodeError(
                "the link of %s did not come back" % name,
                "it was up before its MTU was changed, and is down %.0f s later" % LINK_WAIT,
            )
        time.sleep(_POLL)
