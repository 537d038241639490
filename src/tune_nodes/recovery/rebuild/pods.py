"""The pods of a node that a rebuild has to do with, in the API: whose network goes, who lives on, who is the agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import cni, objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.drain import Pod, pods_on
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.errors import TuneError

LOOK = 0.5
#: Seconds until a new agent is ready: its image is there, but its init containers have to run.
AGENT = 180.0
_MIRROR = "kubernetes.io/config.mirror"
_OVER = ("Succeeded", "Failed")
#: Canal is Flannel for the packets and Calico for the policies, in one agent.
_ALSO = {"canal": ("flannel", "calico")}


@dataclass(frozen=True)
class Agent:
    """A pod of the CNI's DaemonSet. ``ending``: it is being deleted."""

    pod: Pod
    ready: bool
    ending: bool


def _pod(item: Mapping[str, Any]) -> Pod:
    uid = objects.text(item, "metadata", "uid")
    return Pod(uid, objects.text(item, "metadata", "namespace"), objects.name_of(item))


def _own_network(item: Mapping[str, Any]) -> bool:
    return objects.at(item, "spec", "hostNetwork") is not True and objects.text(item, "status", "phase") not in _OVER


def host_uids(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the uids of the pods that use the node's own network and live on (pure).

    The runtime knows a static pod by the hash of its manifest, which its mirror in the API carries.
    """
    found: set[str] = set()
    for item in items:
        if not _own_network(item):
            found |= {
                objects.text(item, "metadata", "uid"),
                objects.text(item, "metadata", "annotations", _MIRROR, limit=120),
            }
    return sorted(found - {""})


def with_network(items: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Pod, bool]]:
    """Return, by uid, the pods that have or may have a network of their own, and whether they are on their way (pure).

    One that only waits for its sandbox has none, and gets none while the fence is up.

    Raises:
        TuneError: one of them is static: nothing but its manifest on the node ends it.
    """
    found = {}
    for item in items:
        ending = bool(objects.text(item, "metadata", "deletionTimestamp"))
        addresses = objects.text(item, "status", "podIP") or objects.mappings(item, "status", "podIPs")
        if not _own_network(item) or not (ending or addresses or objects.text(item, "status", "phase") == "Running"):
            continue
        pod = _pod(item)
        if objects.at(item, "metadata", "annotations", _MIRROR) is not None:
            raise TuneError(
                f"the static pod {pod} has a network of its own",
                "the API server cannot end it",
                "move its manifest away on the node, then run again",
            )
        found[pod.uid] = (pod, ending)
    return found


def agents(items: Sequence[Mapping[str, Any]], name: str) -> list[Agent]:
    """Return the pods of a CNI's agent among a node's pods (pure).

    Args:
        items: the node's pods.
        name: the CNI, as the node calls it.
    """
    owned = [item for item in items if objects.daemonset_of(item)]
    labels = cni.of_daemonsets(owned)
    wanted = (name, "canal", *_ALSO.get(name, ()))
    found = []
    for item in owned:
        label = labels.get((objects.text(item, "metadata", "namespace"), objects.daemonset_of(item)), "")
        facts = objects.agent_facts(item)
        if facts is not None and label.partition(" ")[0] in wanted:
            ending = bool(objects.text(item, "metadata", "deletionTimestamp"))
            found.append(Agent(_pod(item), facts.ready, ending))
    return found


def delete(api: Api, pod: Pod) -> None:
    """Delete a pod, and only this one. Raises ClusterError where it cannot be; gone or replaced is no error."""
    try:
        api.delete(Call("delete", "pods", namespace=pod.namespace, name=pod.name), uid=pod.uid)
    except ClusterError as problem:
        if problem.code not in (NOT_FOUND, CONFLICT):
            raise


def _wait(true: Callable[[], bool], limit: float, stopped: Callable[[], bool]) -> bool:
    """Return whether something came true in time; False too where a person stopped it."""
    until = time.monotonic() + limit
    while not true():
        if time.monotonic() >= until or stopped():
            return False
        time.sleep(LOOK)
    return True


def end_all(api: Api, node: str, limit: float, stopped: Callable[[], bool]) -> None:
    """Delete every pod of a node that has a network of its own, and wait until they are gone: DEL has run then.

    Raises:
        TuneError: they are not gone in time; which.
    """
    left: dict[str, tuple[Pod, bool]] = {}

    def gone() -> bool:
        left.clear()
        left.update(with_network(pods_on(api, node)))
        for pod, ending in left.values():
            if not ending:
                delete(api, pod)
        return not left

    if not _wait(gone, limit, stopped):
        names = ", ".join(sorted(str(pod) for pod, _ in left.values())[:5])
        why = f"after {limit:g} s still there: {names}"
        raise TuneError("pods of the node do not end", why, "kubectl describe pod: a finalizer, or a DEL that fails")


def replace_agent(api: Api, node: str, name: str, old: Sequence[str], stopped: Callable[[], bool]) -> None:
    """Delete the agent's pods that were stopped, and wait until another one is ready.

    Args:
        api: the server.
        node: Node object's name.
        name: the CNI.
        old: uids of the pods that were stopped.
        stopped: asked while waiting.

    Raises:
        TuneError: none is ready in time.
    """
    there: list[Agent] = []

    def ready() -> bool:
        there[:] = agents(pods_on(api, node), name)
        for agent in there:
            if agent.pod.uid in old and not agent.ending:
                delete(api, agent.pod)
        return any(agent.ready and agent.pod.uid not in old for agent in there)

    if not _wait(ready, AGENT, stopped):
        names = ", ".join(str(agent.pod) for agent in there[:3]) or "it has no pod here"
        raise TuneError(
            f"the agent of {name} is not ready on this node", f"after {AGENT:g} s: {names}", "look at its log"
        )
