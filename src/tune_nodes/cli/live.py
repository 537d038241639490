"""Progress on stderr: a moving display on a terminal, one line per event on a pipe."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_nodes.cli.output import LOOKS, look
from tune_nodes.cli.planview import counted
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import NodeRecord, Outcome, WaveRecord


def summary(record: NodeRecord) -> str:
    """Return what a person wants to know of a node's answer, in a few words."""
    if record.error is not None:
        why = f": {record.error.why}" if record.error.why else ""
        return one_line(record.error.what + why, 240)
    moved = record.pending
    words = counted(moved) if moved else "nothing to change"
    if record.paths:
        measured = len(record.paths.get("measured") or [])
        words = f"{measured} paths measured" if measured else "asked for its addresses"
    total = record.timings.get("total")
    return f"{words}, {total:.1f} s" if total else words


def wave_title(wave: WaveRecord, total: int) -> str:
    """Return ``wave 2/5 (canary)``."""
    return f"wave {wave.number}/{total}" + (" (canary)" if wave.canary else "")


class Quiet:
    """No progress; notes and failures of the run itself still appear at its end."""

    def phase(self, title: str, total: int) -> None:
        """Nothing."""

    def node(self, record: NodeRecord) -> None:
        """Nothing."""

    def wave(self, wave: WaveRecord, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        return None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing moves while a person reads and answers."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()


class Lines(Quiet):
    """One line per event."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def _say(self, text: str) -> None:
        self.console.print(Text(f"{datetime.now(UTC):%H:%M:%S} {text}"), soft_wrap=True)

    def phase(self, title: str, total: int) -> None:
        """Say that a step begins."""
        self._say(f"{title}: {total} node{'s' if total != 1 else ''}")

    def node(self, record: NodeRecord) -> None:
        """Say what a node answered."""
        self._say(f"{record.name} {record.outcome}: {summary(record)}")

    def wave(self, wave: WaveRecord, total: int) -> None:
        """Say that a wave begins, or how its gate went."""
        if wave.gate == "pending":
            self._say(f"{wave_title(wave, total)}: {one_line(', '.join(wave.nodes), 400)}")
        else:
            self._say(f"{wave_title(wave, total)} gate {wave.gate}: {one_line(wave.gate_detail, 400)}")

    def note(self, text: str) -> None:
        """Say something."""
        self._say(one_line(text, 400))


class Display(Quiet):
    """A bar, counts, and the last few nodes that need attention."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title = ""
        self.total = 0
        self.seen: Counter[Outcome] = Counter()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        if not self.title:
            return Text("")
        done = sum(self.seen.values())
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text(self.title),
            ProgressBar(total=max(1, self.total), completed=done, width=24),
            Text(f"{done}/{self.total}"),
        )
        counts = Text("  ").join(Text.assemble(look(o), f" {n}") for o, n in self.seen.items())
        return Group(row, counts)

    def phase(self, title: str, total: int) -> None:
        """Start a new bar."""
        self.title, self.total, self.seen = title, total, Counter()

    def node(self, record: NodeRecord) -> None:
        """Count a node; one that failed gets a line that stays."""
        self.seen[record.outcome] += 1
        if record.error is not None:
            self.console.print(
                Text.assemble(
                    (LOOKS[record.outcome][0], LOOKS[record.outcome][2]),
                    f" {record.name} {record.outcome}: {summary(record)}",
                )
            )

    def wave(self, wave: WaveRecord, total: int) -> None:
        """Start a wave's bar, or leave a line about its gate."""
        if wave.gate == "pending":
            self.phase(wave_title(wave, total), len(wave.nodes))
            return
        style = "green" if wave.gate == "passed" else "red"
        mark = "\u2713" if wave.gate == "passed" else "\u2717"
        self.console.print(
            Text.assemble((mark, style), f" {wave_title(wave, total)}: {one_line(wave.gate_detail, 400)}")
        )

    def note(self, text: str) -> None:
        """Leave a line."""
        self.console.print(Text(one_line(text, 400)))


def progress(console: Console, quiet: bool) -> Quiet:
    """Choose: nothing, a moving display where stderr is a terminal, else lines."""
    if quiet:
        return Quiet()
    return Display(console) if console.is_terminal else Lines(console)
