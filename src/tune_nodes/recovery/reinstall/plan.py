"""What putting a record back would change, by the server's own dry run of each object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.cnimtu.agents import in_order
from tune_nodes.errors import TuneError
from tune_nodes.policy.keeping.clean import differing, digest, is_terminating, shown
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.policy.pace import passing
from tune_nodes.recovery.reinstall import needs
from tune_nodes.recovery.reinstall.applying import applied, holders
from tune_nodes.recovery.reinstall.parts import Key, Part, pod_spec, tidy, without_strategy
from tune_nodes.recovery.reinstall.record import Record

#: On a DaemonSet while its pods are started node by node: "RUN create" or "RUN change".
ROLLING = "tune-nodes/rolling"
CREATE, CHANGE, EQUAL, CONFLICT, REFUSED = "create", "change", "equal", "conflict", "refused"
#: What is written, and what stands in the way.
WRITTEN, BARRED = frozenset({CREATE, CHANGE}), frozenset({CONFLICT, REFUSED})
UNSERVED = "its kind is made first"
#: Seconds by which a node's Lease may be older than the newest; kubelets renew theirs every ten.
SILENT = 60.0


@dataclass(frozen=True)
class Step:
    """What is done about one object.

    Args:
        part: the object.
        status: create, change, equal; conflict (others hold fields at other values), refused (by the server).
        text: which places change, or why not.
        managers: who holds the fields of a conflict.
        live: as it is now; None: it is not there.
        restart: whether its pods must be started anew for it.
        extra: places that the cluster has and the record has not: server-side apply leaves them.
        after: as it would be; None where the server was not asked.
    """

    part: Part
    status: str
    text: str = ""
    managers: tuple[str, ...] = ()
    live: Mapping[str, Any] | None = None
    restart: bool = False
    extra: str = ""
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """What is done.

    Args:
        steps: in their order.
        roll: DaemonSets whose pods are started node by node.
        nodes: in the order in which that happens, those of the control plane last.
        silent: nodes whose kubelet does not answer: they are not waited for.
        protected: nodes of the control plane.
        hash: of all that this rests on.
    """

    steps: tuple[Step, ...]
    roll: tuple[Key, ...]
    nodes: tuple[str, ...]
    silent: tuple[str, ...]
    protected: frozenset[str]
    hash: str

    @property
    def work(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.roll) or any(step.status in WRITTEN for step in self.steps)

    @property
    def barred(self) -> list[Step]:
        """What stands in the way."""
        return [step for step in self.steps if step.status in BARRED]


def look(cluster: Cluster, record: Record, force: bool = False, unfinished: Collection[Key] = ()) -> Plan:
    """Ask the server what putting a record back would change.

    Args:
        cluster: where.
        record: what.
        force: also take fields that others hold at other values.
        unfinished: DaemonSets that a run before this was to start anew.

    Raises:
        ClusterError: the server cannot be asked.
    """
    lookup = Lookup(cluster.api)
    made: set[Key] = set()  # of what is not there yet, and others are in
    defined = {_defines(part.body) for part in record.parts if part.key.kind == "CustomResourceDefinition"}
    steps = []
    for part in record.parts:
        step = _step(cluster, lookup, part, force, record.is_of_cluster, made)
        if step.text == UNSERVED and (part.key.api_version.rpartition("/")[0], part.key.kind) not in defined:
            step = Step(part, REFUSED, f"the server has no kind {part.key.kind} in {part.key.api_version}")
        if step.live is None:
            made.add(part.key)
        steps.append(step)
    roll = _rolled(steps, set(unfinished))
    nodes, silent, protected = nodes_of(cluster)
    rests = {
        "record": [record.id, record.manifest.model_dump()],
        "server": cluster.server,
        "force": force,
        "steps": [
            [str(one.part.key), one.status, one.text, one.managers, digest(_tidy(one.part.key, one.live))]
            for one in steps
        ],
        "roll": [str(key) for key in roll],
        "nodes": sorted([*nodes, *silent]),
    }
    return Plan(tuple(steps), roll, nodes, silent, protected, f"sha256:{digest(rests)[:32]}")


def _defines(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the group and the kind that a definition is of."""
    return objects.text(body, "spec", "group"), objects.text(body, "spec", "names", "kind")


def call_of(lookup: Lookup, key: Key, verb: str) -> Call | None:
    """Return the call for an object; None where its kind is not served."""
    return lookup.call(key.api_version, key.kind, verb, key.namespace, key.name)


def live_of(cluster: Cluster, lookup: Lookup, key: Key) -> dict[str, Any] | None:
    """Return an object as it is now, None where it is not there. Raises ClusterError."""
    call = call_of(lookup, key, "get")
    if call is None:
        return None
    try:
        return cluster.api.get(call)
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return None
        raise


def _tidy(key: Key, live: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if live is None else tidy(live, key.api_version, key.kind)


def _step(cluster: Cluster, lookup: Lookup, part: Part, force: bool, whole: bool, made: set[Key]) -> Step:
    call = call_of(lookup, part.key, "patch")
    if call is None:
        return Step(part, CREATE, UNSERVED)
    live = live_of(cluster, lookup, part.key)
    if live is not None and is_terminating(live):
        return Step(part, REFUSED, "it is being deleted: finalizers hold it", live=live)
    if live is None and Key("v1", "Namespace", "", part.key.namespace) in made:
        return Step(part, CREATE, "its namespace is made first", restart=part.key.is_daemonset)
    held = bool(objects.text(live, "metadata", "annotations", ROLLING))  # the strategy is ours, and is put back last
    try:
        result, managers = _rehearsed(cluster, call, without_strategy(part.body) if held else part.body)
    except Refused as problem:
        if passing(problem):
            raise
        return Step(part, REFUSED, problem.message or problem.why, live=live)
    if live is None:
        return Step(part, CREATE, restart=part.key.is_daemonset)
    before, after = _tidy(part.key, live), _tidy(part.key, result)
    what, notes = differing(before, after)
    places = (*what, *(f"annotations.{note.removeprefix('annotations.')}" for note in notes))
    status = CHANGE if places else EQUAL
    if managers and not force:
        status = CONFLICT
    pods = [objects.at(one, "spec", "template") for one in (before, after)]
    extra = shown(differing(part.body, after)[0]) if whole else ""
    restart = part.key.is_daemonset and pods[0] != pods[1]
    return Step(part, status, shown(places), managers, live, restart, extra, result)


def _rehearsed(cluster: Cluster, call: Call, body: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return an object as it would be, and who else holds fields of it at other values."""
    try:
        return applied(cluster.api, call, body, dry=True), ()
    except Refused as problem:
        managers = holders(problem)
        if not managers:
            raise
        return applied(cluster.api, call, body, force=True, dry=True), managers


def _rolled(steps: Sequence[Step], unfinished: set[Key]) -> tuple[Key, ...]:
    """Return the DaemonSets whose pods must start anew: theirs changed, or what they read at their start."""
    maps = {
        (step.part.key.namespace, step.part.key.name)
        for step in steps
        if step.status in WRITTEN and step.part.key.kind == "ConfigMap"
    }
    found = []
    for step in steps:
        if not step.part.key.is_daemonset:
            continue
        space, wanted = step.part.key.namespace, needs.of(pod_spec(step.part.body)).config_maps
        reads = any((space, name) in maps for name in wanted)
        held = bool(objects.text(step.live, "metadata", "annotations", ROLLING))
        if step.restart or reads or held or step.part.key in unfinished or step.live is None:
            found.append(step.part.key)
    return tuple(found)


def nodes_of(cluster: Cluster) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """Return the nodes in their order, those that are silent, and those of the control plane."""
    known = {
        name: node
        for name, node in cluster.nodes().items()
        if node.labels.get("kubernetes.io/os", "linux") == "linux" and node.labels.get("type") != "virtual-kubelet"
    }
    if not known:
        raise TuneError("no Linux node is in this cluster")
    renewed = {
        objects.name_of(item): when
        for item in cluster.api.items(Call("list", "leases", "coordination.k8s.io", "kube-node-lease"))
        if (when := _time(objects.text(item, "spec", "renewTime", limit=60)))
    }
    newest = max(renewed.values(), default=0.0)
    silent = tuple(sorted(name for name in known if newest - renewed.get(name, 0.0) > SILENT))
    roles = {name: node.roles for name, node in known.items()}
    nodes = tuple(name for name in in_order(list(known), roles) if name not in silent)
    protected = frozenset(n for n, those in roles.items() if set(those) & {"control-plane", "master", "etcd"})
    return nodes, silent, protected


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
