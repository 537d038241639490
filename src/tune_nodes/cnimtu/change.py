"""Changing the CNI's MTU in the API, and taking it back. What was read is stored before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, ClusterError
from tune_nodes.cluster.objects import at, text
from tune_nodes.cnimtu import backup
from tune_nodes.cnimtu.backup import Backup, Saved
from tune_nodes.cnimtu.model import CniPlan, Held
from tune_nodes.cnimtu.values import merged
from tune_nodes.errors import TuneError
from tune_nodes.policy.owning.owners import of_object

#: The API group of each kind: a GitOps tool names an object by it.
_GROUPS = {"ConfigMap": "", "Installation": "operator.tigera.io", "FelixConfiguration": "crd.projectcalico.org"}


def patches(plan: CniPlan) -> list[Saved]:
    """Return one patch for each object that a plan changes."""
    found: dict[str, Saved] = {}
    for one in plan.pending:
        known = found.get(one.held.ref)
        found[one.held.ref] = Saved(one.held, merged(known.patch if known else {}, one.patch))
    return list(found.values())


def others(plan: CniPlan) -> list[str]:
    """Return a sentence for each program that manages an object which would be changed, and may write it back."""
    return [
        f"{saved.held.ref}: {owner.text}; change it there as well"
        for saved in patches(plan)
        for owner in of_object(saved.held.raw, _GROUPS.get(saved.held.kind, ""), saved.held.kind)
    ]


def carry_out(api: Api, plan: CniPlan, directory: Path) -> Backup | None:
    """Store the objects and change them.

    Args:
        api: the server.
        plan: what to change.
        directory: of the backup, made where it is not there.

    Returns:
        The backup; None where no object had to change.

    Raises:
        TuneError: an object was changed by somebody else since it was read (nothing of it was written), or does not
            hold what was written.
    """
    todo = patches(plan)
    if not todo:
        return None
    made = backup.write(directory, api.server, plan.cni, todo)
    for saved in made.saved:
        _patch(api, saved.held, saved.patch, text(saved.held.raw, "metadata", "resourceVersion"), made.path)
    return made


def undo(api: Api, made: Backup) -> list[str]:
    """Take a change back, field by field, where the object still holds what was written.

    Returns:
        What was put back: objects.

    Raises:
        TuneError: another server's backup; or a field was changed since, and nothing of that object was written.
    """
    if made.server != api.server:
        raise TuneError(
            f"the backup {made.path} is of another cluster", f"it is of {made.server}, this is {api.server}"
        )
    done = []
    for saved in made.saved:
        now = api.get(saved.held.call)
        if all(at(now, *path) == value for path, value in backup.leaves(saved.undo)):
            continue
        foreign = [path for path, value in backup.leaves(saved.patch) if at(now, *path) != value]
        if foreign:
            raise TuneError(
                f"{saved.held.ref} was changed since",
                f"{'.'.join(foreign[0])} is not what was written then; it was left alone",
                f"compare it with {made.path}, and put it back by hand",
            )
        _patch(api, saved.held, saved.undo, text(now, "metadata", "resourceVersion"), made.path)
        done.append(saved.held.ref)
    return done


def _patch(api: Api, held: Held, patch: Mapping[str, Any], version: str, kept: Path) -> None:
    """Patch one object as it was read, and read it back."""
    call = Call("patch", held.call.resource, held.call.group, held.call.namespace, held.call.name, held.call.version)
    try:
        api.patch(call, merged(patch, {"metadata": {"resourceVersion": version}}))
    except ClusterError as problem:
        if problem.code == CONFLICT:
            raise TuneError(
                f"{held.ref} was changed by somebody else meanwhile", "nothing of it was written", "try again"
            ) from problem
        raise
    now = api.get(held.call)
    lost = [path for path, value in backup.leaves(patch) if at(now, *path) != value]
    if lost:
        raise TuneError(
            f"{held.ref} does not hold what was written",
            f"{'.'.join(lost[0])} reads otherwise: somebody writes it back",
            f"find out who manages it; as it was: {kept}",
        )
