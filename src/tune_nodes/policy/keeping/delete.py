"""Deleting the policies of a backup, each only while it is the very object that was backed up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import text
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy import permissions
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.clean import clean, differing, finalizers, is_terminating, shown
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.model import Policy
from tune_nodes.policy.pace import Pace

DELETED, GONE, STUCK, CHANGED, ANOTHER, FAILED = "deleted", "gone", "stuck", "changed", "another", "failed"
#: How often a delete is tried while something else writes to the object, its status as a rule.
TRIES = 4
#: Seconds to wait for objects that have finalizers, all of them together.
FINALIZERS = 15.0
LOOK = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of one policy.

    Args:
        ref: which.
        state: "deleted", by us; "gone" before we came; "stuck": deleted, but its finalizers hold it; "changed" since
            the backup, or "another" object of that name: both left alone; "failed".
        text: a sentence, "" for the first two.
    """

    ref: str
    state: str
    text: str = ""


@dataclass(frozen=True)
class Deleted:
    """What became of all of them, and what it took. ``seconds``, ``calls`` to the server, answers 429."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    calls: int
    throttled: int

    @property
    def left(self) -> tuple[Outcome, ...]:
        """Those that are still there."""
        return tuple(one for one in self.outcomes if one.state not in (DELETED, GONE))

    @property
    def counts(self) -> dict[str, int]:
        """How many of each state."""
        return dict(Counter(one.state for one in self.outcomes))


def delete(
    cluster: Cluster,
    backup: Backup,
    refs: Collection[str],
    *,
    journal: Journal,
    pace: Pace | None = None,
    wait: float = FINALIZERS,
    sleep: Callable[[float], None] = time.sleep,
) -> Deleted:
    """Delete policies of a backup. May be called again after it was cut off: what is gone then is not missed.

    Args:
        cluster: where.
        backup: holds every object that is deleted; nothing else can be.
        refs: which of it.
        journal: of that backup; what is begun stands in it first.
        pace: how many calls at once.
        wait: seconds for finalizers.
        sleep: waits some seconds.

    Raises:
        UsageError: a ref is not in the backup; nothing was deleted.
        ClusterError: code forbidden: nothing was deleted. Else the server was lost on the way: call it again.
    """
    unknown = [ref for ref in refs if ref not in backup.by_ref]
    if unknown:
        what = f"{one_line(unknown[0])} is not in the backup {backup.id}"
        raise UsageError(what, "only what is backed up is deleted")
    started, api = time.monotonic(), cluster.api
    before, throttled = api.sent.total(), api.throttled
    chosen = [backup.by_ref[ref][0] for ref in dict.fromkeys(refs)]
    permissions.require(cluster, chosen, ("get", "list", "delete"))
    journal.note("delete", refs=[one.ref for one in chosen])

    def one(policy: Policy) -> Outcome:
        found = _delete(api, policy)
        journal.note("deleted", ref=policy.ref, uid=policy.uid, state=found.state)
        return found

    outcomes = (pace or Pace()).over(chosen, one)
    outcomes = _settled(api, backup, outcomes, wait, sleep)
    journal.note("delete-ended", left=[one.ref for one in outcomes if one.state not in (DELETED, GONE)])
    seconds = time.monotonic() - started
    return Deleted(tuple(outcomes), seconds, api.sent.total() - before, api.throttled - throttled)


def _delete(api: Api, policy: Policy) -> Outcome:
    version = policy.resource_version
    for _ in range(TRIES):
        try:
            answer = api.delete(policy.kind.call("delete", policy.namespace, policy.name), policy.uid, version)
            return _held(policy, answer) if finalizers(answer) else Outcome(policy.ref, DELETED)
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return Outcome(policy.ref, GONE)
            if problem.code != CONFLICT:
                raise
        now = _now(api, policy)
        if now is None:
            return Outcome(policy.ref, GONE)
        if text(now, "metadata", "uid") != policy.uid:
            return Outcome(policy.ref, ANOTHER, "another object has its name now: it was made again since the backup")
        if is_terminating(now):
            return _held(policy, now)
        places, notes = differing(_clean(now, policy), _clean(policy.raw, policy))
        if places or notes:
            return Outcome(policy.ref, CHANGED, f"it was changed since the backup: {shown(places + notes)}")
        version = text(now, "metadata", "resourceVersion")  # only what the server or a controller notes has changed
    return Outcome(policy.ref, FAILED, f"something else wrote to it each of {TRIES} times")


def _clean(raw: Any, policy: Policy) -> dict[str, Any]:
    return clean(raw, policy.kind.api_version, policy.kind.kind)


def _held(policy: Policy, now: Any) -> Outcome:
    names = ", ".join(one_line(name, 100) for name in finalizers(now)) or "none named"
    return Outcome(policy.ref, STUCK, f"still there: finalizer {names}")


def _now(api: Api, policy: Policy) -> dict[str, Any] | None:
    try:
        return api.get(policy.kind.call("get", policy.namespace, policy.name))
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return None
        raise


def _settled(
    api: Api, backup: Backup, outcomes: list[Outcome], wait: float, sleep: Callable[[float], None]
) -> list[Outcome]:
    """Wait, within bounds, for objects that only their finalizers hold."""
    limit = time.monotonic() + wait
    found = {one.ref: one for one in outcomes}
    while stuck := [ref for ref, one in found.items() if one.state == STUCK]:
        for ref in stuck:
            policy = backup.by_ref[ref][0]
            now = _now(api, policy)
            if now is None or text(now, "metadata", "uid") != policy.uid:
                found[ref] = Outcome(ref, DELETED)
            else:
                found[ref] = _held(policy, now)
        if time.monotonic() >= limit:
            break
        if any(found[ref].state == STUCK for ref in stuck):
            sleep(LOOK)
    return list(found.values())
