"""What a recovery shows: findings and rungs before, a table of before and after, what a person looks at next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_nodes.cli.output import Printer
from tune_nodes.cli.planview import show_problems
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery import ladder
from tune_nodes.recovery.run import Recovery, Taken
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import NodeState, mapping, number, report_of
from tune_nodes.runs.models import Outcome, RunRecord


def show_plan(printer: Printer, run: Recovery, todo: Sequence[str], wanted: int | None) -> None:
    """Show what is wrong with each node and which rungs would be taken, with their risk in words."""
    if not printer.human:
        return
    for name, state in run.states.items():
        if run.fleet.record.nodes[name].outcome in (Outcome.UNREACHABLE, Outcome.FAILED):
            continue
        printer.line(one_line(name) + ": " + _cni(state))
        for finding in ladder.findings(state):
            printer.line(f"  ! {finding.what}")
            if finding.next:
                printer.line(f"    look at: {finding.next}")
        for sentence in state.not_checked:
            printer.line(f"  - not checked: {sentence}")
        _show_rungs(printer, state, ladder.climb(state, wanted) if name in todo else [], wanted)


def _show_rungs(printer: Printer, state: NodeState, rungs: Sequence[Rung], wanted: int | None) -> None:
    for rung in rungs:
        printer.line(f"  R{rung.number} {rung.title}; risk: {rung.risk}")
    above = ladder.beyond(state, wanted)
    for rung in above:
        printer.line(f"  R{rung.number} {rung.title} would help: --rung {rung.number}; risk: {rung.risk}")
    if ladder.asks_for_reboot(state):
        printer.line(f"  R{ladder.REBOOT} reboot or replace the node: asked for, never done here")
    elif not rungs and not above:
        printer.line("  nothing is to be done" if not ladder.findings(state) else "  no rung helps")


def _cni(state: NodeState) -> str:
    if not state.conf:
        return "no CNI configuration"
    full = [f"{n.name} {n.leases} leases, {'?' if n.free is None else n.free} free" for n in state.networks]
    return f"{state.cni or 'unknown CNI'} ({state.conf})" + (": " + "; ".join(full) if full else "")


def question(todo: Sequence[str]) -> str:
    """Return the one question."""
    more = f" and {len(todo) - 6} more" if len(todo) > 6 else ""
    return f"go on with {', '.join(todo[:6])}{more}, one after the other?"


def finish(printer: Printer, run: Recovery, code: int, pages: Mapping[str, Path]) -> int:
    """Print how the recovery ended and what to type next; return the exit code. ``pages``: by node."""
    record = run.fleet.record
    if not printer.human:
        printer.document(document(run))
        return code
    for name, taken in run.taken.items():
        _show(printer, name, taken)
    show_problems(printer, [node for node in record.nodes.values() if node.error is not None])
    counts = [(outcome, record.count(outcome)) for outcome in Outcome]
    printer.line(", ".join(f"{count} {outcome}" for outcome, count in counts if count) or "0 nodes")
    printer.note(f"run {record.id}")
    for name, taken in run.taken.items():
        where = str(taken.evidence) if taken.evidence else f"{name}:{taken.remote}" if taken.remote else ""
        if where:
            printer.note(f"  evidence: {where}")
        if name in pages:
            printer.note(f"  page:     {pages[name]}")
    if any(taken.counts or any(rung.undo for rung in taken.rungs) for taken in run.taken.values()):
        printer.note(f"  undo:     tune-nodes recover undo {record.id}")
    return code


def _show(printer: Printer, name: str, taken: Taken) -> None:
    if taken.counts:
        words = {"del": "by CNI DEL", "file": "by file", "gone": "gone by themselves", "kept": "kept"}
        counts = ", ".join(f"{count} {words.get(how, how)}" for how, count in taken.counts.items())
        printer.line(f"{one_line(name)}: leases released: {counts}")
    if not taken.rows:
        return
    yes, no = ("\u2713", "\u2717") if printer.unicode else ("ok", "x")
    marks = {True: yes, False: no, None: ""}
    rows = [(row.what, row.before, row.after, marks[row.good]) for row in taken.rows]
    printer.rows(("MEASURED", "BEFORE", "AFTER", ""), rows, whole=1)
    left = ladder.findings(taken.after) if taken.after else []
    for finding in left:
        printer.line(f"  ! still: {finding.what}")
        if finding.next:
            printer.line(f"    look at: {finding.next}")


def document(run: Recovery) -> dict[str, Any]:
    """Return the recovery as one JSON-able document: the run's record and, by node, what was done and measured."""
    found = run.fleet.record.model_dump(mode="json", by_alias=True)
    found["recovery"] = {
        name: {
            "findings": [{"what": one.what, "next": one.next, "rung": one.rung} for one in ladder.findings(state)],
            "rungs": [rung.number for rung in run.taken[name].rungs] if name in run.taken else [],
            "released": dict(run.taken[name].counts) if name in run.taken else {},
            "compared": [vars(row) for row in run.taken[name].rows] if name in run.taken else [],
            "evidence": str(run.taken[name].evidence or "") if name in run.taken else "",
        }
        for name, state in run.states.items()
    }
    return found


def undone(printer: Printer, record: RunRecord, code: int) -> int:
    """Print how an undo ended; return the exit code."""
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return code
    for name, node in record.nodes.items():
        words = {"restored": "brought back", "there": "there already", "taken": "taken by somebody since: left"}
        words["differs"] = "made anew by somebody since: left"
        keys = ("undone", "orphans_undone")
        counts = {how: sum(number(mapping(report_of(node), key), how) or 0 for key in keys) for how in words}
        shown = [f"{count} {words[how]}" for how, count in counts.items() if count]
        printer.line(f"{one_line(name)} {node.outcome}: {', '.join(shown) or 'nothing to bring back'}")
        for warning in node.warnings[:5]:
            printer.line(f"  ! {one_line(warning)}")
    show_problems(printer, [node for node in record.nodes.values() if node.error is not None])
    printer.note(f"run {record.id}")
    return code
