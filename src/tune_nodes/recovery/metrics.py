"""How full the nodes' pod networks are, as Prometheus metrics for node_exporter's textfile collector."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tune_nodes.errors import UsageError
from tune_nodes.recovery.state import NetworkState, NodeState
from tune_nodes.runs.atomic import write_atomic

_LABELS = ("node", "network")
#: Name and help; the value is the attribute of a network that the name ends with.
_GAUGES = (
    ("tune_nodes_cni_leases", "Addresses that host-local holds.", "leases"),
    ("tune_nodes_cni_leases_live", "Leases whose sandbox runs.", "live"),
    ("tune_nodes_cni_leases_stale", "Leases whose sandbox is proved to be gone.", "stale"),
    ("tune_nodes_cni_addresses_usable", "Addresses that the network's ranges have for pods.", "usable"),
    ("tune_nodes_cni_addresses_free", "Addresses that no lease holds.", "free"),
)


def text(states: Iterable[NodeState], now: float) -> str:
    """Return the metrics of looks at nodes in the text exposition format.

    Args:
        states: the looks; a value that a node does not know is left out.
        now: seconds of the epoch at which they were taken.
    """
    registry = CollectorRegistry()
    gauges = [(Gauge(name, said, _LABELS, registry=registry), key) for name, said, key in _GAUGES]
    looked = Gauge("tune_nodes_cni_look_timestamp_seconds", "When the node was looked at.", ["node"], registry=registry)
    for state in states:
        looked.labels(state.name).set(now)
        for network in state.networks:
            for gauge, key in gauges:
                value = _value(network, key)
                if value is not None:
                    gauge.labels(state.name, network.name).set(value)
    return generate_latest(registry).decode()


def _value(network: NetworkState, key: str) -> int | None:
    value: int | None = getattr(network, key)
    return value


def check(path: Path) -> None:
    """Make sure, before a node is asked, that metrics can be written there. Raises UsageError."""
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        why = "it is a directory" if path.is_dir() else f"{path.parent} is not there, or not to be written"
        raise UsageError(f"cannot write metrics to {path}", why, "choose another --metrics-file")


def write(path: Path, states: Iterable[NodeState]) -> None:
    """Write the metrics atomically, readable by the exporter. Raises UsageError."""
    try:
        write_atomic(path, text(states, time.time()), 0o644)
    except OSError as problem:
        why = problem.strerror or ""
        raise UsageError(f"cannot write metrics to {path}", why, "choose another --metrics-file") from problem
