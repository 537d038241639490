"""Paths as a matrix: from a row's node to a column's (pure); the terminal and the report draw the same one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..models import PathRecord
from .text import natural

WORDS = {"node": "nodes", "pod": "pods"}


@dataclass(frozen=True)
class Cell:
    """One direction of one path.

    Args:
        state: pass, fail or ``none`` (not measured).
        text: the size that passes.
        path: None where there is none.
    """

    state: str
    text: str
    path: PathRecord | None = None


@dataclass(frozen=True)
class Matrix:
    """All paths of one layer and family."""

    layer: str
    family: int
    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def title(self) -> str:
        """The matrix in a few words: "pods, IPv4"."""
        return f"{WORDS.get(self.layer, self.layer)}, IPv{self.family}"

    @property
    def paths(self) -> list[PathRecord]:
        """Its paths that were measured."""
        return [cell.path for row in self.cells for cell in row if cell.path is not None and cell.state != "none"]

    @property
    def tally(self) -> str:
        """How many directions pass, at which sizes: "6 of 6 pass, at 1500"."""
        good = [path for path in self.paths if path.exact == "pass"]
        sizes = ", ".join(str(size) for size in sorted({path.size for path in good if path.size})[:4])
        return f"{len(good)} of {len(self.paths)} pass" + (f", at {sizes}" if sizes else "")


def matrices(paths: Sequence[PathRecord]) -> list[Matrix]:
    """Return a matrix for each layer and family that has paths: nodes first, IPv4 first."""
    kinds = sorted({(path.layer, path.family) for path in paths})
    return [_matrix(*kind, [path for path in paths if (path.layer, path.family) == kind]) for kind in kinds]


def _matrix(layer: str, family: int, paths: Sequence[PathRecord]) -> Matrix:
    names = tuple(sorted({name for path in paths for name in (path.from_, path.to)}, key=natural))
    by_ends = {(path.from_, path.to): path for path in paths}
    cells = tuple(tuple(_cell(by_ends.get((row, column))) for column in names) for row in names)
    return Matrix(layer, family, names, cells)


def _cell(path: PathRecord | None) -> Cell:
    if path is None or not path.exact:
        return Cell("none", "", path)
    if path.failed:
        return Cell("fail", str(path.passes or "none"), path)
    return Cell("pass", str(path.size), path)


def troubled(matrix: Matrix, names: Iterable[str] = ()) -> list[str]:
    """Return the nodes that have a failed path in it, in its order."""
    bad = {name for path in matrix.paths if path.failed for name in (path.from_, path.to)} | set(names)
    return [name for name in matrix.names if name in bad]
