"""``tune-nodes plan``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli.looking import look
from tune_nodes.cli.options import InCluster, Output, Reach, Wish
from tune_nodes.cli.planview import recap, show_plan
from tune_nodes.fleet import rounds
from tune_nodes.runs import planfile


def next_command(reach: Reach, wish: Wish, cluster: InCluster) -> str:
    """Return the apply that does what this plan shows (pure)."""
    words = ["tune-nodes", "apply"]
    words += [word for source in reach.inventory for word in ("-i", source)]
    words += ["-l", reach.limit] if reach.limit else []
    words += ["-p", wish.profile] if wish.profile else []
    words += [word for tag in wish.tags for word in ("-t", tag)]
    words += ["-u", reach.user] if reach.user else []
    words += [flag for flag, on in (("-b", reach.become), ("-K", reach.ask_become_pass), ("-k", reach.ask_pass)) if on]
    words += ["--kubeconfig", cluster.kubeconfig] if cluster.kubeconfig else []
    words += ["--context", cluster.context] if cluster.context else []
    words += ["--cluster", str(cluster.cluster)] if cluster.cluster else []
    return shlex.join(words)


def plan(
    reach: Reach,
    wish: Wish,
    cluster: InCluster,
    out: Output,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Keep the plan in this file, for: tune-nodes apply FILE.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 where changes are pending.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", "-D", help="Also show settings that are right already.")] = False,
) -> int:
    """Show what would change on every node. Nothing is changed."""
    looked = look("plan", reach, wish, cluster, out, detailed_exitcode)
    printer, record = looked.session.printer, looked.record
    if out_file is not None:
        planfile.save(out_file, planfile.build(record, looked.targets, looked.settings.window, looked.profile.cluster))
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return int(looked.code)
    show_plan(printer, record, diff)
    recap(printer, record)
    if rounds.needs_two(record.nodes.values()):
        printer.note(rounds.IN_TWO)
    if out_file is not None:
        printer.note(f"plan kept in {out_file}; apply exactly this with: tune-nodes apply {out_file}")
    elif any(node.pending for node in record.nodes.values()):
        printer.note(f"next: {next_command(reach, wish, cluster)}")
    return int(looked.code)
