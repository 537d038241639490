"""R2: release the leases that no sandbox holds any more, after two scans that agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import mapping, number, report_of
from tune_nodes.runs.models import NodeRecord

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken


def take(run: Recovery, name: str, taken: Taken) -> NodeRecord:
    """Have the node scan a second time and release what both scans call stale."""
    pods = run.pods(name)
    fields: dict[str, Any] = {"first": dict(run.states[name].scan)}
    if pods is not None:
        fields["pod_ips"] = list(pods.ips)
    run.fleet.progress.note(f"{name}: a second scan, {run.limits.between:g} s after the first, then the release")
    record = run.ask("recover_leases", {name: fields})[name]
    counts = mapping(report_of(record), "released")
    taken.counts = {str(key)[:20]: number(counts, key) or 0 for key in list(counts)[:10]}
    return record


def undo(run: Recovery, names: Sequence[str], recovery: str) -> Mapping[str, NodeRecord]:
    """Bring back what a recovery released, where nobody has the address now."""
    return run.ask("recover_leases", {name: {"undo": recovery} for name in names})


RUNG = Rung(
    2,
    "release stale leases",
    "no running pod is touched; a lease that was wrongly released would let a new pod take an address in use, "
    "which is why the proof is strict and undo brings all of them back",
    take,
    undo,
)
