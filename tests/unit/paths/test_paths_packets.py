"""Echo requests as bytes, whole and in pieces."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.paths.packets import (
    CHUNK,
    HEADERS,
    LEAST,
    echo_request,
    fragments,
    is_reply,
)
from ansible_collections.tune.nodes.plugins.module_utils.probe import checksum
from hypothesis import given
from hypothesis import strategies as st

TOKEN = b"ABCDEFGH"
ENDS = {
    4: (ipaddress.ip_address("10.0.0.1").packed, ipaddress.ip_address("10.0.0.2").packed),
    6: (ipaddress.ip_address("fd00::1").packed, ipaddress.ip_address("fd00::2").packed),
}


@pytest.mark.parametrize(("family", "size"), [(4, 36), (4, 96), (4, 1500), (4, 9001), (6, 56), (6, 1500)])
def test_a_request_has_its_size_with_the_header(family: int, size: int) -> None:
    message = echo_request(family, size, TOKEN, 7)
    assert len(message) + HEADERS[family] - 8 == size
    assert message[0] == (8 if family == 4 else 128)
    assert message[8:16] == TOKEN
    if family == 4:
        assert checksum(message) == 0


def test_the_least_holds_the_token() -> None:
    for family, least in LEAST.items():
        assert TOKEN in echo_request(family, 0, TOKEN, 1)
        assert len(echo_request(family, least, TOKEN, 1)) + HEADERS[family] - 8 == least


def reply(family: int, token: bytes) -> bytes:
    body = struct.pack("!BBHHH", 0 if family == 4 else 129, 0, 0, 1, 1) + token
    return (b"\x46" + b"\0" * 23 + body) if family == 4 else body  # IPv4 with four bytes of options


def test_a_reply_is_known_by_its_token() -> None:
    for family in (4, 6):
        assert is_reply(family, reply(family, TOKEN), TOKEN)
        assert not is_reply(family, reply(family, b"HGFEDCBA"), TOKEN)
        assert not is_reply(family, reply(family, TOKEN)[:-1], TOKEN)
        assert not is_reply(family, echo_request(family, 100, TOKEN, 1), TOKEN), "one's own request is no reply"


@given(st.binary(max_size=64), st.sampled_from([4, 6]))
def test_junk_is_no_reply(data: bytes, family: int) -> None:
    assert is_reply(family, data, TOKEN) is (TOKEN in data and is_reply(family, data, TOKEN))


@pytest.mark.parametrize("size", [100, 600, 1500, 8950, 9000])
def test_ipv4_pieces_make_up_the_message(size: int) -> None:
    message = echo_request(4, size, TOKEN, 1)
    pieces = fragments(message, *ENDS[4], 0x1234)
    whole = b""
    for number, piece in enumerate(pieces):
        head, body = piece[:20], piece[20:]
        version, _, total, mark, flags, _, protocol, _ = struct.unpack("!BBHHHBBH", head[:12])
        assert (version, total, mark, protocol) == (0x45, len(piece), 0x1234, 1)
        assert len(piece) <= CHUNK + 20 <= 576
        assert (flags & 0x1FFF) * 8 == len(whole)
        assert bool(flags & 0x2000) is (number < len(pieces) - 1)
        assert not flags & 0x4000, "no DF"
        assert (head[12:16], head[16:20]) == ENDS[4]
        whole += body
    assert whole == message


@pytest.mark.parametrize("size", [600, 1500, 9000])
def test_ipv6_pieces_make_up_the_message_with_its_checksum(size: int) -> None:
    source, destination = ENDS[6]
    message = echo_request(6, size, TOKEN, 1)
    pieces = fragments(message, source, destination, 0x12345678)
    whole = b""
    for number, piece in enumerate(pieces):
        first, length, header, _ = struct.unpack("!IHBB", piece[:8])
        assert (first >> 28, length, header) == (6, len(piece) - 40, 44)
        assert (piece[8:24], piece[24:40]) == (source, destination)
        protocol, _, flags, mark = struct.unpack("!BBHI", piece[40:48])
        assert (protocol, mark) == (58, 0x12345678)
        assert flags & ~7 == len(whole)
        assert bool(flags & 1) is (number < len(pieces) - 1)
        whole += piece[48:]
    assert whole[8:] == message[8:]
    assert checksum(source + destination + struct.pack("!II", len(whole), 58) + whole) == 0
