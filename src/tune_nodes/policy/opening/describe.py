"""A reset as plain data, for JSON, for Ansible, and for people (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tune_nodes.policy.opening.ladder import Rung
from tune_nodes.policy.opening.reset import Done, Plan

if TYPE_CHECKING:
    from tune_nodes.policy.proving.proof import Proof


def who_cuts(plan: Plan) -> list[str]:
    """Say of each policy that decides how much it cuts, and one connection of it."""
    by: dict[str, list[Any]] = {}
    for one in plan.ladder.cut:
        by.setdefault(one.decider.ref if one.decider else "what cuts it cannot be told", []).append(one)
    whole = len(plan.ladder.now)
    return [
        f"{ref} cuts {len(some)} of {whole} kinds of connections: {some[0].flow}: "
        + some[0].rule.removeprefix(f"{ref} ")
        for ref, some in by.items()
    ]


def _rung(rung: Rung) -> dict[str, Any]:
    return {
        "rung": rung.number,
        "title": rung.title,
        "available": rung.available,
        "opens": rung.opens,
        "why": rung.why,
        "adds": [{"kind": one.kind.qualified, "namespace": one.namespace, "spec": one.spec} for one in rung.adds],
        "removes": [one.ref for one in rung.removes],
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as it stands in JSON."""
    return {
        "scope": plan.scope.text,
        "engine": plan.snapshot.engine,
        "rung": plan.rung.number,
        "plan_hash": plan.hash,
        "ttl": plan.ttl,
        "cut": [
            {"flow": str(one.flow), "by": one.decider.ref if one.decider else None, "rule": one.rule}
            for one in plan.ladder.cut
        ],
        "ladder": [_rung(rung) for rung in plan.ladder.rungs],
        "beyond": plan.beyond(),
        "agents": list(plan.agents),
        "open": list(plan.open),
        "owners": [owner.shown for owner in plan.owners()],
        "not_judged": list(plan.snapshot.not_judged),
    }


def next_document(plan: Plan | None) -> dict[str, Any] | None:
    """Return the rung to take where one did not open in truth, None for none."""
    return {"rung": plan.rung.number, "plan_hash": plan.hash, "why": plan.rung.why} if plan else None


def done_document(done: Done, proofs: Sequence[Proof]) -> dict[str, Any]:
    """Return what was done, beyond the plan, as it stands in JSON."""
    record = done.record
    return {
        "backup": done.backup.id,
        "opened": record.opened,
        "until": record.until or None,
        "closes_by": record.closes_by or None,
        "added": [f"{one.kind.kind} {one.namespace}/{one.name}" for one in record.added],
        "removed": record.removed,
        "undo": done.undo,
        "said": done.said,
        "warnings": done.warnings,
        "proof": [{"result": proof.word, "ok": proof.ok, "text": proof.text} for proof in proofs],
    }
