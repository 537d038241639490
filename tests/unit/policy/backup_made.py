"""Backups on disk without a cluster, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.model import Policy


class Lists:
    """What a cluster's API has: these policies and nothing else."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies

    def version(self) -> dict[str, str]:
        """Return the server's version."""
        return {"gitVersion": "v1.34.4"}

    def pages(self, call: Any) -> list[dict[str, Any]]:
        """Return a list as one page."""
        mine = [one.raw for one in self._policies if one.kind.resource == call.resource]
        return [{"metadata": {"resourceVersion": "99"}, "items": mine}]


def write(policies: Sequence[Policy], directory: Path, now: Sequence[Policy] | None = None) -> Backup:
    """Write a backup of policies; ``now``: as the server has them by then."""
    api = Lists(policies if now is None else now)
    cluster = SimpleNamespace(api=api, server="https://192.0.2.10:6443", user="somebody")
    return backups.write(cast("Cluster", cluster), policies, directory, "the namespace shop")
