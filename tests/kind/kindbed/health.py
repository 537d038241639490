"""What of a cluster is not ready, from the documents that kubectl prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: DaemonSet of the network plugin -> its namespace.
AGENTS = {"flannel": ("kube-flannel", "kube-flannel-ds"), "cilium": ("kube-system", "cilium")}


def not_ready(listed: Mapping[str, Any], nodes: Sequence[str], cni: str) -> list[str]:
    """Return a sentence for each thing that is not ready, [] for a cluster that is.

    Args:
        listed: a List of nodes, pods and DaemonSets of all namespaces.
        nodes: those that the cluster must have.
        cni: whose agent must be there.
    """
    items = listed.get("items", [])
    by_kind = {kind: [item for item in items if item["kind"] == kind] for kind in ("Node", "Pod", "DaemonSet")}
    seen = {item["metadata"]["name"] for item in by_kind["Node"]}
    found = [f"node {name} has not registered" for name in nodes if name not in seen]
    found += [_of_node(item) for item in by_kind["Node"]]
    found += [_of_pod(item) for item in by_kind["Pod"]]
    sets = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in by_kind["DaemonSet"]}
    found += [_of_set(sets.get(agent), "/".join(agent), len(nodes)) for agent in (AGENTS[cni],)]
    return [sentence for sentence in found if sentence]


def from_before(listed: Mapping[str, Any], node: str, restarted: str) -> list[str]:
    """Return a sentence for each container of a node that is told of as it was before the node was restarted.

    For half a minute the API goes on calling a node and its pods ready that are long gone.

    Args:
        listed: as for :func:`not_ready`.
        node: which was restarted.
        restarted: when, as the API writes times: ``2026-01-31T12:00:00Z``.
    """
    return [
        f"container {container['name']} of {item['metadata']['name']} on {node} has not been started again"
        for item in listed.get("items", [])
        if item["kind"] == "Pod" and item.get("spec", {}).get("nodeName") == node
        for container in item.get("status", {}).get("containerStatuses", [])
        if container.get("state", {}).get("running", {}).get("startedAt", restarted) < restarted
    ]


def _condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = item.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _of_node(item: Mapping[str, Any]) -> str:
    ready = _condition(item, "Ready")
    if ready.get("status") == "True":
        return ""
    return f"node {item['metadata']['name']} is not Ready: {ready.get('message') or 'no condition yet'}"


def _of_pod(item: Mapping[str, Any]) -> str:
    status = item.get("status", {})
    if status.get("phase") == "Succeeded" or _condition(item, "Ready").get("status") == "True":
        return ""
    waiting = [
        state["waiting"].get("reason", "")
        for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
        if "waiting" in (state := container.get("state", {}))
    ]
    why = next((reason for reason in waiting if reason), "") or status.get("phase", "no status yet")
    metadata = item["metadata"]
    where = item.get("spec", {}).get("nodeName", "no node")
    return f"pod {metadata['namespace']}/{metadata['name']} on {where} is not ready: {why}"


def _of_set(item: Mapping[str, Any] | None, name: str, nodes: int) -> str:
    ready = (item or {}).get("status", {}).get("numberReady", 0)
    return "" if ready == nodes else f"DaemonSet {name}: {ready} of {nodes} pods are ready"
