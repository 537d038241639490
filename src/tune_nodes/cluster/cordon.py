"""Closing a node for new pods and opening it again. What somebody else closed is never opened."""

from __future__ import annotations

from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError

#: How often a patch is tried when the object changed meanwhile; a kubelet writes its Node every few seconds.
TRIES = 5


def _read(api: Api, node: str) -> dict[str, Any]:
    return api.get(Call("get", "nodes", name=node))


def _patch(api: Api, node: str, item: dict[str, Any], run: str | None, closed: bool | None) -> bool:
    """Set our annotation and the mark in one patch, if the object is still as it was read; False where it is not."""
    metadata = {
        "resourceVersion": objects.text(item, "metadata", "resourceVersion"),
        "annotations": {objects.CORDONED_BY: run},
    }
    try:
        api.patch(Call("patch", "nodes", name=node), {"metadata": metadata, "spec": {"unschedulable": closed}})
    except ClusterError as problem:
        if problem.code != CONFLICT:
            raise
        return False
    return True


def cordon(api: Api, node: str, run: str) -> bool:
    """Close a node for new pods, marked as this run's.

    Returns:
        True: this run closed it, now or before. False: it was closed already, by somebody else.

    Raises:
        ClusterError: among others with code conflict, where the object changed at every try.
    """
    for _ in range(TRIES):
        item = _read(api, node)
        if objects.is_cordoned(item):
            return objects.cordoned_by(item) == run
        if _patch(api, node, item, run, True):
            return True
    raise _too_busy(node)


def uncordon(api: Api, node: str, run: str) -> bool:
    """Open a node that this run closed.

    Returns:
        True: opened. False: it was open, or another closed it, or the Node is gone.

    Raises:
        ClusterError: it stays closed.
    """
    for _ in range(TRIES):
        try:
            item = _read(api, node)
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return False
            raise
        if objects.cordoned_by(item) != run:
            return False
        if _patch(api, node, item, None, None):
            return True
    raise _too_busy(node)


def _too_busy(node: str) -> ClusterError:
    return ClusterError(
        CONFLICT,
        f"the Node {node} could not be changed",
        f"something else wrote to it each of {TRIES} times",
        f"kubectl get node {node} --show-managed-fields -o yaml",
    )
