"""How outcomes and statuses look: a glyph and a word beside every colour, and the order in which they are told."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import Outcome


@dataclass(frozen=True)
class Look:
    """One outcome or status: the id of its glyph and colour class, its word, what it means."""

    id: str
    word: str
    meaning: str


#: Worst first: the order of lists and tallies.
OUTCOMES: dict[Outcome, Look] = {
    Outcome.FAILED: Look("failed", "failed", "something went wrong; the error says what state the node is in"),
    Outcome.REVERTED: Look("reverted", "reverted", "changed, not confirmed in time, and put back as it was"),
    Outcome.UNREACHABLE: Look("unreachable", "unreachable", "no connection could be made"),
    Outcome.REFUSED: Look("refused", "refused", "not touched: drifted from the plan, busy, not ready or unsupported"),
    Outcome.QUARANTINED: Look("quarantined", "quarantined", "left out: an earlier run reverted on it"),
    Outcome.PENDING: Look("pending", "would change", "differs from what the profile wants; nothing was written"),
    Outcome.CHANGED: Look("changed", "changed", "changed, confirmed over a new connection, kept"),
    Outcome.OK: Look("ok", "ok", "already as wanted; nothing was written"),
    Outcome.SKIPPED: Look("skipped", "not started", "the run stopped before this node"),
}

#: Every status a change can have, in the order of the tables.
STATUSES: dict[str, Look] = {
    "failed": Look("failed", "failed", "could not be written or did not hold"),
    "reverted": Look("reverted", "reverted", "was written, then put back"),
    "changed": Look("changed", "changed", "written and read back"),
    "pending": Look("pending", "would change", "differs from what is wanted"),
    "foreign": Look("foreign", "foreign", "no longer what was written; left as it is"),
    "owned": Look("owned", "owned", "left to the program that also writes it"),
    "unsupported": Look("unsupported", "unsupported", "this node cannot"),
    "ok": Look("ok", "ok", "already as wanted"),
}

#: Statuses of settings that were deliberately not written.
LEFT_ALONE = ("foreign", "owned", "unsupported")
#: Outcomes that make a reader act.
TROUBLE = (Outcome.FAILED, Outcome.REVERTED, Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.QUARANTINED)

#: A node that was changed and that its cluster found worse off afterwards.
UNWELL = Look("note", "changed, not well afterwards", "its Node, its Lease or an agent of its network is not as before")

_UNKNOWN = Look("pending", "unknown", "a status this version does not know")


def status_look(status: str) -> Look:
    """Return how a change's status looks; an unknown one is shown as such."""
    return STATUSES.get(status, _UNKNOWN)


def rank(outcome: Outcome) -> int:
    """Return the place of an outcome in lists, worst first."""
    return list(OUTCOMES).index(outcome)
