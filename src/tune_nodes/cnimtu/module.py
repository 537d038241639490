"""What the Ansible module tune.nodes.cni_mtu does, in plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_nodes.cluster.client import Cluster
from tune_nodes.cnimtu import service, stale
from tune_nodes.cnimtu.model import PENDING, NodeStack
from tune_nodes.cnimtu.service import Done, Look
from tune_nodes.cnimtu.stacks import stack_of
from tune_nodes.errors import TuneError
from tune_nodes.runs.store import new_run_id

_EMPTY: dict[str, Any] = {
    "changed": False,
    "cni": "",
    "settings": [],
    "refused": "",
    "faults": [],
    "restarted": [],
    "workloads": [],
    "restarted_pods": [],
    "backup": "",
    "warnings": [],
}


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Do what the module's options ask for.

    Args:
        params: see the module's documentation.
        check: write nothing.

    Returns:
        What the module returns; ``failed`` and ``msg`` where it fails, with all that was done until then.
    """
    found: dict[str, Any] = {key: list(value) if isinstance(value, list) else value for key, value in _EMPTY.items()}
    try:
        with Cluster.open(Path(params["kubeconfig"]), params["context"]) as cluster:
            _run(cluster, params, check, found)
    except TuneError as problem:
        found |= {"failed": True, "msg": str(problem)}
    return found


def _run(cluster: Cluster, params: Mapping[str, Any], check: bool, found: dict[str, Any]) -> None:
    stacks, sizes = nodes_of(params["nodes"])
    if check:  # of a play that is only looked at: its nodes would have been set before
        stacks = [replace(one, layers=tuple(replace(layer, pending=False) for layer in one.layers)) for one in stacks]
    addresses = {str(name): str(address) for name, address in params["addresses"].items()}
    look = service.look(cluster, stacks, addresses, sizes, params["delete_emptydir_data"])
    _take(look, found)
    if check:
        found["changed"] = look.plan.work or (params["restart_pods"] and _restartable(look) > 0)
        found["restarted"] = list(look.plan.restart)
        return
    done = service.carry_out(cluster, look, Path(params["backup_dir"]) / new_run_id(), lambda text: None, lambda: False)
    _done(look, done, found)
    if params["restart_pods"] and not look.plan.refused:
        pods = stale.restart(cluster.api, look.workloads, lambda text: None, lambda: False)
        found["restarted_pods"] = list(pods.done)
        found["changed"] = found["changed"] or bool(pods.done)
        if pods.failed:
            raise TuneError(f"{len(pods.failed)} pods were not made anew", "; ".join(map(": ".join, pods.failed[:3])))


def nodes_of(nodes: Mapping[str, Any]) -> tuple[list[NodeStack], dict[str, int]]:
    """Return the stacks and the stale pods of what M(tune.nodes.mtu) returned for each node (pure)."""
    stacks: list[NodeStack] = []
    sizes: dict[str, int] = {}
    for name, result in nodes.items():
        said = result if isinstance(result, Mapping) else {}
        stacks.append(stack_of(str(name), _rows(said, "changes")))
        sizes |= service.sizes_of(_rows(said, "stale_pods"))
    return stacks, sizes


def _rows(said: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = said.get(key)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _take(look: Look, found: dict[str, Any]) -> None:
    plan = look.plan
    found |= {
        "cni": plan.cni,
        "settings": [one.to_dict() for one in plan.settings],
        "refused": plan.refused,
        "faults": list(plan.faults),
        "workloads": [one.to_dict() for one in look.workloads],
        "warnings": [*look.managed, *([f"nothing was changed in the API: {plan.refused}"] if plan.refused else [])],
    }


def _done(look: Look, done: Done, found: dict[str, Any]) -> None:
    found["restarted"] = list(done.restarted)
    found["changed"] = bool(done.backup or done.restarted)
    if done.backup is not None:
        found["backup"] = str(done.backup.path.parent)
        for row in found["settings"]:
            row["status"] = "changed" if row["status"] == PENDING else row["status"]


def _restartable(look: Look) -> int:
    return sum(not one.left for workload in look.workloads for one in workload.stale)
