"""Writing a page beside each node's evidence once its recovery is over."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tune_nodes.recovery import archive, ladder, summary
from tune_nodes.recovery.run import Recovery, Taken
from tune_nodes.recovery.summary import Summary
from tune_nodes.runs.models import Outcome


def write(run: Recovery) -> dict[str, Path]:
    """Write a page for each node whose evidence was kept; return them by node. One that cannot be written is noted."""
    found = {}
    for name, taken in run.taken.items():
        if taken.evidence is None:
            continue
        path = taken.evidence.with_name(taken.evidence.name.removesuffix(".tar.gz") + ".html")
        try:
            found[name] = summary.write(of(run, name, taken, archive.read(taken.evidence)), path)
        except OSError as problem:
            run.fleet.progress.note(f"warning: {path} could not be written: {problem.strerror}")
    return found


def of(run: Recovery, name: str, taken: Taken, evidence: archive.Archive) -> Summary:
    """Return what the page of a node says (pure)."""
    record = run.fleet.record
    node, before = record.nodes[name], taken.before or run.states[name]
    touched = len(taken.rungs) > 1 and node.outcome not in (Outcome.OK, Outcome.REFUSED)
    return Summary(
        run=record.id,
        node=name,
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        cni=f"{before.cni or 'unknown'} ({before.conf})" if before.conf else "",
        outcome=node.outcome,
        error=node.error,
        found=ladder.findings(before),
        not_checked=before.not_checked,
        rungs=taken.rungs,
        rows=taken.rows,
        left=ladder.findings(taken.after) if taken.after else (),
        archive=evidence,
        undo=f"tune-nodes recover undo {record.id}" if touched else "",
    )
