"""What a run asks of the cluster its nodes belong to, and the answer of a run without one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tune_nodes.fleet.target import Target
from tune_nodes.runs.models import ClusterRecord, ErrorRecord, NodeRecord


class ClusterSide(Protocol):
    """The cluster, as the orchestration sees it. No method raises because of the cluster; records say what failed."""

    record: ClusterRecord | None

    def labelled(self, targets: Sequence[Target]) -> list[Target]:
        """Return targets with the labels of their Nodes; what the inventory says wins."""

    def planned(self, records: Mapping[str, NodeRecord], verb: str) -> dict[str, NodeRecord]:
        """Return planned records with what the cluster knows; nodes that must not be touched are refused."""

    def attach(self, record: NodeRecord) -> NodeRecord:
        """Return a record with what the cluster knows of its node by now."""

    def asked(self, target: Target) -> Target:
        """Return a target with the wait for its Lease, where it has one to wait for."""

    def watched(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """Watch these nodes' Leases during all waves; first open what a dead run left closed."""

    def closed(
        self, names: Sequence[str], cancelled: Callable[[], bool]
    ) -> AbstractContextManager[dict[str, ErrorRecord]]:
        """Close a wave's nodes for new pods and move theirs away, where that is wanted; open them again at the end.

        Yields:
            Nodes that must not be touched, and why.
        """

    def look(self, changed: Sequence[str], others: Sequence[str], cancelled: Callable[[], bool]) -> list[str]:
        """See whether changed nodes are as well as they were, and how others are that a wave touched.

        Returns:
            Changed nodes that are unwell or well again since the last look.
        """

    def close(self) -> None:
        """Let go of the connections."""


class NoCluster:
    """A run without a cluster: nothing is asked of anybody.

    Args:
        record: what the report says of it; None where nobody asked for a cluster.
    """

    def __init__(self, record: ClusterRecord | None = None) -> None:
        self.record = record

    def labelled(self, targets: Sequence[Target]) -> list[Target]:
        """Return the targets as they are."""
        return list(targets)

    def planned(self, records: Mapping[str, NodeRecord], verb: str) -> dict[str, NodeRecord]:
        """Return the records as they are."""
        return dict(records)

    def attach(self, record: NodeRecord) -> NodeRecord:
        """Return the record as it is."""
        return record

    def asked(self, target: Target) -> Target:
        """Return the target as it is."""
        return target

    def watched(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """Watch nothing."""
        return contextlib.nullcontext()

    def closed(
        self, names: Sequence[str], cancelled: Callable[[], bool]
    ) -> AbstractContextManager[dict[str, ErrorRecord]]:
        """Close nothing."""
        return contextlib.nullcontext({})

    def look(self, changed: Sequence[str], others: Sequence[str], cancelled: Callable[[], bool]) -> list[str]:
        """See nothing."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""
