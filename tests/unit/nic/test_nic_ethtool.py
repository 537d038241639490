# SPDX-License-Identifier: Apache-2.0
"""The kernel's structures in and out: real answers, then any bytes at all."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.nic import cpus, ethtool, model, xdp
from hypothesis import given
from hypothesis import strategies as st

CAPTURED = Path(__file__).parents[2] / "fixtures/nic/captured"


def answer(name: str, request: str) -> Any:
    raw = json.loads((CAPTURED / f"{name}.json").read_text())["ioctl"][request]
    return bytes.fromhex(raw) if isinstance(raw, str) else raw


def test_a_veth_as_the_kernel_answered() -> None:
    channels = ethtool.decode_channels(answer("veth-4-queues", "GCHANNELS"))
    assert channels is not None
    assert ethtool.as_dict(channels) == {
        "max": {"rx": 4, "tx": 4, "combined": 0},
        "now": {"rx": 2, "tx": 2, "combined": 0},
    }
    assert ethtool.decode_driver(answer("veth-4-queues", "GDRVINFO")) == "veth"
    for request in ("GRINGPARAM", "GRSSH", "GRXFHINDIR", "GRXCLSRLCNT"):
        assert answer("veth-4-queues", request) == {"errno": errno.EOPNOTSUPP}


def test_a_virtio_device_as_the_kernel_answered() -> None:
    channels = ethtool.decode_channels(answer("virtio-1-queue", "GCHANNELS"))
    assert channels is not None
    assert (channels.max_combined, channels.combined) == (1, 1)
    rings = ethtool.decode_rings(answer("virtio-1-queue", "GRINGPARAM"))
    assert rings is not None
    assert (rings.max_rx, rings.rx, rings.max_tx, rings.tx) == (256, 256, 256, 256)
    assert ethtool.decode_driver(answer("virtio-1-queue", "GDRVINFO")) == "virtio_net"
    assert ethtool.decode_mac(answer("virtio-1-queue", "GPERMADDR")[8:14]) == "52:54:00:12:34:56"


def test_an_rss_table_survives_the_way_out_and_back() -> None:
    rss = ethtool.Rss((0, 1, 2, 3) * 32, bytes(range(40)), 0, 0)
    raw = ethtool.encode_rss(rss)
    assert struct.unpack_from("=4I", raw) == (ethtool.SRSSH, 0, 128, 40)
    assert ethtool.decode_rss(raw) == rss
    assert ethtool.decode_rss(raw[:-1]) is None


def rule(cookie: int, flow_type: int = 1, context: int = 0) -> bytes:
    """Return a struct ethtool_rxnfc that holds one rule."""
    raw = bytearray(192)
    struct.pack_into("=I", raw, 16, flow_type)
    struct.pack_into("=Q", raw, 168, cookie)
    struct.pack_into("=I", raw, 184, context)
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "points_at"),
    [
        (rule(3), (3, None)),
        (rule(0xFFFFFFFFFFFFFFFF), (None, None)),  # dropped
        (rule(0xFFFFFFFFFFFFFFFE), (None, None)),  # wakes the machine
        (rule(2 | 1 << 32), (None, None)),  # a virtual function's queue
        (rule(0, 0x20000001, 5), (None, 5)),  # an RSS context
        (b"", (None, None)),
    ],
)
def test_what_a_flow_rule_points_at(raw: bytes, points_at: tuple[int | None, int | None]) -> None:
    assert ethtool.decode_rule(raw) == points_at


@given(data=st.binary(max_size=600), count=st.integers(-3, 1 << 32))
def test_decoders_survive_any_bytes(data: bytes, count: int) -> None:
    for decode in (ethtool.decode_channels, ethtool.decode_rings, ethtool.decode_rss, ethtool.decode_rule):
        decode(data)
    ethtool.decode_driver(data)
    ethtool.decode_mac(data)
    assert len(ethtool.decode_locations(data, count)) <= 200
    xdp.decode_messages(data)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def bound(ifindex: int, queue: int) -> bytes:
    """Return a struct xdp_diag_msg with the socket's binding after an attribute of another kind."""
    return bytes(16) + struct.pack("=HHI", 8, 2, 7) + struct.pack("=HHII", 12, 1, ifindex, queue)


def test_af_xdp_sockets_are_read_from_the_kernels_messages() -> None:
    data = message(20, bound(2, 0)) + message(20, bound(2, 5)) + message(20, bound(0, 0)) + message(20, bytes(16))
    assert xdp.decode_messages(data) == ([(2, 0), (2, 5)], None)
    assert xdp.decode_messages(message(3, bytes(4))) == ([], 0)
    assert xdp.decode_messages(message(2, struct.pack("=i", -2) + bytes(16))) == ([], errno.ENOENT)
    assert xdp.decode_messages(struct.pack("=IHHII", 500, 20, 0, 0, 0)) == ([], errno.EBADMSG)


PROTOCOLS = "protocol  size sockets  memory press\nXDP       1088      %s      -1   NI\nTCP 2000 3 1 no\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [(PROTOCOLS % 0, 0), (PROTOCOLS % 2, 2), (PROTOCOLS % "x", None), ("protocol size\n", 0), ("", None), (None, None)],
)
def test_the_kernel_counts_af_xdp_sockets(text: str | None, number: int | None) -> None:
    assert xdp.sockets_in_use(text) == number


def test_an_interface_that_is_not_there_is_gone() -> None:
    with ethtool.Ethtool() as tool:
        for name in ("tn-no-such-if", "", "a" * 16, "x\0y"):
            with pytest.raises(NodeError) as caught:
                tool.channels(name)
            assert caught.value.code == "gone"


@pytest.mark.parametrize(
    ("members", "mask", "listed"),
    [
        ([], "0", ""),
        ([0], "1", "0"),
        ([0, 1, 2, 3], "f", "0-3"),
        ([32], "1,00000000", "32"),
        ([0, 1, 63], "80000000,00000003", "0-1,63"),
        (list(range(96)), "ffffffff,ffffffff,ffffffff", "0-95"),
    ],
)
def test_masks_and_lists(members: list[int], mask: str, listed: str) -> None:
    assert cpus.format_mask(members) == mask
    assert cpus.parse_mask(mask) == members
    assert cpus.format_list(members) == listed
    assert cpus.parse_list(listed) == members


def test_the_kernels_padding_is_not_a_difference() -> None:
    assert cpus.canonical_mask("00000000,00000003\n") == "3"
    assert cpus.canonical_mask("0000,00000000,FFFFFFFF") == "ffffffff"
    assert cpus.canonical_mask("") is None
    assert cpus.canonical_mask("zz") is None


@given(members=st.sets(st.integers(0, 1000)))
def test_masks_and_lists_come_back(members: set[int]) -> None:
    assert cpus.parse_mask(cpus.format_mask(members)) == sorted(members)
    assert cpus.parse_list(cpus.format_list(members)) == sorted(members)


@given(text=st.text(max_size=40) | st.text("0123456789,-abcf", max_size=40))
def test_junk_is_no_list_mask_key_or_count(text: str) -> None:
    cpus.parse_list(text)
    cpus.parse_mask(text)
    for parse in (model.parse_key, model.parse_counts):
        try:
            parse(text)
        except NodeError as exc:
            assert exc.code == "usage"


@pytest.mark.parametrize(
    "text", ["eth0", "eth0/queues", "/channels", "eth0/rps", "eth0/rps/tx-0", "eth0/rps/rx-01", "eth0/rps/rx-0/x"]
)
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(NodeError):
        model.parse_key(text)


def test_counts_are_canonical() -> None:
    for text in ("combined=4", "rx=2 tx=2", "combined=8 rx=2", "none"):
        assert model.format_counts(model.parse_counts(text)) == text


def test_cores_are_counted_once_for_their_threads() -> None:
    assert cpus.count_cores([0, 1, 2, 3], [[0, 2], [1, 3]]) == 2
    assert cpus.count_cores([0, 1], [[0, 2], [1, 3]]) == 2
    assert cpus.count_cores([0, 1], []) == 2
