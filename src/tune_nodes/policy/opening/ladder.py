"""The rungs of a reset, the least destructive first, and which of them is the first to let the traffic through (pure).

Nothing is tried on the cluster: each rung is judged on the snapshot as it would be with the rung taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tune_nodes.policy.model import POLICY, Policy, Snapshot
from tune_nodes.policy.opening import allows, flows
from tune_nodes.policy.opening.allows import Mark
from tune_nodes.policy.opening.flows import Flow, Judge, Judged
from tune_nodes.policy.opening.scope import Scope

NARROW, ALLOW, SWITCH, SELECTED, ALL = 2, 3, 4, 5, 6
TITLES = {
    NARROW: "allow DNS and health checks",
    ALLOW: "allow everything in the scope",
    SWITCH: "switch the engine's enforcement off",
    SELECTED: "delete the policies that decide",
    ALL: "delete every policy that selects the scope's pods",
}
#: Rungs from this one on want more than a yes.
APPROVED = SWITCH
#: How often policies that decide are looked for behind those that are to be deleted.
DEEPEST = 50
_NO_SWITCH = {
    "cilium": "an endpoint's policy-audit-mode is set inside the agent, and is lost when the pod is replaced",
    "calico": "turning policies into staged ones is a delete too, and of more policies than decide",
}


@dataclass(frozen=True)
class Rung:
    """One rung for one question.

    Args:
        number: 2 to 6.
        adds: what it would make.
        removes: what it would delete.
        opens: whether the traffic would be let through; None where that cannot be judged.
        why: a sentence: why it does, or does not.
        available: whether there is anything that it could do here.
    """

    number: int
    adds: tuple[Policy, ...] = ()
    removes: tuple[Policy, ...] = ()
    opens: bool | None = False
    why: str = ""
    available: bool = True

    @property
    def title(self) -> str:
        """What it does."""
        return TITLES[self.number]

    @property
    def wants_approval(self) -> bool:
        """Whether the scope's name must be typed, or the plan's hash be given."""
        return self.number >= APPROVED


@dataclass(frozen=True)
class Ladder:
    """All rungs, the traffic as it is now, and the rung to take: None where nothing is cut, or nothing helps."""

    rungs: tuple[Rung, ...]
    now: tuple[Judged, ...]
    chosen: Rung | None

    @property
    def cut(self) -> tuple[Judged, ...]:
        """The flows in question that are not let through now."""
        return tuple(one for one in self.now if one.allowed is False)

    def after(self, rung: Rung) -> Rung | None:
        """Return the next rung that would let the traffic through, for where one did not in truth."""
        return next((one for one in self.rungs if one.number > rung.number and one.available and one.opens), None)

    def rung(self, number: int) -> Rung | None:
        """Return one rung."""
        return next((one for one in self.rungs if one.number == number), None)


@dataclass(frozen=True)
class Question:
    """What is asked: which scope may be changed, and which flows shall be let through."""

    snapshot: Snapshot
    scope: Scope
    flows: Sequence[Flow]
    judge: Judge
    mark: Mark = field(default_factory=Mark)

    def look(self, snapshot: Snapshot, at: Iterable[Flow]) -> list[Judged]:
        """Judge flows on a snapshot."""
        return [flows.judged(self.judge, snapshot, flow) for flow in at]


def climb(ask: Question, wanted: int = 0) -> Ladder:
    """Return the ladder for a question.

    Args:
        ask: the question.
        wanted: the rung that was asked for, 0 for the first that opens.
    """
    now = ask.look(ask.snapshot, ask.flows)
    watched = [flow for flow in flows.wide(ask.snapshot, ask.scope) if flow not in ask.flows]
    open_now = [one.flow for one in (*now, *ask.look(ask.snapshot, watched)) if one.allowed]
    allow = _allow(ask, open_now)
    rungs = (_narrow(ask, open_now), allow, _switch(ask), _selected(ask, allow), _all(ask, watched))
    usable = [rung for rung in rungs if rung.available]
    if wanted:
        chosen = next((rung for rung in usable if rung.number == wanted), None)
    elif not any(one.allowed is False for one in now):
        chosen = None
    else:
        chosen = next((rung for rung in usable if rung.opens), None)
    return Ladder(rungs, tuple(now), chosen)


def _judged(ask: Question, rung: Rung, open_now: Sequence[Flow] = ()) -> Rung:
    """Return a rung with what it would do to the traffic."""
    after = ask.snapshot.without([one.ref for one in rung.removes]).plus(rung.adds)
    closed = [one for one in ask.look(after, open_now) if one.allowed is False]
    if closed:
        return replace(rung, opens=False, why=f"it would cut what is open now: {closed[0].flow}")
    found = ask.look(after, ask.flows)
    still = [one for one in found if one.allowed is False]
    if still:
        who = still[0].decider
        by = f"{who.ref} still denies {still[0].flow}" if who else f"{still[0].flow} is still cut"
        rule = still[0].rule.removeprefix(f"{who.ref} ") if who else still[0].rule
        return replace(rung, opens=False, why=f"{by}: {rule}" if rule else by)
    unknown = [one for one in found if one.allowed is None]
    if unknown:
        return replace(rung, opens=None, why=f"not judged: {unknown[0].rule or unknown[0].flow}")
    return replace(rung, opens=True, why="the traffic in question is let through")


def _narrow(ask: Question, open_now: Sequence[Flow]) -> Rung:
    best: Rung | None = None
    for sides in (("ingress", "egress"), ("egress",), ("ingress",)):
        made = allows.narrow(ask.snapshot, ask.scope, ask.mark, sides)
        if not made:
            return Rung(NARROW, why="labels cannot tell the scope's pods from others", available=False)
        rung = _judged(ask, Rung(NARROW, adds=tuple(made)), open_now)
        if rung.opens:
            return rung
        best = best if best and not best.why.startswith("it would cut") else rung
    return best or Rung(NARROW, available=False)


def _allow(ask: Question, open_now: Sequence[Flow]) -> Rung:
    tried = []
    for made in allows.everything(ask.snapshot, ask.scope, ask.mark):
        if made:
            tried.append(_judged(ask, Rung(ALLOW, adds=tuple(made)), open_now))
            if tried[-1].opens:
                return tried[-1]
    if not tried:
        return Rung(ALLOW, why="no kind of policy here can be told to allow this scope", available=False)
    return next((rung for rung in tried if rung.opens is None), tried[0])


def _switch(ask: Question) -> Rung:
    why = _NO_SWITCH.get(ask.snapshot.engine, f"{ask.snapshot.engine or 'this engine'} has none for one scope")
    return Rung(SWITCH, why=f"not available here: {why}", available=False)


def _selected(ask: Question, allow: Rung) -> Rung:
    """Return the rung with the fewest deletions: of the deciding policies alone, or beside an allow of everything.

    It deletes at least one: it is for where an allow that is judged to be enough is not.
    """
    alone, why = _deciding(ask, ask.snapshot)
    beside, _ = _deciding(ask, ask.snapshot.plus(allow.adds)) if allow.available else (None, "")
    if beside and (alone is None or len(beside) < len(alone)):
        return _judged(ask, Rung(SELECTED, adds=allow.adds, removes=tuple(beside)))
    if alone is None:
        return Rung(SELECTED, why=why, available=False)
    if not alone:
        return Rung(SELECTED, why="no policy cuts it", available=False)
    return _judged(ask, Rung(SELECTED, removes=tuple(alone)))


def _deciding(ask: Question, snapshot: Snapshot) -> tuple[list[Policy] | None, str]:
    """Return the policies that cut the traffic one behind the other; None, and why, where they are out of reach."""
    found: dict[str, Policy] = {}
    for _ in range(DEEPEST):
        cut = [one for one in ask.look(snapshot.without(list(found)), ask.flows) if one.allowed is False]
        if not cut:
            return list(found.values()), ""
        for one in cut:
            who = one.decider
            if who is None or who.ref in found:
                return None, f"what cuts {one.flow} cannot be told: {one.rule}"
            if not ask.scope.reaches(who):
                return None, f"{who.ref} cuts {one.flow}, and is outside {ask.scope}"
        found |= {one.decider.ref: one.decider for one in cut if one.decider}
    return None, f"more than {DEEPEST} policies stand behind each other"


def _all(ask: Question, watched: Sequence[Flow]) -> Rung:
    policies = [one for one in ask.snapshot.policies if one.kind.role == POLICY]
    if ask.scope.kind != "cluster":
        seen = {one.ref for found in ask.look(ask.snapshot, (*ask.flows, *watched)) for one in found.seen}
        whole = ask.scope.kind == "namespace"
        policies = [
            one
            for one in policies
            if ask.scope.reaches(one) and (one.ref in seen or (whole and one.namespace == ask.scope.namespace))
        ]
    if not policies:
        return Rung(ALL, why="there is none", available=False)
    return _judged(ask, Rung(ALL, removes=tuple(policies)))


def plan_hash(rung: Rung, scope: Scope, ttl: int) -> str:
    """Return the hash that an approval is bound to.

    It covers the rung, the scope, how long it stays, what is added, and of what is deleted each object's identity and
    version: a plan for which one of them has changed has another hash.
    """
    document: Mapping[str, Any] = {
        "schema": 1,
        "rung": rung.number,
        "scope": [scope.kind, scope.text],
        "ttl": ttl,
        "adds": sorted(
            (f"{one.kind.qualified} {one.namespace}", json.dumps(one.spec, sort_keys=True)) for one in rung.adds
        ),
        "removes": sorted([one.ref, one.uid, one.resource_version] for one in rung.removes),
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(canonical).hexdigest()[:32]}"
