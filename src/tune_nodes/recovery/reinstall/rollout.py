"""DaemonSets' pods started anew, one node after the other; the first that is not well ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tune_nodes.errors import Exit, TuneError
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.recovery.guard import Guards, Held
from tune_nodes.recovery.reinstall.gate import Gate
from tune_nodes.recovery.reinstall.rolls import Roll
from tune_nodes.recovery.reinstall.runs import Progress, row_of


@dataclass(frozen=True)
class Rollout:
    """Starts pods anew, node by node.

    Args:
        gate: what must hold before the next node.
        guards: give the right to work on a node.
        journal: takes each step.
        progress: what a run before this has done already.
        undo: whether this is an undo.
        say: is told of each node.
        cancelled: asked between two nodes.
    """

    gate: Gate
    guards: Guards
    journal: Journal
    progress: Progress
    undo: bool
    say: Callable[[str], None]
    cancelled: Callable[[], bool]

    def run(self, rolls: Sequence[Roll], nodes: Sequence[str], protected: frozenset[str]) -> list[str]:
        """Start the pods of these DaemonSets anew on these nodes, in their order; return the nodes where any was.

        Raises:
            TuneError: a node is not well, or its slot was not given; the nodes after it were left as they were.
        """
        # A DaemonSet that has to be started anew only since the run was cut off has been nowhere yet.
        passed = set(self.progress.nodes) if all(roll.key in self.progress.rolling for roll in rolls) else set()
        for roll in rolls:
            self._hold(roll)
        done: list[str] = []
        todo = [node for node in nodes if node not in passed]
        for position, node in enumerate(todo):
            if self.cancelled():
                raise TuneError("stopped", f"{len(todo) - position} nodes were not touched", exit=Exit.INTERRUPTED)
            with self.guards.slot(node, node in protected) as slot:
                if self._node(node, rolls, slot, len(todo) - position - 1):
                    done.append(node)
            self.journal.note("node", node=node, undo=self.undo)
        for roll in rolls:
            roll.finish(self.gate)
            self.journal.note("rolled", object=row_of(roll.key), undo=self.undo)
        return done

    def _hold(self, roll: Roll) -> None:
        mode, pods = self.progress.rolling.get(roll.key, ("", {}))
        there = roll.hold()
        if mode:  # the pods that were there when it began: those of them that are left are still to go
            roll.old = pods
        else:
            roll.old = there
            self.journal.note("rolling", object=row_of(roll.key), mode=roll.mode, pods=there, undo=self.undo)
        roll.allowed = sorted({*roll.old, *(self.progress.nodes if mode else ())})
        roll.change()

    def _node(self, node: str, rolls: Sequence[Roll], slot: Held, after: int) -> bool:
        try:
            slot.check()
            begun = [roll for roll in rolls if roll.begin(node, self.gate)]
            for roll in begun:
                self.gate.wait(node, partial(roll.lacking, node))
            if begun:
                self._steady(node, begun)
                self.say(f"{node}: {', '.join(str(roll.key) for roll in begun)} new and ready; a new pod has a network")
        except TuneError as problem:
            left = f"{after} {'node' if after == 1 else 'nodes'} after it not touched" if after else ""
            problem.why = "; ".join(part for part in (problem.why, left) if part)
            raise
        return bool(begun)

    def _steady(self, node: str, begun: Sequence[Roll]) -> None:
        """Pass the gate, and see that the agents stayed as they were: many are Ready at once, and fail later."""
        before = [roll.restarts(node) for roll in begun]
        self.gate.pass_(node)
        for roll, count in zip(begun, before, strict=True):
            again = roll.restarts(node) - count
            why = f"{roll.key}: it ended and was started again" if again else roll.lacking(node)
            if why:
                raise TuneError(f"the agent on {node} is not well", why)
