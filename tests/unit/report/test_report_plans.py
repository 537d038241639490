"""Shared plan tables."""

from __future__ import annotations

import report_parts as parts
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.runs.models import ChangeRecord, NodeRecord, Outcome
from tune_nodes.runs.report.plans import MAX_PLANS, row_of, share


def fleet(*sets: list[ChangeRecord]) -> dict[str, NodeRecord]:
    """Return a node for each list of changes."""
    return {f"n{at}": NodeRecord(name=f"n{at}", outcome=Outcome.CHANGED, changes=rows) for at, rows in enumerate(sets)}


def with_value(key: str, value: str) -> list[ChangeRecord]:
    """Return usual changes, one of them with another value before."""
    return [one.model_copy(update={"before": value}) if one.key == key else one for one in parts.changes()]


def test_equal_nodes_share_one_plan() -> None:
    plans, uses = share(fleet(*[parts.changes()] * 50))
    assert len(plans) == 1
    assert len(plans[0].nodes) == 50
    assert not any(use.differs or use.lacks for use in uses.values())


def test_identity_does_not_part_nodes() -> None:
    other = [one.model_copy(update={"identity": {"mac": "02:00:00:00:00:01"}}) for one in parts.changes()]
    assert len(share(fleet(parts.changes(), other))[0]) == 1


def test_small_difference_is_told_as_difference() -> None:
    plans, uses = share(fleet(parts.changes(), parts.changes(), with_value("net.core.somaxconn", "128")))
    assert len(plans) == 1
    assert [(row.key, row.before) for row in uses["n2"].differs] == [("net.core.somaxconn", "128")]


def test_missing_setting_is_told() -> None:
    fewer = [one for one in parts.changes() if one.key != "eth0/channels"]
    _, uses = share(fleet(parts.changes(), parts.changes(), fewer))
    assert uses["n2"].lacks == (("nic_queues", "eth0/channels"),)
    assert len(uses["n2"].rows) == len(fewer)


def test_reverted_node_has_its_own_table() -> None:
    plans, _ = share(fleet(parts.changes(), parts.changes(), parts.changes("reverted")))
    assert [plan.nodes for plan in plans] == [["n0", "n1"], ["n2"]]


def test_node_without_changes_has_no_plan() -> None:
    assert share(fleet([])) == ([], {})


def test_number_of_tables_is_bounded() -> None:
    sets = [[parts.change(f"net.core.k{at}.{row}", "0", "1") for row in range(4)] for at in range(MAX_PLANS + 30)]
    plans, uses = share(fleet(*sets))
    assert len(plans) == MAX_PLANS
    assert len(uses) == len(sets)


_ROWS = st.lists(
    st.builds(
        ChangeRecord,
        family=st.sampled_from(["sysctl", "nic_queues"]),
        key=st.sampled_from("abcdef"),
        before=st.sampled_from([None, "", "1", "2"]),
        want=st.sampled_from(["1", "2"]),
        status=st.sampled_from(["ok", "changed", "owned", "made-up"]),
    ),
    max_size=6,
    unique_by=lambda one: (one.family, one.key),
)


@given(st.lists(_ROWS, max_size=8))
def test_nothing_is_lost_by_sharing(sets: list[list[ChangeRecord]]) -> None:
    nodes = fleet(*sets)
    plans, uses = share(nodes)
    for name, node in nodes.items():
        told = set(uses[name].rows) if name in uses else set()
        assert told == {row_of(one) for one in node.changes}
    assert sorted(name for plan in plans for name in plan.nodes) == sorted(uses)
