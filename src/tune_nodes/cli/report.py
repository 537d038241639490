"""``tune-nodes report``: one file a run, to read or to hand on."""

from __future__ import annotations

import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.options import OUTPUT
from tune_nodes.runs.report import render_html, render_json, write_text
from tune_nodes.runs.store import RunStore


class ReportFormat(StrEnum):
    """What kind of file."""

    HTML = "html"
    JSON = "json"


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's id, its start or end, or latest.",
            autocompletion=complete.runs,
            show_default=True,
        ),
    ] = "latest",
    output: Annotated[
        ReportFormat,
        typer.Option(
            "--output", "-o", help="html: a page complete in itself. json: the run's document, with a schema."
        ),
    ] = ReportFormat.HTML,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write here; - is stdout.", show_default="beside the run's record", dir_okay=False),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in this machine's browser.")] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            envvar="TUNE_NODES_STATE_DIR",
            help="Where runs are kept.",
            show_default="the user's state directory",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> int:
    """Write a run's report to one file and print the file's path.

    The page loads nothing from anywhere, needs no server, and can be sent to somebody else as it is.
    """
    store = RunStore.open(state_dir)
    run_id = store.resolve(run)
    record = store.load(run_id)
    text = render_json(record) if output is ReportFormat.JSON else render_html(record)
    if out is not None and str(out) == "-":
        typer.echo(text.encode("utf-8"), nl=False)
        return 0
    path = write_text(text, out or store.runs / run_id / f"report.{output}").resolve()
    typer.echo(path)
    if open_ and not webbrowser.open(path.as_uri()):
        typer.echo("no browser was found on this machine; copy the file to one that has", err=True)
    return 0
