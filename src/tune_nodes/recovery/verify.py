"""What a recovery changed, by measuring the same things before and after (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from tune_nodes.recovery.state import NodeState

#: So many leases a node releases in one run; where there were more, the rest is for the next.
AT_ONCE = 1000
LEASES, ORPHANS = 2, 3  # rungs


@dataclass(frozen=True)
class Row:
    """One thing measured twice. ``good``: None where it says nothing about how the recovery went."""

    what: str
    before: str
    after: str
    good: bool | None = None


def compare(before: NodeState, after: NodeState, most: int | None = None) -> list[Row]:
    """Return the rows of the table, in a fixed order.

    Args:
        before: the node before the first rung.
        after: and after the last.
        most: the highest rung that was taken; what those above it would mend says nothing about how this went. None:
            all of it counts.
    """
    found = []
    later = {network.name: network for network in after.networks}
    for network in before.networks:
        now = later.get(network.name)
        if now is None:
            found.append(Row(f"{network.name}: leases", str(network.leases), "not there", False))
            continue
        found += [
            Row(
                f"{network.name}: stale leases",
                str(network.stale),
                str(now.stale),
                _fewer(network.stale, now.stale) if _within(LEASES, most) else None,
            ),
            Row(f"{network.name}: live leases", str(network.live), str(now.live)),
            Row(
                f"{network.name}: free addresses",
                _of(network.free, network.usable),
                _of(now.free, now.usable),
                None if now.free is None else now.free > 0,
            ),
        ]
    counted = after.sandboxes is not None or (before.sandboxes is None and not before.networks)
    found.append(Row("sandboxes", _shown(before.sandboxes), _shown(after.sandboxes), counted))
    found.append(_pings(before, after))
    possible = {"yes": True, "no": False}.get(_possible(after))
    found.append(Row("a new pod gets a network", _possible(before), _possible(after), possible))
    wrong, still = (_mendable(state, most) for state in (before, after))
    if wrong or still:
        found.append(Row("faults that a rung mends", str(wrong), str(still), still == 0))
    if before.orphans:
        going, left = ([one for one in state.orphans if not one.refused] for state in (before, after))
        gone = (len(left) == 0 or not going) if _within(ORPHANS, most) else None
        found.append(Row("leftovers of other CNIs", str(len(going)), str(len(left)), gone))
    if before.waiting is not None or after.waiting is not None:
        less = after.waiting is not None and after.waiting <= (before.waiting or 0)
        found.append(Row("pods that wait for one", _shown(before.waiting), _shown(after.waiting), less))
    return found


def _fewer(before: int, now: int) -> bool:
    return now == 0 or before - now >= AT_ONCE


def _of(free: int | None, usable: int | None) -> str:
    return "not known" if free is None else f"{free} of {usable}"


def _shown(value: int | None) -> str:
    return "not known" if value is None else str(value)


def _within(rung: int, most: int | None) -> bool:
    return most is None or rung <= most


def _mendable(state: NodeState, most: int | None) -> int:
    return sum(fault.rung is not None and _within(fault.rung, most) for fault in state.faults)


def _possible(state: NodeState) -> str:
    """Return whether what a new sandbox needs is there: the runtime's network, its plugins, a free address."""
    if state.network_ready is False or state.missing or state.exhausted or not state.conf:
        return "no"
    return "yes" if state.networks else "not known"


def _pings(before: NodeState, after: NodeState) -> Row:
    answered = {ping.ip for ping in before.pings if ping.ok}
    now = {ping.ip for ping in after.pings if ping.ok}
    there = {ping.ip for ping in after.pings}
    lost = (answered & there) - now  # a pod that is gone meanwhile is not lost
    return Row(
        "pods that answer the node",
        f"{len(answered)} of {len(before.pings)}",
        f"{len(now)} of {len(after.pings)}",
        not lost,
    )


def broken(rows: list[Row]) -> list[Row]:
    """Return the rows that are not as they should be."""
    return [row for row in rows if row.good is False]
