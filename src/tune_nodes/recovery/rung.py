"""What a rung of the ladder is: one way to mend a node, with its risk in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune_nodes.runs.models import NodeRecord

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken


@dataclass(frozen=True)
class Rung:
    """One recovery step's place on the ladder.

    Args:
        number: its place, 0 to 5.
        title: what it does.
        risk: what it may do to pods that work, in words.
        take: does it on one node; the outcome of what it returns is OK, CHANGED, or why it did not come to its end.
        undo: takes back what a run's rung did on nodes, and returns a record of each. A record whose error has the
            code ``unknown`` says that the run never got there. None where there is nothing to take back.
        forced: whether it may be taken by its number where nothing was found that it helps.
    """

    number: int
    title: str
    risk: str
    take: Callable[[Recovery, str, Taken], NodeRecord]
    undo: Callable[[Recovery, Sequence[str], str], Mapping[str, NodeRecord]] | None = None
    forced: bool = False
