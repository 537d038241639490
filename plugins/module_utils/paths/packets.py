# SPDX-License-Identifier: Apache-2.0
"""Echo requests as bytes: built whole or in fragments, and told apart when they come back. Pure."""

from __future__ import annotations

import struct
from typing import List

from ..probe import checksum

#: Bytes of header before the payload: IP and ICMP.
HEADERS = {4: 28, 6: 48}
TOKEN = 8
#: The least that can be sent: the headers and the token by which an answer is known.
LEAST = {family: size + TOKEN for family, size in HEADERS.items()}
#: Bytes of data in one fragment (a multiple of 8). With headers 572 or 600, which every path carries.
CHUNK = 552
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_MORE, _ICMP, _ICMP6, _FRAGMENT = 0x2000, 1, 58, 44


def echo_request(family: int, size: int, token: bytes, sequence: int) -> bytes:
    """Return an echo request without its IP header, of ``size`` bytes with it.

    ICMPv6's checksum is left to the kernel, as it covers addresses.
    """
    payload = token + b"\0" * max(0, size - HEADERS[family] - len(token))
    identifier = struct.unpack("!H", token[:2])[0]
    head = struct.pack("!BBHHH", _REQUEST[family], 0, 0, identifier, sequence)
    total = checksum(head + payload) if family == 4 else 0
    return struct.pack("!BBHHH", _REQUEST[family], 0, total, identifier, sequence) + payload


def is_reply(family: int, data: bytes, token: bytes) -> bool:
    """Tell whether what a raw socket received answers the request with this token (IPv4 comes with its header)."""
    body = data[(data[0] & 0x0F) * 4 :] if family == 4 and data else data
    return len(body) >= 8 + len(token) and body[0] == _REPLY[family] and body[8 : 8 + len(token)] == token


def fragments(message: bytes, source: bytes, destination: bytes, identification: int) -> List[bytes]:
    """Return an ICMP message cut into small packets, whose IPv4 checksums are left to the kernel.

    Args:
        message: the ICMP message, for IPv6 without its checksum.
        source: four bytes, or sixteen for IPv6.
        destination: as many.
        identification: what marks the pieces as one, not 0.
    """
    if len(destination) == 16:
        return _fragments6(message, source, destination, identification)
    found = []
    for start in range(0, len(message), CHUNK):  # RFC 791, 3.2
        part = message[start : start + CHUNK]
        flags = (_MORE if start + CHUNK < len(message) else 0) | (start // 8)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), identification & 0xFFFF, flags, 64, _ICMP, 0)
        found.append(head + source + destination + part)
    return found


def _fragments6(message: bytes, source: bytes, destination: bytes, identification: int) -> List[bytes]:
    # RFC 4443, 2.3: the checksum covers a pseudo header of addresses, length and protocol.
    total = checksum(source + destination + struct.pack("!II", len(message), _ICMP6) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    found = []
    for start in range(0, len(message), CHUNK):  # RFC 8200, 4.5
        part = message[start : start + CHUNK]
        head = struct.pack("!IHBB", 6 << 28, 8 + len(part), _FRAGMENT, 64) + source + destination
        flags = start | (1 if start + CHUNK < len(message) else 0)
        found.append(head + struct.pack("!BBHI", _ICMP6, 0, flags, identification) + part)
    return found
