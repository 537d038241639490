"""Closing a reset's door from here: policies back first, then what was added goes, then the owners go on."""

from __future__ import annotations

from datetime import UTC, datetime

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.compare import Wish
from tune_nodes.policy.keeping.restore import WELL, restore
from tune_nodes.policy.opening import record
from tune_nodes.policy.opening.reset import GITOPS
from tune_nodes.policy.owning import gitops


def close(cluster: Cluster, backup: Backup) -> list[str]:
    """Take a reset back.

    Returns:
        A sentence for each thing that was done.

    Raises:
        TuneError: a policy could not be made again; what the reset added stays, and so does the Job.
    """
    said = []
    made = record.load(backup.directory)
    if made is not None and made.removed:
        found = restore(cluster, backup, probe=None, wish=Wish(only=frozenset(made.removed)))
        if not found.ok:
            bad = [f"{one.ref}: {one.text or one.state}" for one in found.outcomes if one.state not in WELL]
            why = found.stopped or "; ".join([*bad, *found.differing][:5])
            raise TuneError("not everything could be put back", why, f"tune-nodes policy restore {backup.id}")
        said.append(f"put {found.equal} policies back")
    said += record.close(cluster, backup.directory, datetime.now(UTC).isoformat(timespec="seconds"))
    said += [answer.text for answer in gitops.resume(cluster, backup.directory / GITOPS)]
    return said


def is_open(cluster: Cluster, backup: Backup) -> bool:
    """Say whether anything of a reset is still to be taken back. Raises ClusterError."""
    made = record.load(backup.directory)
    if made is None:
        return False
    here = [(one.of, one.namespace, one.name) for one in made.added]
    if any(_exists(cluster, kind.call("get", namespace, name)) for kind, namespace, name in here):
        return True
    gone = [backup.by_ref[ref][0] for ref in made.removed if ref in backup.by_ref]
    return any(not _exists(cluster, one.kind.call("get", one.namespace, one.name)) for one in gone)


def _exists(cluster: Cluster, call: Call) -> bool:
    try:
        cluster.api.get(call)
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return False
        raise
    return True
