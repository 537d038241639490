"""How a node is drained before its CNI state is rebuilt, on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from tune_nodes.recovery.rebuild.work import Options

PANEL = "Rebuild (rung 4)"
_DEFAULT = Options()


@dataclass(frozen=True, kw_only=True)
class Draining:
    """Which pods may be moved, and how long that may take; the words are kubectl drain's."""

    drain_timeout: Annotated[
        float,
        typer.Option(
            "--drain-timeout",
            min=1,
            max=86400,
            help="Seconds until its pods have to be gone, as their PodDisruptionBudgets allow.",
            rich_help_panel=PANEL,
        ),
    ] = _DEFAULT.timeout
    delete_emptydir_data: Annotated[
        bool,
        typer.Option(
            "--delete-emptydir-data",
            help="Also move pods that keep data in an emptyDir, which is lost.",
            rich_help_panel=PANEL,
        ),
    ] = False
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also delete pods that no controller would start elsewhere.", rich_help_panel=PANEL
        ),
    ] = False

    def options(self) -> Options:
        """Return them as a rebuild takes them."""
        return Options(self.drain_timeout, self.delete_emptydir_data, self.force)
