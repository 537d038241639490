"""Records and reinstalls on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tune_nodes.cli.output import Printer
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery.reinstall import plan as planning
from tune_nodes.recovery.reinstall import releases
from tune_nodes.recovery.reinstall.record import Record
from tune_nodes.recovery.reinstall.runs import Run
from tune_nodes.recovery.reinstall.service import Look
from tune_nodes.recovery.reinstall.undo import Undone

#: Sentences shown where there is no ``-o wide``.
NAMED = 12
_WORDS = {
    planning.CREATE: "to be made",
    planning.CHANGE: "to be changed",
    planning.EQUAL: "as recorded",
    planning.CONFLICT: "held by others",
    planning.REFUSED: "refused by the server",
}


def show_record(printer: Printer, made: Record) -> None:
    """Show what was kept, and what was not."""
    facts = made.manifest.facts
    printer.line(f"record {made.id}: {', '.join(facts.cni) or 'no agent that is known'}, from {facts.source}")
    counts = Counter(part.key.kind for part in made.parts)
    printer.rows(("KIND", "OBJECTS"), [(kind, str(count)) for kind, count in counts.items()])
    for row in facts.images:
        printer.line(f"image {one_line(row.image, 200)}{f'@{row.digest}' if row.digest else ' (digest not known)'}")
    for helm in facts.helm:
        printer.line(releases.advice(helm))
    for sentence in some(facts.left, printer.wide):
        printer.line(f"not in it: {one_line(sentence, 300)}")
    printer.line(f"in {made.directory}, read back and equal")


def show_records(printer: Printer, rows: Sequence[Mapping[str, Any]]) -> None:
    """Show a list of records."""
    cells = [
        (
            str(row["id"]),
            str(row.get("made", "")),
            ", ".join(row.get("cni", [])),
            str(len(row.get("objects", []))),
            str(row.get("source", "")) or one_line(str(row.get("problem", "")), 200),
        )
        for row in rows
    ]
    if cells:
        printer.rows(("ID", "MADE", "CNI", "OBJECTS", "FROM"), cells)
    else:
        printer.line("there is no record yet: tune-nodes recover record")


def show_plan(printer: Printer, found: Look) -> None:
    """Show what would be done."""
    plan, record = found.plan, found.record
    counts = Counter(step.status for step in plan.steps)
    words = ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status])
    printer.line(f"record {record.id} of {one_line(record.manifest.made, 40)}: {words}")
    if found.elsewhere:
        printer.line(f"the record is of another server: {one_line(record.manifest.facts.server)}")
    rows = [step for step in plan.steps if printer.wide or step.status != planning.EQUAL]
    if rows:
        cells = [[step.status, str(step.part.key), why(step)] for step in rows]
        printer.rows(("STATUS", "OBJECT", "WHAT"), cells)
    for step in plan.steps:
        if step.extra:
            printer.line(f"left as it is: {step.part.key}: {one_line(step.extra, 200)} is not as recorded")
    if plan.roll:
        printer.line(
            f"agents are started anew ({', '.join(str(key) for key in plan.roll)}), one node after the other: "
            f"{', '.join(plan.nodes)}"
        )
    if plan.roll and plan.silent:
        printer.line(f"not waited for, since their kubelets do not answer: {', '.join(plan.silent)}")
    _show_record_side(printer, record)
    if found.run is not None:
        printer.line(f"run {found.run.id} ended half-way; this finishes it")
    if plan.barred:
        printer.line("nothing is done while something is in the way")
    else:
        printer.line(f"plan {plan.hash}" if plan.work else "nothing is to be done")


def _show_record_side(printer: Printer, record: Record) -> None:
    """Show what a person has to see to beside: it is not in the record."""
    for helm in record.manifest.facts.helm:
        printer.line(releases.advice(helm))
    for sentence in some(record.manifest.facts.left, printer.wide):
        printer.line(f"not in the record: {one_line(sentence, 300)}")


def why(step: planning.Step) -> str:
    """Return what is to be said of a step, in words."""
    if step.managers:
        held = f"{', '.join(step.managers)} holds it"
        return one_line(f"{step.text} ({held})" if step.text else held, 300)
    return one_line(step.text, 300)


def show_undone(printer: Printer, run: Run, done: Undone) -> None:
    """Show what an undo did."""
    printer.line(f"run {run.id}: {len(done.restored)} as before, {len(done.removed)} removed")
    if done.nodes:
        printer.line(f"agents new on {', '.join(done.nodes)}")
    for sentence in done.left:
        printer.line(f"left: {one_line(sentence, 300)}")


def some(sentences: Sequence[str], wide: bool) -> list[str]:
    """Return as many sentences as are shown, and how many more there are."""
    more = len(sentences) - NAMED
    return list(sentences) if wide or more <= 0 else [*sentences[:NAMED], f"and {more} more; all of them: -o wide"]
