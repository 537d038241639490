"""``tune-nodes recover record``, ``records`` and ``reinstall``: a CNI kept while it works, and put back later."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from tune_nodes.cli.asking import confirmed
from tune_nodes.cli.cluster import Context, Kubeconfig
from tune_nodes.cli.options import Output
from tune_nodes.cli.output import Printer
from tune_nodes.cli.policy_backup import begin, opened
from tune_nodes.cli.reinstallview import show_plan, show_record, show_records, show_undone
from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import Exit, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery.reinstall import record as records
from tune_nodes.recovery.reinstall import runs, service
from tune_nodes.recovery.reinstall.carry import Way
from tune_nodes.recovery.reinstall.describe import plan_document, record_document
from tune_nodes.runs.store import default_state_dir


def record(
    out: Output,
    manifest: Annotated[
        list[Path] | None,
        typer.Option("--manifest", help="A manifest the CNI is installed by, instead of the cluster. Repeatable."),
    ] = None,
    allow_latest: Annotated[
        bool, typer.Option("--allow-latest", help="Also take images that do not say which version they are.")
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of objects in manifests that name none, as Helm renders them.")
    ] = "",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Keep what the CNI is made of, so that recover reinstall can put it back. Changes nothing in the cluster."""
    if namespace and not manifest:
        raise UsageError(
            "--namespace is for manifests", "in a cluster each object names its own", "add --manifest FILE"
        )
    config, printer = begin(out, kubeconfig, context)
    directory = records.home(config.settings.state_dir)
    with opened(config) as cluster:
        made = service.make(cluster, directory, manifest or (), allow_latest, namespace)
    if printer.human:
        show_record(printer, made)
    else:
        printer.document(record_document(made))
    return int(Exit.OK)


def listing(out: Output) -> int:
    """List what recover record has kept, the newest first."""
    config, printer = begin(out, "", "")
    rows = []
    for path in records.kept(records.home(config.settings.state_dir)):
        try:
            rows.append(record_document(records.Record.load(path)))
        except UsageError as problem:
            rows.append({"id": path.name, "problem": f"{problem.what}: {problem.why}"})
    if printer.human:
        show_records(printer, rows)
    else:
        printer.document({"records": rows})
    return int(Exit.OK)


def reinstall(
    out: Output,
    reference: Annotated[
        str,
        typer.Argument(metavar="[RECORD]", help="Its id, a part of that, latest, or its directory's path."),
    ] = "latest",
    check: Annotated[bool, typer.Option("--check", "-C", help="Show what would be done; change nothing.")] = False,
    undo: Annotated[
        str, typer.Option("--undo", metavar="RUN", help="Take this reinstall back: its id, a part of that, or latest.")
    ] = "",
    approve: Annotated[
        str, typer.Option("--approve", metavar="HASH", help="Do the plan of this hash and no other; asks no more.")
    ] = "",
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Also take fields that others hold at other values; shown first."),
    ] = False,
    probe_image: Annotated[
        str,
        typer.Option(
            "--probe-image",
            help="Image of the pod that proves a node's network; nodes have it already.",
            show_default="the agent's own",
        ),
    ] = "",
    limit: Annotated[
        float, typer.Option("--limit", min=5, max=3600, help="Seconds that each wait on a node may take.")
    ] = 180,
    yes: Annotated[bool, typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> int:
    """Put a recorded CNI back: objects first, then its agents on one node after the other, control plane last.

    Plans by the server's dry run, and writes nothing before a yes. What is there now is backed up first. Stops at the
    first node that does not come out well; the same command goes on later, --undo takes all of it back.
    """
    config, printer = begin(out, kubeconfig, context)
    state = config.settings.state_dir or default_state_dir()
    if undo and approve:
        raise UsageError("--approve is for a plan, and an undo has none", "", "look first: --check; then --yes")
    must_answer(check or yes or bool(approve))
    stop = Stop()
    way = Way(force_conflicts, limit, probe_image, printer.note, lambda: stop.asked)
    with opened(config) as cluster:
        if undo:
            return _undo(printer, cluster, runs.named(runs.home(state), undo), state, way, stop, check, yes)
        chosen = records.chosen(records.home(state), reference, cluster.server)
        found = service.look(cluster, chosen, state, force_conflicts)
        return _reinstall(printer, cluster, found, state, way, stop, approve, check, yes)


def must_answer(answered: bool) -> None:
    """Refuse to go on where a question would come and nobody could answer it. Raises UsageError."""
    if not answered and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "a reinstall needs a yes, and there is no terminal to ask on",
            "nothing was touched",
            "look first: --check; then --approve HASH, or --yes",
        )


class Stop:
    """While it is entered, Ctrl-C is asked for between nodes and in waits. The second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._take)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _reinstall(
    printer: Printer,
    cluster: Cluster,
    found: service.Look,
    state: Path,
    way: Way,
    stop: Stop,
    approve: str,
    check: bool,
    yes: bool,
) -> int:
    plan = found.plan
    if printer.human:
        show_plan(printer, found)
    elif check:
        printer.document(plan_document(found))
    if check:
        return int(Exit.FAILED if plan.barred else Exit.OK)
    if plan.barred:
        raise service.barred(plan)
    if approve and approve != plan.hash:
        raise UsageError(
            f"the plan is not the one that was approved ({one_line(approve, 80)})",
            f"now it is {plan.hash}: an object, the record or a node is another",
            "look at it: --check",
        )
    if not plan.work and found.run is None:
        if not printer.human:
            printer.document({**plan_document(found), "run": "", "done": []})
        return int(Exit.OK)
    question = f"put the CNI of record {found.record.id} back into {cluster.server}?"
    if not confirmed(printer, question, yes or bool(approve)):
        printer.note("nothing was changed")
        return int(Exit.INTERRUPTED)
    with stop:
        run, nodes = service.carry_out(cluster, found, state, way)
    if printer.human:
        printer.line(f"run {run}: done" + (f"; agents new on {', '.join(nodes)}" if nodes else ""))
        printer.line(f"to take it back: tune-nodes recover reinstall --undo {run}")
    else:
        printer.document({**plan_document(found), "run": run, "done": nodes})
    return int(Exit.OK)


def _undo(
    printer: Printer, cluster: Cluster, run: runs.Run, state: Path, way: Way, stop: Stop, check: bool, yes: bool
) -> int:
    counts = Counter("made" if key in run.absent else "changed" for key in run.wrote)
    rows = sorted(counts.items())
    words = ", ".join(f"{count} {'object' if count == 1 else 'objects'} {word}" for word, count in rows) or "nothing"
    printer.note(f"run {run.id} of record {run.record}: {words}")
    if check:
        if not printer.human:
            made, changed = ([str(key) for key in run.wrote if (key in run.absent) is new] for new in (True, False))
            printer.document({"run": run.id, "record": run.record, "made": made, "changed": changed})
        return int(Exit.OK)
    if not confirmed(printer, f"take run {run.id} back in {cluster.server}?", yes):
        printer.note("nothing was changed")
        return int(Exit.INTERRUPTED)
    with stop:
        done = service.take_back(cluster, run, state, way)
    if printer.human:
        show_undone(printer, run, done)
    else:
        printer.document({"run": run.id, **vars(done)})
    return int(Exit.FAILED if done.left else Exit.OK)


#: Commands by name, with the lines that end their help; registered by :mod:`tune_nodes.cli.recover`.
COMMANDS: Sequence[tuple[str, Callable[..., int], tuple[str, ...]]] = (
    (
        "record",
        record,
        ("tune-nodes recover record", "tune-nodes recover record --manifest kube-flannel.yml"),
    ),
    ("records", listing, ("tune-nodes recover records", "tune-nodes recover records -o json")),
    (
        "reinstall",
        reinstall,
        (
            "tune-nodes recover reinstall latest --check",
            "tune-nodes recover reinstall latest --approve sha256:28fa05764c854fe7df4320c6756343a8",
            "tune-nodes recover reinstall --undo latest",
        ),
    ),
)
