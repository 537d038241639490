"""What a run's record says of its nodes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tune_nodes.runs.models import NodeRecord, Outcome, RunRecord, WaveRecord


@pytest.mark.parametrize(
    ("verb", "outcome", "begun", "touched"),
    [
        ("apply", "changed", True, True),
        ("rollback", "changed", True, True),
        ("apply", "pending", True, True),  # the run died before the node's answer
        ("apply", "unreachable", True, True),
        ("apply", "failed", True, True),
        ("apply", "failed", False, False),  # while planning
        ("apply", "skipped", False, False),
        ("apply", "reverted", True, False),
        ("plan", "pending", False, False),
    ],
)
def test_touched(verb: str, outcome: str, begun: bool, touched: bool) -> None:
    now = datetime.now(UTC)
    record = RunRecord(
        schema=1,
        id="20260101-000000-abcdef",
        verb=verb,
        version="0",
        started=now,
        waves=[WaveRecord(number=1, nodes=["n1"], started=now if begun else None)],
        nodes={"n1": NodeRecord(name="n1", outcome=Outcome(outcome))},
    )
    assert [node.name for node in record.touched()] == ["n1"] * touched
