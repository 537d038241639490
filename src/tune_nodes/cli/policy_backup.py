"""``tune-nodes policy backup`` and ``policy backups``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, NO_KUBECONFIG, ClusterError, KubeconfigError
from tune_nodes.config import Config
from tune_nodes.errors import Exit, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.discovery import discover, read
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import copies
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.model import Policy
from tune_nodes.policy.owning import owners

#: Objects named one by one without ``-o wide``.
NAMED = 20


def backup(
    out: Output,
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="The policies in this namespace. Repeatable.")
    ] = None,
    label: Annotated[
        str, typer.Option("--label", "-l", help="Only policies that have this label themselves: KEY=VALUE.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All policies of the cluster.")] = False,
    to: Annotated[Path | None, typer.Option("--to", help="Also copy the backup below this directory.")] = None,
    as_secrets: Annotated[
        str, typer.Option("--as-secrets", help="Also keep it as Secrets in this namespace, which must exist.")
    ] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Back up network policies of every kind, and prove that each could be made again. Nothing is changed."""
    if everything == bool(namespace or label):
        raise UsageError("say which policies", "one of -n, -l, --all", "tune-nodes policy backup --all")
    config, printer = begin(out, kubeconfig, context)
    wanted = _label(label)
    with opened(config) as cluster:
        policies = [one for one in _read(cluster, namespace or []) if wanted is None or _has(one, *wanted)]
        if not policies:
            printer.note("there is no policy to back up")
            return 0
        scope = _scope(namespace or [], label)
        made = backups.write(cluster, policies, backups.home(config.settings.state_dir), scope)
        copied = [str(made.copy_to(to))] if to else []
        secrets = copies.to_secrets(cluster, made, as_secrets) if as_secrets else []
        trouble = rehearsed(printer, lambda: backups.rehearse(cluster, made))
    if printer.human:
        _show_backup(printer, made, copied, secrets, trouble)
    else:
        printer.document({**_row(made), "copies": copied, "secrets": secrets, "rehearsal": trouble})
    return int(Exit.FAILED if trouble else Exit.OK)


def listing(out: Output) -> int:
    """List the backups of network policies, newest first. No cluster is asked."""
    config = choose(out)
    printer = Printer(Format(config.settings.output), out.no_color)
    directory = backups.home(config.settings.state_dir)
    rows = [_listed(path) for path in sorted(backups.kept(directory), reverse=True)]
    if not printer.human:
        printer.document(rows)
    elif rows:
        columns = ("ID", "MADE", "POLICIES", "STATE", "SCOPE", *(("SERVER",) if printer.wide else ()))
        for row in rows:
            row["made"] = row["made"][:16].replace("T", " ")
        printer.rows(columns, [[str(row[column.lower()]) for column in columns] for row in rows], whole=3)
    else:
        printer.note(f"there is no backup yet in {directory}")
    return 0


def rehearsed(printer: Printer, rehearse: Callable[[], list[str]]) -> list[str] | None:
    """Return what a rehearsal found; None where somebody who may only read cannot have one."""
    try:
        return rehearse()
    except ClusterError as problem:
        if problem.code != FORBIDDEN:
            raise
        printer.note(f"not rehearsed: {problem.what}")
        return None


# -- what is meant ----------------------------------------------------------------------------------------------------


def begin(out: Output, kubeconfig: str, context: str) -> tuple[Config, Printer]:
    """Return the settings, and how to print."""
    config = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context))
    return config, Printer(Format(config.settings.output), out.no_color)


def opened(config: Config) -> Cluster:
    """Return the cluster that is meant. Raises KubeconfigError."""
    chosen = config.settings.cluster
    path = chosen_kubeconfig(chosen.kubeconfig, config.settings.inventory)
    if path is None:
        raise KubeconfigError(
            "no kubeconfig was given",
            "there is none beside the inventory and none in KUBECONFIG",
            "give --kubeconfig PATH",
            NO_KUBECONFIG,
        )
    return Cluster.open(path, chosen.context)


def _label(text: str) -> tuple[str, str] | None:
    key, sign, value = text.partition("=")
    if text and not (key and sign):
        raise UsageError(f"{one_line(text)!r} is no label", "it must be KEY=VALUE")
    return (key, value) if text else None


def _read(cluster: Cluster, namespaces: Sequence[str]) -> list[Policy]:
    """Return the policies of some namespaces, or all; with namespaces, no right beyond them is asked for."""
    kinds = discover(cluster.api)
    if not namespaces:
        return read(cluster.api, kinds)
    inside = [kind for kind in kinds if kind.namespaced]
    return [one for namespace in dict.fromkeys(namespaces) for one in read(cluster.api, inside, namespace)]


def _has(policy: Policy, key: str, value: str) -> bool:
    return policy.labels.get(key) == value


def _scope(namespaces: Sequence[str], label: str) -> str:
    words = [f"the namespace {', '.join(namespaces)}"] if namespaces else []
    words += [f"the label {label}"] if label else []
    return ", ".join(words) or "the whole cluster"


# -- what is shown ----------------------------------------------------------------------------------------------------


def _show_backup(
    printer: Printer, made: Backup, copied: Sequence[str], secrets: Sequence[str], trouble: Sequence[str] | None
) -> None:
    printer.line(f"backup {made.id}: {len(made.policies)} policies of {made.manifest.scope}")
    kinds = Counter(one.kind.text for one in made.policies)
    printer.rows(("KIND", "POLICIES"), [(kind, str(count)) for kind, count in sorted(kinds.items())])
    printer.line(f"in {made.directory}, read back and equal")
    for place in copied:
        printer.line(f"copied to {place}, read back and equal")
    if secrets:
        more = f" and {len(secrets) - 1} more" if len(secrets) > 1 else ""
        printer.line(f"copied to the Secret {secrets[0]}{more}, read back and equal")
    for sentence in some(trouble or (), printer.wide):
        printer.line(f"could not be made again: {one_line(sentence, 400)}")
    if trouble == []:
        printer.line("each could be made again: the server's dry run took all of them")
    _show_owners(printer, made)


def _show_owners(printer: Printer, made: Backup) -> None:
    found = Counter(owner.text for policy in made.policies for owner in owners.of(policy))
    said = [f"{count} x {text}" if count > 1 else text for text, count in found.most_common()]
    for sentence in some(said, printer.wide):
        printer.note(f"owned: {sentence}")


def some(sentences: Sequence[str], wide: bool) -> list[str]:
    """Return as many sentences as are shown, and how many more there are."""
    more = len(sentences) - NAMED
    return list(sentences) if wide or more <= 0 else [*sentences[:NAMED], f"and {more} more; all of them: -o wide"]


def _row(made: Backup) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "id": made.id,
        "made": manifest.made,
        "scope": manifest.scope,
        "policies": len(made.policies),
        "server": manifest.server,
        "server_version": manifest.server_version,
        "directory": str(made.directory),
        "refs": [one.ref for one in made.policies],
    }


def _listed(path: Path) -> dict[str, Any]:
    """Return a backup's line of the list; of one that is damaged, that."""
    try:
        row = _row(Backup.load(path))
    except UsageError as problem:
        blank = dict.fromkeys(("made", "scope", "policies", "server"), "")
        return {"id": path.name, **blank, "state": f"{problem.what}: {problem.why}"}
    return {key: row[key] for key in ("id", "made", "scope", "policies", "server")} | {"state": "whole"}


#: Commands by name, with the lines that end their help; registered by :mod:`tune_nodes.cli.policy`.
COMMANDS: tuple[tuple[str, Callable[..., int], tuple[str, ...]], ...] = (
    ("backup", backup, ("tune-nodes policy backup -n shop", "tune-nodes policy backup --all --as-secrets tune-nodes")),
    ("backups", listing, ("tune-nodes policy backups", "tune-nodes policy backups -o json")),
)
