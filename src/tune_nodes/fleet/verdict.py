"""The exit code of a run (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from tune_nodes.errors import Exit, worst
from tune_nodes.fleet.execute import STOPPED_BY_USER
from tune_nodes.runs.models import Outcome, RunRecord

_CODES = {
    Outcome.REVERTED: Exit.REVERTED,
    Outcome.FAILED: Exit.FAILED,
    Outcome.REFUSED: Exit.FAILED,
    Outcome.UNREACHABLE: Exit.UNREACHABLE,
}


def _codes(record: RunRecord, detailed: bool) -> Iterable[Exit]:
    for node in record.nodes.values():
        if node.lost:
            yield Exit.REVERTED
        elif node.outcome in _CODES:
            yield _CODES[node.outcome]
        elif node.unwell:
            yield Exit.FAILED
        elif node.outcome is Outcome.PENDING:
            if detailed:
                yield Exit.PENDING
            elif record.verb == "verify":
                yield Exit.FAILED
    if record.path_faults:
        yield Exit.FAILED
    if record.stopped == STOPPED_BY_USER:
        yield Exit.INTERRUPTED


def exit_code(record: RunRecord, detailed: bool = False) -> Exit:
    """Return the exit code that a run comes to.

    Args:
        record: the run.
        detailed: ``--detailed-exitcode``: pending changes count as 2. Without it they are an error of ``verify`` only.
    """
    code = worst(*_codes(record, detailed))
    # What stopped a run early shows in its nodes; where it does not, stopping is a failure of its own.
    return Exit.FAILED if record.stopped and code in (Exit.OK, Exit.PENDING) else code
