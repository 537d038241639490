# SPDX-License-Identifier: Apache-2.0
"""The kernel's rtnetlink, as far as MTUs need it: dumps of links, addresses and routes, and one write.

Numbers and layouts are those of the kernel's include/uapi/linux/{netlink,rtnetlink,if_link}.h. Decoding is pure
and survives any bytes: what is cut short ends the list, and is never an error of its own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Dict, Iterator, List, Optional, Tuple

from ..errors import NodeError

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x100, 0x300, 0x10
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 16, 18, 20, 22, 24, 26
IFLA_IFNAME, IFLA_MTU, IFLA_EXT_MASK = 3, 4, 29
RTM_F_CLONED = 0x200

_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS: a third of every link's message
_SOL_NETLINK, _EXT_ACK = 270, 11
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_ACK_TLVS, _ACK_CAPPED = 0x200, 0x100
_NESTED_BITS = 0x3FFF  # an attribute's type without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_TIMEOUT = 5.0
_BUFFER = 1 << 20
_MOST = 64 << 20  # bytes of one dump; a full routing table of the Internet is smaller
_TRIES = 4  # a dump that was interrupted by a change is asked for again

#: Header of a link, an address and a route message, by the message's type.
HEADERS = {RTM_NEWLINK: 16, RTM_NEWADDR: 8, RTM_NEWROUTE: 12}

Message = Tuple[int, int, bytes]  # type, flags, body


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages in a datagram; a torn one ends it."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags = struct.unpack_from("=IHH", data, offset)
        if length < 16 or offset + length > len(data):
            return
        yield kind, flags, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes) -> Dict[int, bytes]:
    """Return an attribute list as type -> value, the last of a kind; a torn one ends it."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> List[Tuple[int, bytes]]:
    """Return an attribute list in its order."""
    found, offset = [], 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            break
        found.append((kind & _NESTED_BITS, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def number(value: Optional[bytes], default: int = 0) -> int:
    """Return an unsigned number of one, two, four or eight bytes in the machine's order."""
    if value is None or len(value) not in (1, 2, 4, 8):
        return default
    return int(struct.unpack("=" + {1: "B", 2: "H", 4: "I", 8: "Q"}[len(value)], value)[0])


def text(value: Optional[bytes]) -> str:
    """Return a zero-terminated string."""
    return (value or b"").split(b"\0", 1)[0].decode("utf-8", "replace")


def pack_attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def decode_error(body: bytes, flags: int) -> Tuple[int, str]:
    """Return (errno, the kernel's own words or "") of an NLMSG_ERROR's body; 0 is an acknowledgement."""
    if len(body) < 4:
        return errno.EIO, ""
    code = -struct.unpack_from("=i", body)[0]
    if not flags & _ACK_TLVS or len(body) < 20:
        return code, ""
    # The request follows, whole or (capped) by its header only; then the attributes.
    asked = 16 if flags & _ACK_CAPPED else struct.unpack_from("=I", body, 4)[0]
    return code, text(attributes(body[4 + ((asked + 3) & ~3) :]).get(_ERROR_TEXT))


class Netlink:
    """One rtnetlink socket of this process's network namespace. A context manager."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as exc:
            raise NodeError("the kernel's network devices cannot be read", exc.strerror or str(exc)) from exc
        self._socket.settimeout(_TIMEOUT)
        self._sequence = 0
        try:
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        except OSError:
            return  # before Linux 4.12: an errno without words is an answer too

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> List[bytes]:
        """Return the bodies of all messages that answer a dump request. Raises NodeError."""
        for _ in range(_TRIES):
            found, whole = self._dump_once(kind, body)
            if whole:
                return found
        return found  # a node whose links never stand still: what was seen last is the best there is

    def _dump_once(self, kind: int, body: bytes) -> Tuple[List[bytes], bool]:
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        found: List[bytes] = []
        whole, size = True, 0
        while True:
            data = self._receive()
            size += len(data)
            if size > _MOST:
                raise NodeError("the kernel's network devices cannot be read", "their list does not end")
            for answer, flags, content in messages(data):
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer == NLMSG_DONE:
                    return found, whole
                if answer == NLMSG_ERROR:
                    code, words = decode_error(content, flags)
                    raise NodeError("the kernel's network devices cannot be read", words or os.strerror(code))
                found.append(content)

    def get_link(self, name: str) -> Optional[bytes]:
        """Return one link's message body, None where there is no such interface. Raises NodeError."""
        body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + pack_attribute(
            IFLA_IFNAME, name.encode("utf-8", "replace") + b"\0"
        )
        self._send(RTM_GETLINK, NLM_F_REQUEST, body + pack_attribute(IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATS)))
        for kind, flags, content in messages(self._receive()):
            if kind == RTM_NEWLINK:
                return content
            if kind == NLMSG_ERROR:
                code, words = decode_error(content, flags)
                if code == errno.ENODEV:
                    return None
                raise NodeError("%s cannot be read" % name, words or os.strerror(code))
        return None

    def set_mtu(self, index: int, mtu: int) -> Tuple[int, str]:
        """Set a link's MTU in bytes. Returns (0, "") or (errno, the kernel's words). Raises NodeError."""
        body = struct.pack("=BBHiII", 0, 0, 0, index, 0, 0) + pack_attribute(IFLA_MTU, struct.pack("=I", mtu))
        return self._acknowledged(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, body)

    def replace_route(self, body: bytes) -> Tuple[int, str]:
        """Put a route in the stead of the one with its prefix, table and metric. Returns and raises as set_mtu."""
        return self._acknowledged(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE, body)

    def _acknowledged(self, kind: int, flags: int, body: bytes) -> Tuple[int, str]:
        self._send(kind, flags, body)
        for answer, bits, content in messages(self._receive()):
            if answer == NLMSG_ERROR:
                return decode_error(content, bits)
        return errno.EIO, "the kernel did not answer"

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0)
        try:
            self._socket.send(header + body)
        except OSError as exc:
            raise NodeError("the kernel's network devices cannot be asked", exc.strerror or str(exc)) from exc

    def _receive(self) -> bytes:
        """Return the next datagram that answers our latest request."""
        while True:
            try:
                data = self._socket.recv(_BUFFER)
            except OSError as exc:
                raise NodeError("the kernel's network devices cannot be read", str(exc)) from exc
            if len(data) >= 16 and struct.unpack_from("=I", data, 8)[0] == self._sequence:
                return data


def link_request() -> bytes:
    """Return the body of a dump of all links, without their statistics."""
    return struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + pack_attribute(IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATS))


def address_request() -> bytes:
    """Return the body of a dump of all addresses."""
    return struct.pack("=BBBBi", 0, 0, 0, 0, 0)


def route_request(family: int) -> bytes:
    """Return the body of a dump of a family's routes; since Linux 5.3 its path MTU cache comes with them."""
    return struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
