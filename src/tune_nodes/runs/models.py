"""What a run is on disk and in reports: one JSON document with a published schema."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
#: Verbs of runs that change nodes.
CHANGING = ("apply", "rollback")


class Record(BaseModel):
    """Base of everything stored: unknown fields are errors, so that a truncated or foreign file is noticed."""

    model_config = ConfigDict(extra="forbid")


class Outcome(StrEnum):
    """How one node came out of a run."""

    OK = "ok"  # nothing to change
    PENDING = "pending"  # would change (plan, drift, verify)
    CHANGED = "changed"  # changed, confirmed, persisted
    REVERTED = "reverted"  # changed, not confirmed, as it was before
    FAILED = "failed"  # nothing changed, or state unknown: see error
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # not touched: drifted from the plan, busy, unsupported system, not ready
    SKIPPED = "skipped"  # the run stopped before this node
    QUARANTINED = "quarantined"  # left out: an earlier run reverted on it


class ErrorRecord(Record):
    """what / why / next, as in both exception families."""

    what: str
    why: str = ""
    next: str = ""
    code: str = "failed"
    data: dict[str, Any] = Field(default_factory=dict)


class ChangeRecord(Record):
    """One setting on one node; the fields of module_utils.model.Change."""

    family: str
    key: str
    before: str | None
    want: str | None
    after: str | None = None
    status: str = "pending"
    requested: str = ""
    reason: str = ""
    source: str = ""
    owner: str = ""
    note: str = ""
    scope: str = "netns"
    disruptive: bool = False
    identity: dict[str, str] = Field(default_factory=dict)
    persist: dict[str, Any] | None = None


class ProbeRecord(Record):
    """One check of reachability."""

    id: str  # "gateway", "peer:10.77.0.12", "dns:kubernetes.default", "ssh"
    kind: str  # gateway | peer | dns | api | kubelet | lease | ssh
    target: str = ""
    ok: bool
    detail: str = ""  # "1500 bytes, DF" or why it failed
    ms: float | None = None


class PodValue(Record):
    """One key as a pod's network namespace has it, where that is not the node's value."""

    key: str
    node: str
    pod: str
    reach: str  # inherited: new pods get the node's value | default: the kernel's default, in every pod | unknown
    note: str = ""


class PodRecord(Record):
    """What one running pod of a node has: how far the node's tuning reaches."""

    uid: str
    name: str = ""  # the pod's hostname, as it says itself
    values: list[PodValue] = Field(default_factory=list)


class StalePod(Record):
    """A running pod that keeps another MTU than new ones get."""

    uid: str
    name: str = ""  # the pod's hostname, as it says itself
    mtu: int  # bytes


class NodeInCluster(Record):
    """A node as its cluster knows it."""

    name: str  # of the Node object
    matched: str = "name"  # name | address: by which it was found
    ready: bool
    roles: list[str] = Field(default_factory=list)
    kubelet: str = ""
    runtime: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    taints: list[str] = Field(default_factory=list)
    cordoned: str = ""  # "" | ours | foreign: who had closed it for new pods while it was changed
    evicted: int | None = None  # pods moved away before the change; null: not drained
    lease_seconds: float | None = None  # from the change to the first renewed Lease; null: not seen
    unwell: str = ""  # what the gate found wrong afterwards


class ClusterRecord(Record):
    """The cluster a run looked at, and what it could not see."""

    used: bool
    problem: str = ""  # why not: no-kubeconfig, bad-kubeconfig, unreachable, unauthorized, forbidden, server
    server: str = ""
    context: str = ""
    version: str = ""
    cni: list[str] = Field(default_factory=list)  # "flannel v0.28.10"
    not_checked: list[str] = Field(default_factory=list)  # one sentence each

    @property
    def title(self) -> str:
        """The cluster in a few words: "kind-ex v1.34.4, flannel v0.28.10"."""
        named = " ".join(part for part in (self.context or self.server, self.version) if part)
        return ", ".join([named, *self.cni])


class Transaction(Record):
    """Where a node's transaction stands."""

    id: str
    state: str  # ARMED | COMMITTED | DONE | REVERTING | REVERTED
    reverter: str = ""  # systemd | process
    window: float | None = None
    deadline_in: float | None = None


class NodeRecord(Record):
    """One node's part of a run."""

    name: str
    outcome: Outcome
    wave: int | None = None
    round: int = 0  # of a run in two rounds: the last one that was confirmed on it
    address: str = ""
    host: dict[str, Any] = Field(default_factory=dict)  # Host.to_dict()
    plan_hash: str = ""
    changes: list[ChangeRecord] = Field(default_factory=list)
    probes_before: list[ProbeRecord] = Field(default_factory=list)
    probes_after: list[ProbeRecord] = Field(default_factory=list)
    tx: Transaction | None = None
    error: ErrorRecord | None = None
    warnings: list[str] = Field(default_factory=list)
    pods: list[PodRecord] = Field(default_factory=list)
    stale_pods: list[StalePod] = Field(default_factory=list)
    paths: dict[str, Any] = Field(default_factory=dict)  # probe: this node as an end of paths, and its layers
    cluster: NodeInCluster | None = None
    timings: dict[str, float] = Field(default_factory=dict)  # seconds by step: plan, apply, probe, confirm, total
    started: datetime | None = None
    finished: datetime | None = None

    @property
    def lost(self) -> bool:
        """Whether it was lost with a change on it, which its own reverter has put back or will."""
        return self.outcome is Outcome.UNREACHABLE and self.error is not None and self.error.code == "unconfirmed"

    @property
    def unwell(self) -> str:
        """What its cluster found wrong with it after its change, "" for nothing."""
        return self.cluster.unwell if self.cluster is not None else ""

    @property
    def pending(self) -> list[ChangeRecord]:
        """The changes that would be or were made."""
        return [c for c in self.changes if c.status in ("pending", "changed", "failed", "reverted")]


class PathRecord(Record):
    """One direction of one path, at the size that its sender sends."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from")
    to: str
    layer: str  # node | pod
    family: int  # 4 | 6
    size: int | None = None  # bytes, IP header included; null: not measured
    exact: str = ""  # pass | fail: do packets of that size arrive; "": not measured
    above: str = ""  # fail | pass: one byte more, there and back
    passes: int | None = None  # the largest that goes there and back; null: nothing does, or not measured
    direction: str = ""  # of a failure: forward (only from -> to) | both | unknown
    from_end: str = ""  # the pod, or the bridge, that stands for the node
    to_end: str = ""
    address: str = ""  # of the target
    ms: float | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether packets of the size that is sent do not arrive."""
        return self.exact == "fail"


class PathFault(Record):
    """A path that does not carry what is sent, with what most likely eats it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from")
    to: str
    layer: str
    family: int
    direction: str
    size: int | None = None
    passes: int | None = None
    text: str
    likely: str  # underlay-hop | tunnel-above-underlay | bridge-below | pod-above-tunnel | own-mtu | filtered | unknown
    why: str = ""
    next: str = ""


class WaveRecord(Record):
    """Nodes changed together, and the gate after them."""

    number: int  # from 1
    canary: bool = False
    round: int = 0  # of a run in two rounds: 1 or 2
    nodes: list[str]
    started: datetime | None = None
    finished: datetime | None = None
    gate: str = "pending"  # passed | failed | pending | skipped
    gate_detail: str = ""


class RunRecord(Record):
    """One use of the tool."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: int = Field(default=SCHEMA, alias="schema")
    id: str  # 20261124-081530-a1b2c3
    verb: str  # plan | apply | verify | drift | rollback | probe
    version: str
    profile: str = ""
    inventory: list[str] = Field(default_factory=list)
    limit: str = ""
    options: dict[str, Any] = Field(default_factory=dict)  # serial, canary, fail_percent, window ...
    user: str = ""
    started: datetime
    finished: datetime | None = None
    stopped: str = ""  # why the run stopped early, "" if it did not
    exit_code: int | None = None
    rolled_back: str = ""  # of a rollback: the run it undid
    rounds: int = 1  # 2: a fleet's MTU, with its routes pinned in between
    cluster: ClusterRecord | None = None  # null: nobody asked for one
    waves: list[WaveRecord] = Field(default_factory=list)
    paths: list[PathRecord] = Field(default_factory=list)  # of a probe
    path_faults: list[PathFault] = Field(default_factory=list)
    nodes: dict[str, NodeRecord] = Field(default_factory=dict)

    def touched(self) -> list[NodeRecord]:
        """Return the nodes that hold, or may hold, what this run wrote."""
        if self.verb not in CHANGING:
            return []
        started = {name for wave in self.waves if wave.started is not None for name in wave.nodes}
        unsure = (Outcome.FAILED, Outcome.UNREACHABLE, Outcome.PENDING)
        return [
            node
            for node in self.nodes.values()
            if node.outcome is Outcome.CHANGED or node.round or (node.name in started and node.outcome in unsure)
        ]

    def count(self, outcome: Outcome) -> int:
        """Return how many nodes came out this way."""
        return sum(node.outcome is outcome for node in self.nodes.values())
