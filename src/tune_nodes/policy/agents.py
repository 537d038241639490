"""Whether the agents run that make rules of policies: without its agent, a node's rules stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tune_nodes.cluster import cni
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import FORBIDDEN, ClusterError
from tune_nodes.cluster.objects import daemonset_of, mappings, text
from tune_nodes.fleet.untrusted import one_line

Named = Mapping[tuple[str, str], str]  # (namespace, DaemonSet) to "cilium v1.20.2"


def trouble(api: Api, nodes: Collection[str]) -> list[str]:
    """Return a sentence for each of some nodes whose agent does not run, or is not ready; [] also where none is known.

    Raises:
        ClusterError: the server failed. Where DaemonSets or pods may not be listed, nothing is said.
    """
    try:
        agents = cni.of_daemonsets(api.items(Call("list", "daemonsets", "apps")))
        networks = {key: label for key, label in agents.items() if label.partition(" ")[0] not in cni.HELPERS}
        spaces = sorted({namespace for namespace, _ in networks})
        pods = [pod for space in spaces for pod in api.items(Call("list", "pods", namespace=space))]
    except ClusterError as problem:
        if problem.code != FORBIDDEN:
            raise
        return []
    return said(networks, pods, nodes)


def said(agents: Named, pods: Iterable[Mapping[str, Any]], nodes: Collection[str]) -> list[str]:
    """Return the sentences (pure).

    Args:
        agents: the DaemonSets of the cluster's networks.
        pods: those of their namespaces.
        nodes: the nodes that matter.
    """
    found: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = {node: {} for node in nodes}
    for pod in pods:
        key, node = (text(pod, "metadata", "namespace"), daemonset_of(pod)), text(pod, "spec", "nodeName")
        if key in agents and node in found:
            found[node].setdefault(key, []).append(pod)
    sentences = []
    for node, mine in sorted(found.items()):
        if agents and not mine:  # one of several may be meant for other nodes
            sentences.append(f"no agent of {', '.join(sorted(set(agents.values())))} runs on {node}")
        sentences += [
            f"the agent {text(some[0], 'metadata', 'name')} on {node} is not ready"
            for some in mine.values()
            if not any(_ready(pod) for pod in some)
        ]
    return [f"{one_line(sentence, 200)}: rules stay there as they are, whatever policies say" for sentence in sentences]


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = mappings(pod, "status", "conditions")
    return any(text(one, "type") == "Ready" and text(one, "status") == "True" for one in conditions)
