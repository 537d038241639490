"""``tune-nodes cluster``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.choice import choose
from tune_nodes.cli.help import examples
from tune_nodes.cli.options import Expanded, Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster import rights
from tune_nodes.cluster.access import find_kubeconfig
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.cluster.match import Match, match_nodes
from tune_nodes.cluster.model import ClusterFacts, NodeFacts
from tune_nodes.errors import UsageError
from tune_nodes.fleet.inventory import find_inventory, read_inventory

app = typer.Typer(
    no_args_is_help=True,
    help="What the cluster's API server says of the nodes, and the rights that this needs.",
    epilog=examples("tune-nodes cluster show -i prod", "tune-nodes cluster rbac read"),
)

#: Of the table; the first six without ``-o wide``.
COLUMNS = ("NAME", "NODE", "READY", "ROLES", "KUBELET", "CORDONED", "BY", "RUNTIME", "KERNEL", "ADDRESS")
NARROW = 6
#: Runtimes named in the first line.
SHOWN = 3

Kubeconfig = Annotated[
    str,
    typer.Option(
        "--kubeconfig", help="The cluster's kubeconfig.", show_default="one beside the inventory, else KUBECONFIG"
    ),
]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig.", show_default="its current one")]


def chosen_kubeconfig(explicit: str, inventories: Sequence[str]) -> Path | None:
    """Return the kubeconfig to use, None where there is none. Raises KubeconfigError where the named one is missing."""
    sources = []
    for name in inventories:
        try:
            sources.append(find_inventory(name))
        except UsageError:
            continue  # whoever reads the inventory says it better
    return find_kubeconfig(explicit, sources, os.environ)


def show(
    out: Output,
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", "-i", help="The nodes to look for.", autocompletion=complete.inventories),
    ] = None,
    limit: Annotated[str, typer.Option("--limit", "-l", help="Only these nodes of it.")] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Show which Node object is which node of the inventory, and how it is. No node is contacted."""
    settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
    printer = Printer(Format(settings.output), out.no_color)
    names = inventory or settings.inventory
    path = chosen_kubeconfig(settings.cluster.kubeconfig, names)
    if path is None:
        raise KubeconfigError(
            "no kubeconfig was given",
            "there is none beside the inventory and none in KUBECONFIG",
            "tune-nodes cluster show --kubeconfig PATH",
            NO_KUBECONFIG,
        )
    read = read_inventory(names, limit)
    with Cluster.open(path, settings.cluster.context) as cluster:
        facts = cluster.facts()
    matches, sentences = match_nodes({node.name: node.address for node in read.nodes.values()}, facts.nodes)
    if printer.human:
        _print(printer, list(read.nodes), facts, matches)
        for sentence in (*sentences, *(f"not seen: {one}" for one in facts.not_seen)):
            printer.note(sentence)
    else:
        printer.document(_document(list(read.nodes), facts, matches, sentences))
    return 0


def _print(printer: Printer, names: Sequence[str], facts: ClusterFacts, matches: Mapping[str, Match]) -> None:
    runtimes = sorted({_runtime(node) for node in facts.nodes.values()} - {""})
    parts = [f"Kubernetes {facts.version}", ", ".join(facts.cni) or "CNI not recognised", *runtimes[:SHOWN]]
    printer.line(f"{facts.server} ({facts.context}): {', '.join(parts)}")
    columns = COLUMNS if printer.wide else COLUMNS[:NARROW]
    cells = {name: _cells(name, match) for name, match in matches.items()}
    missing = ["-"] * (len(columns) - 1)
    printer.rows(
        columns, [cells[name][: len(columns)] if name in cells else [name, *missing] for name in names], whole=2
    )


def _cells(name: str, match: Match) -> list[str]:
    node = match.node
    return [
        name,
        "same" if node.name == name else node.name,
        "yes" if node.ready else f"no: {node.ready_reason}",
        ", ".join(node.roles),
        node.kubelet,
        _cordon(node),
        match.by,
        _runtime(node),
        node.kernel,
        next(iter(node.addresses), ""),
    ]


def _runtime(node: NodeFacts) -> str:
    return node.runtime.replace("://", " ")


def _cordon(node: NodeFacts) -> str:
    if not node.cordoned:
        return ""
    return f"by run {node.cordoned_by}" if node.cordoned_by else "yes"


def _document(
    names: Sequence[str], facts: ClusterFacts, matches: Mapping[str, Match], sentences: Sequence[str]
) -> dict[str, Any]:
    return {
        "server": facts.server,
        "context": facts.context,
        "version": facts.version,
        "cni": list(facts.cni),
        "nodes": [_row(name, matches.get(name)) for name in names],
        "not_matched": list(sentences),
        "not_seen": list(facts.not_seen),
    }


def _row(name: str, match: Match | None) -> dict[str, Any]:
    if match is None:
        return {"name": name, "node": None}
    node = match.node
    return {
        "name": name,
        "node": node.name,
        "matched": match.by,
        "ready": node.ready,
        "ready_reason": node.ready_reason,
        "roles": list(node.roles),
        "kubelet": node.kubelet,
        "runtime": node.runtime,
        "kernel": node.kernel,
        "os_image": node.os_image,
        "addresses": list(node.addresses),
        "labels": dict(node.labels),
        "taints": list(node.taints),
        "cordoned": node.cordoned,
        "cordoned_by": node.cordoned_by,
    }


def rbac(
    level: Annotated[
        str,
        typer.Argument(
            metavar="read|tune|recover",
            help="read: look only; tune: also close and drain nodes; recover: also reset network policies.",
            autocompletion=lambda: list(rights.LEVELS),
        ),
    ],
) -> int:
    """Print the manifest that grants what one level of use needs: a ServiceAccount with these rights and no others."""
    sys.stdout.write(rights.manifest(level))
    return 0


app.command("show", epilog=examples("tune-nodes cluster show -i prod", "tune-nodes cluster show -i prod -o json"))(
    Expanded(show)
)
app.command(
    "rbac", epilog=examples("tune-nodes cluster rbac read", "tune-nodes cluster rbac tune | kubectl apply -f -")
)(Expanded(rbac))
