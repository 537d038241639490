"""``tune-nodes drift``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli.looking import look
from tune_nodes.cli.options import InCluster, Output, Reach, Wish
from tune_nodes.cli.planview import recap, show_plan
from tune_nodes.runs import metrics


def drift(
    reach: Reach,
    wish: Wish,
    cluster: InCluster,
    out: Output,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 where a node has drifted.")
    ] = False,
    metrics_file: Annotated[
        Path | None,
        typer.Option("--metrics-file", help="Write the result for Prometheus' textfile collector (NAME.prom)."),
    ] = None,
) -> int:
    """Report how far every node is from its profile, and who else writes the same keys. Nothing is changed."""
    looked = look("drift", reach, wish, cluster, out, detailed_exitcode)
    printer, record = looked.session.printer, looked.record
    if metrics_file is not None:
        metrics.write(metrics_file, record)
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return int(looked.code)
    if any(node.pending or node.error for node in record.nodes.values()):
        show_plan(printer, record)
    else:
        printer.line("no drift")
    recap(printer, record)
    return int(looked.code)
