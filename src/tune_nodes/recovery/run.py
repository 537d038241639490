"""One recovery: look, then node after node: evidence, release, look again and compare. Stops at the first failure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_nodes.cluster.errors import ClusterError
from tune_nodes.errors import UsageError
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.runner import Call
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery import ladder, verify
from tune_nodes.recovery.state import KEY, NodeState, mapping, number, report_of, state_of, text
from tune_nodes.recovery.view import PodsOfNode, View
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

#: Seconds that pods which wait for a network get after a release: the kubelet tries again with growing pauses.
SETTLE = 60.0
#: Seconds that a release itself may be silent, beyond the time between its scans.
SILENCE = 900.0


@dataclass(frozen=True)
class Limits:
    """What the nodes go by: seconds, seconds, percent."""

    grace: float = 900
    between: float = 120
    max_stale: float = 90

    def common(self, run: str) -> dict[str, Any]:
        """Return the part of a request that all nodes share."""
        return {
            "run": run,
            "grace": f"{self.grace:g}",
            "between": f"{self.between:g}",
            "max_stale_percent": self.max_stale,
        }


@dataclass
class Taken:
    """What was done on one node.

    Args:
        rungs: which were taken, in order.
        evidence: the archive on this machine, None where it could not be had.
        remote: where it lies on the node.
        counts: of a release, how many leases went which way.
        rows: the comparison of before and after; empty where nothing was released.
        after: the look afterwards.
    """

    rungs: list[ladder.Rung] = field(default_factory=list)
    evidence: Path | None = None
    remote: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    rows: list[verify.Row] = field(default_factory=list)
    after: NodeState | None = None


class Recovery:
    """One recovery in progress.

    Args:
        fleet: sends requests, keeps the record.
        limits: what the nodes go by.
        view: the API server's pods, None without a cluster.
    """

    def __init__(self, fleet: FleetRun, limits: Limits, view: View | None = None) -> None:
        self.fleet = fleet
        self.limits = limits
        self.view = view
        self.states: dict[str, NodeState] = {}
        self.taken: dict[str, Taken] = {}

    # -- requests ----------------------------------------------------------------------------------------------

    def _ask(self, playbook: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, NodeRecord]:
        request = {
            "operation": playbook,
            "common": self.limits.common(self.fleet.record.id),
            "nodes": {name: dict(fields) for name, fields in nodes.items()},
        }
        idle = max(self.fleet.settings.idle_timeout, self.limits.between + SILENCE)
        stop = self.fleet.stop
        call = Call(request, lambda _record: None, lambda: stop.aborted, idle, f"{playbook}.yml")
        return self.fleet.runner.run(call).records

    def _pods(self, name: str, settle: bool = False) -> PodsOfNode | None:
        if self.view is None:
            return None
        try:
            if settle:
                return self.view.settle(name, SETTLE, lambda: self.fleet.stop.requested)
            return self.view.pods(name)
        except ClusterError as problem:
            self.fleet.progress.note(f"warning: {name}: its pods in the API are not known: {problem}")
            return None

    # -- look --------------------------------------------------------------------------------------------------

    def look(self, names: Sequence[str], settle: bool = False) -> dict[str, NodeRecord]:
        """Look at nodes and remember their states; the records are as the nodes gave them."""
        pods = {name: self._pods(name, settle) for name in names}
        wanted = {name: {} if found is None else {"pod_ips": list(found.ips)} for name, found in pods.items()}
        records = self._ask("recover_look", wanted)
        for name, record in records.items():
            found = pods[name]
            self.states[name] = state_of(record, None if found is None else found.waiting)
            self._keep(record, "before" if name not in self.taken else "after")
        return records

    def plan(self, names: Sequence[str]) -> None:
        """Look at all nodes; what came of it stands in the run's record."""
        self.fleet.progress.phase("look", len(names))
        for name, record in self.look(names).items():
            self._take(_refused(record, self.states[name]))

    def _take(self, record: NodeRecord) -> None:
        """Take a record into the run, without what only the next request needs."""
        report = {k: v for k, v in report_of(record).items() if k not in ("scan", "leases")}
        host = {**record.host, KEY: report}
        self.fleet.handle.node(record.model_copy(update={"host": host}))
        self.fleet.progress.node(record)

    def _keep(self, record: NodeRecord, when: str) -> None:
        report = report_of(record)
        if report:
            path = self.fleet.handle.directory / f"cni-{_file_name(record.name)}-{when}.json"
            write_atomic(path, json.dumps(report, indent=1) + "\n")

    # -- rungs -------------------------------------------------------------------------------------------------

    def climb(self, names: Sequence[str], wanted: int | None) -> None:
        """Take the rungs on one node after the other; the first that comes out badly ends it.

        Args:
            names: in the order they are worked on.
            wanted: only up to this rung; None: whichever helps.
        """
        record = self.fleet.record
        for position, name in enumerate(names):
            if self.fleet.stop.requested:
                record.stopped = STOPPED_BY_USER
                break
            self.fleet.progress.phase(name, 1)
            self._node(name, ladder.climb(self.states[name], wanted))
            outcome = record.nodes[name].outcome
            if outcome not in (Outcome.OK, Outcome.CHANGED):
                left = len(names) - position - 1
                record.stopped = f"{name} came out {outcome}" + (
                    f"; {left} more nodes were not touched" if left else ""
                )
                break
        self._skip([name for name in names if name not in self.taken])

    def _node(self, name: str, rungs: Sequence[ladder.Rung]) -> None:
        taken = self.taken[name] = Taken()
        for rung in rungs:
            taken.rungs.append(rung)
            record = self._evidence(name, taken) if rung is ladder.EVIDENCE else self._release(name, taken)
            if record.outcome not in (Outcome.OK, Outcome.CHANGED):
                self._take(record)
                return
        self._take(record if len(rungs) < 2 else self._verified(name, record, taken))

    def _evidence(self, name: str, taken: Taken) -> NodeRecord:
        dest = self.fleet.handle.directory / f"evidence-{_file_name(name)}.tar.gz"
        record = self._ask("recover_evidence", {name: {"dest": str(dest)}})[name]
        found = mapping(report_of(record), "evidence")
        taken.remote = text(found, "path", 500)
        if dest.is_file():
            dest.chmod(0o600)
            if hashlib.sha256(dest.read_bytes()).hexdigest() == found.get("sha256"):
                taken.evidence = dest
        if record.outcome is Outcome.OK and taken.evidence is None:
            self.fleet.progress.note(f"warning: {name}: the evidence could not be fetched; it lies on the node")
        return record

    def _release(self, name: str, taken: Taken) -> NodeRecord:
        pods = self._pods(name)
        fields: dict[str, Any] = {"first": dict(self.states[name].scan)}
        if pods is not None:
            fields["pod_ips"] = list(pods.ips)
        self.fleet.handle.event("release", node=name)  # before the node is touched
        self.fleet.progress.note(f"{name}: a second scan, {self.limits.between:g} s after the first, then the release")
        record = self._ask("recover_leases", {name: fields})[name]
        counts = mapping(report_of(record), "released")
        taken.counts = {str(key)[:20]: number(counts, key) or 0 for key in list(counts)[:10]}
        return record

    def _verified(self, name: str, record: NodeRecord, taken: Taken) -> NodeRecord:
        """Look again and compare; a row that is worse than before makes the node's outcome ``failed``."""
        before = self.states[name]
        later = self.look([name], settle=True)[name]
        if later.error is not None and not report_of(later):
            return record.model_copy(update={"outcome": Outcome.FAILED, "error": later.error})
        taken.after = self.states[name]
        taken.rows = verify.compare(before, taken.after)
        bad = verify.broken(taken.rows)
        self.fleet.handle.event("compared", node=name, rows=[vars(row) for row in taken.rows])
        if not bad:
            return record
        error = ErrorRecord(
            what="the node is not as it should be after the release",
            why="; ".join(f"{row.what}: {row.after}" for row in bad),
            next=f"tune-nodes recover undo {self.fleet.record.id}, and look at the evidence",
            code="not-verified",
        )
        return record.model_copy(update={"outcome": Outcome.FAILED, "error": error})

    def _skip(self, names: Sequence[str]) -> None:
        for name in names:
            error = ErrorRecord(what="the run stopped before this node", why=self.fleet.record.stopped, code="skipped")
            found = self.fleet.record.nodes[name]
            self._take(found.model_copy(update={"outcome": Outcome.SKIPPED, "error": error}))

    # -- undo --------------------------------------------------------------------------------------------------

    def undo(self, names: Sequence[str], run: str) -> None:
        """Bring back what a run released on these nodes, all at once: nothing is taken from anybody."""
        self.fleet.progress.phase(f"undo {run}", len(names))
        for record in self._ask("recover_leases", {name: {"undo": run} for name in names}).values():
            never = record.error is not None and record.error.code == "unknown"  # the run never got to this node
            self._take(record.model_copy(update={"outcome": Outcome.OK, "error": None}) if never else record)


def _refused(record: NodeRecord, state: NodeState) -> NodeRecord:
    """Return a look's record, as refused where something is wrong and nothing may be released."""
    if record.error is not None or not state.refusals:
        return record
    if state.networks and not (state.stale or state.exhausted or state.sandboxes is None):
        return record
    first = state.refusals[0]
    error = ErrorRecord(what=first.what, why=first.why, next=first.next, code=first.code)
    return record.model_copy(update={"outcome": Outcome.REFUSED, "error": error})


def _file_name(name: str) -> str:
    """Return a node's name as part of a file's name."""
    plain = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)[:100]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the nodes that were named, each once.

    Raises:
        UsageError: one of them is not in the inventory; a name that is merely like one never counts.
    """
    found = list(dict.fromkeys(part.strip() for text_ in names for part in text_.split(",") if part.strip()))
    strange = [name for name in found if name not in known]
    if strange or not found:
        raise unknown(strange, known)
    return found


def unknown(strange: Sequence[str], known: Sequence[str]) -> UsageError:
    """Return the error for names that are no nodes of the inventory."""
    there = ", ".join(sorted(known)[:8])
    if not strange:
        return UsageError("no node was named", "", f"--nodes NAME[,NAME]; the inventory has {there}")
    return UsageError(f"{one_line(strange[0], 80)} is no node of this inventory", f"it has {there}", "")
