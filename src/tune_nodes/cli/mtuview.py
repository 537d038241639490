"""How ``tune-nodes mtu`` shows what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tune_nodes.cli.mtulook import Asked
from tune_nodes.cli.output import Printer, error_lines
from tune_nodes.cnimtu.model import Layer, NodeStack, Setting
from tune_nodes.cnimtu.service import Look
from tune_nodes.cnimtu.stale import Workload
from tune_nodes.errors import TuneError

#: Workloads and faults that are listed; all of them stand in the JSON.
MOST = 40


def show(printer: Printer, asked: Asked, found: Look | None) -> None:
    """Print everything."""
    if not printer.human:
        printer.document(document(asked, found))
        return
    printer.rows(("NODE", "INTERFACES", "TUNNELS", "PODS GET", "SHOULD", "OLD PODS"), map(_row(asked), asked.stacks), 1)
    for record in asked.records.values():
        if record.error is not None:
            error = record.error
            for line in error_lines(TuneError(f"{record.name}: {error.what}", error.why, error.next)):
                printer.note(line)
        for warning in record.warnings:
            printer.note(f"warning: {record.name}: {warning}")
    if found is None:
        printer.note("not seen: the CNI's configuration and pods' names, for there is no kubeconfig")
        return
    for fault in found.plan.faults[:MOST]:
        printer.line(f"! {fault}")
    settings(printer, found)
    if found.workloads:
        workloads(printer, found.workloads)


def _row(asked: Asked) -> Any:
    def row(stack: NodeStack) -> list[str]:
        return [
            stack.node,
            _layers(stack.interfaces),
            _layers(stack.tunnels),
            str(stack.given or ""),
            str(stack.pods or stack.problem),
            str(len(asked.records[stack.node].stale_pods) or ""),
        ]

    return row


def _layers(layers: Sequence[Layer]) -> str:
    return ", ".join(
        f"{one.name} {one.now}{f' (should be {one.want})' if one.now != one.want else ''}" for one in layers
    )


def settings(printer: Printer, found: Look) -> None:
    """Print what the API holds, and what would be changed."""
    plan = found.plan
    for one in plan.settings:
        printer.line(f"{one.status:11} {one.held.ref}, {one.key}: {_words(one)}")
        printer.line(f"            {one.reason}")
        if one.note:
            printer.line(f"            {one.note}")
    if plan.restart:
        printer.line(f"restart     {plan.cni}'s agent on {', '.join(plan.restart)}, one node at a time")
    for sentence in (*plan.notes, *found.managed):
        printer.line(f"! {sentence}")
    if plan.refused:
        printer.note(f"nothing is changed in the API: {plan.refused}")
    elif not plan.work:
        printer.note("the CNI's configuration is right")


def _words(one: Setting) -> str:
    now, want = (str(value) if value else "automatic" for value in (one.now, one.want))
    return now if one.now == one.want else f"{now} -> {want}"


def question(found: Look) -> str:
    """Return the one question before a change."""
    objects = sorted({one.held.ref for one in found.plan.pending})
    parts = [f"change {', '.join(objects)}"] if objects else []
    parts += [f"restart {len(found.plan.restart)} agents"] if found.plan.restart else []
    return f"{' and '.join(parts).capitalize()}?"


def workloads(printer: Printer, found: Sequence[Workload]) -> None:
    """Print workloads with pods on an old MTU."""
    if not found:
        printer.note("no pod has an old MTU")
        return
    rows = [
        [
            one.namespace,
            f"{one.kind} {one.name}",
            f"{len(one.stale)} of {one.of}",
            ", ".join(map(str, one.sizes)),
            one.left,
        ]
        for one in found[:MOST]
    ]
    printer.rows(("NAMESPACE", "WORKLOAD", "OLD PODS", "MTU", "LEFT BECAUSE"), rows)
    if len(found) > MOST:
        printer.note(f"and {len(found) - MOST} more; -o json has all")


def document(asked: Asked, found: Look | None) -> dict[str, Any]:
    """Return everything as JSON."""
    by_name = {stack.node: stack for stack in asked.stacks}
    return {
        "nodes": {name: _node(by_name.get(name), asked, name) for name in asked.records},
        "plan": found.plan.to_dict() if found else None,
        "managed": list(found.managed) if found else [],
        "workloads": [one.to_dict() for one in found.workloads] if found else [],
    }


def _node(stack: NodeStack | None, asked: Asked, name: str) -> dict[str, Any]:
    record = asked.records[name]
    base = {
        "outcome": str(record.outcome),
        "error": record.error.model_dump() if record.error else None,
        "stale_pods": [pod.model_dump() for pod in record.stale_pods],
    }
    if stack is None:
        return base
    layers = [{"name": one.name, "kind": one.kind, "mtu": one.now, "want": one.want} for one in stack.layers]
    more = {"cni": stack.cni, "given": stack.given, "pods": stack.pods, "problem": stack.problem}
    return {**base, **more, "layers": layers, "faults": list(stack.faults)}
