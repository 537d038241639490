"""One DaemonSet whose pods are started node by node.

One that exists is set to ``OnDelete`` meanwhile, and its pods are deleted one by one. One that is made anew is kept to
the nodes whose turn has come, by a required node affinity. Its pods are the very same as without it, since the
controller puts each pod's own node there in any case (Kubernetes, pkg/controller/daemon/util/daemonset_util.go,
ReplaceDaemonSetPodNodeNameNodeAffinity). So in the end they get the final revision's label, and do not start twice.
Pods that were left running without their DaemonSet are adopted by the new one, and deleted in their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.recovery.reinstall.gate import Gate
from tune_nodes.recovery.reinstall.parts import Key, without_strategy
from tune_nodes.recovery.reinstall.plan import ROLLING

MAKING, CHANGING = "create", "change"
_HASH = "controller-revision-hash"
ON_DELETE = {"type": "OnDelete"}
_PLAIN = {"type": "RollingUpdate"}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def kept_to(body: Mapping[str, Any], nodes: Sequence[str], mark: str) -> dict[str, Any]:
    """Return a DaemonSet that is kept to some nodes, does not replace its pods by itself, and is marked (pure)."""
    spec, template = body["spec"], body["spec"]["template"]
    affinity = objects.at(template, "spec", "affinity") or {}
    node = objects.at(affinity, "nodeAffinity") or {}
    terms = objects.mappings(node, _REQUIRED, "nodeSelectorTerms") or [{}]
    kept = [
        {**term, "matchFields": [*objects.mappings(term, "matchFields"), _named(name)]}
        for name in nodes
        for term in terms
    ]
    affinity = {**affinity, "nodeAffinity": {**node, _REQUIRED: {"nodeSelectorTerms": kept}}}
    template = {**template, "spec": {**template["spec"], "affinity": affinity}}
    return held({**body, "spec": {**spec, "template": template}}, mark)


def _named(node: str) -> dict[str, Any]:
    return {"key": "metadata.name", "operator": "In", "values": [node]}


def held(body: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """Return a DaemonSet that does not replace its pods by itself, and is marked (pure)."""
    notes = {**(objects.at(body, "metadata", "annotations") or {}), ROLLING: mark}
    metadata = {**body["metadata"], "annotations": notes}
    return {**body, "metadata": metadata, "spec": {**body["spec"], "updateStrategy": ON_DELETE}}


@dataclass
class Roll:
    """One DaemonSet in progress.

    Args:
        api: the server.
        key: which.
        mode: ``create`` or ``change``.
        mark: what stands in its annotation.
        write: writes a form of it, and returns it as it is then.
        body: what it shall be in the end.
        strategy: how its pods shall be replaced in the end.
        old: node to uid of the pods that are to be replaced.
        allowed: of ``create``: the nodes whose turn has come.
        about: notes that it is written to by something else than ``write``.
    """

    api: Api
    key: Key
    mode: str
    mark: str
    write: Callable[[Mapping[str, Any]], dict[str, Any]]
    body: Mapping[str, Any]
    strategy: Mapping[str, Any]
    old: Mapping[str, str] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)
    about: Callable[[], None] = lambda: None

    # -- before the first node ---------------------------------------------------------------------------------

    def hold(self) -> dict[str, str]:
        """Keep the controller from replacing pods; return those that are there, by node."""
        if self.mode == CHANGING:
            self._patch({ROLLING: self.mark}, {**ON_DELETE, "rollingUpdate": None})
        pods = {**(self._orphans() if self.mode == MAKING else {}), **self._pods()}
        return {node: objects.text(pod, "metadata", "uid") for node, pod in pods.items()}

    def change(self) -> None:
        """Write what it shall be; its pods stay as they are."""
        if self.mode == CHANGING:
            self.write(without_strategy(self.body))

    # -- one node ----------------------------------------------------------------------------------------------

    def begin(self, node: str, gate: Gate) -> bool:
        """Have the pod of a node made anew; False where none belongs there."""
        if self.mode == MAKING:
            self.allowed = [*(one for one in self.allowed if one != node), node]
            self.write(kept_to(self.body, self.allowed, self.mark))
            gate.wait(node, lambda: "its pod has not been made" if self._undecided(node) else "")
        uid = self.old.get(node, "")
        pod = self._pod(node)
        if uid and pod is not None and objects.text(pod, "metadata", "uid") == uid:
            self._delete(pod, uid)
        return bool(uid or pod)

    def _undecided(self, node: str) -> bool:
        """Say whether the controller has not yet said whether a pod belongs on a node."""
        if self._pod(node) is not None:
            return False
        pods, item = self._pods(), self._read()
        seen, wanted = (objects.at(item, "status", name) for name in ("observedGeneration", "desiredNumberScheduled"))
        if not isinstance(wanted, int) or seen != objects.at(item, "metadata", "generation"):
            return True
        astray = objects.at(item, "status", "numberMisscheduled")
        return wanted > len(pods) - (astray if isinstance(astray, int) else 0)

    def lacking(self, node: str) -> str:
        """Return what a node's new pod still lacks, "" for nothing."""
        pod = self._pod(node)
        if pod is None:  # in its new form it may not belong on this node any more
            return f"no new pod of {self.key} has been made" if self._undecided(node) else ""
        if objects.text(pod, "metadata", "uid") == self.old.get(node):
            return f"the old pod of {self.key} has not ended"
        facts = objects.agent_facts(pod)
        return f"{self.key}: {facts.why}" if facts is not None and not facts.ready else ""

    def restarts(self, node: str) -> int:
        """Return how often containers of a node's pod were started anew."""
        pod = self._pod(node)
        counts = [one.get("restartCount") for one in objects.mappings(pod, "status", "containerStatuses")]
        return sum(count for count in counts if isinstance(count, int))

    # -- after the last node -----------------------------------------------------------------------------------

    def finish(self, gate: Gate) -> dict[str, Any]:
        """Let go of it: no mark, no node kept out, its own strategy; return it as it is then."""
        if self.mode == MAKING:
            self.write(held(self.body, self.mark))
            gate.wait(str(self.key), lambda: "" if self._revision() else "its controller has not seen its last form")
            self._relabel(self._revision())
        else:
            wanted = {"rollingUpdate": None, **self.strategy}
            self.about()
            self._patch({ROLLING: None}, wanted)
        return self.write(self.body)

    def _revision(self) -> str:
        """Return the hash of the newest revision, if that is what the DaemonSet says now; else ""."""
        item = self._read()
        if objects.at(item, "status", "observedGeneration") != objects.at(item, "metadata", "generation"):
            return ""
        call = Call("list", "controllerrevisions", "apps", self.key.namespace)
        mine = [one for one in self.api.items(call) if _is_of(one, objects.text(item, "metadata", "uid"))]
        newest = max(mine, key=_number, default=None)
        path = ("spec", "template", "spec", "affinity")
        if newest is None or objects.at(newest, "data", *path) != objects.at(item, *path):
            return ""
        return objects.text(newest, "metadata", "labels", _HASH, limit=63)

    def _relabel(self, hash: str) -> None:
        for pod in self._pods().values():
            uid, name = objects.text(pod, "metadata", "uid"), objects.name_of(pod)
            if objects.text(pod, "metadata", "labels", _HASH) == hash or uid in self.old.values():
                continue  # an old one may be left on a node whose kubelet is silent
            call = Call("patch", "pods", namespace=self.key.namespace, name=name)
            try:
                self.api.patch(call, {"metadata": {"uid": uid, "labels": {_HASH: hash}}})
            except ClusterError as problem:
                if problem.code not in (NOT_FOUND, CONFLICT):  # gone meanwhile: the controller makes it anew
                    raise

    # -- the server --------------------------------------------------------------------------------------------

    def _call(self, verb: str) -> Call:
        return Call(verb, "daemonsets", "apps", self.key.namespace, self.key.name)

    def _read(self) -> dict[str, Any]:
        return self.api.get(self._call("get"))

    def _there(self) -> dict[str, Any]:
        """Return it as it is, {} where it is not there (yet)."""
        try:
            return self._read()
        except ClusterError as problem:
            if problem.code != NOT_FOUND:
                raise
            return {}

    def _patch(self, notes: Mapping[str, Any], strategy: Mapping[str, Any]) -> None:
        body = {"metadata": {"annotations": notes}, "spec": {"updateStrategy": strategy}}
        self.api.patch(self._call("patch"), body)

    def _pod(self, node: str) -> Mapping[str, Any] | None:
        """Return its pod on a node: a namespace may hold a thousand others."""
        return self._pods({"fieldSelector": f"spec.nodeName={node}"}).get(node)

    def _pods(self, query: Mapping[str, str] | None = None) -> dict[str, Mapping[str, Any]]:
        """Return its pods by node; of two on one node the one that is not going."""
        uid = objects.text(self._there(), "metadata", "uid")
        items = self.api.items(Call("list", "pods", namespace=self.key.namespace), query)
        return by_node(item for item in items if _is_of(item, uid))

    def _orphans(self) -> dict[str, Mapping[str, Any]]:
        """Return pods, by node, that the DaemonSet will adopt: they were left running when an older one was deleted."""
        labels = objects.at(self.body, "spec", "selector", "matchLabels")
        if not isinstance(labels, Mapping) or not labels:
            return {}
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
        items = self.api.items(Call("list", "pods", namespace=self.key.namespace), query)
        return by_node(
            item
            for item in items
            if objects.controller_of(item) is None and not objects.text(item, "metadata", "deletionTimestamp")
        )

    def _delete(self, pod: Mapping[str, Any], uid: str) -> None:
        call = Call("delete", "pods", namespace=self.key.namespace, name=objects.name_of(pod))
        try:
            self.api.delete(call, uid)
        except ClusterError as problem:
            if problem.code not in (NOT_FOUND, CONFLICT):
                raise


def by_node(pods: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return pods by node; of two on one node the one that is not going (pure)."""
    found: dict[str, Mapping[str, Any]] = {}
    for pod in pods:
        node = objects.text(pod, "spec", "nodeName")
        if node and (node not in found or not objects.text(pod, "metadata", "deletionTimestamp")):
            found[node] = pod
    return found


def final_strategy(body: Mapping[str, Any], before: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return how pods shall be replaced in the end: as is wanted, else as it was, else as by default (pure)."""
    for one in (body, before):
        found = objects.at(one, "spec", "updateStrategy")
        if isinstance(found, Mapping) and found:
            return found
    return _PLAIN


def _is_of(item: Any, uid: str) -> bool:
    owner = objects.controller_of(item)
    return bool(uid) and owner is not None and owner.get("uid") == uid


def _number(revision: Mapping[str, Any]) -> int:
    found = objects.at(revision, "revision")
    return found if isinstance(found, int) else 0
