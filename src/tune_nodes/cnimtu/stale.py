"""Pods that keep an old MTU, by the workload that would make them anew; and restarting only those."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import drain, objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.drain import Pod

#: Seconds for one pod: to be let go by its budget, to end, and for its successor to be ready.
LIMIT = 300.0
LOOK = 0.5
RETRY = 5.0
_HASH = "pod-template-hash"


@dataclass(frozen=True)
class Mine:
    """One pod as the API has it.

    Args:
        pod: uid, namespace and name.
        kind: of the workload: "Deployment", "DaemonSet" ...; "Pod" for one without a controller.
        workload: its name.
        controller: uid of what makes the pod anew, "" for nothing.
        ready: whether it is.
        left: why it is not restarted, "" where it is.
    """

    pod: Pod
    kind: str
    workload: str
    controller: str
    ready: bool
    left: str


@dataclass(frozen=True)
class Workload:
    """A workload with pods on an old MTU.

    Args:
        namespace: of it.
        kind: "Deployment".
        name: of it.
        stale: its pods on an old MTU.
        of: all of its pods.
        sizes: the MTUs that those have, in bytes.
    """

    namespace: str
    kind: str
    name: str
    stale: tuple[Mine, ...]
    of: int
    sizes: tuple[int, ...] = ()

    @property
    def left(self) -> str:
        """Why some of them are not restarted, "" where all are."""
        return next((one.left for one in self.stale if one.left), "")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind} {self.name}: {len(self.stale)} of {self.of} pods"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "namespace": self.namespace,
            "kind": self.kind,
            "name": self.name,
            "stale": [one.pod.name for one in self.stale],
            "pods": self.of,
            "mtu": list(self.sizes),
            "left": self.left,
        }


def mine(item: Mapping[str, Any], delete_emptydir: bool = False) -> Mine | None:
    """Return what counts of a pod (pure); None for one that is over, or that the API does not name."""
    pod = Pod(objects.text(item, "metadata", "uid"), objects.text(item, "metadata", "namespace"), objects.name_of(item))
    if not (pod.uid and pod.namespace and pod.name) or objects.text(item, "status", "phase") in ("Succeeded", "Failed"):
        return None
    owner = objects.controller_of(item) or {}
    kind, name = objects.text(owner, "kind", limit=80), objects.text(owner, "name")
    digest = objects.text(item, "metadata", "labels", _HASH)
    if kind == "ReplicaSet" and digest and name.endswith(f"-{digest}"):
        kind, name = "Deployment", name.removesuffix(f"-{digest}")
    conditions = objects.mappings(item, "status", "conditions")
    return Mine(
        pod,
        kind or "Pod",
        name or pod.name,
        objects.text(owner, "uid"),
        any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions),
        _left(item, kind, delete_emptydir),
    )


def _left(item: Mapping[str, Any], kind: str, delete_emptydir: bool) -> str:
    """Return why a pod is not restarted, "" where it is."""
    if not kind:
        return "no controller would make it anew: delete and make it by hand"
    if kind == "Node":
        return "a static pod: its kubelet makes it, restart it on its node"
    if kind == "Job":
        return "its Job would begin again: it is left to end"
    if kind == "DaemonSet":
        return "" if delete_emptydir or not _local(item) else _lost(item)
    said = drain.fate(item, force=False, delete_emptydir=delete_emptydir)
    return "" if said in ("evict", "leave") else said


def _local(item: Mapping[str, Any]) -> list[str]:
    volumes = objects.mappings(item, "spec", "volumes")
    return [objects.text(one, "name") or "a volume" for one in volumes if one.get("emptyDir") is not None]


def _lost(item: Mapping[str, Any]) -> str:
    return f"what it keeps on this node would be lost: emptyDir {', '.join(_local(item)[:3])}"


def workloads(items: Iterable[Mapping[str, Any]], sizes: Mapping[str, int], delete_emptydir: bool) -> list[Workload]:
    """Sort stale pods by workload (pure).

    Args:
        items: pods as the API has them; each but once counts.
        sizes: uid to MTU of the stale ones, as their nodes say.
        delete_emptydir: whether those that keep data in an emptyDir are restarted too.
    """
    groups: dict[tuple[str, str, str], dict[str, Mine]] = {}
    for item in items:
        one = mine(item, delete_emptydir)
        if one is not None:
            groups.setdefault((one.pod.namespace, one.kind, one.workload), {})[one.pod.uid] = one
    found = []
    for (namespace, kind, name), pods in sorted(groups.items()):
        stale = tuple(pod for uid, pod in sorted(pods.items()) if uid in sizes)
        if stale:
            have = tuple(sorted({sizes[pod.pod.uid] for pod in stale}))
            found.append(Workload(namespace, kind, name, stale, len(pods), have))
    return found


def find(api: Api, sizes: Mapping[str, int], delete_emptydir: bool = False) -> list[Workload]:
    """Return the workloads of stale pods. Raises ClusterError where pods cannot be listed."""
    return workloads(api.items(Call("list", "pods")), sizes, delete_emptydir) if sizes else []


@dataclass(frozen=True)
class Restarted:
    """What became of a restart: pods that are new ("namespace/name"), and those that are not, with the reason."""

    done: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def restart(
    api: Api,
    found: Sequence[Workload],
    say: Callable[[str], None],
    cancelled: Callable[[], bool],
    limit: float = LIMIT,
) -> Restarted:
    """Evict stale pods one by one; the next of a workload only when it has as many ready pods again as before.

    A workload that does not get there is left alone from then on; the next one is gone on with.

    Args:
        api: the server.
        found: see :func:`find`.
        say: is told of each pod that is done.
        cancelled: asked between two pods.
        limit: seconds for each pod.

    Raises:
        ClusterError: pods cannot be read or evicted at all.
    """
    done: list[str] = []
    failed: list[tuple[str, str]] = []
    for workload in found:
        for one in workload.stale:
            if one.left:
                continue
            if cancelled():
                return Restarted(tuple(done), tuple(failed))
            why = _restart(api, one, limit)
            if why:
                failed.append((str(one.pod), why))
                say(f"{one.pod}: {why}; the rest of {workload.kind} {workload.name} is left as it is")
                break
            done.append(str(one.pod))
            say(f"{one.pod}: made anew ({workload.kind} {workload.name})")
    return Restarted(tuple(done), tuple(failed))


def _restart(api: Api, one: Mine, limit: float) -> str:
    """Have one pod made anew. Returns why it was not, "" where it was."""
    before = _siblings(api, one)
    if one.pod.uid not in before:
        return ""  # it went by itself
    wanted, known = sum(before.values()), set(before)
    until, asked, why = time.monotonic() + limit, False, ""
    again = 0.0
    while time.monotonic() < until:
        if not asked and time.monotonic() >= again:
            why = drain.evict(api, one.pod)
            asked, again = not why, time.monotonic() + RETRY
        if asked:
            now = _siblings(api, one)
            ready = sum(now.values())
            why = f"{ready} of {wanted} pods of its workload are ready {limit:g} s later"
            if one.pod.uid not in now and set(now) - known and ready >= wanted:
                return ""
        time.sleep(LOOK)
    return why


def _siblings(api: Api, one: Mine) -> dict[str, bool]:
    """Return uid and readiness of all pods of a pod's controller."""
    pods = (mine(item) for item in api.items(Call("list", "pods", namespace=one.pod.namespace)))
    return {pod.pod.uid: pod.ready for pod in pods if pod is not None and pod.controller == one.controller}
