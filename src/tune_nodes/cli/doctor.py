"""``tune-nodes doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from tune_nodes.cli import checks, complete
from tune_nodes.cli.choice import choose
from tune_nodes.cli.options import Format, Output
from tune_nodes.cli.output import Printer
from tune_nodes.errors import Exit

_LOOKS = {"ok": ("\u2713", "=", "green"), "warn": ("!", "!", "yellow"), "fail": ("\u2717", "x", "red")}


def doctor(
    out: Output,
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", help="Also check this inventory.", autocompletion=complete.inventories),
    ] = None,
    limit: Annotated[str, typer.Option("--limit", "-l", help="Only these nodes of it.")] = "",
) -> int:
    """Check this machine: programs, versions, collection, state directory, inventory, ssh. No node is contacted."""
    settings = choose(out).settings
    printer = Printer(Format(settings.output), out.no_color)
    found = checks.everything(inventory or settings.inventory, limit, settings.state_dir)
    code = Exit.FAILED if any(check.status == "fail" for check in found) else Exit.OK
    if not printer.human:
        printer.document([asdict(check) for check in found])
        return int(code)
    for check in found:
        symbol, plain, style = _LOOKS[check.status]
        mark = symbol if printer.unicode else plain
        printer.line(Text.assemble((f"{mark} {check.status:4}", style), f" {check.name}: {check.detail}"))
        if check.next:
            printer.line(f"       next: {check.next}")
    return int(code)
