"""A fleet's MTU change in two confirmed rounds, so that no node ever sends what another does not take (pure).

In the first round every node's links take the larger size while its routes hold packets to the smaller one; in the
second the smaller links are set and the pins go. See module_utils/mtu/hold.py for one node's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.runs.models import ChangeRecord, NodeRecord, Outcome

FIRST, LAST = 1, 2
IN_TWO = "in two rounds: first every node takes the new MTU and routes hold packets small, then routes are let go"
SAID = {
    ("apply", FIRST): "round 1 of 2: links take the larger MTU, routes hold packets to the smaller one",
    ("apply", LAST): "round 2 of 2: routes are let go, and links that shrink are lowered",
    ("rollback", FIRST): "round 1 of 2: routes hold packets to the smaller MTU again",
    ("rollback", LAST): "round 2 of 2: links as they were, routes let go",
}
_LINK, _ROUTES = "/mtu", "/route-mtu"
#: Outcomes of a plan after which nobody knows what a node takes.
_UNKNOWN = (Outcome.UNREACHABLE, Outcome.FAILED, Outcome.REFUSED, Outcome.SKIPPED)


def tx_id(run: str, number: int) -> str:
    """Return the id of the transaction that a round makes on a node: the run's own, and RUN-2 for the second."""
    return f"{run}-{LAST}" if number == LAST else run


def _of_interface(change: ChangeRecord) -> bool:
    """Say whether a change is of an interface that carries packets to other nodes: those have an address of a card."""
    return change.family == "mtu" and change.key.endswith(_LINK) and "mac" in change.identity


def needs_two(records: Iterable[NodeRecord]) -> bool:
    """Say whether some node's interface gets another MTU."""
    return any(_of_interface(c) and c.status == "pending" for record in records for c in record.changes)


def releases(record: NodeRecord) -> set[str]:
    """Return the links whose pins a node's plan takes off."""
    return {c.key for c in record.changes if c.key.endswith(_ROUTES) and c.status == "pending" and c.want == "none"}


def held(record: NodeRecord) -> set[str]:
    """Return the links whose routes a node has pinned in the first round."""
    done = ("ok", "changed")
    return {c.key for c in record.changes if c.key.endswith(_ROUTES) and c.status in done and c.want != "none"}


def left_behind(records: Iterable[NodeRecord]) -> dict[str, str]:
    """Return the nodes that would not go with the others, and why: one side would lose what the other sends.

    Args:
        records: of every node of the run, as planned.
    """
    found = {}
    for record in records:
        if record.outcome in _UNKNOWN:
            found[record.name] = str(record.outcome)
        elif record.outcome is Outcome.QUARANTINED and (needs_two([record]) or releases(record)):
            found[record.name] = "quarantined"
        else:
            why = next((_stays(c) for c in record.changes if _stays(c)), "")
            if why:
                found[record.name] = why
    return found


def _stays(change: ChangeRecord) -> str:
    """Return why an interface keeps an MTU that is not the wanted one, "" where it does not."""
    refused = change.status == "unsupported" and change.family == "mtu"
    owned = _of_interface(change) and change.status == "owned" and change.before != change.want
    if not refused and not owned:
        return ""
    name = change.key.removesuffix(_LINK).removesuffix(_ROUTES)
    return f"{name} stays as it is: {change.note or change.owner}"


def unfinished(first: Mapping[str, NodeRecord]) -> dict[str, str]:
    """Return the nodes on which the first round did not succeed, and why."""
    good = (Outcome.OK, Outcome.CHANGED)
    found = {name: str(record.outcome) for name, record in first.items() if record.outcome not in good}
    for name, record in first.items():
        why = next((_stays(c) for c in record.changes if _stays(c)), "")
        if why:
            found.setdefault(name, why)
    return found


def fallen_back(first: Mapping[str, NodeRecord], again: Mapping[str, NodeRecord]) -> dict[str, str]:
    """Return the nodes that no longer are what the first round made of them.

    Args:
        first: as the first round left them.
        again: the same nodes, planned anew.
    """
    found = {}
    for name, record in again.items():
        if record.outcome not in (Outcome.OK, Outcome.PENDING):
            found[name] = str(record.outcome)
        elif lost := held(first[name]) - releases(record):
            found[name] = f"{', '.join(sorted(lost))} is gone: was it rebooted?"
        elif any(_of_interface(c) and c.status == "pending" and _raised(c) for c in record.changes):
            found[name] = "its links are at the old MTU again"
    return found


def _raised(change: ChangeRecord) -> bool:
    try:
        return int(change.want or 0) > int(change.before or 0)
    except ValueError:
        return True


def listed(nodes: Mapping[str, str], most: int = 4) -> str:
    """Return nodes with their reasons in one line."""
    rows = [f"{name} ({one_line(why, 160)})" for name, why in sorted(nodes.items())]
    return ", ".join(rows[:most]) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def merged(first: Sequence[ChangeRecord], second: Sequence[ChangeRecord]) -> list[ChangeRecord]:
    """Return what two rounds came to: from what it was before the first to what it is after the second.

    A pin that was put and taken off again is no change.
    """
    later = {(change.family, change.key): change for change in second}
    rows = []
    for change in first:
        row = later.pop((change.family, change.key), None)
        if row is None or (row.status == "ok" and change.status == "changed"):
            rows.append(change)
        elif change.status == "changed":
            rows.append(row.model_copy(update={"before": change.before} if row.status == "changed" else {}))
        else:
            rows.append(row)
    rows += later.values()
    return [r for r in rows if not (r.key.endswith(_ROUTES) and r.status == "changed" and r.before == r.want)]
