"""A reset: what it would do, and doing it in an order in which nothing can be lost and the way back exists first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, ClusterError
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy import permissions
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import delete, order, rehearse
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.model import Policy, Snapshot
from tune_nodes.policy.opening import ladder, ttl
from tune_nodes.policy.opening.allows import LABEL, PREFIX, Mark
from tune_nodes.policy.opening.ladder import Ladder, Rung
from tune_nodes.policy.opening.record import ResetRecord, added
from tune_nodes.policy.opening.scope import Scope
from tune_nodes.policy.owning import gitops, owners
from tune_nodes.policy.pace import Pace

#: Where a paused owner's setting is kept, beside the backup.
GITOPS = "gitops.json"


@dataclass(frozen=True)
class Plan:
    """A reset that was decided on.

    Args:
        scope: what it is for.
        snapshot: what it rests on.
        ladder: with the rung that was chosen.
        rung: that rung.
        ttl: seconds after which it ends by itself, 0 for never.
        image: of the Job that ends it, "" for none.
        pause: whether the owners of what is deleted are paused.
        agents: sentences on nodes of the scope whose agent does not run: nothing that is changed counts there.
        open: ids of earlier resets that are open still. What they added is left out of what is judged.
    """

    scope: Scope
    snapshot: Snapshot
    ladder: Ladder
    rung: Rung
    ttl: int = 0
    image: str = ""
    pause: bool = False
    agents: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """What an approval is bound to."""
        return ladder.plan_hash(self.rung, self.scope, self.ttl)

    @property
    def kept(self) -> tuple[Policy, ...]:
        """What is backed up: all that selects the scope's pods, and all that is deleted."""
        everything = self.ladder.rung(ladder.ALL)
        mine = everything.removes if everything else ()
        return tuple({one.ref: one for one in (*mine, *self.rung.removes)}.values())

    def owners(self) -> list[owners.Owner]:
        """Return who would make again what is deleted."""
        return list(dict.fromkeys(owner for policy in self.rung.removes for owner in owners.of(policy)))

    def beyond(self) -> list[str]:
        """Say of each policy that is deleted whom it selects outside the scope too."""
        if self.scope.kind == "cluster":
            return []
        return [
            f"{one.ref} belongs to no namespace: deleting it reaches pods outside {self.scope}"
            for one in self.rung.removes
            if not one.namespace
        ]


@dataclass
class Done:
    """A reset that was carried out.

    ``said``: what was done, a sentence each; ``warnings``: what somebody should know.
    """

    plan: Plan
    backup: Backup
    record: ResetRecord
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def undo(self) -> str:
        """The command that takes it back."""
        return f"tune-nodes policy restore {self.backup.id}"


def carry_out(
    cluster: Cluster,
    plan: Plan,
    directory: Path,
    owner: str,
    wait: bool = False,
    now: Callable[[], datetime] | None = None,
) -> Done:
    """Back up, arm the way back, then open.

    Args:
        cluster: where.
        plan: what.
        directory: where backups are kept.
        owner: who asked, for the objects' annotations.
        wait: the caller itself ends it when its time is over.
        now: the time, for tests.

    Raises:
        ClusterError: code forbidden: nothing was written. Else what was begun stands in the record: ``restore`` it.
        TuneError: something that would be deleted could not be made again; nothing was changed.
    """
    clock = now or (lambda: datetime.now(UTC))
    _permitted(cluster, plan)
    backup = backups.write(cluster, plan.kept, directory, str(plan.scope))
    _proven(cluster, plan, backup)
    ends = bool(plan.ttl and (plan.image or wait))  # else nothing closes it, and no time is promised
    until = (clock() + timedelta(seconds=plan.ttl)).replace(microsecond=0) if ends else None
    mark = Mark(backup.id, until.isoformat() if until else "", owner)
    adds = [marked(one, mark) for one in plan.rung.adds]
    by = "job" if plan.image and until else "wait" if wait and until else ""
    record = ResetRecord(
        id=backup.id,
        scope=plan.scope.text,
        rung=plan.rung.number,
        plan_hash=plan.hash,
        until=mark.until,
        closes_by=by,
        image=plan.image,
        added=added(adds),
        removed=[one.ref for one in plan.rung.removes],
    )
    done = Done(plan, backup, record, [f"backup {backup.id}: {_count(len(backup.policies))}, read back"])
    record.save(backup.directory)
    try:
        if by == "job" and until:
            ttl.arm(cluster.api, _door(cluster, backup, plan, adds, until))
            done.said.append(f"armed: the Job {ttl.NAMESPACE}/tune-nodes-restore-{backup.id} closes it {mark.until}")
        _pause(cluster, plan, done)
        _open(cluster, done, adds)
    except TuneError as problem:
        problem.next = problem.next or f"take back what was begun: {done.undo}"
        raise
    record.opened = clock().isoformat(timespec="milliseconds")
    record.save(backup.directory)
    return done


def _permitted(cluster: Cluster, plan: Plan) -> None:
    """Refuse before the first write, with the right that is missing. Raises ClusterError."""
    permissions.require(cluster, plan.rung.removes, ("get", "list", "create", "delete"))
    permissions.require(cluster, plan.rung.adds, ("create", "delete"))
    if not (plan.image and plan.ttl):
        return
    lacking = permissions.missing_calls(cluster, ttl.needed(_namespaces(plan)))
    if lacking:
        raise ClusterError(
            FORBIDDEN,
            f"{cluster.user or 'the user of this context'} may not {'; '.join(lacking[:6])}",
            "the Job that closes the door again needs it; nothing was changed",
            "tune-nodes cluster rbac recover | kubectl apply -f -   (or leave --image out, and restore by hand)",
        )


def _namespaces(plan: Plan) -> set[str]:
    return {one.namespace for one in (*plan.rung.adds, *plan.rung.removes)} - {""}


def _proven(cluster: Cluster, plan: Plan, backup: Backup) -> None:
    """See that all that is deleted can be made again. Raises TuneError."""
    gone = [one.ref for one in plan.rung.removes if one.ref not in backup.by_ref]
    if gone:
        raise TuneError(f"{gone[0]} is not there any more", "the cluster has changed since the plan", "run it again")
    changed = [
        one.ref
        for one in plan.rung.removes
        if (backup.by_ref[one.ref][0].uid, backup.by_ref[one.ref][0].resource_version)
        != (one.uid, one.resource_version)
    ]
    if changed:
        raise TuneError(f"{changed[0]} was changed since the plan was made", "nothing was changed here", "run it again")
    problems = rehearse.rehearse(cluster, backup, {one.ref for one in plan.rung.removes})
    if problems:
        raise TuneError(
            "what would be deleted could not be made again",
            "; ".join(problems[:5]),
            "nothing was changed; fix that first",
        )


def marked(policy: Policy, mark: Mark) -> Policy:
    """Return an object of a plan with the reset's own name, label and annotations."""
    name = policy.name.replace(f"{PREFIX}-{Mark().id}", mark.name)
    metadata = {**mark.metadata(policy.namespace), "name": name}
    return replace(policy, name=name, raw={**policy.raw, "metadata": metadata})


def _door(cluster: Cluster, backup: Backup, plan: Plan, adds: Sequence[Policy], until: datetime) -> ttl.Door:
    addresses, port = ttl.servers(cluster.api)
    removed = {one.ref for one in plan.rung.removes}
    restored = [one for one in backup.policies if one.ref in removed]
    waves = [[backup.by_ref[one.ref][1] for one in mine] for _, mine in order.waves(restored)]
    return ttl.Door(
        backup.id, int(until.timestamp()), plan.image, addresses, port, restore=waves, remove=adds, restored=restored
    )


def _pause(cluster: Cluster, plan: Plan, done: Done) -> None:
    for owner in plan.owners():
        if plan.pause:
            answer = gitops.pause(cluster, owner, done.backup.directory / GITOPS)
            (done.said if answer.done else done.warnings).append(answer.text)
        else:
            done.warnings.append(f"{owner.shown} will make it again: {owner.text} (--pause-gitops pauses it)")


def _open(cluster: Cluster, done: Done, adds: Sequence[Policy]) -> None:
    def make(policy: Policy) -> Policy:
        answer = cluster.api.post(policy.kind.call("create", policy.namespace), policy.raw)
        return replace(policy, raw=answer)

    made: list[Policy] = Pace().over(adds, make)
    done.record.added = added(made)
    done.said += [f"added {one.ref}" for one in made]
    refs = [one.ref for one in done.plan.rung.removes]
    if not refs:
        return
    with Journal(done.backup.directory) as journal:
        found = delete.delete(cluster, done.backup, refs, journal=journal)
    done.said += [f"deleted {one.ref}" for one in found.outcomes if one.state in (delete.DELETED, delete.GONE)]
    done.warnings += [f"{one.ref}: {one.text}" for one in found.left]


def _count(number: int) -> str:
    return f"{number} {'policy' if number == 1 else 'policies'}"


def left_open(snapshot: Snapshot) -> list[Policy]:
    """Return the allows of earlier resets that are still there."""
    return [one for one in snapshot.policies if LABEL in one.labels]


def seconds_of(text: str, option: str) -> int:
    """Return the seconds of "90s", "30m", "2h" or "45" (seconds). Raises UsageError that names the option."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise UsageError(f"{one_line(text, 80)!r} is no time", "it must be like 90s, 30m or 2h", f"{option} 30m")
    return int(number) * units[unit]


def check_ttl(text: str) -> int:
    """Return the seconds of a reset's time. Raises UsageError."""
    seconds = seconds_of(text, "--ttl")
    if not 10 <= seconds <= 7 * 86400:
        raise UsageError(f"--ttl {text} is out of range", "from 10s to 168h")
    return seconds
