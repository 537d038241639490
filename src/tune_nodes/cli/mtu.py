"""``tune-nodes mtu``: the MTUs of a cluster, from its nodes' interfaces to what the CNI's configuration says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli import mtuview
from tune_nodes.cli.asking import confirmed, must_be_answerable
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.help import examples
from tune_nodes.cli.mtulook import Asked, ask_nodes
from tune_nodes.cli.options import Expanded, InCluster, Output, Reach
from tune_nodes.cli.session import Session
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.cnimtu import backup, service, stale
from tune_nodes.errors import Exit
from tune_nodes.runs.store import new_run_id

app = typer.Typer(
    no_args_is_help=True,
    help="MTUs of a cluster: what nodes have, what the CNI's configuration says, which pods have an old one.",
    epilog=examples("tune-nodes mtu show -i prod", "tune-nodes mtu cni -i prod"),
)

#: Directory of backups below the state directory.
BACKUPS = "cni-mtu"

Pods = Annotated[str, typer.Option("--pods", metavar="auto|BYTES", help="The MTU that pods should have.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.")]
EmptyDir = Annotated[
    bool,
    typer.Option("--delete-emptydir-data", help="Also restart pods that keep data in an emptyDir, which is lost."),
]


def show(out: Output, reach: Reach, kubeconfig: Kubeconfig = "", context: Context = "", pods: Pods = "auto") -> int:
    """Show each node's MTUs, what the CNI's configuration says, and the pods that keep an old one.

    Nothing is changed. Without a cluster's API server only the nodes are shown.
    """
    session, asked = _ask(out, reach, kubeconfig, context, pods)
    path = _chosen(session, asked.sources)
    found = None
    if path is not None:
        with Cluster.open(path, session.config.settings.cluster.context) as cluster:
            found = service.look(cluster, asked.stacks, asked.addresses, asked.sizes)
    mtuview.show(session.printer, asked, found)
    return int(asked.code)


def cni(
    out: Output,
    reach: Reach,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    pods: Pods = "auto",
    yes: Yes = False,
    undo: Annotated[
        str,
        typer.Option("--undo", metavar="BACKUP", help="Take back the change that wrote this backup; no node is asked."),
    ] = "",
) -> int:
    """Put the MTU right in the CNI's own configuration, and start its agents anew one node at a time.

    Every object is stored as it was before it is changed. The nodes' own interfaces and tunnels are not touched: that
    is what apply and the role mtu_alignment do, and they come first.
    """
    must_be_answerable(yes, "mtu cni")
    if undo:
        return _undo(out, reach, kubeconfig, context, undo, yes)
    session, asked = _ask(out, reach, kubeconfig, context, pods)
    path = _needed(session, asked.sources)
    with Cluster.open(path, session.config.settings.cluster.context) as cluster:
        found = service.look(cluster, asked.stacks, asked.addresses, asked.sizes)
        if not session.printer.human:
            mtuview.show(session.printer, asked, found)
        else:
            mtuview.settings(session.printer, found)
        if asked.code or found.plan.refused or not found.plan.work:
            return int(asked.code or (Exit.FAILED if found.plan.refused else Exit.OK))
        if not confirmed(session.printer, mtuview.question(found), yes):
            session.printer.note("nothing was changed")
            return int(Exit.INTERRUPTED)
        with session.stop:
            done = service.carry_out(
                cluster,
                found,
                session.store.root / BACKUPS / new_run_id(),
                session.printer.note,
                lambda: session.stop.requested,
            )
    if done.backup is not None:
        # Not by the printer: a command must not be broken where the terminal's width ends.
        typer.echo(f"to take it back: tune-nodes mtu cni --undo {shlex.quote(str(done.backup.path.parent))}", err=True)
    if session.stop.requested:
        return int(Exit.INTERRUPTED)
    session.printer.note("pods that run keep their MTU until they are made anew: tune-nodes mtu restart-pods")
    return 0


def restart_pods(
    out: Output,
    reach: Reach,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    pods: Pods = "auto",
    yes: Yes = False,
    delete_emptydir_data: EmptyDir = False,
) -> int:
    """Have the pods that keep an old MTU made anew by their controllers, one by one, within their budgets.

    Only those. A pod that nothing would make anew, a static pod and the pod of a Job are listed and left.
    """
    must_be_answerable(yes, "mtu restart-pods")
    session, asked = _ask(out, reach, kubeconfig, context, pods)
    path = _needed(session, asked.sources)
    with Cluster.open(path, session.config.settings.cluster.context) as cluster:
        found = service.look(cluster, asked.stacks, asked.addresses, asked.sizes, delete_emptydir_data)
        if not session.printer.human:
            mtuview.show(session.printer, asked, found)
        else:
            mtuview.workloads(session.printer, found.workloads)
        todo = sum(not one.left for workload in found.workloads for one in workload.stale)
        if asked.code or not todo:
            return int(asked.code)
        if found.plan.pending or not _right(asked):
            why = found.plan.refused or "the CNI's configuration is not right yet"
            session.printer.note(f"new pods would have the old MTU again: {why}")
            session.printer.note("  next: tune-nodes mtu cni")
            return int(Exit.FAILED)
        if not confirmed(session.printer, f"Restart {todo} pods, one at a time?", yes):
            session.printer.note("nothing was changed")
            return int(Exit.INTERRUPTED)
        with session.stop:
            done = stale.restart(cluster.api, found.workloads, session.printer.note, lambda: session.stop.requested)
    session.printer.note(f"{len(done.done)} pods made anew, {len(done.failed)} not")
    if session.stop.requested:
        return int(Exit.INTERRUPTED)
    return int(Exit.FAILED if done.failed else Exit.OK)


def _right(asked: Asked) -> bool:
    """Say whether every node gives new pods what they should have, as far as it says what it gives."""
    return all(stack.given == stack.pods for stack in asked.stacks if stack.given is not None)


def _ask(out: Output, reach: Reach, kubeconfig: str, context: str, pods: str) -> tuple[Session, Asked]:
    session = Session.open(out, reach, None, None, InCluster(kubeconfig=kubeconfig, context=context))
    return session, ask_nodes(session, pods)


def _chosen(session: Session, sources: Sequence[str]) -> Path | None:
    return chosen_kubeconfig(session.config.settings.cluster.kubeconfig, sources)


def _needed(session: Session, sources: Sequence[str]) -> Path:
    path = _chosen(session, sources)
    if path is None:
        raise KubeconfigError(
            "no kubeconfig was given",
            "there is none beside the inventory and none in KUBECONFIG",
            "give --kubeconfig PATH",
            NO_KUBECONFIG,
        )
    return path


def _undo(out: Output, reach: Reach, kubeconfig: str, context: str, reference: str, yes: bool) -> int:
    session = Session.open(out, reach, None, None, InCluster(kubeconfig=kubeconfig, context=context))
    made = backup.load(Path(reference).expanduser())
    names = reach.inventory or session.config.settings.inventory
    path = _needed(session, names)
    objects = ", ".join(saved.held.ref for saved in made.saved)
    if not confirmed(session.printer, f"Put back {objects} as of {made.path}?", yes):
        session.printer.note("nothing was changed")
        return int(Exit.INTERRUPTED)
    with Cluster.open(path, session.config.settings.cluster.context) as cluster, session.stop:
        done, restarted = service.take_back(cluster, made, session.printer.note, lambda: session.stop.requested)
    session.printer.note(f"put back: {', '.join(done) or 'nothing, it was so already'}")
    if restarted:
        session.printer.note(f"agents started anew on {len(restarted)} nodes")
    return int(Exit.INTERRUPTED if session.stop.requested else Exit.OK)


app.command("show", epilog=examples("tune-nodes mtu show -i prod", "tune-nodes mtu show -i prod -o json"))(
    Expanded(show)
)
app.command("cni", epilog=examples("tune-nodes mtu cni -i prod", "tune-nodes mtu cni -i prod --undo BACKUP"))(
    Expanded(cni)
)
app.command(
    "restart-pods", epilog=examples("tune-nodes mtu restart-pods -i prod", "tune-nodes mtu restart-pods -i prod --yes")
)(Expanded(restart_pods))
