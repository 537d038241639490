"""``tune-nodes quarantine``: nodes that are left out because a change was reverted on them."""

from __future__ import annotations

from typing import Annotated

import typer

from tune_nodes.cli.choice import printer_and_store
from tune_nodes.cli.help import examples
from tune_nodes.cli.options import Expanded, Output
from tune_nodes.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Nodes left out of runs because a change was reverted on them.",
    epilog=examples("tune-nodes quarantine list", "tune-nodes quarantine clear --all"),
)


def list_nodes(out: Output) -> int:
    """List the quarantined nodes."""
    printer, store = printer_and_store(out)
    found = store.quarantined()
    if not printer.human:
        printer.document([{**vars(entry), "since": entry.since.isoformat()} for entry in found])
        return 0
    if not found:
        printer.note("no node is quarantined")
        return 0
    columns = ["NODE", "SINCE (UTC)", "RUN", "WHY"]
    printer.rows(columns, [[e.name, f"{e.since:%Y-%m-%d %H:%M}", e.run, e.reason] for e in found])
    return 0


def clear(
    out: Output,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...", help="Which nodes.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> int:
    """Let nodes take part in runs again."""
    if bool(nodes) == everyone:
        raise UsageError("say which nodes to clear", "name them, or give --all", "tune-nodes quarantine list")
    printer, store = printer_and_store(out)
    missing = sorted(set(nodes or []) - {entry.name for entry in store.quarantined()})
    if missing:
        raise UsageError(f"{missing[0]} is not quarantined", next="tune-nodes quarantine list")
    cleared = store.clear_quarantine(nodes or [])
    printer.note(f"cleared: {', '.join(cleared) or 'none'}")
    return 0


app.command("list", epilog=examples("tune-nodes quarantine list", "tune-nodes quarantine list -o json"))(
    Expanded(list_nodes)
)
app.command("clear", epilog=examples("tune-nodes quarantine clear lab-1", "tune-nodes quarantine clear --all"))(
    Expanded(clear)
)
