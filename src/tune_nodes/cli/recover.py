"""``tune-nodes recover``: bring a node's pod network back, rung by rung."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from tune_nodes.cli import complete, recoverguards, recoverview, reinstall
from tune_nodes.cli.asking import confirmed, must_be_answerable
from tune_nodes.cli.help import examples
from tune_nodes.cli.incluster import wish_of
from tune_nodes.cli.options import Expanded, InCluster, Output, Reach
from tune_nodes.cli.recoverdrain import Draining
from tune_nodes.cli.recoverguards import Guarding, Proving
from tune_nodes.cli.session import Session, close, described, new_record, settings_of
from tune_nodes.cluster.access import find_kubeconfig
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.match import match_nodes
from tune_nodes.errors import UsageError
from tune_nodes.fleet.clusterside import NoCluster
from tune_nodes.fleet.execute import STOPPED_BY_USER
from tune_nodes.fleet.inventory import Inventory
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.recovery import guard, ladder, metrics, pages
from tune_nodes.recovery.run import Limits, Recovery, chosen
from tune_nodes.recovery.view import View
from tune_nodes.runs.models import Outcome, RunRecord

app = typer.Typer(
    no_args_is_help=True,
    help="Bring a node's pod network back without breaking the pods that still work.",
    epilog=examples("tune-nodes recover cni -i prod --nodes worker-3", "tune-nodes recover undo"),
)
VERB, UNDO = "recover", "recover-undo"
_SIZES = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Yes = Annotated[bool, typer.Option("--yes", "-y", envvar="TUNE_NODES_YES", help="Do not ask.")]


def seconds(text: str, option: str) -> float:
    """Return a time span such as 90s, 15m, 2h, or a number of seconds. Raises UsageError."""
    unit = _SIZES.get(text[-1:].lower())
    digits = text[:-1] if unit else text
    try:
        value = float(digits)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e7:
        raise UsageError(f"{option} cannot be {text[:40]!r}", "", "give seconds, or 90s, 15m, 2h")
    return value * (unit or 1)


def cni(
    reach: Reach,
    cluster: InCluster,
    out: Output,
    guarding: Guarding,
    proving: Proving,
    draining: Draining,
    nodes: Annotated[
        list[str],
        typer.Option("--nodes", help="Nodes by their names in the inventory, with commas. Repeatable."),
    ],
    rung: Annotated[
        int | None,
        typer.Option(
            "--rung",
            help="The highest to take. 0: keep evidence only; 1: also start the CNI's agent anew; 2: also release "
            "stale leases; 3: also remove what other CNIs left; 4: also rebuild the node's CNI state, emptied of pods.",
            show_default="whichever helps, up to 3",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", "-C", help="Only look, and say what would be done.")] = False,
    grace: Annotated[str, typer.Option("--grace", help="How old a lease without a sandbox must be.")] = "15m",
    between: Annotated[str, typer.Option("--between", help="Time between the two scans that must agree.")] = "2m",
    max_stale_percent: Annotated[
        float,
        typer.Option(
            "--max-stale-percent",
            min=0,
            max=100,
            help="More stale leases than this share of a network's are not believed.",
        ),
    ] = 90,
    wait: Annotated[
        float, typer.Option("--wait", min=0, max=86400, help="Seconds to wait for another recovery to end.")
    ] = 0,
    yes: Yes = False,
) -> int:
    """Find out why pods of a node get no network, and take the lowest rungs of the ladder that help.

    Looks first and changes nothing. Then, after a question, one node after the other: evidence is kept; as far as it
    helps, the CNI's agent is started anew, stale leases are released, and what other CNIs left is removed; and the same
    things are measured again. Running pods are not touched. Only --rung 4 stops any: it rebuilds the node's CNI state
    once its pods are moved away. recover undo takes back all but an agent's start. The run stops at the first node that
    does not come out well.
    """
    if rung is not None and rung not in {one.number for one in ladder.RUNGS}:
        rungs = "; ".join(f"{one.number}: {one.title}" for one in ladder.RUNGS)
        raise UsageError(f"there is no rung {rung}", "", f"--rung takes the rungs up to one of these: {rungs}")
    limits = Limits(seconds(grace, "--grace"), seconds(between, "--between"), max_stale_percent, draining.options())
    proving.check()
    if not check:
        must_be_answerable(yes, "recover cni")
    session = Session.open(out, reach, cluster=cluster)
    inventory, options = session.inventory()
    names = chosen(nodes, list(inventory.nodes))
    settings = settings_of(session.config, session.config.settings.window)
    told = {**described(settings), "nodes": names, "rung": rung, "budget": asdict(guarding.budget)}
    record = new_record(VERB, inventory, "", told)
    api = open_api(session, inventory)
    try:
        view = matched(api, inventory, names)
        with session.run(record, options, settings, NoCluster()) as fleet:
            guards = guarding.guards(view, record.id, session.store.root, wait, fleet)
            run = Recovery(fleet, limits, view, guards)
            with guard.alone(session.store.root, record.id, wait, lambda: fleet.stop.requested):
                run.plan(names)
                run.matrix = proving.matrix(run, {name: node.address for name, node in inventory.nodes.items()})
                code = _carry_out(session, run, rung, check, yes)
                written = pages.write(run)
                if proving.metrics_file is not None:
                    metrics.write(proving.metrics_file, run.states.values())
    finally:
        if api is not None:
            api.close()
    return recoverview.finish(session.printer, run, code, written)


def _carry_out(session: Session, run: Recovery, rung: int | None, check: bool, yes: bool) -> int:
    fleet, record = run.fleet, run.fleet.record
    todo = [
        name
        for name, node in record.nodes.items()
        if node.outcome in (Outcome.OK, Outcome.PENDING) and ladder.climb(run.states[name], rung)
    ]
    roles = {name: record.nodes[name].host.get("roles") or () for name in todo}
    todo = guard.in_order(todo, roles)
    with session.progress.paused():
        recoverview.show_plan(session.printer, run, todo, rung)
    if fleet.stop.requested:
        record.stopped = STOPPED_BY_USER
    elif todo and not check:
        with session.progress.paused(), fleet.stop.asking():
            agreed = confirmed(session.printer, recoverview.question(todo), yes)
        if agreed:
            run.climb(todo, rung)
        else:
            record.stopped = STOPPED_BY_USER
    return close(fleet.handle, int(exit_code(record)) or _unsolved(run, check))


def _unsolved(run: Recovery, check: bool) -> int:
    """Return 1 where a node has no free address and nothing here helped."""
    if check:
        return 0
    states = [state for name, state in run.states.items() if run.fleet.record.nodes[name].error is None]
    return int(any(state.exhausted for state in states))


def open_api(session: Session, inventory: Inventory) -> Cluster | None:
    """Return the cluster that the nodes belong to, None where none is used. Raises ClusterError where it must be."""
    wish = wish_of(session.config, {})
    if wish.mode == "off":
        return None
    try:
        path = find_kubeconfig(wish.kubeconfig, inventory.sources, os.environ)
        if path is not None:
            return Cluster.open(path, wish.context)
        if wish.mode == "required" or wish.named:
            raise UsageError("there is no kubeconfig", "", "give --kubeconfig PATH, or --cluster auto")
    except ClusterError as problem:
        if wish.mode == "required" or wish.named:
            raise
        session.printer.note(f"warning: the cluster is not used: {problem}")
    return None


def matched(api: Cluster | None, inventory: Inventory, names: Sequence[str]) -> View | None:
    """Return the view of the nodes' pods; every node that was named must be a Node object.

    Raises:
        UsageError: one of them is none, or may be several.
    """
    if api is None:
        return None
    found, sentences = match_nodes({name: inventory.nodes[name].address for name in names}, api.nodes())
    if sentences:
        raise UsageError(sentences[0], "a node that is recovered must be the cluster's", "--cluster off looks at none")
    return View(api, {name: match.node.name for name, match in found.items()})


def undo(
    reach: Reach,
    cluster: InCluster,
    out: Output,
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]",
            help="The recovery to undo: its id, a part of it, or latest.",
            show_default="the latest",
            autocompletion=complete.runs,
        ),
    ] = "latest",
    check: Annotated[bool, typer.Option("--check", "-C", help="Only say which nodes it would be asked of.")] = False,
    yes: Yes = False,
) -> int:
    """Take back what a recovery did: released leases and removed leftovers come back, a rebuild is undone.

    Leases come back byte for byte where nobody has their address since, leftovers word for word where nobody has made
    another of their name. After a rebuild what was taken away comes back, a new agent is started, and the node is
    opened if the rebuild closed it. An agent that was merely started anew stays so. It also takes back what a recovery
    that was killed left half done, and may be called again.
    """
    if not check:
        must_be_answerable(yes, "recover undo")
    session = Session.open(out, reach, cluster=cluster)
    undone = session.store.load(session.store.resolve(run, VERB))
    inventory, options = session.inventory(undone.inventory)
    names = [name for name in undone.nodes if name in inventory.nodes and _touched(undone, name)]
    if not names:
        raise UsageError(f"run {undone.id} changed nothing on a node of this inventory", "", "tune-nodes history")
    question = f"take back what run {undone.id} did on {', '.join(names[:6])}?"
    if check or not confirmed(session.printer, question, yes):
        session.printer.line(f"{len(names)} nodes: {', '.join(names)}")
        return 0 if check else 130
    settings = settings_of(session.config, session.config.settings.window)
    record = new_record(UNDO, inventory, "", described(settings))
    record.rolled_back = undone.id
    api = open_api(session, inventory)
    try:
        view = matched(api, inventory, names)
        with session.run(record, options, settings, NoCluster()) as fleet:
            guards = recoverguards.for_undo(view, record.id, session.store.root, fleet)
            recovery = Recovery(fleet, Limits(), view, guards)
            with guard.alone(session.store.root, record.id, 0, lambda: fleet.stop.requested):
                recovery.undo(names, undone.id)
                code = close(fleet.handle, int(exit_code(record)))
    finally:
        if api is not None:
            api.close()
    return recoverview.undone(session.printer, record, code)


def _touched(record: RunRecord, name: str) -> bool:
    """Say whether a run may have changed anything on a node; of one that was killed nothing else is known."""
    outcome = record.nodes[name].outcome
    if outcome is Outcome.OK:
        return record.finished is None
    return outcome not in (Outcome.REFUSED, Outcome.SKIPPED)


app.command(
    "cni",
    epilog=examples(
        "tune-nodes recover cni -i prod --nodes worker-3 --check", "tune-nodes recover cni -i prod --nodes worker-3"
    ),
)(Expanded(cni))
app.command(
    "pause",
    epilog=examples(
        "tune-nodes recover pause -i prod --reason 'the switch is being replaced'",
        "tune-nodes recover pause --kubeconfig ~/.kube/prod",
    ),
)(Expanded(recoverguards.pause))
app.command(
    "resume",
    epilog=examples("tune-nodes recover resume -i prod", "tune-nodes recover resume --kubeconfig ~/.kube/prod"),
)(Expanded(recoverguards.resume))
app.command("undo", epilog=examples("tune-nodes recover undo", "tune-nodes recover undo latest --yes"))(Expanded(undo))
for _name, _command, _lines in reinstall.COMMANDS:
    app.command(_name, epilog=examples(*_lines))(Expanded(_command))
