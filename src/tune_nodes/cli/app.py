"""The command tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from tune_nodes import collection
from tune_nodes.cli import cluster as cluster_cli
from tune_nodes.cli import config as config_cli
from tune_nodes.cli import lab as lab_cli
from tune_nodes.cli import mtu as mtu_cli
from tune_nodes.cli import policy as policy_cli
from tune_nodes.cli import profiles as profiles_cli
from tune_nodes.cli import quarantine as quarantine_cli
from tune_nodes.cli import recover as recover_cli
from tune_nodes.cli import report as report_cli
from tune_nodes.cli.apply import apply
from tune_nodes.cli.bundle import bundle
from tune_nodes.cli.doctor import doctor
from tune_nodes.cli.drift import drift
from tune_nodes.cli.history import history, show
from tune_nodes.cli.options import Expanded, examples
from tune_nodes.cli.plan import plan
from tune_nodes.cli.probe import probe
from tune_nodes.cli.rollback import rollback
from tune_nodes.cli.verify import verify

app = typer.Typer(
    name="tune-nodes",
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


def _add(function: Callable[..., int | None], *lines: str, name: str = "") -> None:
    app.command(name or function.__name__, epilog=examples(*lines))(Expanded(function))


_add(plan, "tune-nodes plan -i lab", "tune-nodes plan -i lab -p throughput-10g --out plan.json")
_add(apply, "tune-nodes apply -i lab --yes", "tune-nodes apply plan.json --allow-drift")
_add(verify, "tune-nodes verify -i lab", "tune-nodes verify -i lab -o json")
_add(drift, "tune-nodes drift -i lab --detailed-exitcode", "tune-nodes drift -i lab --metrics-file tune_nodes.prom")
_add(probe, "tune-nodes probe -i lab", "tune-nodes probe -i lab --no-pods --size 1400")
_add(rollback, "tune-nodes rollback", "tune-nodes rollback latest --yes")
_add(history, "tune-nodes history", "tune-nodes history --verb apply -o json")
_add(show, "tune-nodes show", "tune-nodes show latest -o wide")
report_cli.register(app)
_add(doctor, "tune-nodes doctor", "tune-nodes doctor -i lab")
_add(bundle, "tune-nodes bundle", "tune-nodes bundle latest --out /tmp/run.tar.gz")
app.add_typer(cluster_cli.app, name="cluster")
app.add_typer(mtu_cli.app, name="mtu")
app.add_typer(policy_cli.app, name="policy")
app.add_typer(quarantine_cli.app, name="quarantine")
app.add_typer(recover_cli.app, name="recover")
app.add_typer(profiles_cli.app, name="profiles")
app.add_typer(config_cli.app, name="config")
app.add_typer(lab_cli.app, name="lab")
