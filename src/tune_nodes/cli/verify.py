"""``tune-nodes verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from tune_nodes.cli.looking import look
from tune_nodes.cli.options import InCluster, Output, Reach, Wish
from tune_nodes.cli.planview import recap, show_plan


def verify(
    reach: Reach,
    wish: Wish,
    cluster: InCluster,
    out: Output,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2, not 1, where a node is not as wanted.")
    ] = False,
) -> int:
    """Check that every node holds what the profile wants, now and after a reboot. Nothing is changed."""
    looked = look("verify", reach, wish, cluster, out, detailed_exitcode)
    printer, record = looked.session.printer, looked.record
    if not printer.human:
        printer.document(record.model_dump(mode="json", by_alias=True))
        return int(looked.code)
    if looked.code:
        show_plan(printer, record)
    recap(printer, record)
    return int(looked.code)
