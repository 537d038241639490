# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of connections over netlink, for kernels that show none in /proc. Read only.

Numbers and layouts are those of include/uapi/linux/netfilter/{nfnetlink,nfnetlink_conntrack,nf_conntrack_common}.h.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from typing import Dict, Iterator, List, NamedTuple, Optional

from .mtu.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, attributes, messages, number

_NETFILTER = 12
_GET = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_HEADER = 4  # of struct nfgenmsg
_ORIGINAL, _REPLY, _STATUS = 1, 2, 3
_SEEN_REPLY = 1 << 1
_ADDRESSES, _PROTOCOL = 1, 2
_SOURCE4, _TARGET4, _SOURCE6, _TARGET6 = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3
_NAMES = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP", 132: "SCTP"}
_TIMEOUT, _BUFFER, _MOST = 5.0, 1 << 20, 64 << 20


class Tuple4(NamedTuple):
    """One direction of a connection."""

    source: str
    source_port: int
    target: str
    target_port: int
    protocol: str


class Entry(NamedTuple):
    """A connection: as it was asked for, and as it is answered."""

    original: Tuple4
    reply: Tuple4


def read() -> Optional[Iterator[Entry]]:
    """Return the answered connections of this process's network namespace; None where the kernel does not tell them."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as asked:
        asked.settimeout(_TIMEOUT)
        body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        asked.send(struct.pack("=IHHII", 16 + len(body), _GET, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        found: List[Entry] = []
        size = 0
        while size < _MOST:
            data = asked.recv(_BUFFER)
            size += len(data)
            for kind, _, content in messages(data):
                if kind == NLMSG_DONE:
                    return iter(found)
                if kind == NLMSG_ERROR:
                    return None
                entry = decode(content)
                if entry is not None:
                    found.append(entry)
        return iter(found)
    return None


def decode(body: bytes) -> Optional[Entry]:
    """Return the connection in a message's body; None for one that is not answered, or is of another protocol."""
    held = attributes(body[_HEADER:])
    status = held.get(_STATUS, b"")
    if len(status) != 4 or not struct.unpack("!I", status)[0] & _SEEN_REPLY:
        return None
    original, reply = _tuple(attributes(held.get(_ORIGINAL, b""))), _tuple(attributes(held.get(_REPLY, b"")))
    return Entry(original, reply) if original is not None and reply is not None else None


def _tuple(held: Dict[int, bytes]) -> Optional[Tuple4]:
    addresses, protocol = attributes(held.get(_ADDRESSES, b"")), attributes(held.get(_PROTOCOL, b""))
    name = _NAMES.get(number(protocol.get(_NUMBER)))
    source = addresses.get(_SOURCE4) or addresses.get(_SOURCE6)
    target = addresses.get(_TARGET4) or addresses.get(_TARGET6)
    ports = [protocol.get(key, b"") for key in (_SOURCE_PORT, _TARGET_PORT)]
    if name is None or source is None or target is None or any(len(port) != 2 for port in ports):
        return None
    try:
        ends = [str(ipaddress.ip_address(end)) for end in (source, target)]
    except ValueError:
        return None
    numbers = [struct.unpack("!H", port)[0] for port in ports]
    return Tuple4(ends[0], numbers[0], ends[1], numbers[1], name)
