"""Putting a backup's policies back: in waves, with a probe after each, never over a newer object, nothing twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import at, text
from tune_nodes.cluster.refusals import Refused
from tune_nodes.policy import permissions
from tune_nodes.policy.keeping import compare, order
from tune_nodes.policy.keeping.backup import Backup, everywhere
from tune_nodes.policy.keeping.clean import clean, differing, merge_patch, shown
from tune_nodes.policy.keeping.compare import Step, Wish
from tune_nodes.policy.keeping.journal import Journal, read
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.policy.keeping.order import Wave
from tune_nodes.policy.keeping.rehearse import ALREADY, problem
from tune_nodes.policy.model import Policy, policy_of
from tune_nodes.policy.pace import Pace, passing

MADE, REPLACED, FAILED, UNDONE, NO_NAMESPACE, NOT_BEGUN = (
    "made",
    "replaced",
    "failed",
    "undone",
    "no-namespace",
    "not-begun",
)
#: What is as the backup has it, or has no place any more.
WELL = (MADE, REPLACED, compare.THERE, NO_NAMESPACE)
#: Seconds to wait, in all, for objects of the same names to be gone that are being deleted.
ENDING = 15.0
LOOK = 0.5
WRITERS = (compare.CREATE, compare.REPLACE)


@dataclass(frozen=True)
class Outcome:
    """What became of one object. ``state``: this module's, or an action of a step that writes nothing."""

    ref: str
    wave: Wave
    state: str
    text: str = ""


@dataclass(frozen=True)
class Restored:
    """What became of all of them.

    Args:
        outcomes: in the order in which they came back.
        equal: how many are there and equal to the backup, read again at the end.
        differing: those that are not, and in what.
        stopped: why it stopped before the end, "" where it did not.
        seconds: taken.
        calls: to the server.
        throttled: answers 429.
    """

    outcomes: tuple[Outcome, ...]
    equal: int
    differing: tuple[str, ...]
    stopped: str
    seconds: float
    calls: int
    throttled: int

    @property
    def counts(self) -> dict[str, int]:
        """How many of each state."""
        return dict(Counter(one.state for one in self.outcomes))

    @property
    def ok(self) -> bool:
        """Whether every object that still has a place is as the backup has it."""
        return not self.stopped and not self.differing and all(one.state in WELL for one in self.outcomes)


def restore(
    cluster: Cluster,
    backup: Backup,
    *,
    probe: Callable[[], str] | None,
    force: bool = False,
    wish: Wish | None = None,
    journal: Journal | None = None,
    pace: Pace | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Restored:
    """Put a backup back. May be called again after it was cut off, or when nothing is missing: nothing comes twice.

    Args:
        cluster: where.
        backup: what.
        probe: called after each wave that wrote something; a sentence stops the restore, and that wave is taken back.
        force: replace objects that say something else by now; same as in ``wish``.
        wish: what is asked for beyond the usual.
        journal: of that backup, None to take its own.
        pace: how many calls at once.
        sleep: waits some seconds.

    Raises:
        ClusterError: code forbidden: nothing was written. Else the server was lost on the way: call it again.
        TuneError: another delete or restore by this backup is under way.
    """
    if journal is None:
        with Journal(backup.directory) as own:
            return restore(cluster, backup, probe=probe, force=force, wish=wish, journal=own, pace=pace, sleep=sleep)
    wish = replace(wish or Wish(), force=force or (wish is not None and wish.force))
    run = _Restore(cluster, backup, wish, journal, pace or Pace(), sleep)
    return run.run(probe)


class _Restore:
    def __init__(
        self,
        cluster: Cluster,
        backup: Backup,
        wish: Wish,
        journal: Journal,
        pace: Pace,
        sleep: Callable[[float], None],
    ) -> None:
        self.cluster, self.backup, self.wish, self.journal, self.pace = cluster, backup, wish, journal, pace
        self.api = cluster.api
        self.lookup = Lookup(cluster.api)
        self.patience = time.monotonic() + ENDING
        self.sleep = sleep
        self.before = _unfinished(journal.directory)
        self.made: dict[str, str] = {}  # ref: uid of what we made

    def run(self, probe: Callable[[], str] | None) -> Restored:
        started, calls, throttled = time.monotonic(), self.api.sent.total(), self.api.throttled
        steps = self._endings_over(compare.plan(self.cluster, self.backup, self.wish))
        self._may(steps)
        self.journal.note("restore", steps={one.ref: one.action for one in steps if one.action in WRITERS})
        by_wave: dict[Wave, list[Step]] = {}
        for step in steps:
            by_wave.setdefault(order.wave(step.policy), []).append(step)
        outcomes: list[Outcome] = []
        stopped = ""
        for wave, mine in sorted(by_wave.items()):
            if stopped:
                outcomes += [Outcome(step.ref, wave, NOT_BEGUN) for step in mine]
                continue
            done, stopped = self._wave(wave, mine, probe)
            outcomes += done
        differs, equal = self._verify(outcomes)
        self.journal.note("restore-ended", stopped=stopped, equal=equal, differing=len(differs))
        spent = time.monotonic() - started, self.api.sent.total() - calls, self.api.throttled - throttled
        return Restored(tuple(outcomes), equal, tuple(differs), stopped, *spent)

    def _may(self, steps: Sequence[Step]) -> None:
        """Ask for every right before the first write; ``delete`` takes back what a wave made that turned out red."""
        create = [step.policy for step in steps if step.action == compare.CREATE]
        permissions.require(self.cluster, create, ("get", "list", "create", "delete"))
        changed = [step.policy for step in steps if step.action == compare.REPLACE]
        permissions.require(self.cluster, changed, ("get", "list", "patch"))

    def _endings_over(self, steps: list[Step]) -> list[Step]:
        """Wait, within bounds, until objects of the same names are gone that are being deleted."""
        found = {step.ref: step for step in steps}
        while ending := [step for step in found.values() if step.action == compare.ENDING]:
            if time.monotonic() > self.patience:
                break
            self.sleep(LOOK)
            found |= {step.ref: self._look_again(step.policy) for step in ending}
        return list(found.values())

    def _look_again(self, policy: Policy) -> Step:
        cleaned = self.backup.by_ref[policy.ref][1]
        return compare.step(self.cluster, self.lookup, policy, cleaned, self._now(policy), self.wish)

    def _now(self, policy: Policy) -> Policy | None:
        try:
            found = self.api.get(policy.kind.call("get", policy.namespace, policy.name))
        except ClusterError as gone:
            if gone.code == NOT_FOUND:
                return None
            raise
        return policy_of(policy.kind, found)

    # -- one wave ----------------------------------------------------------------------------------------------

    def _wave(self, wave: Wave, steps: Sequence[Step], probe: Callable[[], str] | None) -> tuple[list[Outcome], str]:
        """Do one wave: first all of it as a dry run, then in earnest, then the probe. Returns why to stop, if so."""
        writing = [step for step in steps if step.action in WRITERS]
        found = {step.ref: Outcome(step.ref, wave, step.action, step.text) for step in steps}
        bad = self._rehearse(wave, [step for step in writing if step.action == compare.CREATE])
        found |= bad
        failed = [one for one in bad.values() if one.state == FAILED]
        if failed and wave is not Wave.DENIES:  # what comes later would cut what these were to let through
            found |= {step.ref: Outcome(step.ref, wave, NOT_BEGUN) for step in writing if step.ref not in bad}
            return list(found.values()), f"{failed[0].ref} cannot be made: {failed[0].text}"
        done = self.pace.over([step for step in writing if step.ref not in bad], lambda step: self._write(wave, step))
        found |= {one.ref: one for one in done}
        done += self._resumed(wave, steps)
        said = probe() if probe is not None and done else ""
        if done:
            self.journal.note("wave", wave=wave.name.lower(), written=len(done), red=said)
        if not said:
            lost = [one for one in found.values() if one.state == FAILED]
            return list(found.values()), f"{lost[0].ref}: {lost[0].text}" if lost and wave is not Wave.DENIES else ""
        found |= {one.ref: one for one in self._taken_back(done)}
        return list(found.values()), f"after the wave of {wave.words}: {said}"

    def _resumed(self, wave: Wave, steps: Sequence[Step]) -> list[Outcome]:
        """Return what a run made of this wave that was cut off, perhaps before its probe."""
        uids = {step.ref: step.now.uid for step in steps if step.action == compare.THERE and step.now is not None}
        ours = {ref: uid for ref, uid in uids.items() if self.before.get(ref) == uid}
        self.made |= ours
        return [Outcome(ref, wave, compare.THERE) for ref in ours]

    def _rehearse(self, wave: Wave, steps: Sequence[Step]) -> dict[str, Outcome]:
        why = self.pace.over(steps, lambda step: problem(self.cluster, step.policy, step.body))
        pairs = zip(steps, why, strict=True)
        return {step.ref: self._cannot(wave, step.policy, said) for step, said in pairs if said}

    def _cannot(self, wave: Wave, policy: Policy, said: str) -> Outcome:
        if policy.namespace and self._namespace_gone(policy.namespace, said):
            return Outcome(policy.ref, wave, NO_NAMESPACE, f"its namespace {policy.namespace} is gone")
        return Outcome(policy.ref, wave, FAILED, said)

    @staticmethod
    def _namespace_gone(namespace: str, said: str) -> bool:
        return f'namespaces "{namespace}" not found' in said or "because it is being terminated" in said

    def _write(self, wave: Wave, step: Step) -> Outcome:
        policy = step.policy
        try:
            if step.action == compare.REPLACE:
                self._replace(step)
                found = Outcome(step.ref, wave, REPLACED, step.text)
            else:
                found = self._make(wave, step)
        except Refused as refused:
            if passing(refused):
                raise
            found = self._cannot(wave, policy, refused.message or refused.why)
        self.journal.note("restored", ref=step.ref, state=found.state, uid=self.made.get(step.ref, ""))
        return found

    def _make(self, wave: Wave, step: Step) -> Outcome:
        policy = step.policy
        try:
            answer = self.api.post(policy.kind.call("create", policy.namespace), step.body)
        except Refused as refused:
            if ALREADY not in refused.reasons:
                raise
            return self._was_there(wave, policy)
        self.made[policy.ref] = text(answer, "metadata", "uid")
        return Outcome(policy.ref, wave, MADE, step.text)

    def _was_there(self, wave: Wave, policy: Policy) -> Outcome:
        """Return what it means that the name is taken by now: by our own request whose answer was lost, or another."""
        again = self._look_again(policy)
        if again.action == compare.THERE and again.now is not None:
            self.made[policy.ref] = again.now.uid  # it was not there a moment ago: a red probe takes it back too
        action = compare.CONFLICT if again.action == compare.REPLACE else again.action  # it was not shown yet
        return Outcome(policy.ref, wave, FAILED if action == compare.CREATE else action, again.text)

    def _replace(self, step: Step) -> None:
        """Change what says something else into the backup's, if it is still what was shown."""
        policy, now = step.policy, step.now
        if now is None:
            return
        held = clean(now.raw, now.kind.api_version, now.kind.kind)
        patch = _patch(held, step.body)
        patch.setdefault("metadata", {})["resourceVersion"] = now.resource_version
        try:
            self.api.patch(policy.kind.call("patch", policy.namespace, policy.name), patch)
        except ClusterError as problem_:
            if problem_.code != CONFLICT:
                raise
            current = self._now(policy)
            if current is None or _differs(current, step.body):
                raise

    def _taken_back(self, done: Sequence[Outcome]) -> list[Outcome]:
        """Delete what this wave made, by uid: it cut what worked before."""

        def back(one: Outcome) -> Outcome:
            policy = self.backup.by_ref[one.ref][0]
            try:
                self.api.delete(policy.kind.call("delete", policy.namespace, policy.name), self.made[one.ref])
            except ClusterError as gone:
                if gone.code not in (NOT_FOUND, CONFLICT):
                    raise
            self.journal.note("taken-back", ref=one.ref, uid=self.made[one.ref])
            return replace(one, state=UNDONE, text="taken back: the probe was red after its wave")

        return self.pace.over([one for one in done if one.ref in self.made], back)

    # -- at the end --------------------------------------------------------------------------------------------

    def _verify(self, outcomes: Sequence[Outcome]) -> tuple[list[str], int]:
        """Read everything again and compare; return what is not equal, and how many are."""
        wanted = {one.ref for one in outcomes if one.state in WELL and one.state != NO_NAMESPACE}
        now = {policy.ref: policy for policy in everywhere(self.api, self.backup.policies)} if wanted else {}
        said = []
        for ref in (one.ref for one in outcomes if one.ref in wanted):
            if ref not in now:
                said.append(f"{ref}: it is gone again")
            elif places := _differs(now[ref], self.backup.by_ref[ref][1], strict=ref in self.made):
                said.append(f"{ref}: {shown(places)}")
        return said, len(wanted) - len(said)


def _differs(now: Policy, wanted: Mapping[str, Any], strict: bool = False) -> tuple[str, ...]:
    places, notes = differing(clean(now.raw, now.kind.api_version, now.kind.kind), wanted)
    return places + notes if strict else places


def _unfinished(directory: Path) -> dict[str, str]:
    """Return what the last restore made, by ref, if it was cut off before its end."""
    made: dict[str, str] = {}
    for line in read(directory):
        ref, uid = line.get("ref"), line.get("uid")
        if line.get("event") == "restore-ended":
            made.clear()
        elif isinstance(ref, str) and isinstance(uid, str) and uid:
            if line.get("event") == "restored":
                made[ref] = uid
            elif line.get("event") == "taken-back":
                made.pop(ref, None)
    return made


def _patch(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that gives an object the backup's content, labels and annotations; owners and the like stay."""
    return merge_patch(_said(held), _said(wanted))


def _said(one: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in one.items() if key not in ("apiVersion", "kind", "metadata")}
    parts = ("labels", "annotations")
    return {**rest, "metadata": {part: at(one, "metadata", part) or {} for part in parts}}
