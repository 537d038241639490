"""Whether each object of a backup could be made again, asked of the server while the object still exists.

A dry run of the creation itself, not of an apply: applying is an update while the object exists, which asks for another
right and runs other admission rules than making it does. The server looks last whether the name is taken, after
permission, validation and admission; so "already exists" is its word that everything else is well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from tune_nodes.cluster.api import DRY_RUN
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.refusals import Refused
from tune_nodes.policy import permissions
from tune_nodes.policy.pace import Pace, passing

if TYPE_CHECKING:
    from tune_nodes.policy.keeping.backup import Backup
    from tune_nodes.policy.model import Policy

ALREADY = "AlreadyExists"
#: Of a ResourceQuota that is used up by the very object that would be made again.
_QUOTA = "exceeded quota"


def rehearse(cluster: Cluster, backup: Backup, refs: Collection[str] | None = None) -> list[str]:
    """Return what stands in the way of making a backup's objects again, a sentence each; [] for nothing.

    Args:
        cluster: where they would be made.
        backup: which.
        refs: only these of it, None for all.

    Raises:
        ClusterError: code forbidden where we may not make them at all; the server cannot be reached.
    """
    chosen = [pair for ref, pair in backup.by_ref.items() if refs is None or ref in refs]
    return problems(cluster, chosen)


def problems(cluster: Cluster, objects: Collection[tuple[Policy, Mapping[str, Any]]]) -> list[str]:
    """Return what stands in the way of making these objects, a sentence each. Raises as :func:`rehearse`."""
    permissions.require(cluster, [policy for policy, _ in objects], ("create",))
    pace = Pace()
    found = pace.over(objects, lambda one: problem(cluster, *one))
    return [f"{policy.ref}: {why}" for (policy, _), why in zip(objects, found, strict=True) if why]


def problem(cluster: Cluster, policy: Policy, body: Mapping[str, Any]) -> str:
    """Return why an object could not be made, "" where it could."""
    try:
        cluster.api.post(policy.kind.call("create", policy.namespace), body, DRY_RUN, safe=True)
    except Refused as refused:
        if ALREADY in refused.reasons or _QUOTA in refused.message:
            return ""
        if passing(refused):
            raise
        return refused.message or refused.why
    return ""
