"""A record put back and taken back, as tests ask for it."""

from __future__ import annotations

from pathlib import Path

from tune_nodes.cluster.client import Cluster
from tune_nodes.recovery.reinstall import record, runs, service, undo
from tune_nodes.recovery.reinstall.carry import Way

WAY = Way(limit=5)


def put_back(cluster: Cluster, made: record.Record, state: Path, way: Way = WAY) -> tuple[str, list[str]]:
    """Plan, and do it."""
    return service.carry_out(cluster, service.look(cluster, made, state, way.force), state, way)


def take_back(cluster: Cluster, state: Path, way: Way = WAY) -> undo.Undone:
    """Take the newest reinstall back."""
    return service.take_back(cluster, runs.named(runs.home(state), "latest"), state, way)
