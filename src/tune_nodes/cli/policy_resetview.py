"""A reset as a person reads it: the plan, what was done, what was proved, and how it closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune_nodes.cli.output import Printer
from tune_nodes.fleet.untrusted import one_line

if TYPE_CHECKING:
    from tune_nodes.policy.opening.reset import Done, Plan
    from tune_nodes.policy.proving.proof import Proof


def print_plan(printer: Printer, plan: Plan) -> None:
    """Print what would be done, and why not less."""
    from tune_nodes.policy.opening import describe

    pods = len(plan.scope.pods(plan.snapshot))
    engine = f"policies enforced by {plan.snapshot.engine}" if plan.snapshot.engine else "nobody is known to enforce"
    printer.line(f"{plan.scope}: {pods} {'pod' if pods == 1 else 'pods'}, {engine}")
    for text in describe.who_cuts(plan):
        printer.line(f"   {one_line(text, 300)}")
    for rung in plan.ladder.rungs:
        sign = "->" if rung is plan.rung else "  "
        printer.line(f"{sign} {rung.number} {rung.title}: {one_line(rung.why, 300)}")
        if rung is plan.rung:
            break
    for one in plan.rung.adds:
        printer.line(f"   add {one.kind.text}{f' in {one.namespace}' if one.namespace else ''}")
    for one in plan.rung.removes:
        printer.line(f"   delete {one.ref}")
    earlier = [f"an earlier reset is open still: tune-nodes policy restore {one_line(one, 60)}" for one in plan.open]
    owners = [f"owner: {owner.shown}: {owner.text}" for owner in plan.owners()]
    for text in (*plan.agents, *plan.beyond(), *owners, *earlier):
        printer.note(f"warning: {one_line(text, 300)}")
    printer.line(f"plan {plan.hash}")


def print_done(printer: Printer, done: Done) -> None:
    """Print what was done."""
    for text in done.said:
        printer.line(text)
    for text in done.warnings:
        printer.note(f"warning: {one_line(text, 400)}")


def print_proofs(printer: Printer, done: Done, proofs: Sequence[Proof]) -> None:
    """Print what was proved, and how it closes."""
    for proof in proofs:
        printer.line(f"{proof.word}: {one_line(proof.text, 300)}")
    record = done.record
    closes = {
        "job": f"open from {record.opened} until {record.until}: the Job closes it, with or without this machine",
        "wait": f"open from {record.opened} until {record.until}, when this process closes it",
        "": f"open from {record.opened} until somebody closes it: nothing does so by itself",
    }
    printer.line(closes[record.closes_by])
    printer.line(f"close it now: {done.undo}")
