"""Connections as the kernel tells them over netlink, from what one really said."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import conntrack, flows
from ansible_collections.tune.nodes.plugins.module_utils.conntrack import Entry, Tuple4
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from hypothesis import given
from hypothesis import strategies as st

LINES = (Path(__file__).parents[2] / "fixtures/policy/ctnetlink.txt").read_text(encoding="utf-8").splitlines()
BODIES = {name: bytes.fromhex(body) for name, _, body in (line.partition(" ") for line in LINES)}


def test_a_connection_to_a_service_has_both_its_addresses() -> None:
    assert conntrack.decode(BODIES["service"]) == Entry(
        Tuple4("10.244.0.2", 40542, "10.96.0.1", 443, "TCP"), Tuple4("172.17.0.2", 6443, "10.244.0.2", 40542, "TCP")
    )
    plain = conntrack.decode(BODIES["plain"])
    assert plain is not None
    assert plain.original.target == plain.reply.source == "127.0.0.1"


def test_what_was_not_answered_is_none() -> None:
    assert conntrack.decode(BODIES["unreplied"]) is None


TORN = st.builds(lambda body, at: body[:at], st.sampled_from(list(BODIES.values())), st.integers(0, 240))


@given(st.binary(max_size=300) | TORN)
def test_any_bytes_are_read(body: bytes) -> None:
    found = conntrack.decode(body)
    assert found is None or found.original.protocol in ("TCP", "UDP", "SCTP")


def test_it_stands_in_where_proc_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = conntrack.decode(BODIES["service"])
    assert entry is not None
    monkeypatch.setattr(flows, "CONNTRACK", "proc/net/of-no-kernel")
    monkeypatch.setattr(flows.conntrack, "read", lambda: iter([entry]))
    found = flows.watch({"addresses": ["10.244.0.2"], "uids": [], "seconds": 0}, Host())
    assert found["flows"] == [["10.244.0.2", "172.17.0.2", 6443, "TCP", "conntrack"]]
    monkeypatch.setattr(flows.conntrack, "read", lambda: None)
    assert flows.watch({"addresses": [], "uids": [], "seconds": 0}, Host())["conntrack"] is False
