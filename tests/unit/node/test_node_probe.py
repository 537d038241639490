"""Probes: what is parsed, and what counts as lost. Pings themselves are tested in the lab."""

from __future__ import annotations

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import probe
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from hypothesis import given, settings
from hypothesis import strategies as st

# /proc/net/route of a machine with two default routes (Linux 6.18).
ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth1\t00000000\t01004D0A\t0003\t0\t0\t200\t00000000\t0\t0\t0\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
ROUTES6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe80000000000000000000000000ff01 00000400 00000001 00000000 00450003     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
)


def test_default_gateways_best_first() -> None:
    assert probe.parse_route_table(ROUTES) == [("eth0", "192.0.2.1"), ("eth1", "10.77.0.1")]
    assert probe.parse_route6_table(ROUTES6) == [("eth0", "fe80::ff01")]


@given(st.text())
def test_route_tables_survive_junk(text: str) -> None:
    probe.parse_route_table("header\n" + text)
    probe.parse_route6_table(text)


def test_checksum_is_that_of_rfc_1071() -> None:
    assert probe.checksum(bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])) == 0x220D
    data = b"\x08\x00\x00\x00odd"
    assert probe.checksum(data + b"\0") == probe.checksum(data)


LOST = [
    ([], [], []),
    ([("g", True)], [("g", True)], []),
    ([("g", True)], [("g", False)], ["g"]),
    ([("g", True)], [], ["g"]),
    ([("g", False)], [("g", False)], []),
    ([("g", True), ("p", False)], [("g", True), ("p", True)], []),
]


@pytest.mark.parametrize(("before", "after", "missing"), LOST)
def test_only_what_passed_before_must_pass_again(
    before: list[tuple[str, bool]], after: list[tuple[str, bool]], missing: list[str]
) -> None:
    rows = [[{"id": name, "ok": ok} for name, ok in side] for side in (before, after)]
    assert [row["id"] for row in probe.lost(*rows)] == missing


def test_unknown_probe() -> None:
    with pytest.raises(NodeError) as caught:
        probe.run_probes([{"kind": "telepathy"}], Host())
    assert caught.value.code == "usage"


@settings(deadline=None)  # what looks like an address is pinged, and that may take its second
@given(st.text(max_size=40))
def test_ping_of_anything_is_an_answer(text: str) -> None:
    # Nothing here may leave the machine, and other scripts have digits too.
    assert probe.ping("x" + text, tries=1)["ok"] is False
