"""``tune-nodes policy backup``, ``policy backups`` and ``policy restore``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_nodes.cli.asking import confirmed
from tune_nodes.cli.choice import choose
from tune_nodes.cli.cluster import Context, Kubeconfig, chosen_kubeconfig
from tune_nodes.cli.options import Format, InCluster, Output
from tune_nodes.cli.output import Printer
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, NO_KUBECONFIG, ClusterError, KubeconfigError
from tune_nodes.config import Config
from tune_nodes.errors import Exit, TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.discovery import discover, read
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import compare, copies
from tune_nodes.policy.keeping import restore as restoring
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.compare import Step, Wish
from tune_nodes.policy.keeping.order import wave
from tune_nodes.policy.keeping.rehearse import problems
from tune_nodes.policy.keeping.restore import Restored
from tune_nodes.policy.model import Policy
from tune_nodes.policy.opening import record
from tune_nodes.policy.opening.reset import GITOPS
from tune_nodes.policy.owning import gitops, owners

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
    config, printer = _begin(out, kubeconfig, context)
    wanted = _label(label)
    with _opened(config) as cluster:
        policies = [one for one in _read(cluster, namespace or []) if wanted is None or _has(one, *wanted)]
        if not policies:
            printer.note("there is no policy to back up")
            return 0
        scope = _scope(namespace or [], label)
        made = backups.write(cluster, policies, backups.home(config.settings.state_dir), scope)
        copied = [str(made.copy_to(to))] if to else []
        secrets = copies.to_secrets(cluster, made, as_secrets) if as_secrets else []
        trouble = _rehearsed(printer, lambda: backups.rehearse(cluster, made))
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


def restore(
    out: Output,
    reference: Annotated[
        str, typer.Argument(metavar="BACKUP", help="Its id, a part of that, latest, or its directory's path.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a policy that says something else by now; it is shown first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")] = False,
    owned: Annotated[
        bool, typer.Option("--owned", help="Also make policies again that a controller owns and would make itself.")
    ] = False,
    finalizers: Annotated[
        bool, typer.Option("--finalizers", help="Give policies their finalizers back: their controllers are there.")
    ] = False,
    from_secrets: Annotated[
        str, typer.Option("--from-secrets", help="Fetch the backup, by its whole id, from this namespace's Secrets.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Put a backup's policies back, allows before denies. What was changed since then is left, and named."""
    config, printer = _begin(out, kubeconfig, context)
    directory = backups.home(config.settings.state_dir)
    wish = Wish(force, owned, finalizers)
    with _opened(config) as cluster:
        if from_secrets:
            chosen = copies.from_secrets(cluster, from_secrets, reference, directory)
        else:
            chosen = Backup.load(backups.find(directory, reference))
        if chosen.manifest.server != cluster.server:
            printer.note(f"warning: the backup is of {one_line(chosen.manifest.server)}, this is {cluster.server}")
        steps = compare.plan(cluster, chosen, wish)
        if dry_run:
            return _dry_run(printer, cluster, chosen, steps)
        if printer.human:
            _show_steps(printer, steps)
        writing = sum(step.action in restoring.WRITERS for step in steps)
        if writing and not confirmed(printer, f"Put {writing} policies back into {cluster.server}?", _asked(yes)):
            printer.note("nothing was changed")
            return int(Exit.FAILED)
        return _restore(printer, cluster, chosen, wish)


def _restore(printer: Printer, cluster: Cluster, chosen: Backup, wish: Wish) -> int:
    try:
        found = restoring.restore(cluster, chosen, probe=None, wish=wish)
    except KeyboardInterrupt:
        printer.note(f"stopped half-way; to finish: tune-nodes policy restore {chosen.id}")
        return int(Exit.INTERRUPTED)
    except TuneError as problem:
        problem.next = problem.next or f"tune-nodes policy restore {chosen.id}"
        raise
    closed = [] if found.stopped else record.close(cluster, chosen.directory, datetime.now(UTC).isoformat())
    answers = [] if found.stopped else gitops.resume(cluster, chosen.directory / GITOPS)
    closed += [answer.text for answer in answers]
    if printer.human:
        _show_restored(printer, found)
        for sentence in closed:
            printer.line(sentence)
    else:
        printer.document({**_restored(chosen, found), "closed": closed})
    return int(Exit.OK if found.ok and all(answer.done for answer in answers) else Exit.FAILED)


def _dry_run(printer: Printer, cluster: Cluster, chosen: Backup, steps: Sequence[Step]) -> int:
    creating = [(step.policy, step.body) for step in steps if step.action == compare.CREATE]
    trouble = _rehearsed(printer, lambda: problems(cluster, creating))
    if printer.human:
        _show_steps(printer, steps)
        for sentence in trouble or ():
            printer.line(f"cannot be made: {one_line(sentence, 400)}")
    else:
        rows = [{"ref": step.ref, "action": step.action, "text": step.text} for step in steps]
        printer.document({"backup": chosen.id, "steps": rows, "rehearsal": trouble})
    bad = trouble or any(step.action in (compare.CONFLICT, compare.ENDING) for step in steps)
    return int(Exit.FAILED if bad else Exit.OK)


def _rehearsed(printer: Printer, rehearse: Callable[[], list[str]]) -> list[str] | None:
    """Return what a rehearsal found; None where somebody who may only read cannot have one."""
    try:
        return rehearse()
    except ClusterError as problem:
        if problem.code != FORBIDDEN:
            raise
        printer.note(f"not rehearsed: {problem.what}")
        return None


# -- what is meant ----------------------------------------------------------------------------------------------------


def _begin(out: Output, kubeconfig: str, context: str) -> tuple[Config, Printer]:
    config = choose(out, cluster=InCluster(kubeconfig=kubeconfig, context=context))
    return config, Printer(Format(config.settings.output), out.no_color)


def _opened(config: Config) -> Cluster:
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


def _asked(yes: bool) -> bool:
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "a restore needs a yes, and there is no terminal to ask on",
            "nothing was touched",
            "add --yes (or TUNE_NODES_YES=1), or look first: --dry-run",
        )
    return yes


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
    for sentence in _some(trouble or (), printer.wide):
        printer.line(f"could not be made again: {one_line(sentence, 400)}")
    if trouble == []:
        printer.line("each could be made again: the server's dry run took all of them")
    _show_owners(printer, made)


def _show_owners(printer: Printer, made: Backup) -> None:
    found = Counter(owner.text for policy in made.policies for owner in owners.of(policy))
    said = [f"{count} x {text}" if count > 1 else text for text, count in found.most_common()]
    for sentence in _some(said, printer.wide):
        printer.note(f"owned: {sentence}")


def _show_steps(printer: Printer, steps: Sequence[Step]) -> None:
    counts = Counter(step.action for step in steps)
    printer.line(", ".join(f"{count} {_ACTIONS[action]}" for action, count in sorted(counts.items())) or "nothing")
    rows = [step for step in steps if printer.wide or step.action != compare.THERE or step.text]
    shown = rows if printer.wide else sorted(rows, key=lambda step: step.action == compare.CREATE)[:NAMED]
    if shown:
        cells = [[step.action, wave(step.policy).words, step.ref, one_line(step.text, 300)] for step in shown]
        printer.rows(("ACTION", "WAVE", "POLICY", "WHY"), cells, whole=1)
    if len(rows) > len(shown):
        printer.line(f"and {len(rows) - len(shown)} more; all of them: -o wide")


_ACTIONS = {
    compare.CREATE: "to be made",
    compare.THERE: "there and equal",
    compare.REPLACE: "to be replaced",
    compare.CONFLICT: "left: they say something else by now",
    compare.LEFT: "left to their controllers",
    compare.ENDING: "still being deleted",
}


def _show_restored(printer: Printer, found: Restored) -> None:
    words = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items()))
    printer.line(f"{words}; {found.seconds:.1f} s, {found.calls} calls, {found.throttled} answers 429")
    bad = [one for one in found.outcomes if one.state not in restoring.WELL or (one.text and printer.wide)]
    for one in bad if printer.wide else bad[:NAMED]:
        printer.line(f"{one.state}: {one.ref}{f': {one_line(one.text, 300)}' if one.text else ''}")
    if len(bad) > NAMED and not printer.wide:
        printer.line(f"and {len(bad) - NAMED} more; all of them: -o wide")
    for sentence in _some(found.differing, printer.wide):
        printer.line(f"not equal: {one_line(sentence, 300)}")
    if found.stopped:
        printer.line(f"stopped: {one_line(found.stopped, 400)}")
    printer.line(f"{found.equal} of {len(found.outcomes)} are there and equal to the backup, read again")


def _some(sentences: Sequence[str], wide: bool) -> list[str]:
    more = len(sentences) - NAMED
    return list(sentences) if wide or more <= 0 else [*sentences[:NAMED], f"and {more} more; all of them: -o wide"]


def _restored(chosen: Backup, found: Restored) -> dict[str, Any]:
    return {
        "backup": chosen.id,
        "ok": found.ok,
        "stopped": found.stopped,
        "equal": found.equal,
        "differing": list(found.differing),
        "seconds": round(found.seconds, 3),
        "calls": found.calls,
        "throttled": found.throttled,
        "outcomes": [
            {"ref": one.ref, "wave": one.wave.name.lower(), "state": one.state, "text": one.text}
            for one in found.outcomes
        ],
    }


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
    ("restore", restore, ("tune-nodes policy restore latest --dry-run", "tune-nodes policy restore latest --yes")),
)
