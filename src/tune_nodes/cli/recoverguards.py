"""What keeps recoveries apart, on the command line: the budget's options, ``recover pause`` and ``recover resume``."""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.complete import inventories
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.cluster.match import match_nodes
from tune_nodes.errors import UsageError
from tune_nodes.fleet.execute import FleetRun
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery import metrics
from tune_nodes.recovery import pause as switch
from tune_nodes.recovery.budget import Budget
from tune_nodes.recovery.guard import ClusterGuards, Guards, NoGuards
from tune_nodes.recovery.measuring import Matrix
from tune_nodes.recovery.nodeside import NodeSide
from tune_nodes.recovery.probepods import ProbePods
from tune_nodes.recovery.run import Recovery
from tune_nodes.recovery.services import Service, outside
from tune_nodes.recovery.slots import Slots, origin_of
from tune_nodes.recovery.view import View

PANEL, PROOF = "Guards (with a cluster)", "Proof"
_DEFAULT = Budget()


@dataclass(frozen=True, kw_only=True)
class Guarding:
    """How many nodes at once, and when a person is asked first."""

    max_nodes: Annotated[
        int,
        typer.Option(
            "--max-nodes",
            min=1,
            max=100,
            help="Nodes under recovery or not ready at once, by all runs in the cluster.",
            rich_help_panel=PANEL,
        ),
    ] = _DEFAULT.max_nodes
    max_percent: Annotated[
        float,
        typer.Option(
            "--max-percent",
            min=0,
            max=100,
            help="The same as a share of the cluster's nodes; the smaller counts, and one is always allowed.",
            rich_help_panel=PANEL,
        ),
    ] = _DEFAULT.max_percent
    max_per_hour: Annotated[
        int,
        typer.Option(
            "--max-per-hour",
            min=1,
            max=200,
            help="Nodes recovered within an hour; beyond it the cause is elsewhere.",
            rich_help_panel=PANEL,
        ),
    ] = _DEFAULT.max_per_hour
    max_unhealthy: Annotated[
        float,
        typer.Option(
            "--max-unhealthy",
            min=0,
            max=100,
            help="Percent of nodes not ready, beyond which nothing is recovered.",
            rich_help_panel=PANEL,
        ),
    ] = _DEFAULT.max_unhealthy

    @property
    def budget(self) -> Budget:
        """The budget that the options give."""
        return Budget(self.max_nodes, self.max_percent, self.max_per_hour, self.max_unhealthy)

    def guards(self, view: View | None, run: str, state_dir: Path, wait: float, fleet: FleetRun) -> Guards:
        """Return what gives the right to work on a node.

        Args:
            view: of the cluster; None: only this machine's lock, which the caller holds anyway.
            run: the run's id.
            state_dir: whose lock the caller holds.
            wait: seconds to wait for another run.
            fleet: asked whether to stop while waiting, told what is waited for.
        """
        if view is None:
            return NoGuards()
        stop, note = fleet.stop, fleet.progress.note
        slots = Slots(view.cluster, self.budget, run, origin_of(state_dir), wait, lambda: stop.requested, note)
        return ClusterGuards(slots, view.node_of)


def for_undo(view: View | None, run: str, state_dir: Path, fleet: FleetRun) -> Guards:
    """Return what gives the right to take something back on a node; see :meth:`Guarding.guards`."""
    if view is None:
        return NoGuards()
    stop, note = fleet.stop, fleet.progress.note
    slots = Slots(view.cluster, _DEFAULT, run, origin_of(state_dir), 0, lambda: stop.requested, note, undo=True)
    return ClusterGuards(slots, view.node_of)


@dataclass(frozen=True, kw_only=True)
class Proving:
    """What is measured and written beside the recovery itself."""

    probe_image: Annotated[
        str,
        typer.Option(
            "--probe-image",
            help="Measure what the node's pods reach, before and after, by pods of ours with this image. "
            "It is not pulled.",
            rich_help_panel=PROOF,
        ),
    ] = ""
    egress: Annotated[
        list[str] | None,
        typer.Option(
            "--egress",
            metavar="ADDRESS:PORT",
            help="With --probe-image: also connect to this address outside the cluster. Repeatable.",
            rich_help_panel=PROOF,
        ),
    ] = None
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file",
            help="Write how full the nodes' networks are for Prometheus' textfile collector (NAME.prom).",
            rich_help_panel=PROOF,
        ),
    ] = None

    def check(self) -> None:
        """Raise UsageError for what cannot work, before a node is asked anything."""
        if self._outside() and not self.probe_image:
            raise UsageError("--egress needs --probe-image", "pods of ours connect to it", "--probe-image IMAGE")
        if self.metrics_file is not None:
            metrics.check(self.metrics_file)

    def _outside(self) -> list[Service]:
        return [outside(text) for text in self.egress or ()]

    def matrix(self, run: Recovery, inventory: Mapping[str, str]) -> Matrix | None:
        """Return what measures the nodes, None where nothing is to be.

        Args:
            run: the recovery.
            inventory: name to address of every node of the inventory: any healthy one can be the other end.

        Raises:
            UsageError: there is no cluster to make pods in.
            ClusterError: its nodes cannot be listed.
        """
        if not self.probe_image:
            return None
        if run.view is None:
            raise UsageError(
                "--probe-image needs the cluster", "its pods are made through the API", "--kubeconfig PATH"
            )
        cluster, fleet = run.view.cluster, run.fleet
        found, _ = match_nodes(dict(inventory), cluster.nodes())
        names = {name: match.node.name for name, match in found.items()}
        pods = ProbePods(cluster.api, fleet.record.id, self.probe_image, lambda: fleet.stop.requested)
        return Matrix(cluster, pods, NodeSide(run), names, list(run.states), fleet.progress.note, self._outside())


Inventory = Annotated[
    list[str] | None,
    typer.Option("--inventory", "-i", help="The kubeconfig beside this one is used.", autocompletion=inventories),
]


@contextlib.contextmanager
def _opened(
    out: Output, inventory: list[str] | None, kubeconfig: str, context: str
) -> Iterator[tuple[Cluster, Printer]]:
    settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
    path = chosen_kubeconfig(settings.cluster.kubeconfig, inventory or settings.inventory)
    if path is None:
        raise KubeconfigError(
            "no kubeconfig was given",
            "there is none beside the inventory and none in KUBECONFIG",
            "add --kubeconfig PATH",
            NO_KUBECONFIG,
        )
    with Cluster.open(path, settings.cluster.context) as cluster:
        yield cluster, Printer(Format(settings.output), out.no_color)


def pause(
    out: Output,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever is refused.")] = "",
    inventory: Inventory = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Stop recoveries in a cluster: no run begins another node until recover resume.

    A node that a run is working on is finished. Without this program: kubectl -n tune-nodes create configmap
    recovery-paused.
    """
    with _opened(out, inventory, kubeconfig, context) as (cluster, printer):
        there = switch.pause(cluster.api, one_line(reason), _who())
        return _said(printer, "paused already" if there else "paused", there or switch.read(cluster.api))


def resume(
    out: Output,
    inventory: Inventory = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Let recoveries in a cluster go on."""
    with _opened(out, inventory, kubeconfig, context) as (cluster, printer):
        there = switch.resume(cluster.api)
        return _said(printer, "resumed" if there else "not paused", there)


def _said(printer: Printer, word: str, found: switch.Pause | None) -> int:
    if printer.human:
        printer.line(f"recoveries are {word}" if word != "resumed" else "recoveries may go on again")
        if found is not None and str(found):
            printer.line(f"  {found}")
    else:
        printer.document({"state": word, **(vars(found) if found else {})})
    return 0


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = "somebody"
    return one_line(f"{user} on {socket.gethostname()}", 120)
