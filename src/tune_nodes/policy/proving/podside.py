"""Connections made by a probe pod in the source's place, where its node cannot be asked: made, read, removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import text
from tune_nodes.cluster.refusals import Refused
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy import permissions
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.keeping.document import KindRow
from tune_nodes.policy.model import Kind, Pod, Snapshot
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.opening.record import Added
from tune_nodes.policy.opening.reset import Done
from tune_nodes.policy.proving import probepod
from tune_nodes.policy.proving.proof import Proof
from tune_nodes.policy.surroundings import pod_of

#: Seconds for a probe pod to start, connect and end.
LIMIT = probepod.SECONDS + 15.0
LOOK = 0.3
PODS = Kind("", "v1", "pods", "Pod", True, "kubernetes")


@dataclass(frozen=True)
class Stand:
    """What a probe pod stands on.

    Args:
        cluster: where.
        done: the reset that is proved; its record names each probe pod before it is there.
        image: of the pods.
        sleep: waits some seconds.
    """

    cluster: Cluster
    done: Done
    image: str
    sleep: Callable[[float], None] = time.sleep

    @property
    def after(self) -> Snapshot:
        """The cluster as it is judged to be since the reset."""
        rung = self.done.plan.rung
        return self.done.plan.snapshot.without([one.ref for one in rung.removes]).plus(rung.adds)


def tried(stand: Stand, flows: Sequence[Flow]) -> list[Proof]:
    """Let a probe pod for each source make its connections; what it cannot is said in each proof."""
    found: dict[Flow, Proof] = {}
    sources = dict.fromkeys(flow.source for flow in flows if isinstance(flow.source, Pod))
    for number, source in enumerate(sources):
        mine = [flow for flow in flows if flow.source == source]
        found |= dict(zip(mine, _of(stand, source, mine, number), strict=True))
    return [found[flow] for flow in flows]


def _of(stand: Stand, source: Pod, flows: Sequence[Flow], number: int) -> list[Proof]:
    try:
        why = _unfit(stand.cluster, source)
        return [Proof(None, f"{flow}: {why}") for flow in flows] if why else _run(stand, source, flows, number)
    except ClusterError as problem:
        why = f"no probe pod could try it: {problem.what}{f': {problem.why}' if problem.why else ''}"
        return [Proof(None, f"{flow}: {why}") for flow in flows]


def _unfit(cluster: Cluster, source: Pod) -> str:
    """Return why no probe pod can stand for a pod, "" where one can. Raises ClusterError."""
    if source.host_network:
        return "its source has its node's network, which a probe pod cannot stand for"
    if not source.uid or not source.node:
        return "its source runs nowhere"
    calls = [Call(verb, "pods", namespace=source.namespace) for verb in ("create", "get", "delete")]
    lacking = permissions.missing_calls(cluster, [*calls, Call("list", "services", namespace=source.namespace)])
    if lacking:
        return f"no probe pod: {cluster.user or 'the user of this context'} may not {'; '.join(lacking)}"
    services = list(cluster.api.items(Call("list", "services", namespace=source.namespace)))
    service = probepod.taken_by(source, services)
    return f"the service {service} takes pods that are not ready, so it would take a probe pod too" if service else ""


def _run(stand: Stand, source: Pod, flows: Sequence[Flow], number: int) -> list[Proof]:
    """Have a probe pod, and remove it whatever happens. Raises ClusterError."""
    name = f"tune-nodes-probe-{stand.done.backup.id}-{number}"
    body = probepod.manifest(source, flows, stand.image, stand.done.backup.id, name)
    note = Added(kind=KindRow.of(PODS), namespace=source.namespace, name=name)
    _noted(stand, [note])
    try:
        made = stand.cluster.api.post(PODS.call("create", source.namespace), body)
    except Refused:
        _noted(stand, [])
        raise
    try:
        if other := probepod.added_to(made):
            why = f"{one_line(other, 80)} was put into the probe pod {source.namespace}/{name}: it proves nothing"
            return [Proof(None, f"{flow}: {why}") for flow in flows]
        ended = _ended(stand, source.namespace, name)
    finally:
        _remove(stand.cluster, source.namespace, name, text(made, "metadata", "uid"))
        _noted(stand, [])
    return _proofs(stand, source, flows, ended, f"{source.namespace}/{name}")


def _noted(stand: Stand, pods: list[Added]) -> None:
    """Have the record name what is to be removed should this process die."""
    stand.done.record.probes = pods
    stand.done.record.save(stand.done.backup.directory)


def _ended(stand: Stand, namespace: str, name: str) -> Mapping[str, Any]:
    """Wait until it has ended; return it as it is then. Raises ClusterError."""
    limit = time.monotonic() + LIMIT
    while True:
        pod = stand.cluster.api.get(PODS.call("get", namespace, name))
        if probepod.ended(pod) or time.monotonic() > limit:
            return pod
        stand.sleep(LOOK)


def _remove(cluster: Cluster, namespace: str, name: str, uid: str) -> None:
    try:
        cluster.api.delete(PODS.call("delete", namespace, name), uid)
    except ClusterError as problem:
        if problem.code not in (NOT_FOUND, CONFLICT):
            raise


def _proofs(stand: Stand, source: Pod, flows: Sequence[Flow], ended: Mapping[str, Any], name: str) -> list[Proof]:
    answers = probepod.said(ended)
    by = f"by the probe pod {name} in its place, which is removed again"
    found = []
    for number, flow in enumerate(flows):
        ok, words = answers.get(number, (None, f"it said nothing: {probepod.why_not(ended)}"))
        pod = pod_of(ended)
        if ok is not None and (
            pod is None or not alike(stand.after, flow, replace(source, ips=pod.ips, labels=pod.labels))
        ):
            ok, words = None, f"{words}, but policies judge a probe pod otherwise than its source"
        found.append(Proof(ok, f"{flow}: {words}, {by}"))
    return found


def alike(after: Snapshot, flow: Flow, probe: Pod) -> bool:
    """Say whether the same policies decide in the same way of a probe pod as of the flow's source (pure)."""
    real, stood = (judge(after, source, flow.target, flow.port, flow.protocol) for source in (flow.source, probe))
    pairs = ((real.egress, stood.egress), (real.ingress, stood.ingress))
    return all((a.allowed, a.decided_by) == (b.allowed, b.decided_by) for a, b in pairs)
