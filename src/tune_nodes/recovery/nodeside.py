"""The nodes' part of a measurement: they send its packets, and say which leases they hold afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_nodes.fleet.runner import Call
from tune_nodes.recovery.run import Recovery
from tune_nodes.runs.models import NodeRecord


class NodeSide:
    """Reaches the nodes as a run does.

    Args:
        run: the recovery.
    """

    def __init__(self, run: Recovery) -> None:
        self._run = run

    def probe(self, nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, NodeRecord]:
        """Let nodes send packets; each request has ``probes`` and ``paths``. Raises TuneError."""
        fleet = self._run.fleet
        request = {"operation": "probe", "common": {"schema": 1, "run": fleet.record.id}, "nodes": nodes}
        idle = fleet.settings.idle_timeout
        return fleet.runner.run(Call(request, lambda _record: None, lambda: fleet.stop.aborted, idle)).records

    def look(self, name: str) -> NodeRecord:
        """Look at a node's leases; the run's own look at it stays as it is. Raises TuneError."""
        return self._run.ask("recover_look", {name: {}})[name]
