"""Moving a node's pods away by the Eviction API, which keeps PodDisruptionBudgets; the rules are kubectl's.

https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, SERVER, UNREACHABLE, ClusterError
from tune_nodes.cluster.model import Blocked, Drained
from tune_nodes.cluster.refusals import Refused

#: Seconds between two looks at what is left, and between two evictions that a budget refuses.
LOOK = 1.0
RETRY = 5.0
_MIRROR = "kubernetes.io/config.mirror"
_SEVERAL_BUDGETS = "more than one PodDisruptionBudget"


@dataclass(frozen=True)
class Pod:
    """A pod that a drain has to do with."""

    uid: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def fate(item: Mapping[str, Any], *, force: bool, delete_emptydir: bool) -> Literal["leave", "evict"] | str:
    """Say what a drain does with a pod (pure): "leave", "evict", or the reason why it must not be evicted.

    Left alone are pods of DaemonSets (they come back at once), mirror pods (the kubelet's own) and finished ones.
    """
    if objects.at(item, "metadata", "annotations", _MIRROR) is not None:
        return "leave"
    if objects.text(item, "status", "phase") in ("Succeeded", "Failed") or objects.daemonset_of(item):
        return "leave"
    if objects.text(item, "metadata", "deletionTimestamp"):
        return "evict"  # it is on its way already: only waited for
    if objects.controller_of(item) is None and not force:
        return "nothing would start it elsewhere: no controller owns it"
    volumes = objects.mappings(item, "spec", "volumes")
    local = [objects.text(one, "name") or "a volume" for one in volumes if one.get("emptyDir") is not None]
    if local and not delete_emptydir:
        return f"what it keeps on this node would be lost: emptyDir {', '.join(local[:3])}"
    return "evict"


def sort(
    items: Iterable[Mapping[str, Any]], *, force: bool, delete_emptydir: bool
) -> tuple[dict[str, Pod], tuple[Blocked, ...]]:
    """Return the pods to move by uid, and those that are in the way (pure)."""
    moving, blocked = {}, []
    for item in items:
        pod = Pod(
            objects.text(item, "metadata", "uid"), objects.text(item, "metadata", "namespace"), objects.name_of(item)
        )
        said = fate(item, force=force, delete_emptydir=delete_emptydir)
        if said == "evict" and pod.uid and pod.name and pod.namespace:
            moving[pod.uid] = pod
        elif said == "evict":
            blocked.append(Blocked(str(pod), "the API server does not say what it is"))
        elif said != "leave":
            blocked.append(Blocked(str(pod), said))
    return moving, tuple(blocked)


def pods_on(api: Api, node: str, namespace: str = "") -> list[dict[str, Any]]:
    """Return the pods of a node."""
    return list(api.items(Call("list", "pods", namespace=namespace), {"fieldSelector": f"spec.nodeName={node}"}))


def evict(api: Api, pod: Pod, grace: int | None = None) -> str:
    """Ask once for a pod to go.

    Args:
        api: the server.
        pod: the pod; another of its name that was started meanwhile is not meant.
        grace: seconds it gets to end; None: its own.

    Returns:
        "" where it goes or is gone, else why not now: a budget's words, as a rule.

    Raises:
        ClusterError: pods cannot be evicted at all.
    """
    options: dict[str, Any] = {"preconditions": {"uid": pod.uid}}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": options,
    }
    try:
        api.post(Call("create", "pods/eviction", namespace=pod.namespace, name=pod.name), body)
    except ClusterError as problem:
        if problem.code in (NOT_FOUND, CONFLICT):
            return ""  # it is gone, or another has its name
        if problem.code not in (SERVER, UNREACHABLE) and not _terminating(problem):
            raise
        return _said(problem)
    return ""


class _Drain:
    """One drain under way: what is left, what was asked to go, and what was said about the rest."""

    def __init__(self, api: Api, node: str, moving: Mapping[str, Pod], grace: int | None) -> None:
        self._api = api
        self._node = node
        self._grace = grace
        self.left = dict(moving)
        self._asked: set[str] = set()
        self._refused: dict[str, str] = {}
        self._next: dict[str, float] = {}
        self.evicted = 0

    def step(self, cancelled: Callable[[], bool]) -> None:
        """Ask for each pod that may be asked for, then see which are gone."""
        for uid, pod in list(self.left.items()):
            if cancelled():
                return
            if uid not in self._asked and time.monotonic() >= self._next.get(uid, 0.0):
                self._evict(uid, pod)
        there = {objects.text(item, "metadata", "uid") for item in pods_on(self._api, self._node)}
        for uid in [uid for uid in self.left if uid not in there]:
            del self.left[uid]
            self.evicted += 1

    def _evict(self, uid: str, pod: Pod) -> None:
        refused = evict(self._api, pod, self._grace)
        if refused:
            self._refused[uid] = refused
            self._next[uid] = float("inf") if _SEVERAL_BUDGETS in refused else time.monotonic() + RETRY
            return
        self._refused.pop(uid, None)
        self._asked.add(uid)

    @property
    def hopeless(self) -> bool:
        """Whether all that is left are pods that the server will never evict."""
        return bool(self.left) and all(self._next.get(uid) == float("inf") for uid in self.left)

    def result(self, cancelled: bool) -> Drained:
        """Return how it stands."""
        blocked = [Blocked(str(pod), self._refused[uid]) for uid, pod in self.left.items() if uid in self._refused]
        left = [str(pod) for uid, pod in self.left.items() if uid not in self._refused]
        return Drained(self.evicted, tuple(blocked), tuple(left), cancelled)


def _terminating(problem: ClusterError) -> bool:
    """Say whether the pod's whole namespace is being deleted: its pods go by themselves."""
    return isinstance(problem, Refused) and "NamespaceTerminating" in problem.reasons


def _said(problem: ClusterError) -> str:
    """Return a refusal in the server's words; of a budget those that say how many pods it wants."""
    if isinstance(problem, Refused):
        budget = [word for word in problem.reasons if "disruption budget" in word.lower()]
        return budget[0] if budget else problem.message or problem.why
    return f"{problem.what}: {problem.why}"


def drain(
    api: Api,
    node: str,
    timeout: float,
    cancelled: Callable[[], bool],
    grace: int | None = None,
    *,
    force: bool = False,
    delete_emptydir: bool = False,
) -> Drained:
    """Move a node's pods away and wait until they are gone. The node should be closed before.

    Nothing is evicted where a pod must not be (see ``fate``). An eviction that a PodDisruptionBudget refuses is asked
    for again until the time is over.

    Args:
        api: the server.
        node: Node object's name.
        timeout: seconds for all of it.
        cancelled: asked between the steps.
        grace: seconds a pod gets to end; None: its own.
        force: also pods that nothing starts again.
        delete_emptydir: also pods with an emptyDir.

    Raises:
        ClusterError: pods cannot be read or not be evicted at all.
    """
    moving, blocked = sort(pods_on(api, node), force=force, delete_emptydir=delete_emptydir)
    if blocked:
        return Drained(blocked=blocked)
    work = _Drain(api, node, moving, grace)
    deadline = time.monotonic() + timeout
    while work.left:
        if cancelled():
            return work.result(cancelled=True)
        work.step(cancelled)
        if work.hopeless or time.monotonic() >= deadline:
            break
        if work.left:
            time.sleep(LOOK)
    return work.result(cancelled=False)
