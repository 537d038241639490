"""Share plan tables: 5,000 nodes with the same changes are one table and 5,000 references.

Nodes whose rows are equal share a plan. A node that differs in a few rows refers to the nearest plan and lists only
its differences, so a report grows with what differs in the fleet, not with the fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from ..models import ChangeRecord, NodeRecord
from .looks import LEFT_ALONE, STATUSES

#: Most tables in one report; beyond it a node lists its differences from the nearest one, however many.
MAX_PLANS = 40
#: A node with at most this share of differing rows refers to another plan.
NEAR = 0.25


class Row(NamedTuple):
    """What a report shows of one change. Identities (MAC addresses) are left out: they differ on every node."""

    family: str
    key: str
    before: str | None
    want: str | None
    after: str | None
    status: str
    requested: str
    reason: str
    source: str
    owner: str
    note: str
    scope: str
    disruptive: bool

    @property
    def name(self) -> tuple[str, str]:
        """The setting this row is about."""
        return self.family, self.key


@dataclass
class Plan:
    """Rows that several nodes have in common."""

    rows: tuple[Row, ...]
    number: int = 0  # from 1; 0: shown within its only node's section
    nodes: list[str] = field(default_factory=list)

    @property
    def acted(self) -> list[Row]:
        """Rows that were or would be written."""
        return [row for row in self.rows if row.status not in LEFT_ALONE and row.status != "ok"]

    @property
    def left_alone(self) -> list[Row]:
        """Rows deliberately not written, each with its reason."""
        return [row for row in self.rows if row.status in LEFT_ALONE]

    @property
    def fine(self) -> list[Row]:
        """Rows that were already as wanted."""
        return [row for row in self.rows if row.status == "ok"]


@dataclass(frozen=True)
class Use:
    """A node's plan: a shared one, the rows in which this node differs, and settings it does not have."""

    plan: Plan
    differs: tuple[Row, ...] = ()
    lacks: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> list[Row]:
        """Every row of this node."""
        own = {row.name for row in self.differs} | set(self.lacks)
        return [row for row in self.plan.rows if row.name not in own] + list(self.differs)


def row_of(change: ChangeRecord) -> Row:
    """Return what a report shows of a change."""
    return Row(*(getattr(change, name) for name in Row._fields))


def share(nodes: Mapping[str, NodeRecord]) -> tuple[list[Plan], dict[str, Use]]:
    """Return the plans (most used first) and each node's use of one; nodes without changes have none."""
    groups: dict[frozenset[Row], list[str]] = {}
    for name, node in nodes.items():
        rows = frozenset(row_of(change) for change in node.changes)
        if rows:
            groups.setdefault(rows, []).append(name)
    kept: dict[frozenset[Row], Plan] = {}
    uses: dict[str, Use] = {}
    for rows, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        use = _fold(rows, kept)
        if use is None:
            use = Use(Plan(tuple(sorted(rows, key=_order))))
            kept[rows] = use.plan
        use.plan.nodes.extend(names)
        uses.update(dict.fromkeys(names, use))
    plans = sorted(kept.values(), key=lambda plan: -len(plan.nodes))
    return plans, uses


def _fold(rows: frozenset[Row], kept: Mapping[frozenset[Row], Plan]) -> Use | None:
    """Return these rows as differences from the nearest kept plan, None if they deserve a table of their own."""
    if not kept:
        return None
    nearest = max(kept, key=lambda other: len(rows & other))
    mine = sorted(rows - nearest, key=_order)
    names = {row.name for row in rows}
    lacks = sorted({row.name for row in nearest - rows} - names)
    if len(kept) < MAX_PLANS and len(mine) + len(lacks) > max(1, int(len(rows) * NEAR)):
        return None
    return Use(kept[nearest], tuple(mine), tuple(lacks))


def _order(row: Row) -> tuple[int, bool, str, str, str]:
    place = list(STATUSES).index(row.status) if row.status in STATUSES else -1
    # Our own files follow from the settings, so they stand below them.
    return place, row.family == "files", row.family, row.key, repr(row)


def tally(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many rows have each status, in the order of the tables; unknown statuses last."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.status] = found.get(row.status, 0) + 1
    return {status: found[status] for status in chain(STATUSES, sorted(set(found) - set(STATUSES))) if status in found}
