"""A run as Prometheus metrics, for node_exporter's textfile collector."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tune_nodes.errors import UsageError
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import Outcome, RunRecord


def text(record: RunRecord) -> str:
    """Return the metrics of a run in the text exposition format."""
    registry = CollectorRegistry()
    labels = ["verb", "profile"]
    values = (record.verb, record.profile)
    nodes = Gauge("tune_nodes_nodes", "Nodes by outcome of the last run.", [*labels, "outcome"], registry=registry)
    for outcome in Outcome:
        nodes.labels(*values, str(outcome)).set(record.count(outcome))
    pending = Gauge("tune_nodes_pending_changes", "Settings not as wanted.", [*labels, "node"], registry=registry)
    owned = Gauge(
        "tune_nodes_owned_settings", "Settings left to another program.", [*labels, "node", "owner"], registry=registry
    )
    for node in record.nodes.values():
        pending.labels(*values, node.name).set(sum(c.status == "pending" for c in node.changes))
        for owner in {c.owner for c in node.changes if c.status == "owned" and c.owner}:
            count = sum(c.status == "owned" and c.owner == owner for c in node.changes)
            owned.labels(*values, node.name, owner).set(count)
    end = Gauge("tune_nodes_last_run_timestamp_seconds", "When the run ended.", labels, registry=registry)
    end.labels(*values).set((record.finished or datetime.now(UTC)).timestamp())
    return generate_latest(registry).decode()


def write(path: Path, record: RunRecord) -> None:
    """Write the metrics atomically, readable by the exporter. Raises UsageError."""
    try:
        write_atomic(path, text(record), 0o644)
    except OSError as problem:
        why = problem.strerror or ""
        raise UsageError(f"cannot write metrics to {path}", why, "choose another --metrics-file") from problem
