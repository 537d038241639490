"""Applying a plan in one round, or in two where interfaces get another MTU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tune_nodes.fleet import rounds, standing
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.target import Target
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

_BETWEEN = "stopped between the rounds: routes hold packets to the smaller MTU, and nothing is lost; "
_AGAIN = "run apply again to go on, or rollback to go back"


def in_two(fleet: FleetRun) -> bool:
    """Say whether the planned run takes two rounds."""
    return rounds.needs_two(r for r in fleet.record.nodes.values() if r.outcome is Outcome.PENDING)


def apply(fleet: FleetRun, targets: Sequence[Target]) -> None:
    """Apply to nodes that were planned, in waves with their gate; in two rounds where an interface's MTU changes.

    Two rounds go all the way or are not begun: a node that stays behind would lose what the others send. The second
    begins only when the first is confirmed on every node and still stands.
    """
    nodes = fleet.record.nodes
    moving = in_two(fleet) or any(rounds.releases(nodes[target.name]) for target in targets)
    behind = rounds.left_behind(nodes.values()) if moving else {}
    if behind:
        fleet.record.stopped = (
            f"the MTU cannot be changed on these without: {rounds.listed(behind)}; nothing was changed. "
            "Get them well, or leave them out (-l)"
        )
        _skip(fleet, targets)
    elif in_two(fleet):
        _both(fleet, targets)
    else:
        fleet.execute("apply", targets)


def _skip(fleet: FleetRun, targets: Sequence[Target]) -> None:
    for target in targets:
        error = ErrorRecord(what="the run stopped before this node", why=fleet.record.stopped, code="skipped")
        fleet.handle.node(standing.left_out(fleet.record.nodes[target.name], error))


def _both(fleet: FleetRun, targets: Sequence[Target]) -> None:
    fleet.begin_round(rounds.FIRST)
    fleet.execute("apply", targets)
    first = {target.name: fleet.record.nodes[target.name] for target in targets}
    if _stops(fleet, rounds.unfinished(first)):
        return
    fleet.round = rounds.LAST
    plans = fleet.call("plan", _unbound(targets), lambda: fleet.stop.requested).records
    if _stops(fleet, rounds.fallen_back(first, plans)):
        return
    fleet.begin_round(rounds.LAST)
    rest = [t for t in targets if plans[t.name].outcome is Outcome.PENDING]
    fleet.execute("apply", [replace(t, expect=plans[t.name].plan_hash) for t in rest])


def _unbound(targets: Sequence[Target]) -> list[Target]:
    return [replace(target, expect="") for target in targets]


def _stops(fleet: FleetRun, why: Mapping[str, str]) -> bool:
    """Stop between the rounds where a person or a node asks for it; say whether it does."""
    record = fleet.record
    if fleet.stop.requested and not record.stopped:
        record.stopped = STOPPED_BY_USER
    if why and not record.stopped:
        record.stopped = f"{_BETWEEN}not as the first round makes them: {rounds.listed(why)}; {_AGAIN}"
    if record.stopped and _held(record.nodes):
        fleet.progress.note(f"{_BETWEEN}{_AGAIN}")
    return bool(record.stopped)


def _held(nodes: Mapping[str, NodeRecord]) -> bool:
    return any(rounds.held(node) for node in nodes.values() if node.round)
