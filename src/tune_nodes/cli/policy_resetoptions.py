"""What ``tune-nodes policy reset`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

SCOPE, WHAT, HOW = "For which pods", "Which traffic", "How far, and back"


@dataclass(frozen=True, kw_only=True)
class Where:
    """The scope and the traffic."""

    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="All pods of this namespace.", rich_help_panel=SCOPE)
    ] = ""
    pod: Annotated[str, typer.Option("--pod", metavar="NS/POD", help="This pod.", rich_help_panel=SCOPE)] = ""
    selector: Annotated[
        str,
        typer.Option(
            "--selector", "-l", metavar="KEY=VALUE", help="Pods with these labels; also with -n.", rich_help_panel=SCOPE
        ),
    ] = ""
    whole: Annotated[bool, typer.Option("--cluster", help="All pods of the cluster.", rich_help_panel=SCOPE)] = False
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="POD|CIDR",
            help="Where the traffic comes from: NS/POD, or addresses.",
            show_default="everybody",
            rich_help_panel=WHAT,
        ),
    ] = ""
    target: Annotated[
        str,
        typer.Option(
            "--to", metavar="POD", help="Where it goes.", show_default="the scope's pods", rich_help_panel=WHAT
        ),
    ] = ""
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Its port.", show_default="all", rich_help_panel=WHAT)
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Way:
    """How far a reset may go, and how it ends."""

    ttl: Annotated[
        str, typer.Option("--ttl", help="After this time it closes again: 90s, 30m, 2h; 0: never.", rich_help_panel=HOW)
    ] = "30m"
    image: Annotated[
        str,
        typer.Option(
            "--image",
            help="Image with sh, date, sleep and kubectl: a Job of it closes the door when the time is over.",
            show_default="none: policy restore closes it",
            rich_help_panel=HOW,
        ),
    ] = ""
    probe_image: Annotated[
        str,
        typer.Option(
            "--probe-image",
            metavar="IMAGE",
            help="Image with sh, nc and timeout: a pod of it connects in a pod's place where its node cannot.",
            show_default="none",
            rich_help_panel=HOW,
        ),
    ] = ""
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay, and close it when the time is over.", rich_help_panel=HOW)
    ] = False
    rung: Annotated[
        int,
        typer.Option(
            "--rung",
            min=0,
            max=6,
            help="Take this rung: 2 allow DNS, 3 allow all, 5 delete what decides, 6 delete all.",
            show_default="the first that opens",
            rich_help_panel=HOW,
        ),
    ] = 0
    approve: Annotated[
        str,
        typer.Option("--approve", metavar="PLANHASH", help="Approve the plan with this hash.", rich_help_panel=HOW),
    ] = ""
    pause_gitops: Annotated[
        bool,
        typer.Option(
            "--pause-gitops", help="Pause the owners (Argo CD, Flux) of what is deleted.", rich_help_panel=HOW
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its hash; change nothing.", rich_help_panel=HOW)
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask; deleting needs more.", rich_help_panel=HOW
        ),
    ] = False
