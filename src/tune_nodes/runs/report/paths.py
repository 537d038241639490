"""What a probe measured, as the report draws it: a matrix for each layer, and the faults in words."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import PathFault, PathRecord, RunRecord
from .matrix import Cell, Matrix, matrices, troubled
from .text import Clipped, clip, plain

#: Nodes of a matrix; of more only those with a fault are drawn.
_MOST = 40
#: Faults told; the rest is in the run's JSON.
_MOST_FAULTS = 60
_LOOKS = {"pass": "ok", "fail": "failed", "none": "skipped"}


@dataclass(frozen=True)
class Square:
    """One path as a cell: how it looks, what it says, and the whole sentence."""

    look: str  # id of glyph and colour, "" for a node with itself
    text: str
    title: str


@dataclass(frozen=True)
class Drawn:
    """One matrix."""

    title: str
    tally: str
    names: list[str]
    rows: list[tuple[str, list[Square]]]
    left_out: int


@dataclass(frozen=True)
class Hole:
    """One fault."""

    text: str
    likely: str
    why: Clipped
    next: Clipped


@dataclass(frozen=True)
class Paths:
    """The section."""

    matrices: list[Drawn]
    holes: list[Hole]
    more: int
    pairs: str


def path_section(run: RunRecord) -> Paths | None:
    """Return what to draw of a run's paths, None where it measured none."""
    if not run.paths:
        return None
    return Paths(
        [_drawn(matrix) for matrix in matrices(run.paths)],
        [_hole(fault) for fault in run.path_faults[:_MOST_FAULTS]],
        max(0, len(run.path_faults) - _MOST_FAULTS),
        plain(str(run.options.get("measured", "")), 200),
    )


def _drawn(matrix: Matrix) -> Drawn:
    names = list(matrix.names) if len(matrix.names) <= _MOST else troubled(matrix)[:_MOST]
    places = [matrix.names.index(name) for name in names]
    rows = [(plain(matrix.names[row], 60), [_square(matrix.cells[row][column]) for column in places]) for row in places]
    shown = [plain(name, 60) for name in names]
    return Drawn(matrix.title, matrix.tally, shown, rows, len(matrix.names) - len(names))


def _square(cell: Cell) -> Square:
    if cell.path is None:
        return Square("", "", "")
    return Square(_LOOKS[cell.state], cell.text, _sentence(cell.path))


def _sentence(path: PathRecord) -> str:
    ends = f" ({path.from_end} to {path.to_end})" if path.from_end or path.to_end else ""
    said = {"pass": f"{path.size} bytes pass", "fail": f"{path.size} bytes vanish"}.get(path.exact, "not measured")
    more = [f"{path.passes} pass" if path.failed and path.passes else "", path.direction, path.note]
    return plain(f"{path.from_} to {path.to}{ends}: " + ", ".join([said, *(word for word in more if word)]), 300)


def _hole(fault: PathFault) -> Hole:
    return Hole(plain(fault.text, 300), plain(fault.likely, 40), clip(fault.why, 300), clip(fault.next, 300))
