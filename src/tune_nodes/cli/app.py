"""The command tree. A command's module is loaded when it is used: to load them all takes most of a second."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tune_nodes import collection
from tune_nodes.cli.help import examples


@dataclass(frozen=True)
class Place:
    """Where a command is.

    Args:
        module: below ``tune_nodes.cli``.
        lines: examples for its help page.
        group: it is a Typer of its own, the module's ``app``; else the module's function of the command's name.
    """

    module: str
    lines: tuple[str, ...] = ()
    group: bool = False

    def load(self, name: str) -> Any:
        """Return the command, as Typer makes it."""
        found = import_module(f"tune_nodes.cli.{self.module}")
        command: Any
        if self.group:
            command = typer.main.get_group(found.app)
        else:
            from tune_nodes.cli.options import Expanded

            one = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
            one.command(name, epilog=examples(*self.lines))(Expanded(getattr(found, name)))
            command = typer.main.get_command(one)
        command.name = name
        return command


#: Every command, in the order of the help page.
PLACES = {
    "plan": Place("plan", ("tune-nodes plan -i lab", "tune-nodes plan -i lab -p throughput-10g --out plan.json")),
    "apply": Place("apply", ("tune-nodes apply -i lab --yes", "tune-nodes apply plan.json --allow-drift")),
    "verify": Place("verify", ("tune-nodes verify -i lab", "tune-nodes verify -i lab -o json")),
    "drift": Place(
        "drift",
        ("tune-nodes drift -i lab --detailed-exitcode", "tune-nodes drift -i lab --metrics-file tune_nodes.prom"),
    ),
    "probe": Place("probe", ("tune-nodes probe -i lab", "tune-nodes probe -i lab --no-pods --size 1400")),
    "rollback": Place("rollback", ("tune-nodes rollback", "tune-nodes rollback latest --yes")),
    "history": Place("history", ("tune-nodes history", "tune-nodes history --verb apply -o json")),
    "show": Place("history", ("tune-nodes show", "tune-nodes show latest -o wide")),
    "report": Place("report", ("tune-nodes report", "tune-nodes report latest -o json --out run.json")),
    "doctor": Place("doctor", ("tune-nodes doctor", "tune-nodes doctor -i lab")),
    "bundle": Place("bundle", ("tune-nodes bundle", "tune-nodes bundle latest --out /tmp/run.tar.gz")),
    **{
        name: Place(name, group=True)
        for name in ("cluster", "mtu", "policy", "quarantine", "recover", "profiles", "config", "lab")
    },
}


class Loaded(MutableMapping[str, Any]):
    """Commands by name; each is loaded when it is asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = PLACES[name].load(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in PLACES  # without loading it

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("commands are listed in PLACES")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are listed in PLACES")

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)


class Commands(TyperGroup):
    """The program's commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Loaded()


app = typer.Typer(
    name="tune-nodes",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog=examples("tune-nodes plan --inventory lab", "tune-nodes --inventory lab --yes"),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(collection.describe())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print versions and the collection used."),
    ] = False,
) -> None:
    """Make every node of a Kubernetes fleet fast and keep it so, in changes that undo themselves.

    A line without a verb is apply: [bold]tune-nodes --inventory prod[/bold].
    """
