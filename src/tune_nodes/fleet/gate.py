"""What must hold before the next wave (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.fleet.waves import Wave
from tune_nodes.runs.models import NodeRecord, Outcome

#: Outcomes of an attempted node that count as success.
GOOD = frozenset({Outcome.OK, Outcome.CHANGED})


@dataclass(frozen=True)
class Verdict:
    """Whether the run goes on, and the sentence that says why."""

    passed: bool
    detail: str


def failed(record: NodeRecord) -> bool:
    """Say whether an attempted node counts as a failure: it was not changed, or its cluster found it worse off."""
    return record.outcome not in GOOD or bool(record.unwell)


def how(record: NodeRecord) -> str:
    """Return what is wrong with a node that failed."""
    return one_line(record.unwell) if record.outcome in GOOD and record.unwell else str(record.outcome)


def _names(records: Iterable[NodeRecord], most: int = 5) -> str:
    rows = [f"{record.name} ({how(record)})" for record in records]
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(rows[:most]) + more


def judge(wave: Wave, in_wave: Sequence[NodeRecord], attempted: Sequence[NodeRecord], fail_percent: float) -> Verdict:
    """Decide after a wave.

    Args:
        wave: the wave that ended.
        in_wave: records of its nodes.
        attempted: records of all nodes attempted so far, this wave included.
        fail_percent: the run stops when this share of the attempted nodes failed; 0: at the first failure.

    Returns:
        Any failure stops after a canary or a control-plane or etcd node, whatever the percentage.
    """
    bad_here = [record for record in in_wave if failed(record)]
    bad = [record for record in attempted if failed(record)]
    if not bad:
        return Verdict(True, f"{len(in_wave)} of {len(in_wave)} nodes well")
    if bad_here and (wave.canary or wave.protected):
        kind = "the canary" if wave.canary else "a control-plane or etcd node"
        return Verdict(False, f"{kind} failed: {_names(bad_here)}")
    share = 100 * len(bad) / len(attempted)
    counted = f"{len(bad)} of {len(attempted)} attempted nodes failed ({share:.0f} %)"
    if share >= fail_percent:
        return Verdict(False, f"{counted}, the limit is {fail_percent:g} %: {_names(bad)}")
    return Verdict(True, f"{counted}, below the limit of {fail_percent:g} %")
