"""What keeps a reinstall and other recoveries apart: the same slots and the same switch, without the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError
from tune_nodes.recovery import pause
from tune_nodes.recovery.budget import Budget, Nodes
from tune_nodes.recovery.guard import ClusterGuards, Guards
from tune_nodes.recovery.slots import Slots, origin_of

#: Every node is to come, and one after the other comes in any case.
_ALL = Budget(max_nodes=1_000_000, max_percent=100, max_per_hour=1_000_000, max_unhealthy=100)


class _Slots(Slots):
    """Slots for which no node is away: without a CNI none is ready, and that is what is mended."""

    def _nodes(self) -> Nodes:
        found = super()._nodes()
        return Nodes(dict.fromkeys(found.ready, True), found.protected)


def guards(cluster: Cluster, run: str, state: Path, stopped: Callable[[], bool], note: Callable[[str], None]) -> Guards:
    """Return what gives the right to work on a node.

    Args:
        cluster: the API server.
        run: the run's id.
        state: the state directory, whose lock the caller holds.
        stopped: asked while waiting.
        note: told what is waited for.
    """
    return ClusterGuards(_Slots(cluster, _ALL, run, origin_of(state), 0, stopped, note), lambda name: name)


def refuse_paused(cluster: Cluster) -> None:
    """Raise TuneError where recoveries are paused: before the first object is written."""
    found = pause.read(cluster.api)
    if found is not None:
        raise TuneError("recoveries are paused", str(found), "tune-nodes recover resume")
