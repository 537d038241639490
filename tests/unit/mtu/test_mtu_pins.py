"""Pins of routes: told from other MTUs, written without changing anything else of a route, and when they cannot be."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.mtu import pins
from ansible_collections.tune.nodes.plugins.module_utils.mtu.links import decode_route
from ansible_collections.tune.nodes.plugins.module_utils.mtu.netlink import attributes, pack_attribute
from hypothesis import given
from hypothesis import strategies as st
from mtu_stacks import FIXTURES

INET, INET6 = 2, 10


def bodies() -> list[bytes]:
    """Return every route of the captured dumps."""
    paths = sorted((FIXTURES / "captured").glob("*.json"))
    return [bytes.fromhex(text) for path in paths for text in json.loads(path.read_text())["routes"]]


def body(
    to: bytes = b"\x0a\0\0\0", length: int = 8, link: int = 2, family: int = INET, table: int = 254, **more: Any
) -> bytes:
    """Return a route's message; ``metrics`` are attributes, ``extra`` more of them."""
    head = struct.pack("=BBBBBBBBI", family, length, 0, 0, table, 4, 0, more.get("kind", 1), more.get("flags", 0))
    metrics = b"".join(pack_attribute(n, struct.pack("=I", v)) for n, v in more.get("metrics", {}).items())
    rows = [(1, to), (4, struct.pack("=i", link)), (6, struct.pack("=I", more.get("metric", 0)))]
    rows += [(8, metrics)] if metrics else []
    return head + b"".join(pack_attribute(n, v) for n, v in [*rows, *more.get("extra", [])])


def route(**more: Any) -> pins.Route:
    found = pins.decode(body(**more))
    assert found is not None
    return found


def test_pinned_and_freed_a_captured_route_is_what_it_was() -> None:
    known = [found for found in map(pins.decode, bodies()) if found is not None]
    assert len(known) > 5
    for one in known:
        pinned = pins.decode(pins.request(one, 1500))
        assert pinned is not None
        assert (pinned.pin, pinned.place, pinned.links, pinned.locked) == (1500, one.place, one.links, False)
        locked = pins.decode(pins.request(pinned, 1500, locked=True))
        assert locked is not None
        assert (locked.pin, locked.locked) == (1500, True)
        freed = pins.request(locked, 0)
        told = decode_route(freed)
        assert told is not None
        assert (told["mtu"], told["advmss"], told["locked"]) == (0, 0, False)
        left_out = (8, 12)  # metrics, and what the kernel tells but does not take
        before, after = attributes(one.body[12:]), attributes(freed[12:])
        assert {k: v for k, v in before.items() if k not in left_out} == {
            k: v for k, v in after.items() if k not in left_out
        }


def test_other_metrics_of_a_route_stay() -> None:
    one = route(metrics={7: 10, 2: 1500, 8: 1460})  # 7: initial congestion window's neighbour, RTAX_CWND
    metrics = attributes(attributes(pins.request(one, 0)[12:])[8])
    assert metrics == {7: struct.pack("=I", 10)}


@pytest.mark.parametrize(
    ("metrics", "family", "pin"),
    [
        ({}, INET, 0),
        ({2: 1500}, INET, 0),  # somebody's own
        ({2: 1500, 8: 1460}, INET, 1500),
        ({2: 1500, 8: 1440}, INET, 0),
        ({2: 1500, 8: 1440}, INET6, 1500),
        ({8: 1460}, INET, 0),
    ],
)
def test_a_pin_is_told_from_an_mtu_of_somebody_elses(metrics: dict[int, int], family: int, pin: int) -> None:
    to = b"\x0a\0\0\0" if family == INET else b"\xfd" + b"\0" * 15
    assert route(metrics=metrics, family=family, to=to).pin == pin


@pytest.mark.parametrize(
    "more",
    [
        {"kind": 2},  # local
        {"table": 255},
        {"flags": 0x200},  # path MTU cache
        {"flags": 1},  # dead
        {"family": INET6, "to": b"\xfe\x80" + b"\0" * 14, "length": 64},
    ],
)
def test_what_is_never_pinned(more: dict[str, Any]) -> None:
    assert pins.decode(body(**more)) is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{}], ""),
        ([{}, {"link": 3}], "2 routes to 10.0.0.0/8 of the same metric"),
        ([{}, {"metric": 100}], ""),
        ([{"extra": [(23, struct.pack("=I", 1800))]}], "router's advertisement"),
        ([{"extra": [(12, struct.pack("=IIi", 0, 0, 1800) + b"\0" * 20)]}], "router's advertisement"),
        ([{"metrics": {8: 1460}}], "MSS of its own"),
        ([{"metrics": {2: 1400}}], ""),  # it is left as it is
    ],
)
def test_what_hinders_a_pin(rows: list[dict[str, Any]], said: str) -> None:
    found = pins.summary([route(**row) for row in rows], {2: "eth0", 3: "eth1"})["eth0"]
    assert said in found["hindered"]
    assert bool(said) == bool(found["hindered"])


def test_one_of_a_multipath_routes_devices_is_enough_and_flags_of_its_hops_are_not_sent_back() -> None:
    hops = struct.pack("=HBBi", 8, 1 | 16 | 4, 0, 5) + struct.pack("=HBBi", 8, 0, 0, 6)
    one = route(link=0, extra=[(9, hops)])
    assert one.links == {5, 6}
    sent = attributes(pins.request(one, 1500)[12:])[9]
    assert struct.unpack_from("=HBBi", sent) == (8, 4, 0, 5)


def test_a_route_of_a_nexthop_object_names_the_object_alone() -> None:
    one = route(extra=[(5, b"\x0a\0\0\x01"), (30, struct.pack("=I", 7))])
    sent = attributes(pins.request(one, 1500)[12:])
    assert 30 in sent
    assert not {4, 5} & set(sent)


def test_canonical_text_and_what_is_to_be_written() -> None:
    free, own, pinned = route(), route(metrics={2: 1400}), route(metrics={2: 1500, 8: 1460})
    assert pins.value([free, own], 2) == "none"
    assert pins.value([free, own, pinned], 2) == "1500"
    assert pins.to_write([free, own, pinned], 2, 1500) == [(free, 1500)]
    assert pins.to_write([free, own, pinned], 2, 0) == [(pinned, 0)]
    assert pins.to_write([free, own, pinned], 3, 1500) == []


@given(st.binary(max_size=120))
def test_any_bytes_give_a_route_or_none(data: bytes) -> None:
    found = pins.decode(data)
    if found is not None:
        assert pins.decode(pins.request(found, 1500)) is not None
