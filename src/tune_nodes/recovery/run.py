"""One recovery: look, then node after node: evidence, one rung, look again, the next. Stops at the first failure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_nodes.cluster.errors import ClusterError
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.runner import Call
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery import guard, ladder, matrix, measuring, verify
from tune_nodes.recovery.rebuild.work import Options
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import KEY, NodeState, report_of, state_of
from tune_nodes.recovery.view import PodsOfNode, View
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

#: Seconds that pods which wait for a network get after a release: the kubelet tries again with growing pauses.
SETTLE = 60.0
#: Seconds that a release itself may be silent, beyond the time between its scans.
SILENCE = 900.0


@dataclass(frozen=True)
class Limits:
    """What the nodes go by: seconds, seconds, percent; and how one is drained before it is rebuilt."""

    grace: float = 900
    between: float = 120
    max_stale: float = 90
    drain: Options = field(default_factory=Options)

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
        before: the look before the first rung.
        checks: what the node's pods reached before it.
    """

    rungs: list[Rung] = field(default_factory=list)
    evidence: Path | None = None
    remote: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    rows: list[verify.Row] = field(default_factory=list)
    after: NodeState | None = None
    before: NodeState | None = None
    checks: list[matrix.Check] = field(default_factory=list)


class Recovery:
    """One recovery in progress.

    Args:
        fleet: sends requests, keeps the record.
        limits: what the nodes go by.
        view: the API server's pods, None without a cluster.
        guards: give the right to work on a node.
    """

    def __init__(
        self, fleet: FleetRun, limits: Limits, view: View | None = None, guards: guard.Guards | None = None
    ) -> None:
        self.fleet = fleet
        self.limits = limits
        self.view = view
        self.guards = guards or guard.NoGuards()
        self.slot: guard.Held = guard.NoSlot()  # the right to work on the node at hand
        self.matrix: measuring.Matrix | None = None  # measures what a node's pods reach
        self.states: dict[str, NodeState] = {}
        self.taken: dict[str, Taken] = {}

    # -- requests ----------------------------------------------------------------------------------------------

    def ask(self, playbook: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, NodeRecord]:
        """Run a playbook on nodes, each with its fields, and return their records."""
        request = {
            "operation": playbook,
            "common": self.limits.common(self.fleet.record.id),
            "nodes": {name: dict(fields) for name, fields in nodes.items()},
        }
        idle = max(self.fleet.settings.idle_timeout, self.limits.between + SILENCE)
        stop = self.fleet.stop
        call = Call(request, lambda _record: None, lambda: stop.aborted, idle, f"{playbook}.yml")
        return self.fleet.runner.run(call).records

    def pods(self, name: str, settle: bool = False) -> PodsOfNode | None:
        """Return a node's pods in the API, None where they are not known."""
        if self.view is None:
            return None
        try:
            if settle:
                return self.view.settle(name, SETTLE, lambda: self.fleet.stop.requested)
            return self.view.pods(name)
        except ClusterError as problem:
            self.fleet.progress.note(f"warning: {name}: its pods in the API are not known: {problem}")
            return None

    def facts(self, name: str) -> dict[str, Any]:
        """Return what a request carries of the cluster beside the pods, {} where it is not known."""
        if self.view is None:
            return {}
        try:
            return dict(self.view.facts(name))
        except ClusterError as problem:
            self.fleet.progress.note(f"warning: {name}: what the API says of its agents is not known: {problem}")
            return {}

    # -- look --------------------------------------------------------------------------------------------------

    def look(self, names: Sequence[str], settle: bool = False) -> dict[str, NodeRecord]:
        """Look at nodes and remember their states; the records are as the nodes gave them."""
        pods = {name: self.pods(name, settle) for name in names}
        wanted = {name: self.facts(name) for name in names}
        for name, found in pods.items():
            wanted[name] |= {} if found is None else {"pod_ips": list(found.ips)}
        records = self.ask("recover_look", wanted)
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
            write_atomic(self.file("cni", record.name, f"-{when}.json"), json.dumps(report, indent=1) + "\n")

    def file(self, what: str, name: str, ending: str) -> Path:
        """Return where something of a node lies in the run's directory."""
        return self.fleet.handle.directory / f"{what}-{_file_name(name)}{ending}"

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

    def _node(self, name: str, rungs: Sequence[Rung]) -> None:
        taken = self.taken[name] = Taken(before=self.states[name])
        record = self._rung(name, rungs[0], taken)
        if _well(record) and len(rungs) > 1:
            roles = record.host.get("roles")
            protected = isinstance(roles, list) and bool(guard.PROTECTED & set(map(str, roles)))
            try:
                with self.guards.slot(name, protected) as self.slot:
                    taken.checks = self._measured(name, "before")
                    record = self._mend(name, rungs[1:], taken)
            except TuneError as problem:
                record = guard.refused(record, problem)
        self._take(record)

    def _mend(self, name: str, rungs: Sequence[Rung], taken: Taken) -> NodeRecord:
        """Take one rung after the other, and look again after each, until none of them would help any more."""
        before = self.states[name]
        done: list[NodeRecord] = []
        for position, rung in enumerate(rungs):
            if position and rung.number not in {finding.rung for finding in ladder.findings(self.states[name])}:
                continue
            self.slot.check()
            done.append(self._rung(name, rung, taken))
            if not _well(done[-1]):
                break
            later = self.look([name], settle=True)[name]
            if later.error is not None and not report_of(later):
                done.append(later.model_copy(update={"outcome": Outcome.FAILED}))
                break
        record = combined(done)
        return self._verified(name, before, record, taken) if _well(record) else record

    def _measured(self, name: str, when: str, earlier: Sequence[matrix.Check] = ()) -> list[matrix.Check]:
        if self.matrix is None:
            return []
        self.fleet.progress.note(f"{name}: pods of ours measure what its pods reach, {when}")
        return self.matrix.measure(name, when, earlier)

    def _rung(self, name: str, rung: Rung, taken: Taken) -> NodeRecord:
        taken.rungs.append(rung)
        self.fleet.handle.event("rung", node=name, number=rung.number)  # before the node is touched
        return rung.take(self, name, taken)

    def _verified(self, name: str, before: NodeState, record: NodeRecord, taken: Taken) -> NodeRecord:
        """Compare before and after; a row that is not as it should be makes the node's outcome ``failed``."""
        taken.after = self.states[name]
        taken.rows = verify.compare(before, taken.after, max(rung.number for rung in taken.rungs))
        taken.rows += matrix.compared(taken.checks, self._measured(name, "after", taken.checks))
        bad = verify.broken(taken.rows)
        self.fleet.handle.event("compared", node=name, rows=[vars(row) for row in taken.rows])
        if not bad:
            return record
        error = ErrorRecord(
            what="the node is not as it should be after the recovery",
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
        """Take back what a run did, one node after the other, and on each the highest rung first."""
        self.fleet.progress.phase(f"undo {run}", len(names))
        for position, name in enumerate(names):
            if self.fleet.stop.requested:
                self.fleet.record.stopped = STOPPED_BY_USER
                self._skip(names[position:])
                break
            try:
                with self.guards.slot(name) as self.slot:
                    record = self._undone(name, run)
            except TuneError as problem:
                record = guard.refused(self.fleet.record.nodes[name], problem)
            self._take(record)

    def _undone(self, name: str, run: str) -> NodeRecord:
        done: list[NodeRecord] = []
        for rung in reversed(ladder.RUNGS):
            if rung.undo is None or not all(map(_well, done)):
                continue
            self.slot.check()
            record = rung.undo(self, [name], run)[name]
            never = record.error is not None and record.error.code == "unknown"  # the run never got there
            done.append(record.model_copy(update={"outcome": Outcome.OK, "error": None}) if never else record)
        return combined(done)


def _well(record: NodeRecord) -> bool:
    return record.outcome in (Outcome.OK, Outcome.CHANGED)


def combined(records: Sequence[NodeRecord]) -> NodeRecord:
    """Return one record for what was done on a node in several steps: the last one's, with what the others changed."""
    last = records[-1]
    reports: dict[str, Any] = {}
    for record in records:
        reports |= report_of(record)
    changed = last.outcome is Outcome.OK and any(record.outcome is Outcome.CHANGED for record in records)
    return last.model_copy(
        update={
            "outcome": Outcome.CHANGED if changed else last.outcome,
            "host": {**last.host, KEY: reports},
            "changes": [change for record in records for change in record.changes],
            "warnings": list(dict.fromkeys(warning for record in records for warning in record.warnings)),
        }
    )


def _refused(record: NodeRecord, state: NodeState) -> NodeRecord:
    """Return a look's record, as refused where something is wrong and nothing may be released."""
    if record.error is not None or not state.refusals:
        return record
    if any(finding.rung is not None for finding in ladder.findings(state)):
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
