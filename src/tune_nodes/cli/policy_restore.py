"""``tune-nodes policy restore``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tune_nodes.cli.asking import confirmed
from tune_nodes.cli.cluster import Context, Kubeconfig
from tune_nodes.cli.options import Output
from tune_nodes.cli.output import Printer
from tune_nodes.cli.policy_backup import NAMED, begin, opened, rehearsed, some
from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import Exit, TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import compare, copies
from tune_nodes.policy.keeping import restore as restoring
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.compare import Step, Wish
from tune_nodes.policy.keeping.order import wave
from tune_nodes.policy.keeping.rehearse import problems
from tune_nodes.policy.keeping.restore import Restored
from tune_nodes.policy.opening import record
from tune_nodes.policy.opening.record import ResetRecord
from tune_nodes.policy.opening.reset import GITOPS
from tune_nodes.policy.owning import gitops


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
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Of a reset's backup: put back policies too that the reset did not delete, and that are gone."
        ),
    ] = False,
    from_secrets: Annotated[
        str, typer.Option("--from-secrets", help="Fetch the backup, by its whole id, from this namespace's Secrets.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Put a backup's policies back, allows before denies. What was changed since then is left, and named."""
    config, printer = begin(out, kubeconfig, context)
    directory = backups.home(config.settings.state_dir)
    wish = Wish(force, owned, finalizers)
    with opened(config) as cluster:
        if from_secrets:
            chosen = copies.from_secrets(cluster, from_secrets, reference, directory)
        else:
            chosen = Backup.load(backups.find(directory, reference))
        if chosen.manifest.server != cluster.server:
            printer.note(f"warning: the backup is of {one_line(chosen.manifest.server)}, this is {cluster.server}")
        made = record.load(chosen.directory)
        if made is not None and not everything:
            wish = replace(wish, only=frozenset(made.removed))
            if printer.human:
                _say_reset(printer, made, len(chosen.policies))
        steps = compare.plan(cluster, chosen, wish)
        if dry_run:
            return _dry_run(printer, cluster, chosen, steps)
        if printer.human and steps:
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
        if found.outcomes:
            _show_restored(printer, found)
        for sentence in closed:
            printer.line(sentence)
    else:
        printer.document({**_restored(chosen, found), "closed": closed})
    return int(Exit.OK if found.ok and all(answer.done for answer in answers) else Exit.FAILED)


def _dry_run(printer: Printer, cluster: Cluster, chosen: Backup, steps: Sequence[Step]) -> int:
    creating = [(step.policy, step.body) for step in steps if step.action == compare.CREATE]
    trouble = rehearsed(printer, lambda: problems(cluster, creating))
    if printer.human:
        if steps:
            _show_steps(printer, steps)
        for sentence in trouble or ():
            printer.line(f"cannot be made: {one_line(sentence, 400)}")
    else:
        rows = [{"ref": step.ref, "action": step.action, "text": step.text} for step in steps]
        printer.document({"backup": chosen.id, "steps": rows, "rehearsal": trouble})
    bad = trouble or any(step.action in (compare.CONFLICT, compare.ENDING) for step in steps)
    return int(Exit.FAILED if bad else Exit.OK)


def _asked(yes: bool) -> bool:
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "a restore needs a yes, and there is no terminal to ask on",
            "nothing was touched",
            "add --yes (or TUNE_NODES_YES=1), or look first: --dry-run",
        )
    return yes


def _say_reset(printer: Printer, made: ResetRecord, kept: int) -> None:
    """Say what a reset did, which is all that is taken back; what it only backed up is others' business."""
    added, deleted = len(made.added), len(made.removed)
    printer.line(f"a reset of {one_line(made.scope)}: added {added}, deleted {deleted}; only that is taken back")
    if kept > deleted:
        printer.line(f"{kept - deleted} more in its backup were not deleted by it, and are left as they are (--all)")


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
    for sentence in some(found.differing, printer.wide):
        printer.line(f"not equal: {one_line(sentence, 300)}")
    if found.stopped:
        printer.line(f"stopped: {one_line(found.stopped, 400)}")
    printer.line(f"{found.equal} of {len(found.outcomes)} are there and equal to the backup, read again")


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


#: Commands by name, with the lines that end their help; registered by :mod:`tune_nodes.cli.policy`.
COMMANDS: tuple[tuple[str, Callable[..., int], tuple[str, ...]], ...] = (
    ("restore", restore, ("tune-nodes policy restore latest --dry-run", "tune-nodes policy restore latest --yes")),
)
