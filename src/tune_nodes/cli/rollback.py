"""``tune-nodes rollback``: put back what a run changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.apply import ask_for, finish
from tune_nodes.cli.asking import must_be_answerable
from tune_nodes.cli.options import InCluster, Output, Reach, Rollout, Wish
from tune_nodes.cli.session import Session, close, described, new_record, settings_of, window_of
from tune_nodes.errors import UsageError
from tune_nodes.fleet import rounds
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.inventory import Inventory
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.runs.models import NodeRecord, Outcome, RunRecord
from tune_nodes.runs.store import RunStore


def rollback(
    reach: Reach,
    rollout: Rollout,
    cluster: InCluster,
    out: Output,
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]",
            help="The run to undo: its id, a part of it, or latest.",
            show_default="the latest run that changed something",
            autocompletion=complete.runs,
        ),
    ] = "",
    window: Annotated[
        int | None,
        typer.Option("--window", min=20, max=3600, help="Seconds until an unconfirmed rollback undoes itself."),
    ] = None,
) -> int:
    """Put back what a run changed, where a node still holds what the run wrote.

    A value that somebody else has changed since is left alone and reported as foreign. A rollback is a run like any
    other: with a canary, waves, confirmation over a new connection, and it can itself be rolled back.
    """
    must_be_answerable(rollout.yes, "rollback")
    session = Session.open(out, reach, Wish(window=window), rollout, cluster)
    undone = session.store.load(chosen_run(session.store, run))
    nodes = undone.touched()
    if not nodes:
        raise UsageError(f"run {undone.id} changed nothing", f"it was: {undone.verb}", "tune-nodes history")
    settings = settings_of(session.config, window_of(session.config))
    inventory, options = session.inventory(undone.inventory)
    targets = targets_of(inventory, undone, nodes)
    record = new_record("rollback", inventory, undone.profile, described(settings))
    record.rolled_back = undone.id
    with session.run(record, options, settings, session.cluster(record, inventory, settings, {})) as fleet:
        asked = rollout.yes
        if undone.rounds == rounds.LAST:
            fleet.begin_round(rounds.FIRST)
            targets = [replace(target, tx=undone.id) for target in targets]
            last = [replace(target, tx=rounds.tx_id(undone.id, rounds.LAST)) for target in targets]
            asked = _take_back(session, fleet, undone, last, asked)
            if not record.stopped:
                fleet.begin_round(rounds.LAST)
        if not record.stopped:
            _take_back(session, fleet, undone, targets, asked)
        code = close(fleet.handle, int(exit_code(record)))
    return finish(session, record, code)


def chosen_run(store: RunStore, reference: str) -> str:
    """Return the run to undo: the one named, else the newest that changed something and was not undone yet.

    Raises:
        UsageError: there is none, or several fit.
    """
    if reference:
        return store.resolve(reference)
    runs = store.history(limit=-1)
    undone = {store.load(run.id).rolled_back for run in runs if run.verb == "rollback" and run.exit_code == 0}
    for run in runs:
        changed = run.outcomes.get(Outcome.CHANGED, 0) or run.state == "interrupted"
        if run.verb == "apply" and changed and run.id not in undone:
            return run.id
    raise UsageError(
        "there is nothing to roll back", "no run changed anything that was not undone", "tune-nodes history"
    )


def targets_of(inventory: Inventory, undone: RunRecord, nodes: Sequence[NodeRecord]) -> list[Target]:
    """Return a target for each node to undo. Raises UsageError where none is in the inventory."""
    found = [
        Target(
            name=node.name,
            address=inventory.nodes[node.name].address,
            tx=node.tx.id if node.tx is not None else undone.id,
            probes=[{"kind": "api"}, {"kind": "kubelet"}],
        )
        for node in nodes
        if node.name in inventory.nodes
    ]
    if not found:
        missing = ", ".join(node.name for node in nodes[:5])
        raise UsageError(f"no node that run {undone.id} changed is in this inventory", f"it changed {missing}")
    return found


def _nothing_left(fleet: FleetRun, undone: RunRecord) -> None:
    """A node that put the change back itself is well, and so is one that the run may never have reached."""
    for name, record in list(fleet.record.nodes.items()):
        code = record.error.code if record.error is not None else ""
        second = fleet.round == rounds.FIRST and undone.nodes[name].round < rounds.LAST
        never = code == "unknown" and (undone.nodes[name].tx is None or second)
        # Taken back already, by a rollback that was stopped between its rounds.
        again = fleet.round == rounds.FIRST and record.error is not None and bool(record.error.data.get("undone"))
        if never or again or code == "reverted":
            settled = record.model_copy(update={"outcome": Outcome.OK, "error": None})
            fleet.handle.node(settled)
            fleet.progress.node(settled)


def _take_back(session: Session, fleet: FleetRun, undone: RunRecord, targets: Sequence[Target], yes: bool) -> bool:
    """Plan, ask and put back one transaction of each node; return whether the question was answered by now."""
    record = fleet.record
    fleet.plan(targets, f"what run {undone.id} left", "rollback", probing=True)
    _nothing_left(fleet, undone)
    todo = [t for t in targets if record.nodes[t.name].outcome is Outcome.PENDING]
    if record.stopped:
        return yes
    todo = [replace(t, expect=record.nodes[t.name].plan_hash) for t in todo]
    if todo and not ask_for(session, fleet, todo, [], yes):
        record.stopped = STOPPED_BY_USER
        return yes
    fleet.execute("rollback", todo)
    if fleet.round == rounds.FIRST and not record.stopped:
        behind = rounds.unfinished(record.nodes)
        if behind:
            record.stopped = f"the links are not put back while others may still send more: {rounds.listed(behind)}"
    return yes or bool(todo)
