"""How many nodes at once, and when a person is asked: tables over pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_nodes.recovery.budget import Budget, Held, Nodes, refusal

NOW = 1_800_000_000.0
TEN = {f"n{number}": True for number in range(10)}


def down(*names: str) -> Nodes:
    return Nodes({name: name not in names for name in TEN}, {"n7", "n8", "n9"})


@pytest.mark.parametrize(
    ("budget", "nodes", "most"),
    [
        (Budget(), 1, 1),
        (Budget(), 3, 1),
        (Budget(), 20, 2),
        (Budget(), 1000, 3),
        (Budget(max_nodes=2, max_percent=67), 3, 2),
        (Budget(max_nodes=100, max_percent=10), 30, 3),  # 30 * 0.1 is less than 3 in floating point
        (Budget(max_nodes=100, max_percent=100), 5, 5),
        (Budget(max_nodes=1, max_percent=0), 1000, 1),
    ],
)
def test_at_once(budget: Budget, nodes: int, most: int) -> None:
    assert budget.at_once(nodes) == most


TWO = Budget(max_nodes=2, max_percent=20)


@pytest.mark.parametrize(
    ("node", "held", "nodes", "recovered", "budget", "code", "passing"),
    [
        ("n1", [], down(), {}, Budget(), "", False),
        ("n1", [], down("n1"), {}, Budget(), "", False),  # the node itself is what is recovered
        ("n1", [Held("n1", "other_run")], down(), {}, TWO, "same-node", True),
        ("n1", [Held("n2", "other_run")], down(), {}, Budget(), "over-budget", True),
        ("n1", [Held("n2", "other_run")], down(), {}, TWO, "", False),
        ("n1", [Held("n2", "other_run")], down("n2"), {}, TWO, "", False),  # counted once
        ("n1", [Held("n2", "other_run")], down("n3"), {}, TWO, "over-budget", True),
        ("n1", [], down("n3"), {}, Budget(), "over-budget", False),  # waiting for another's run does not help
        ("n1", [], down("n3"), {}, TWO, "", False),
        ("n9", [Held("n8", "other_run", True)], down(), {}, TWO, "control-plane", True),
        ("n9", [Held("n2", "other_run")], down(), {}, TWO, "", False),
        ("n9", [], down("n8"), {}, TWO, "control-plane", False),
        ("n9", [], down("n9"), {}, TWO, "", False),
        ("n1", [], down("n1", "n2", "n3", "n4", "n5"), {}, Budget(9, 90), "storm", False),
        ("n1", [], down("n1", "n2", "n3", "n4"), {}, Budget(9, 90), "", False),
        ("n1", [], down("n1", "n2", "n3", "n4", "n5"), {}, Budget(9, 90, max_unhealthy=50), "", False),
        ("n1", [], down(), {"n2": NOW - 9, "n3": NOW - 3599}, Budget(max_per_hour=2), "storm", False),
        ("n1", [], down(), {"n2": NOW - 9, "n3": NOW - 3601}, Budget(max_per_hour=2), "", False),
        ("n1", [], down(), {"n1": NOW - 9, "n3": NOW - 9}, Budget(max_per_hour=2), "", False),  # again is not another
        ("n1", [], down(), {"n2": NOW + 60, "n3": NOW}, Budget(max_per_hour=2), "storm", False),  # a clock ahead
    ],
)
def test_refusal(
    node: str, held: list[Held], nodes: Nodes, recovered: dict[str, float], budget: Budget, code: str, passing: bool
) -> None:
    found = refusal(node, held, nodes, recovered, budget, NOW)
    assert (found.code if found else "", found.passing if found else False) == (code, passing)
    if found:
        assert found.what and found.why and found.next


def test_the_only_node_of_a_cluster_may_be_recovered_though_all_are_down() -> None:
    assert refusal("a", [], Nodes({"a": False}, {"a"}), {}, Budget(), NOW) is None


def test_what_is_refused_names_the_numbers_that_would_allow_it() -> None:
    found = refusal("n1", [Held("n2", "h_r")], down("n3"), {}, Budget(), NOW)
    assert found is not None
    assert found.why == "under recovery: n2; not ready: n3"
    assert "--max-nodes 3 --max-percent 30" in found.next
    assert refusal("n1", [Held("n2", "h_r")], down("n3"), {}, Budget(3, 30), NOW) is None


names = st.sampled_from(sorted(TEN))


@settings(deadline=None)
@given(
    node=names,
    busy=st.sets(names),
    bad=st.sets(names),
    budget=st.builds(Budget, st.integers(1, 12), st.floats(0, 100), st.integers(1, 50), st.floats(0, 100)),
)
def test_never_more_at_once_than_allowed(node: str, busy: set[str], bad: set[str], budget: Budget) -> None:
    held = [Held(name, "h", name in ("n7", "n8", "n9")) for name in sorted(busy)]
    if refusal(node, held, down(*bad), {}, budget, NOW) is None:
        assert node not in busy
        assert len(busy | bad | {node}) <= max(1, budget.at_once(10))
        assert len([one for one in (*busy, node) if one in ("n7", "n8", "n9")]) <= 1 or node not in ("n7", "n8", "n9")
