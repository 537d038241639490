"""The first of two rounds as a plan: pins before links, what waits for the second, and what is kept in between."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtu_stacks import FREE, Row, by_key, flannel, link, node, plan

HOLD = {"underlay": 9000, "pods": "auto", "pin": "hold"}
FIELDS = ("key", "before", "want")


def todo(changes: list[Any]) -> list[str]:
    return [" ".join(str(getattr(c, f)) for f in FIELDS) for c in changes if c.status == "pending"]


def pinned(observed: Row, **found: str) -> Row:
    """Return an observation in which links have pins that are kept."""
    names = {name.replace("_", "."): text for name, text in found.items()}
    summary = {
        name: {**row, "pins": names.get(name, row["pins"])} for name, row in observed["pinning"]["summary"].items()
    }
    return {**observed, "pinning": {"summary": summary, "kept": {name: int(text) for name, text in names.items()}}}


def test_routes_are_pinned_before_links_are_raised() -> None:
    changes = plan(flannel(), HOLD)
    assert todo(changes) == [
        "eth0/route-mtu none 1500",
        "flannel.1/route-mtu none 1450",
        "eth0/mtu 1500 9000",
        "flannel.1/mtu 1450 8950",
    ]
    kept = by_key(changes)["eth0/mtu"].persist
    assert (kept["underlay"], kept["pins"], kept["keeper"]) == (
        9000,
        {"eth0": 1500, "flannel.1": 1450},
        {"by": "tune-nodes"},
    )


def test_links_that_shrink_wait_for_the_second_round() -> None:
    changes = plan(flannel(9000), {**HOLD, "underlay": 1500})
    assert todo(changes) == ["eth0/route-mtu none 1500", "flannel.1/route-mtu none 1450"]
    assert "lowered in the second round" in by_key(changes)["eth0/mtu"].note
    assert by_key(changes)["eth0/mtu"].persist["underlay"] == 9000, "what it is between the rounds"


def test_the_second_round_is_the_plan_as_it_is_without_rounds() -> None:
    wish = {"underlay": 9000, "pods": "auto"}
    raised = pinned(flannel(9000), eth0="1500", flannel_1="1450")
    assert todo(plan(raised, wish)) == ["eth0/route-mtu 1500 none", "flannel.1/route-mtu 1450 none"]
    assert "pins" not in by_key(plan(raised, wish))["eth0/mtu"].persist
    lowered = todo(plan(raised, {**wish, "underlay": 1500}))
    assert lowered == [
        "cni0/mtu 8950 1450",
        "flannel.1/mtu 8950 1450",
        "eth0/mtu 9000 1500",
        "eth0/route-mtu 1500 none",
        "flannel.1/route-mtu 1450 none",
    ]


def test_the_first_round_again_changes_nothing() -> None:
    changes = plan(pinned(flannel(9000), eth0="1500", flannel_1="1450"), HOLD)
    assert todo(changes) == []
    assert by_key(changes)["eth0/mtu"].persist["pins"] == {"eth0": 1500, "flannel.1": 1450}


def test_a_node_that_is_right_already_is_not_held() -> None:
    changes = plan(flannel(9000), HOLD)
    assert todo(changes) == []
    assert "pins" not in by_key(changes)["eth0/mtu"].persist


def test_after_a_boot_what_was_held_is_held_again_pins_first() -> None:
    kept = by_key(plan(flannel(), HOLD))["eth0/mtu"].persist
    booted = node([link("eth0")])
    assert todo(plan(booted, kept)) == ["eth0/route-mtu none 1500", "eth0/mtu 1500 9000"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"hindered": "there are 2 routes to default of the same metric"}, "2 routes to default"),
        ({"own": 4000}, "MTU of its own, 4000, which is more than the 1500"),
        ({"pins": "1400"}, "MTU and MSS of their own (1400)"),
    ],
)
def test_what_cannot_be_pinned_is_refused_in_the_first_round_only(row: Row, said: str) -> None:
    observed = flannel()
    observed["pinning"]["summary"]["eth0"] = {**FREE, **row}
    changes = plan(observed, HOLD)
    assert todo(changes) == []
    assert said in by_key(changes)["eth0/mtu"].note
    alone = todo(plan(observed, {"underlay": 9000, "pods": "auto"}))
    assert alone == ["eth0/mtu 1500 9000", "flannel.1/mtu 1450 8950"], "one node by itself needs no pin"


def test_an_mtu_that_somebody_gave_a_route_is_left_where_it_is_small_enough() -> None:
    observed = flannel()
    observed["pinning"]["summary"]["eth0"] = {**FREE, "own": 1500}
    assert todo(plan(observed, HOLD))[0] == "eth0/route-mtu none 1500"


SIZES = st.sampled_from([1400, 1500, 4000, 9000])


@given(before=SIZES, after=SIZES)
def test_between_the_rounds_a_node_takes_the_larger_and_sends_the_smaller(before: int, after: int) -> None:
    changes = plan(flannel(before), {**HOLD, "underlay": after})
    found = {c.key: int(c.want) for c in changes if c.status in ("ok", "pending")}
    assert found["eth0/mtu"] == max(before, after)
    if before != after:
        assert found["eth0/route-mtu"] == min(before, after)
        assert found["flannel.1/route-mtu"] == min(before, after) - 50
