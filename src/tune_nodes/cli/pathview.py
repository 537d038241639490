"""Paths as a person reads them: a matrix for each layer, below it a line for each fault and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from rich.text import Text

from tune_nodes.cli.output import Printer, table
from tune_nodes.cli.planview import recap, show_problems
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.probing.likely import common_node
from tune_nodes.probing.look import Probing
from tune_nodes.runs.models import PathFault, PathRecord, RunRecord
from tune_nodes.runs.report.matrix import Cell, Matrix, matrices, troubled

#: Nodes up to which a matrix has a column of sizes for each; beyond it a character.
_WIDE_COLUMNS = 10
#: Nodes of a matrix; of more only those with a fault are drawn.
_MOST_ROWS = 50
_STYLES = {"pass": "green", "fail": "red", "none": "cyan"}
#: Faults told one by one, and ends of paths named.
_MOST_FAULTS = 20
_FEW = 8


def show_probe(printer: Printer, record: RunRecord, probing: Probing) -> None:
    """Print what was measured, what the measuring cost, and the recap."""
    show_problems(printer, [node for node in record.nodes.values() if node.error is not None])
    show_paths(printer, record)
    for line in _no_pods(probing):
        printer.line(line)
    cost = f"{probing.cost.packets} packets, {probing.cost.bytes / 1000:.0f} kB sent"
    printer.line(f"{probing.choice.words}; {cost}; nothing was changed")
    recap(printer, record)


def show_paths(printer: Printer, record: RunRecord) -> None:
    """Print a run's matrices and faults."""
    for matrix in matrices(record.paths):
        show_matrix(printer, matrix)
        printer.line()
    if printer.wide:
        _show_all(printer, record.paths)
        printer.line()
    show_faults(printer, record.paths, record.path_faults)
    for line in _remarks(record.paths):
        printer.line(line)


def show_matrix(printer: Printer, matrix: Matrix) -> None:
    """Print one matrix: rows send, columns receive."""
    printer.line(Text(f"{matrix.title}: {matrix.tally}", style="bold"))
    names = list(matrix.names) if len(matrix.names) <= _MOST_ROWS else troubled(matrix)[:_MOST_ROWS]
    if len(names) < len(matrix.names):
        left = len(matrix.names) - len(names)
        printer.line(f"{left} nodes without a fault are not drawn" if names else f"{left} nodes, none with a fault")
    if not names:
        return
    places = [matrix.names.index(name) for name in names]
    rows = [(matrix.names[row], [matrix.cells[row][column] for column in places]) for row in places]
    (_show_sizes if len(names) <= _WIDE_COLUMNS else _show_marks)(printer, rows)


def _show_sizes(printer: Printer, rows: Sequence[tuple[str, list[Cell]]]) -> None:
    made = table(["FROM / TO", *(f"#{number}" for number in range(1, len(rows) + 1))], whole=len(rows) + 1)
    made.padding = (0, 1, 0, 0)
    room = max(12, min(40, printer.out.width - 4 - 6 * len(rows)))
    for number, (name, cells) in enumerate(rows, 1):
        made.add_row(Text(f"#{number} {one_line(name, room)}"), *[_sized(printer, cell) for cell in cells])
    printer.out.print(made)


def _sized(printer: Printer, cell: Cell) -> Text:
    if cell.path is None:
        return Text("-", style="dim")
    mark = {"pass": "", "fail": "\u2717" if printer.unicode else "x", "none": "?"}[cell.state]
    return Text(f"{mark}{cell.text}", style=_STYLES[cell.state])


def _show_marks(printer: Printer, rows: Sequence[tuple[str, list[Cell]]]) -> None:
    """Print one character for each path: many nodes fit into 80 columns."""
    marks = {"pass": ".", "fail": "\u2717" if printer.unicode else "x", "none": "?"}
    for number, (name, cells) in enumerate(rows, 1):
        line = Text(f"{number:>3} {one_line(name, 18):<18} ")
        for cell in cells:
            line.append(marks[cell.state] if cell.path is not None else " ", style=_STYLES[cell.state])
        printer.out.print(line, no_wrap=True)


def _show_all(printer: Printer, paths: Sequence[PathRecord]) -> None:
    columns = ["FROM", "TO", "LAYER", "IP", "SIZE", "EXACT", "ABOVE", "PASSES", "DIRECTION", "MS", "ENDS", "NOTE"]
    rows = []
    for path in paths:
        ends = f"{path.from_end} -> {path.to_end}" if path.from_end or path.to_end else path.address
        numbers = [str(value if value is not None else "-") for value in (path.passes, path.direction or None, path.ms)]
        row = [path.from_, path.to, path.layer, str(path.family), str(path.size or "-"), path.exact or "?"]
        rows.append([*row, path.above or "-", *numbers, one_line(ends), one_line(path.note)])
    printer.rows(columns, rows)


def show_faults(printer: Printer, paths: Sequence[PathRecord], faults: Sequence[PathFault]) -> None:
    """Print a line for each fault, what most likely eats the packets, and what to do next."""
    mark = "\u2717" if printer.unicode else "x"
    shown = list(faults if printer.wide else faults[:_MOST_FAULTS])
    for fault, following in zip_longest(shown, shown[1:]):
        printer.line(Text(f"{mark} {one_line(fault.text, 500)}", style="red"))
        if following is None or _cause(following) != _cause(fault):  # told once for all that share it
            _indented(printer, one_line(f"likely {fault.likely}: {fault.why}", 500))
        if following is None or following.next != fault.next:
            _indented(printer, f"next: {fault.next}")
    if len(shown) < len(faults):
        printer.line(f"and {len(faults) - len(shown)} more faults: -o wide")
    node = common_node(paths, faults)
    if node:
        printer.line(f"every fault touches {node}, and no path of it is whole: look next to it")


def _indented(printer: Printer, text: str) -> None:
    for line in wrap(text, printer.out.width - 2):
        printer.line(f"  {line}")


def _cause(fault: PathFault) -> tuple[str, str]:
    return fault.likely, fault.why


def _remarks(paths: Sequence[PathRecord]) -> list[str]:
    """Return what is worth a note though it is no fault, equal notes once."""
    found: dict[str, list[PathRecord]] = {}
    for path in paths:
        if path.note and not path.failed:
            found.setdefault(one_line(path.note), []).append(path)
    return [
        f"note: {note} ({rows[0].from_} -> {rows[0].to}{f' and {len(rows) - 1} more' if len(rows) > 1 else ''})"
        for note, rows in list(found.items())[:_FEW]
    ]


def _no_pods(probing: Probing) -> list[str]:
    """Return on which nodes no pod stood for the pods."""
    bridges = [name for name, end in probing.ends.items() if end.pod is not None and end.pod.bridge]
    if not bridges:
        return []
    more = f" and {len(bridges) - 3} more" if len(bridges) > 3 else ""
    return [f"note: no pod could be used on {', '.join(bridges[:3])}{more}: its bridge's address stands for them"]
