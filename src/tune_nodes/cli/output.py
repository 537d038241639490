"""What goes to stdout: tables, JSON, YAML; and the one place where colours and symbols are chosen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tune_nodes.cli.options import Format
from tune_nodes.errors import TuneError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import Outcome

#: Outcome: symbol, its ASCII stand-in, style. A symbol stands beside every colour.
LOOKS: dict[Outcome, tuple[str, str, str]] = {
    Outcome.OK: ("\u2713", "=", "green"),
    Outcome.CHANGED: ("\u2713", "+", "green"),
    Outcome.PENDING: ("~", "~", "yellow"),
    Outcome.REVERTED: ("\u21ba", "<", "red"),
    Outcome.FAILED: ("\u2717", "x", "red"),
    Outcome.REFUSED: ("\u2298", "x", "red"),
    Outcome.UNREACHABLE: ("!", "!", "magenta"),
    Outcome.SKIPPED: ("-", "-", "cyan"),
    Outcome.QUARANTINED: ("\u2205", "o", "cyan"),
}
#: Columns where there is no terminal to ask.
WIDTH = 80


def silence() -> None:
    """Send what is still printed nowhere: the reader of stdout has gone (``| head``), the exit code must not change."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Terminal(Console):
    """A console that outlives its reader."""

    def on_broken_pipe(self) -> None:
        """Go on in silence; rich itself would end the program with 1."""
        silence()


def console(stream: TextIO, no_color: bool = False) -> Console:
    """Return a console that never reads markup or emoji codes in what it prints."""
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDTH
    return Terminal(
        file=stream,
        no_color=no_color or None,
        markup=False,
        emoji=False,
        highlight=False,
        width=width,
        soft_wrap=False,
    )


def can_encode(stream: TextIO) -> bool:
    """Say whether the symbols can be printed."""
    return (getattr(stream, "encoding", "") or "").lower().replace("-", "").startswith("utf")


def look(outcome: Outcome, unicode: bool = True) -> Text:
    """Return an outcome as symbol and word."""
    symbol, plain, style = LOOKS[outcome]
    return Text(f"{symbol if unicode else plain} {outcome}", style=style)


def symbol(outcome: Outcome, unicode: bool = True) -> Text:
    """Return an outcome's symbol alone."""
    sign, plain, style = LOOKS[outcome]
    return Text(sign if unicode else plain, style=style)


def table(columns: Sequence[str], whole: int = 0) -> Table:
    """Return a table without lines, fit for 80 columns; the first ``whole`` columns are never broken."""
    made = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number < whole)
    return made


class Printer:
    """Prints results on stdout in the format that was asked for, and messages on stderr."""

    def __init__(self, form: Format = Format.TABLE, no_color: bool = False) -> None:
        self.form = form
        self.out = console(sys.stdout, no_color)
        self.err = console(sys.stderr, no_color)
        self.unicode = can_encode(sys.stdout)
        if form is Format.WIDE and not sys.stdout.isatty():
            self.out.width = 240

    @property
    def human(self) -> bool:
        """Whether a table, not a document, was asked for."""
        return self.form in (Format.TABLE, Format.WIDE)

    @property
    def wide(self) -> bool:
        """Whether every column was asked for."""
        return self.form is Format.WIDE

    def document(self, value: Any) -> None:
        """Print a JSON-able value as one JSON or YAML document, undecorated."""
        if self.form is Format.YAML:
            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
        else:
            text = json.dumps(value, indent=2) + "\n"
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            silence()

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], whole: int = 0) -> None:
        """Print a table; the first ``whole`` columns are never broken."""
        made = table(columns, whole)
        for row in rows:
            made.add_row(*[cell if isinstance(cell, Text) else Text(cell) for cell in row])
        self.out.print(made)

    def line(self, text: str | Text = "") -> None:
        """Print one line on stdout."""
        self.out.print(text if isinstance(text, Text) else Text(text))

    def note(self, text: str | Text) -> None:
        """Print one line on stderr."""
        self.err.print(text if isinstance(text, Text) else Text(text))


def error_lines(problem: TuneError) -> list[str]:
    """Return an error as what, why and next, cleaned."""
    lines = [f"error: {one_line(problem.what, 500)}"]
    if problem.why:
        lines.append(f"  why: {one_line(problem.why, 1500)}")
    if problem.next:
        lines.append(f" next: {one_line(problem.next, 500)}")
    return lines
