"""``tune-nodes config``: the settings in force and where each came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli.help import examples
from tune_nodes.cli.options import Format
from tune_nodes.cli.output import Printer
from tune_nodes.config import load_config

SCHEMA = 1

app = typer.Typer(
    no_args_is_help=True,
    help="Settings: /etc/tune-nodes/config.yml, ~/.config/tune-nodes/config.yml, ./tune-nodes.yml, TUNE_NODES_*.",
    epilog=examples("tune-nodes config show", "tune-nodes config show --show-sources -o json"),
)


@app.callback()
def group() -> None:
    """Keep ``show`` a sub-command."""


@app.command(epilog=examples("tune-nodes config show --show-sources", "TUNE_NODES_FORKS=50 tune-nodes config show"))
def show(
    show_sources: Annotated[bool, typer.Option("--show-sources", help="Say where each value came from.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="TUNE_NODES_CONFIG", help="A further file, stronger than the others."),
    ] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How results are printed on stdout.")] = Format.TABLE,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colour.")] = False,
) -> None:
    """Print the settings in force here."""
    found = load_config(file=config)
    printer = Printer(output, no_color)
    for warning in found.warnings:
        printer.note(f"warning: {warning}")
    if not printer.human:
        rows = {
            key: {"value": value, "source": str(source.kind), "where": source.where} if show_sources else value
            for key, value, source in found.rows()
        }
        printer.document({"schema": SCHEMA, "settings": rows, "files": list(found.files)})
        return
    with_sources = show_sources or printer.wide
    columns = ["SETTING", "VALUE", *(["FROM"] if with_sources else [])]
    printer.rows(
        columns, [[key, _cell(value), *([str(source)] if with_sources else [])] for key, value, source in found.rows()]
    )


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value) or "-"
