"""Exit codes of runs: a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tune_nodes.fleet.execute import STOPPED_BY_USER
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome, RunRecord


@pytest.mark.parametrize(
    ("verb", "outcomes", "stopped", "detailed", "code"),
    [
        ("apply", ["ok", "changed"], "", False, 0),
        ("plan", ["pending"], "", False, 0),
        ("plan", ["pending", "ok"], "", True, 2),
        ("drift", ["pending"], "", True, 2),
        ("verify", ["pending"], "", False, 1),
        ("verify", ["pending"], "", True, 2),
        ("plan", ["pending", "unreachable"], "", True, 4),
        ("apply", ["failed", "unreachable"], "", False, 1),
        ("apply", ["reverted", "failed", "unreachable"], "wave 1: x", False, 3),
        ("apply", ["unreachable", "skipped"], "wave 1: x", False, 4),
        ("apply", ["changed", "skipped"], "wave 1: soak", False, 1),
        ("apply", ["reverted", "skipped"], STOPPED_BY_USER, False, 130),
        ("apply", ["quarantined", "changed"], "", False, 0),
        ("apply", ["refused", "changed"], "", False, 1),
    ],
)
def test_codes(verb: str, outcomes: list[str], stopped: str, detailed: bool, code: int) -> None:
    nodes = {f"n{i}": NodeRecord(name=f"n{i}", outcome=Outcome(o)) for i, o in enumerate(outcomes)}
    record = RunRecord(
        schema=1,
        id="20260101-000000-abcdef",
        verb=verb,
        version="0",
        started=datetime.now(UTC),
        stopped=stopped,
        nodes=nodes,
    )
    assert exit_code(record, detailed) == code


def test_a_node_lost_with_a_change_on_it_counts_as_reverted() -> None:
    lost = NodeRecord(
        name="n1", outcome=Outcome.UNREACHABLE, error=ErrorRecord(what="it did not come back", code="unconfirmed")
    )
    record = RunRecord(
        schema=1, id="20260101-000000-abcdef", verb="apply", version="0", started=datetime.now(UTC), nodes={"n1": lost}
    )
    assert exit_code(record) == 3
    lost.error = ErrorRecord(what="nothing ran on it", code="unreachable")
    assert exit_code(record) == 4
