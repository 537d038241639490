"""What a restore would do with each object of a backup, by what is there now. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import text
from tune_nodes.policy.keeping.backup import Backup, everywhere
from tune_nodes.policy.keeping.clean import clean, differing, finalizers, is_terminating, references, shown
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.policy.model import Policy

CREATE, THERE, REPLACE, CONFLICT, LEFT, ENDING = "create", "there", "replace", "conflict", "left", "ending"


@dataclass(frozen=True)
class Wish:
    """What is asked for beyond the usual.

    Args:
        force: replace an object that says something else by now.
        owned: also make what a controller owns and would make by itself.
        finalizers: give objects their finalizers back: their controllers are there.
        only: refs of those that are put back; None for all. Of a reset's backup those that it deleted: what somebody
            else has deleted since stays deleted.
    """

    force: bool = False
    owned: bool = False
    finalizers: bool = False
    only: frozenset[str] | None = None


@dataclass(frozen=True)
class Step:
    """What is to be done with one object.

    Args:
        policy: of the backup.
        body: as it is to be.
        action: "create"; "there": nothing to do; "replace"; "conflict": it says something else, and stays; "left" to
            its controller; "ending": one of that name is being deleted.
        text: why, and what is not as it was.
        now: what is there, None for nothing.
    """

    policy: Policy
    body: Mapping[str, Any] = field(hash=False)
    action: str
    text: str = ""
    now: Policy | None = None

    @property
    def ref(self) -> str:
        """Which."""
        return self.policy.ref


def plan(cluster: Cluster, backup: Backup, wish: Wish) -> list[Step]:
    """Compare a backup with what is there. Raises ClusterError where that cannot be read."""
    now = {policy.ref: policy for policy in everywhere(cluster.api, backup.policies)}
    lookup = Lookup(cluster.api)
    return [
        step(cluster, lookup, policy, cleaned, now.get(policy.ref), wish)
        for policy, cleaned in zip(backup.policies, backup.cleaned, strict=True)
        if wish.only is None or policy.ref in wish.only
    ]


def step(
    cluster: Cluster, lookup: Lookup, policy: Policy, cleaned: Mapping[str, Any], now: Policy | None, wish: Wish
) -> Step:
    """Return what is to be done with one object."""
    if now is not None and is_terminating(now.raw):
        names = ", ".join(finalizers(now.raw)) or "none named"
        return Step(policy, cleaned, ENDING, f"one of that name is being deleted: finalizer {names}", now)
    if now is not None:
        return _compared(policy, cleaned, now, wish)
    owners, controller, notes = _owners(cluster, lookup, policy)
    if controller and not wish.owned:
        return Step(policy, cleaned, LEFT, f"left to its controller, the {controller}, which has not made it yet")
    metadata = dict(cleaned["metadata"])
    if owners:
        metadata["ownerReferences"] = owners
    held = finalizers(policy.raw)
    if held and wish.finalizers:
        metadata["finalizers"] = list(held)
    elif held:
        notes.append(f"without its finalizer {', '.join(held)}")
    return Step(policy, {**cleaned, "metadata": metadata}, CREATE, "; ".join(notes))


def _compared(policy: Policy, cleaned: Mapping[str, Any], now: Policy, wish: Wish) -> Step:
    held = clean(now.raw, now.kind.api_version, now.kind.kind)
    places, notes = differing(held, cleaned)
    if not places and not (notes and wish.force):
        return Step(policy, cleaned, THERE, f"its annotations differ: {shown(notes)}" if notes else "", now)
    who = "it was changed" if now.uid == policy.uid else "another object has its name, and says something else"
    words = f"{who}: {shown(places + notes)}"
    return Step(policy, cleaned, REPLACE if wish.force else CONFLICT, words, now)


def _owners(cluster: Cluster, lookup: Lookup, policy: Policy) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Return the references with the uids of today, the controller among them by name, and what was dropped."""
    kept: list[dict[str, Any]] = []
    controller, notes = "", []
    for one in references(policy.raw):
        shown_as = f"{text(one, 'kind')} {text(one, 'name')}"
        try:
            uid = _uid_of(cluster, lookup, policy, one)
            why = "is gone"
        except ClusterError as problem:
            if problem.code != FORBIDDEN:
                raise
            uid, why = "", "we may not read"
        if not uid:
            notes.append(f"without its owner, the {shown_as}, which {why}")
            continue
        if uid != one.get("uid"):
            notes.append(f"its owner, the {shown_as}, has been made again: its new uid is set")
        kept.append({**one, "uid": uid})
        if one.get("controller") is True:
            controller = shown_as
    return kept, controller, notes


def _uid_of(cluster: Cluster, lookup: Lookup, policy: Policy, owner: Mapping[str, Any]) -> str:
    """Return an owner's uid as it is now, "" where it is gone or ends."""
    version, kind, name = (text(owner, key) for key in ("apiVersion", "kind", "name"))
    call = lookup.call(version, kind, "get", policy.namespace, name) if name else None
    if call is None:
        return ""
    try:
        found = cluster.api.get(call)
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return ""
        raise
    return "" if is_terminating(found) else text(found, "metadata", "uid")
