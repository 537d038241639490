"""``tune-nodes apply``: plan, question, waves; or exactly a plan that was reviewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli.asking import confirmed, must_be_answerable
from tune_nodes.cli.options import InCluster, Output, Reach, Rollout, Wish
from tune_nodes.cli.plan import plan as plan_command
from tune_nodes.cli.planview import recap, show_changes, show_plan, show_problems
from tune_nodes.cli.session import Session, close, described, new_record, settings_of, targets_of, window_of
from tune_nodes.errors import UsageError
from tune_nodes.fleet import rounds, two_rounds
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.standing import refuse, unprobed
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.fleet.waves import Wave
from tune_nodes.runs import planfile
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome, RunRecord


def apply(
    reach: Reach,
    wish: Wish,
    rollout: Rollout,
    cluster: InCluster,
    out: Output,
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="A file made by plan --out: exactly this is applied.")
    ] = None,
    allow_drift: Annotated[
        bool,
        typer.Option("--allow-drift", help="Leave out nodes that changed since the plan, and apply the others."),
    ] = False,
    check: Annotated[bool, typer.Option("--check", "-C", help="Change nothing: same as tune-nodes plan.")] = False,
    diff: Annotated[bool, typer.Option("--diff", "-D", help="Show every node's changes afterwards.")] = False,
) -> int:
    """Tune the nodes: show the plan, ask, change a canary, then wave after wave with a gate between them.

    Each node undoes its change by itself unless it can be reached over a new connection afterwards.
    """
    if check and plan is None:
        return plan_command(reach=reach, wish=wish, cluster=cluster, out=out, diff=diff)
    if not check:
        must_be_answerable(rollout.yes, "apply")
    if plan is not None:
        return _reviewed(plan, reach, wish, rollout, cluster, out, allow_drift, check, diff)
    session = Session.open(out, reach, wish, rollout, cluster)
    profile = session.profile()
    settings = settings_of(session.config, window_of(session.config, profile))
    inventory, options = session.inventory()
    targets = targets_of(inventory, profile, wish.tags)
    record = new_record("apply", inventory, profile.name, described(settings))
    side = session.cluster(record, inventory, settings, profile.cluster)
    targets = side.labelled(targets)
    with session.run(record, options, settings, side) as fleet:
        fleet.plan(targets, probing=True)
        code = _carry_out(session, fleet, targets, rollout.yes)
    return finish(session, record, code, diff)


def _carry_out(session: Session, fleet: FleetRun, targets: Sequence[Target], yes: bool) -> int:
    """From a plan in the record to the end of the last wave; return the exit code."""
    record = fleet.record
    held = fleet.leave_out(session.store.quarantined()) if session.config.settings.quarantine.skip else []
    todo = [t for t in targets if record.nodes[t.name].outcome is Outcome.PENDING]
    if not record.stopped:
        todo = [replace(t, expect=record.nodes[t.name].plan_hash) for t in todo]
        if not todo or ask_for(session, fleet, todo, held, yes):
            two_rounds.apply(fleet, todo)  # also without a node: a node that a dead run left closed is opened
        else:
            record.stopped = STOPPED_BY_USER
    return close(fleet.handle, int(exit_code(record)))


def ask_for(session: Session, fleet: FleetRun, todo: Sequence[Target], held: Sequence[str], yes: bool) -> bool:
    """Show the plan and its waves, and ask."""
    record, printer = fleet.record, session.printer
    waves = fleet.waves([target.name for target in todo])
    left = len(record.nodes) - len(todo)
    others = f" ({left} others stay as they are)" if left else ""
    question = f"Change {len(todo)} node{'s' if len(todo) != 1 else ''}{others}?"
    with session.progress.paused(), fleet.stop.asking():
        if printer.human:
            show_plan(printer, record)
        printer.note(f"waves: {_sizes(waves)}; unconfirmed changes undo themselves after {fleet.settings.window} s")
        if record.verb == "apply" and two_rounds.in_two(fleet):
            printer.note(rounds.IN_TWO)
        if blind := unprobed(record.nodes[target.name] for target in todo):
            said = one_line(", ".join(blind), 200)
            printer.note(
                f"warning: neither gateway nor peers answer on {said}: only ssh can tell if a change cuts them off"
            )
        if held:
            printer.note(f"left out, quarantined: {', '.join(held)}")
        return confirmed(printer, question, yes) and not fleet.stop.requested


def _sizes(waves: Sequence[Wave], most: int = 6) -> str:
    kinds = ["(canary)" if wave.canary else "(control plane)" if wave.protected else "" for wave in waves]
    shown = ", ".join(f"{len(wave.nodes)} {kind}".rstrip() for wave, kind in zip(waves[:most], kinds, strict=False))
    return f"{shown} and {len(waves) - most} more" if len(waves) > most else shown


def _reviewed(
    path: Path,
    reach: Reach,
    wish: Wish,
    rollout: Rollout,
    cluster: InCluster,
    out: Output,
    allow_drift: bool,
    check: bool,
    diff: bool,
) -> int:
    if wish.profile or wish.tags:
        raise UsageError("a plan file has its profile in it", "-p and -t cannot change it", f"tune-nodes apply {path}")
    reviewed = planfile.load(path)
    session = Session.open(out, reach, wish, rollout, cluster)
    settings = settings_of(session.config, wish.window or reviewed.window)
    inventory, options = session.inventory(reviewed.inventory)
    gone = sorted(set(reviewed.nodes) - set(inventory.nodes)) if not reach.limit else []
    if gone:
        raise UsageError(
            f"{gone[0]} is in the plan but no longer in the inventory",
            f"{len(gone)} such nodes: {', '.join(gone[:5])}",
            planfile.AGAIN,
        )
    chosen = [name for name in reviewed.nodes if name in inventory.nodes]
    if not chosen:
        raise UsageError(f"no node of {path} is left to apply to", "the limit leaves none of them", "drop -l")
    record = new_record("apply", inventory, reviewed.profile, {**described(settings), "plan": reviewed.run})
    targets = [reviewed.target(name) for name in chosen]
    side = session.cluster(record, inventory, settings, reviewed.cluster)
    with session.run(record, options, settings, side) as fleet:
        _verify_plan(fleet, reviewed, targets, allow_drift)
        if check or record.stopped:
            code = close(fleet.handle, int(exit_code(record)))
        else:
            code = _carry_out(session, fleet, targets, rollout.yes)
    return finish(session, record, code, diff)


def _verify_plan(fleet: FleetRun, reviewed: planfile.PlanFile, targets: Sequence[Target], allow_drift: bool) -> None:
    """Ask every node for its plan again; refuse by name those that are no longer as reviewed."""
    records = fleet.plan([replace(target, expect="") for target in targets], "compare with the plan", probing=True)
    drifted = planfile.compare(reviewed, records)
    for name, keys in drifted.items():
        error = ErrorRecord(
            what="changed since the plan was made",
            why="; ".join(keys[:8]) + (f"; and {len(keys) - 8} more" if len(keys) > 8 else ""),
            next=planfile.AGAIN,
            code="drifted",
            data={"keys": keys},
        )
        record = refuse(records[name], error)
        fleet.handle.node(record)
        fleet.progress.node(record)
    if drifted and not allow_drift and not fleet.record.stopped:
        fleet.record.stopped = (
            f"{len(drifted)} of {len(records)} nodes changed since the plan was made: {', '.join(sorted(drifted)[:5])};"
            " nothing was applied anywhere (--allow-drift applies the others)"
        )
        for name, node in records.items():
            if name not in drifted and node.outcome is Outcome.PENDING:
                fleet.handle.node(_skipped(node, fleet.record.stopped))


def _skipped(node: NodeRecord, why: str) -> NodeRecord:
    error = ErrorRecord(what="the run stopped before this node", why=why, code="skipped")
    return node.model_copy(update={"outcome": Outcome.SKIPPED, "error": error})


def finish(session: Session, record: RunRecord, code: int, diff: bool = False) -> int:
    """Print how the run ended and what to type next."""
    printer = session.printer
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return code
    if diff:
        for node in record.nodes.values():
            printer.line(node.name)
            show_changes(printer, node.changes)
    show_problems(printer, [node for node in record.nodes.values() if node.error is not None])
    recap(printer, record)
    if not any(node.pending for node in record.nodes.values()) and not code:
        printer.line("0 changes")
    printer.note(f"run {record.id}")
    printer.note(f"  report:   tune-nodes report {record.id}")
    if record.touched():
        printer.note(f"  undo:     tune-nodes rollback {record.id}")
    if code:
        printer.note(f"  details:  tune-nodes show {record.id}")
    return code
