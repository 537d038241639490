"""``tune-nodes history`` and ``show``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from tune_nodes.cli import complete
from tune_nodes.cli.choice import printer_and_store
from tune_nodes.cli.options import Output
from tune_nodes.cli.output import LOOKS, Printer
from tune_nodes.cli.pathview import show_paths
from tune_nodes.cli.planview import groups, headline, recap, show_changes, show_problems
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import NodeRecord, Outcome, RunRecord
from tune_nodes.runs.store import Summary


def history(
    out: Output,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many runs.")] = 20,
    verb: Annotated[str, typer.Option("--verb", help="Only plan, apply, verify, drift or rollback.")] = "",
) -> int:
    """List earlier runs, the newest first."""
    printer, store = printer_and_store(out)
    runs = store.history(count, verb)
    if not printer.human:
        printer.document([_plain(run) for run in runs])
        return 0
    if not runs:
        printer.note("no runs yet; the first one: tune-nodes plan -i INVENTORY")
        return 0
    columns = ["RUN", "STARTED (UTC)", "VERB", "STATE", "NODES"]
    columns += ["EXIT", "PROFILE", "INVENTORY", "STOPPED"] if printer.wide else []
    printer.rows(columns, [_row(run, printer) for run in runs], whole=4)
    return 0


def _plain(run: Summary) -> dict[str, object]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(run).items()}


def _row(run: Summary, printer: Printer) -> list[str | Text]:
    state = Text(run.state if run.state != "finished" else f"exit {run.exit_code}")
    state.stylize("red" if run.state == "interrupted" or run.exit_code not in (0, 2, None) else "green")
    counts = Text(" ").join(
        Text(f"{LOOKS[Outcome(name)][0 if printer.unicode else 1]}{number} {name}", style=LOOKS[Outcome(name)][2])
        for name, number in run.outcomes.items()
    )
    row: list[str | Text] = [run.id, f"{run.started:%Y-%m-%d %H:%M}", run.verb, state, counts]
    if printer.wide:
        code = "" if run.exit_code is None else str(run.exit_code)
        row += [code, run.profile, ", ".join(run.inventory), one_line(run.stopped, 80)]
    return row


def show(
    out: Output,
    run: Annotated[
        str, typer.Argument(help="A run's id, a part of it, or latest.", autocompletion=complete.runs)
    ] = "latest",
    node: Annotated[list[str] | None, typer.Option("--node", "-n", help="Only this node. Repeatable.")] = None,
) -> int:
    """Show one run: its waves, gates, nodes, probes and errors."""
    printer, store = printer_and_store(out)
    record = store.load(store.resolve(run))
    missing = [name for name in node or [] if name not in record.nodes]
    if missing:
        raise UsageError(f"{missing[0]} took no part in run {record.id}", next=f"tune-nodes show {record.id}")
    if node:
        record = record.model_copy(update={"nodes": {name: record.nodes[name] for name in node}})
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return 0
    _head(printer, record, store.state(record.id, record.finished is not None))
    _waves(printer, record)
    for group in groups(n for n in record.nodes.values() if n.changes):
        printer.line(Text(headline(group), style="bold"))
        show_changes(printer, group.changes)
    show_paths(printer, record)
    show_problems(printer, [one for one in record.nodes.values() if one.error is not None])
    for one in record.nodes.values():
        _probes(printer, one, bool(node) or printer.wide)
    printer.line()
    recap(printer, record)
    return 0


def _head(printer: Printer, record: RunRecord, state: str) -> None:
    end = f"{record.finished:%H:%M:%S}" if record.finished else state
    code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    printer.line(Text(f"run {record.id}: {record.verb}{code}", style="bold"))
    printer.line(f"  {record.started:%Y-%m-%d %H:%M:%S} UTC to {end}, by {record.user or 'unknown'}")
    printer.line(f"  profile {record.profile or '-'}, inventory {', '.join(record.inventory)} {record.limit}".rstrip())
    if record.rolled_back:
        printer.line(f"  undid run {record.rolled_back}")
    if state == "interrupted":
        printer.line(Text("  interrupted: its process ended before the run did", style="red"))
        printer.line("  nodes undo what was not confirmed; look with: tune-nodes verify")
    printer.line()


def _waves(printer: Printer, record: RunRecord) -> None:
    rows = [
        [
            f"{wave.number}{f' round {wave.round}' if wave.round else ''}{' canary' if wave.canary else ''}",
            wave.gate,
            one_line(", ".join(wave.nodes), 60),
            wave.gate_detail,
        ]
        for wave in record.waves
    ]
    if rows:
        printer.rows(["WAVE", "GATE", "NODES", "WHY"], rows)
        printer.line()


def _probes(printer: Printer, node: NodeRecord, everything: bool) -> None:
    before = {probe.id: probe.ok for probe in node.probes_before}
    for probe in node.probes_after or node.probes_before:
        lost = before.get(probe.id, True) and not probe.ok
        if lost or everything:
            style, word = ("red", "lost") if lost else ("green", "ok") if probe.ok else ("yellow", "fails, as before")
            printer.line(Text(f"  {node.name} probe {probe.id}: {word} {one_line(probe.detail, 120)}", style=style))
