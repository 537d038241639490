"""Metrics that a Prometheus parser reads back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tune_nodes.errors import UsageError
from tune_nodes.runs import metrics
from tune_nodes.runs.models import ChangeRecord, NodeRecord, Outcome, RunRecord


def run() -> RunRecord:
    changes = [
        ChangeRecord(family="sysctl", key="a", before="1", want="2", status="pending"),
        ChangeRecord(family="sysctl", key="b", before="1", want="2", status="owned", owner="TuneD"),
    ]
    node = NodeRecord(name='n"1\\', outcome=Outcome.PENDING, changes=changes)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return RunRecord(
        schema=1,
        id="20260102-000000-abcdef",
        verb="drift",
        version="0",
        profile="p",
        started=moment,
        finished=moment,
        nodes={node.name: node},
    )


def test_values(tmp_path: Path) -> None:
    path = tmp_path / "tune_nodes.prom"
    metrics.write(path, run())
    samples = {
        (sample.name, sample.labels.get("node", sample.labels.get("outcome", ""))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    assert samples[("tune_nodes_nodes", "pending")] == 1
    assert samples[("tune_nodes_nodes", "failed")] == 0
    assert samples[("tune_nodes_pending_changes", 'n"1\\')] == 1
    assert samples[("tune_nodes_owned_settings", 'n"1\\')] == 1
    assert samples[("tune_nodes_last_run_timestamp_seconds", "")] == 1767312000
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write metrics"):
        metrics.write(tmp_path / "no" / "x.prom", run())
