# SPDX-License-Identifier: Apache-2.0
"""Which queues AF_XDP sockets are bound to, asked of the kernel's socket diagnosis (xdp_diag.h)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..host import Host, read_text

_AF_XDP = 44
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_XDP_SHOW_INFO = 1
_XDP_DIAG_INFO = 1
_TIMEOUT = 3.0


class XdpUsers(NamedTuple):
    """ifindex -> queues in use; ``unknown`` says why that could not be learnt ("" when it could)."""

    queues: Dict[int, List[int]]
    unknown: str


def decode_messages(data: bytes) -> Tuple[List[Tuple[int, int]], Optional[int]]:
    """Decode one netlink datagram.

    Returns:
        (found, end): (ifindex, queue) of each bound socket; end is None while more follows, 0 at the end,
        else the kernel's (positive) errno. Anything unreadable ends the datagram.
    """
    found: List[Tuple[int, int]] = []
    offset = 0
    while offset + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, offset)
        if size < 16 or offset + size > len(data):
            return found, errno.EBADMSG
        body = data[offset + 16 : offset + size]
        if kind == _NLMSG_DONE:
            return found, 0
        if kind == _NLMSG_ERROR:
            return found, -struct.unpack_from("=i", body)[0] if len(body) >= 4 else errno.EBADMSG
        found.extend(_attributes(body))
        offset += (size + 3) & ~3
    return found, None


def _attributes(body: bytes) -> List[Tuple[int, int]]:
    """Return the (ifindex, queue) of one xdp_diag_msg, empty for a socket bound to nothing."""
    offset = 16
    while offset + 4 <= len(body):
        size, kind = struct.unpack_from("=HH", body, offset)
        if size < 4 or offset + size > len(body):
            break
        if kind == _XDP_DIAG_INFO and size >= 12:
            ifindex, queue = struct.unpack_from("=II", body, offset + 4)
            return [(ifindex, queue)] if ifindex else []
        offset += (size + 3) & ~3
    return []


def sockets_in_use(text: Optional[str]) -> Optional[int]:
    """Return how many AF_XDP sockets /proc/net/protocols counts, 0 for a kernel without them, None if unreadable."""
    if not text or not text.startswith("protocol"):
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "XDP":
            return int(words[2]) if words[2].isdigit() else None
    return 0


def xdp_users(host: Host) -> XdpUsers:
    """Return the AF_XDP users of this network namespace.

    A kernel without the diagnosis module still counts the sockets: none means no users.
    """
    if sockets_in_use(read_text(host.path("proc/net/protocols"))) == 0:
        return XdpUsers({}, "")
    try:
        return _dump()
    except OSError as exc:
        return XdpUsers({}, _why(exc.errno or errno.ETIMEDOUT))


def _why(code: int) -> str:
    reasons = {errno.ENOENT: "this kernel has no socket diagnosis for AF_XDP", errno.EPERM: "root is needed"}
    return reasons.get(code, os.strerror(code))


def _dump() -> XdpUsers:
    queues: Dict[int, List[int]] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_TIMEOUT)
        request = struct.pack("=BBHIIII", _AF_XDP, 0, 0, 0, _XDP_SHOW_INFO, 0, 0)
        link.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        end: Optional[int] = None
        while end is None:
            found, end = decode_messages(link.recv(1 << 16))
            for ifindex, queue in found:
                queues.setdefault(ifindex, []).append(queue)
    if end:
        return XdpUsers({}, _why(end))
    return XdpUsers({index: sorted(set(found)) for index, found in queues.items()}, "")
