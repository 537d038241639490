"""Closing a wave's nodes for new pods, moving theirs away, and opening them again whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from tune_nodes.cluster.errors import CONFLICT, SERVER, UNREACHABLE, ClusterError
from tune_nodes.cluster.model import Drained
from tune_nodes.runs.models import ErrorRecord

#: Nodes that are closed and drained at once, where a wave has more.
AT_ONCE = 10
#: Pauses in seconds before a node is tried to be opened again.
AGAIN = (1.0, 4.0, 10.0)
#: Pods named in one message.
SHOWN = 3
_PASSING = (UNREACHABLE, SERVER, CONFLICT)


class Doors(Protocol):
    """What is needed of a cluster. Every method raises ClusterError."""

    def cordon(self, node: str, run: str) -> bool:
        """Close a node for new pods; False: somebody else had closed it."""

    def uncordon(self, node: str, run: str) -> bool:
        """Open a node that this run closed."""

    def drain(
        self, node: str, timeout: float, cancelled: Callable[[], bool], *, delete_emptydir: bool = False
    ) -> Drained:
        """Move a node's pods away, as their budgets allow."""


@dataclass
class Closing:
    """The nodes of one wave, by the names of their Node objects.

    Args:
        cluster: who closes, drains and opens.
        run: the run's id, which marks what it closed.
        timeout: seconds that a drain may take.
        delete_emptydir: also move pods that keep data in an emptyDir, which is lost.
        sleep: waits some seconds.
    """

    cluster: Doors
    run: str
    timeout: float
    delete_emptydir: bool
    sleep: Callable[[float], None]
    closed_by: dict[str, str] = field(default_factory=dict)  # "ours" | "foreign"
    evicted: dict[str, int] = field(default_factory=dict)
    _to_open: set[str] = field(default_factory=set)

    def close(self, nodes: Sequence[str], cancelled: Callable[[], bool]) -> dict[str, ErrorRecord]:
        """Close and drain nodes side by side; return those that must not be touched."""
        if not nodes:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(nodes))) as pool:
            found = dict(zip(nodes, pool.map(lambda node: self._one(node, cancelled), nodes), strict=True))
        return {node: error for node, error in found.items() if error is not None}

    def _one(self, node: str, cancelled: Callable[[], bool]) -> ErrorRecord | None:
        if cancelled():
            return _skipped(node)
        self._to_open.add(node)  # a call that broke may have closed it
        try:
            ours = self.cluster.cordon(node, self.run)
            self.closed_by[node] = "ours" if ours else "foreign"
            drained = self.cluster.drain(node, self.timeout, cancelled, delete_emptydir=self.delete_emptydir)
        except ClusterError as problem:
            return ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code="not-drained")
        self.evicted[node] = drained.evicted
        if drained.cancelled:
            return _skipped(node)
        return None if drained.done else _not_drained(node, drained, self.timeout)

    def open(self, nodes: Sequence[str] | None = None) -> dict[str, str]:
        """Open what this run closed (or some of it) side by side.

        Returns:
            Nodes that are still closed, and why.
        """
        ours = [node for node in sorted(self._to_open) if nodes is None or node in nodes]
        if not ours:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(ours))) as pool:
            problems = dict(zip(ours, pool.map(self._open, ours), strict=True))
        self._to_open -= {node for node, problem in problems.items() if not problem}
        return {node: problem for node, problem in problems.items() if problem}

    def _open(self, node: str) -> str:
        for pause in (*AGAIN, None):
            try:
                self.cluster.uncordon(node, self.run)
            except ClusterError as problem:
                if pause is None or problem.code not in _PASSING:
                    return f"{problem.what}: {problem.why}" if problem.why else problem.what
                self.sleep(pause)
            else:
                return ""
        return ""


def _skipped(node: str) -> ErrorRecord:
    return ErrorRecord(
        what="the run stopped before this node", why=f"the Node {node} was being drained", code="skipped"
    )


def _not_drained(node: str, drained: Drained, timeout: float) -> ErrorRecord:
    rows = [f"{one.pod}: {one.why}" for one in drained.blocked]
    rows += [f"{pod} is still there after {timeout:g} s" for pod in drained.left]
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ErrorRecord(
        what=f"the Node {node} could not be drained, so it was not touched",
        why="; ".join(rows[:SHOWN]) + more,
        next="see what holds these pods (kubectl get pdb -A), give it longer (--drain-timeout), or --no-drain",
        code="not-drained",
        data={"pods": [one.pod for one in drained.blocked] + list(drained.left), "evicted": drained.evicted},
    )
