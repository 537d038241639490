"""The orchestration of one run: plan over all nodes, then waves with a gate after each.

The order of writes is what makes a run that dies at any point explainable: a wave is recorded before its first node
is touched, each node's answer is journalled as it arrives, the record is rewritten after each wave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from tune_nodes.errors import TuneError
from tune_nodes.fleet import gate, peers, rounds, standing
from tune_nodes.fleet.clusterside import ClusterSide, NoCluster
from tune_nodes.fleet.runner import Call, CallResult, Runner
from tune_nodes.fleet.stop import StopSwitch
from tune_nodes.fleet.target import Target, duplicates, request
from tune_nodes.fleet.waves import Policy, Wave, is_protected, split
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome, WaveRecord
from tune_nodes.runs.store import Quarantined, RunHandle

#: Outcomes of the planning step after which a node can be worked on.
PLANNED = frozenset({Outcome.OK, Outcome.PENDING})
#: Seconds after the window's end by which a node has undone what was not confirmed.
REVERT_MARGIN = 10.0
#: Outcomes after which a node's state is worth another look.
TROUBLED = frozenset({Outcome.REVERTED, Outcome.FAILED, Outcome.UNREACHABLE})
STOPPED_BY_USER = "stopped by the user"


class Progress(Protocol):
    """What the terminal is told."""

    def phase(self, title: str, total: int) -> None:
        """A step over ``total`` nodes begins."""

    def node(self, record: NodeRecord) -> None:
        """A node answered."""

    def wave(self, wave: WaveRecord, total: int) -> None:
        """A wave begins (gate pending) or ended."""

    def note(self, text: str) -> None:
        """Something a person should read."""


@dataclass(frozen=True)
class Settings:
    """How a run goes about its nodes.

    Args:
        policy: sizes of the waves.
        fail_percent: share of attempted nodes whose failure stops the run.
        soak: seconds to wait between waves.
        window: seconds a node waits for its confirmation before it reverts.
        timeout: seconds of ssh's connection timeout.
    """

    policy: Policy = field(default_factory=Policy)
    fail_percent: float = 5
    soak: float = 0
    window: int = 120
    timeout: int = 10

    @property
    def idle_timeout(self) -> float:
        """Seconds of silence after which ansible-playbook is taken for hung; nodes bound themselves well below."""
        return max(300.0, 3 * self.window + 10 * self.timeout)


class FleetRun:
    """One run in progress.

    Args:
        runner: sends requests.
        handle: the run's record and journal.
        progress: the terminal.
        stop: what Ctrl-C pressed.
        settings: how to go about it.
        cluster: what the nodes belong to, where it is known.
    """

    def __init__(
        self,
        runner: Runner,
        handle: RunHandle,
        progress: Progress,
        stop: StopSwitch,
        settings: Settings,
        cluster: ClusterSide | None = None,
    ) -> None:
        self.runner = runner
        self.handle = handle
        self.record = handle.record
        self.progress = progress
        self.stop = stop
        self.settings = settings
        self.cluster: ClusterSide = cluster or NoCluster()
        self.record.cluster = self.cluster.record
        self.round = 0  # of a run in two rounds: the one at work

    # -- one call ----------------------------------------------------------------------------------------------

    def call(
        self,
        operation: str,
        targets: Sequence[Target],
        cancelled: Callable[[], bool],
        neighbours: Mapping[str, Sequence[str]] | None = None,
        check: bool = False,
    ) -> CallResult:
        """Send one request to some nodes; every record goes to the terminal as it arrives."""
        run = rounds.tx_id(self.record.id, self.round)
        holding = self.round == rounds.FIRST and operation in ("apply", "plan")
        document = request(operation, run, targets, self.settings.window, neighbours, check, holding)
        call = Call(document, self.progress.node, cancelled, self.settings.idle_timeout)
        return self.runner.run(call)

    # -- plan --------------------------------------------------------------------------------------------------

    def plan(
        self, targets: Sequence[Target], title: str = "plan", operation: str = "plan", probing: bool = False
    ) -> dict[str, NodeRecord]:
        """Ask every node what would change. Nothing is touched; a stop takes effect at once.

        Args:
            targets: the nodes.
            title: what the terminal calls this step.
            operation: ``plan``, or ``rollback`` for what a rollback would change.
            probing: whether peers are tried too, so that a person learns beforehand where nothing answers.

        Returns:
            The records, also taken into the run. The same machine under two names is refused under both.
        """
        self.progress.phase(title, len(targets))
        addresses = {target.name: target.address for target in targets}
        near = {t.name: peers.choose(t.name, (), addresses, t.peers) for t in targets} if probing else None
        result = self.call(operation, targets, lambda: self.stop.requested, near, check=operation != "plan")
        twins = duplicates({name: standing.machine(record) for name, record in result.records.items()})
        records = self.cluster.planned(result.records, self.record.verb)
        for name in addresses:
            record = records[name].model_copy(update={"address": addresses[name]})
            if result.cancelled and record.error is not None and record.error.code == "no-result":
                error = ErrorRecord(what="the run was stopped before this node answered", code="skipped")
                record = record.model_copy(update={"outcome": Outcome.SKIPPED, "error": error})
            if name in twins:
                record = standing.refuse(record, standing.twin_error(name, twins[name]))
            if record.outcome is not result.records[name].outcome:
                self.progress.node(record)
            self.handle.node(record)
        if result.cancelled or self.stop.requested:
            self.record.stopped = STOPPED_BY_USER
        self.handle.save()
        return {name: self.record.nodes[name] for name in addresses}

    def begin_round(self, number: int) -> None:
        """Go on with the first or the last of two rounds."""
        self.round, self.record.rounds = number, rounds.LAST
        self.progress.note(rounds.SAID[self.record.verb, number])

    # -- waves -------------------------------------------------------------------------------------------------

    def leave_out(self, quarantine: Sequence[Quarantined]) -> list[str]:
        """Mark quarantined nodes that have something pending; return their names."""
        held = []
        for name, record in self.record.nodes.items():
            entry = next((q for q in quarantine if q.covers(name, standing.machine(record)[0])), None)
            if entry is None or record.outcome is not Outcome.PENDING:
                continue
            error = ErrorRecord(
                what=f"left out: quarantined since run {entry.run}",
                why=entry.reason,
                next=f"when its cause is gone: tune-nodes quarantine clear {name}",
                code="quarantined",
            )
            self.handle.node(record.model_copy(update={"outcome": Outcome.QUARANTINED, "error": error}))
            held.append(name)
        return held

    def waves(self, names: Sequence[str]) -> list[Wave]:
        """Split these nodes by what they said of themselves when they were planned."""
        protected = {n for n in names if is_protected(standing.roles(self.record.nodes[n]))}
        return split(names, protected, self.settings.policy)

    def execute(self, operation: str, targets: Sequence[Target]) -> None:
        """Work on the nodes wave by wave until done, stopped or failed; the rest is marked skipped.

        Args:
            operation: ``apply`` or ``rollback``.
            targets: the nodes to touch, in the inventory's order.
        """
        by_name = {target.name: target for target in targets}
        waves = self.waves(list(by_name))
        attempted: list[str] = []
        rows = [
            WaveRecord(number=number, canary=wave.canary, round=self.round, nodes=list(wave.nodes))
            for number, wave in enumerate(waves, len(self.record.waves) + 1)
        ]
        self.record.waves = [*self.record.waves, *rows]
        with self.cluster.watched(list(by_name)):
            for row, wave in zip(rows, waves, strict=True):
                if self.stop.requested:
                    self.record.stopped = self.record.stopped or STOPPED_BY_USER
                if self.record.stopped:
                    break
                attempted += wave.nodes
                self._wave(operation, wave, row, by_name, attempted)
                if row is not rows[-1] and not self.record.stopped:
                    self._soak(wave, row, by_name)
        self._skip([name for name in by_name if name not in attempted])

    def _wave(
        self, operation: str, wave: Wave, row: WaveRecord, by_name: Mapping[str, Target], attempted: Sequence[str]
    ) -> None:
        row.started = datetime.now(UTC)
        self.handle.event("wave", number=row.number, nodes=row.nodes, operation=operation)
        self.handle.save()  # before the first node is touched
        self.progress.wave(row, len(self.record.waves))
        cancelled = self._change(operation, wave, row.number, by_name)
        row.finished = datetime.now(UTC)
        nodes = self.record.nodes
        verdict = gate.judge(
            wave, [nodes[n] for n in wave.nodes], [nodes[n] for n in attempted], self.settings.fail_percent
        )
        row.gate, row.gate_detail = ("passed" if verdict.passed else "failed"), verdict.detail
        if cancelled:
            self.record.stopped = STOPPED_BY_USER
        elif not verdict.passed:
            self.record.stopped = self.record.stopped or f"wave {row.number}: {verdict.detail}"
        self._save_or_stop()
        self.progress.wave(row, len(self.record.waves))

    def _change(self, operation: str, wave: Wave, number: int, by_name: Mapping[str, Target]) -> bool:
        """Change a wave's nodes and look after them; return whether it was cut short."""
        with self.cluster.closed(wave.nodes, lambda: self.stop.requested) as left_out:
            for name, error in left_out.items():
                self._take(standing.left_out(self.record.nodes[name], error), number)
                self.progress.node(self.record.nodes[name])
            names = [name for name in wave.nodes if name not in left_out]
            started = time.monotonic()
            result = self._send(operation, names, wave, by_name)
            for name in names:
                self._take(result.records[name], number)
            self._settle(wave, number, by_name, started)
            self._look()
        self._refresh(wave.nodes)  # a node that could not be opened again says so
        return result.cancelled or any(error.code == "skipped" for error in left_out.values())

    def _send(self, operation: str, names: Sequence[str], wave: Wave, by_name: Mapping[str, Target]) -> CallResult:
        if not names:
            return CallResult({})
        targets = [self.cluster.asked(by_name[name]) for name in names]
        try:
            return self.call(operation, targets, lambda: self.stop.aborted, self._neighbours(wave, by_name))
        except TuneError as problem:  # it reached no node; the waves before it must still be reported
            return CallResult({name: standing.not_sent(name, problem) for name in names})

    def _look(self) -> list[str]:
        """Ask the cluster about every node that was changed so far; return those that are not well."""
        started = list(dict.fromkeys(name for row in self.record.waves if row.started for name in row.nodes))
        changed = [name for name in started if self.record.nodes[name].outcome is Outcome.CHANGED]
        others = [name for name in started if self.record.nodes[name].outcome in TROUBLED]
        news = self.cluster.look(changed, others, lambda: self.stop.aborted)
        self._refresh([*news, *others])
        return [name for name in news if gate.failed(self.record.nodes[name])]

    def _refresh(self, names: Sequence[str]) -> None:
        for name in names:
            record = self.cluster.attach(self.record.nodes[name])
            if record != self.record.nodes[name]:
                self._take(record, record.wave or 0)

    def _take(self, record: NodeRecord, wave: int) -> None:
        """Take a node's new record into the run, keeping what only the plan knew; quarantine it if it reverted."""
        planned = self.record.nodes[record.name]
        kept: dict[str, Any] = {"wave": wave, "address": planned.address}
        for key in ("host", "changes", "probes_before", "plan_hash", "pods", "stale_pods"):
            if not getattr(record, key):
                kept[key] = getattr(planned, key)
        if self.round == rounds.LAST:
            kept["changes"] = rounds.merged(planned.changes, record.changes)
        kept["round"] = self.round if record.outcome in gate.GOOD else planned.round
        record = record.model_copy(update={**kept, "timings": {**planned.timings, **record.timings}})
        record = self.cluster.attach(record)
        try:
            self.handle.node(record)
            if standing.suspect(record):
                reason = record.error.what if record.error else "the change was not confirmed"
                self.handle.store.quarantine(record.name, standing.machine(record)[0], self.record.id, reason)
        except TuneError as problem:
            self._cannot_record(problem)

    def _save_or_stop(self) -> None:
        try:
            self.handle.save()
        except TuneError as problem:
            self._cannot_record(problem)

    def _cannot_record(self, problem: TuneError) -> None:
        # Nodes were touched: the wave is seen through in memory, but no other may start.
        self.record.stopped = self.record.stopped or f"the run could not be recorded: {problem.why or problem.what}"
        self.progress.note(str(problem))

    def _neighbours(self, wave: Wave, by_name: Mapping[str, Target]) -> dict[str, list[str]]:
        known = {
            name: record.address
            for name, record in self.record.nodes.items()
            if record.host and record.outcome not in (Outcome.UNREACHABLE, Outcome.REVERTED)
        }
        most = max((by_name[name].peers for name in wave.nodes), default=0)
        return {name: peers.choose(name, wave.nodes, known, most) for name in wave.nodes}

    # -- after a wave ------------------------------------------------------------------------------------------

    def _settle(self, wave: Wave, number: int, by_name: Mapping[str, Target], started: float) -> None:
        """Ask nodes whose state is unknown once more, when their window is over and they have undone themselves."""
        nodes = self.record.nodes
        unknown = [n for n in wave.nodes if standing.unknown(nodes[n])]
        if not unknown or self.stop.aborted:
            return
        wait = started + self.settings.window + REVERT_MARGIN - time.monotonic()
        if wait > 0:
            names = ", ".join(unknown[:5])
            self.progress.note(f"waiting {wait:.0f} s for {names}: an unconfirmed change undoes itself by then")
            self.stop.sleep(wait, lambda: self.stop.aborted)
        if self.stop.aborted:
            return
        tx = rounds.tx_id(self.record.id, self.round)
        targets = [replace(by_name[name], tx=tx) for name in unknown]
        result = self.call("status", targets, lambda: self.stop.aborted)
        for name in unknown:
            self._take(standing.settled(nodes[name], result.records[name]), number)

    def _soak(self, wave: Wave, row: WaveRecord, by_name: Mapping[str, Target]) -> None:
        """Wait, then look whether the wave's nodes still hold what they were given."""
        if self.settings.soak <= 0:
            return
        self.progress.note(f"soaking for {self.settings.soak:.0f} s")
        self.stop.sleep(self.settings.soak)
        if self.stop.requested:
            return
        good = [name for name in wave.nodes if self.record.nodes[name].outcome in gate.GOOD]
        targets = [_without_expectation(by_name[name]) for name in good]
        records = self.call("plan", targets, lambda: self.stop.aborted).records if targets else {}
        bad = {name: str(record.outcome) for name, record in records.items() if record.outcome is not Outcome.OK}
        bad |= {name: gate.how(self.record.nodes[name]) for name in self._look()}
        if not bad:
            row.gate_detail += f"; still well after {self.settings.soak:.0f} s"
        else:
            said = ", ".join(f"{name} ({how})" for name, how in sorted(bad.items()))
            row.gate, row.gate_detail = "failed", f"no longer well after {self.settings.soak:.0f} s: {said}"
            self.record.stopped = f"wave {row.number}: {row.gate_detail}"
        self._save_or_stop()
        self.progress.wave(row, len(self.record.waves))

    def _skip(self, names: Sequence[str]) -> None:
        for name in names:
            error = ErrorRecord(what="the run stopped before this node", why=self.record.stopped, code="skipped")
            record = self.record.nodes[name].model_copy(update={"outcome": Outcome.SKIPPED, "error": error})
            if record.round:  # the first round stays, and is what a rollback takes back
                record = record.model_copy(update={"outcome": Outcome.CHANGED})
            try:
                self.handle.node(record)
            except TuneError as problem:
                self._cannot_record(problem)
        for row in self.record.waves:
            if row.started is None:
                row.gate = "skipped"


def _without_expectation(target: Target) -> Target:
    return replace(target, expect="")
