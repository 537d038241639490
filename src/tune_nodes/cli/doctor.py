"""``tune-nodes doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from tune_nodes.cli import checks, cluster_checks, complete
from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.errors import KubeconfigError
from tune_nodes.errors import Exit

_LOOKS = {"ok": ("\u2713", "=", "green"), "warn": ("!", "!", "yellow"), "fail": ("\u2717", "x", "red")}


def doctor(
    out: Output,
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", help="Also check this inventory.", autocompletion=complete.inventories),
    ] = None,
    limit: Annotated[str, typer.Option("--limit", "-l", help="Only these nodes of it.")] = "",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Also check the cluster: its server, its nodes, our rights in it.")
    ] = False,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Check this machine: programs, versions, collection, state directory, inventory, ssh. No node is contacted."""
    settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
    printer = Printer(Format(settings.output), out.no_color)
    names = inventory or settings.inventory
    found = checks.everything(names, limit, settings.state_dir)
    if cluster or kubeconfig or context:
        found += _of_cluster(names, settings.cluster.kubeconfig, settings.cluster.context)
    code = Exit.FAILED if any(check.status == "fail" for check in found) else Exit.OK
    if not printer.human:
        printer.document([asdict(check) for check in found])
        return int(code)
    for check in found:
        symbol, plain, style = _LOOKS[check.status]
        mark = symbol if printer.unicode else plain
        printer.line(Text.assemble((f"{mark} {check.status:4}", style), f" {check.name}: {check.detail}"))
        if check.next:
            printer.line(f"       next: {check.next}")
    return int(code)


def _of_cluster(names: Sequence[str], kubeconfig: str, context: str) -> list[checks.Check]:
    try:
        found = chosen_kubeconfig(kubeconfig, names)
    except KubeconfigError as problem:
        return [checks.Check("kubeconfig", "fail", f"{problem.what}: {problem.why}", problem.next)]
    return cluster_checks.cluster(found, context)
