"""``tune-nodes policy baseline``: a proposal as files; nothing is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tune_nodes.cli import complete
from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.errors import NO_KUBECONFIG, KubeconfigError
from tune_nodes.errors import UsageError


def baseline(
    out: Output,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="For this namespace.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the files here; it must be empty or new.", show_default="./NAMESPACE-policies"
        ),
    ] = None,
    inventory: Annotated[
        list[str] | None,
        typer.Option(
            "--inventory",
            "-i",
            help="The nodes: they watch the connections of the namespace's pods, and what was seen is proposed too.",
            show_default="nobody watches",
            autocompletion=complete.inventories,
        ),
    ] = None,
    watch: Annotated[
        str, typer.Option("--watch", help="Let the nodes watch for so long: 30s, 10m, 2h; 0: one look.")
    ] = "30s",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Write a first set of policies for a namespace, for review: deny by default, DNS, and what its services serve.

    With -i also the connections that its nodes see. Nothing is applied.
    """
    from tune_nodes.cluster.call import Call
    from tune_nodes.cluster.client import Cluster
    from tune_nodes.policy.discovery import snapshot
    from tune_nodes.policy.observing.watch import observe
    from tune_nodes.policy.opening.baseline import propose, sources
    from tune_nodes.policy.opening.reset import seconds_of
    from tune_nodes.policy.opening.scope import scope_of
    from tune_nodes.runs.atomic import write_atomic

    scope = scope_of(namespace, "", "", False)
    settings = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context)).settings
    printer = Printer(Format(settings.output), out.no_color)
    target = directory or Path(f"{scope.namespace}-policies")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} is not empty", "a proposal never replaces files", "give another directory with --out"
        )
    seconds = seconds_of(watch, "--watch")
    path = chosen_kubeconfig(settings.cluster.kubeconfig, inventory or settings.inventory)
    if path is None:
        step = "tune-nodes policy baseline -n NAMESPACE --kubeconfig PATH"
        raise KubeconfigError("no kubeconfig was given", "", step, NO_KUBECONFIG)
    with Cluster.open(path, settings.cluster.context) as cluster:
        found = snapshot(cluster)
        services = list(cluster.api.items(Call("list", "services", namespace=scope.namespace)))
        if not scope.pods(found):
            raise UsageError(f"{scope} has no pod", "there is nothing to propose for", "kubectl get pods -A")
        seen = observe(cluster, found, scope.namespace, inventory, seconds) if inventory else None
    files = propose(scope.namespace, services, found, seen)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomic(target / name, text, 0o644)
    except OSError as problem:
        raise UsageError(f"{target} cannot be written", problem.strerror or "") from problem
    if printer.human:
        for name in files:
            printer.line(str(target / name))
        for text in seen.missing if seen else ():
            printer.note(f"warning: {text}")
        basis = f"{len(seen.talks)} connections, from {sources(seen)}" if seen else "no traffic was observed"
        printer.note(f"a proposal from Services and pods; {basis}; nothing was applied")
    else:
        told = {"connections": len(seen.talks), "from": sources(seen), "missing": list(seen.missing)} if seen else None
        printer.document({"directory": str(target), "files": list(files), "observed": told})
    return 0
