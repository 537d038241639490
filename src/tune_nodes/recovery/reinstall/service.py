"""Recording a CNI, putting a record back, and undoing that: as the command line and the Ansible module use them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.rights import Right, grouped
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.recovery import guard
from tune_nodes.recovery.reinstall import apart, carry, collect, manifests, needs, record, runs, undo
from tune_nodes.recovery.reinstall import plan as planning
from tune_nodes.recovery.reinstall.carry import Way
from tune_nodes.recovery.reinstall.parts import Key, Part, part_of
from tune_nodes.recovery.reinstall.plan import Plan, live_of
from tune_nodes.recovery.reinstall.record import Facts, Record
from tune_nodes.recovery.reinstall.runs import Run

#: What starting agents anew takes beside the writes that a dry run tries: verb, resource, group.
_NEEDED = (
    ("create", "pods", ""),
    ("delete", "pods", ""),
    ("patch", "pods", ""),
    ("list", "controllerrevisions", "apps"),
)


def make(
    cluster: Cluster, directory: Path, files: Sequence[Path] = (), allow_latest: bool = False, namespace: str = ""
) -> Record:
    """Record what a CNI is made of.

    Args:
        cluster: whose CNI; of manifests, the one that they are for.
        directory: where records are kept.
        files: manifests; none: what is in the cluster now.
        allow_latest: also take images that do not say which version they are.
        namespace: of objects in manifests that name none.

    Raises:
        UsageError: a manifest is unusable, or an image says no version.
        TuneError: there is no CNI, or it cannot be read.
    """
    found = gathered(cluster, files, allow_latest, namespace)
    return record.write(directory, found.parts, found.facts)


@dataclass(frozen=True)
class Gathered:
    """What would be recorded."""

    parts: list[Part]
    facts: Facts


def gathered(cluster: Cluster, files: Sequence[Path] = (), allow_latest: bool = False, namespace: str = "") -> Gathered:
    """Return what would be recorded; see :func:`make`."""
    parts, facts = manifests.collect(cluster, files, namespace) if files else collect.collect(cluster)
    loose = [row.image for row in facts.images if not needs.is_pinned(row.image)]
    if loose and not allow_latest:
        raise UsageError(
            f"the image {loose[0]} does not say which version it is",
            "what it is today may not be what it is on the day of need; nothing was recorded",
            "give it a tag or a digest, or take it as it is: --allow-latest",
        )
    return Gathered(parts, facts)


def same_as(directory: Path, found: Gathered) -> Record | None:
    """Return the newest record of this cluster, if it holds just this; None where there is none. Raises UsageError."""
    for path in record.kept(directory):
        there = Record.load(path)
        facts = there.manifest.facts
        if facts.server == found.facts.server:
            mine = [(part.key, part.body) for part in found.parts]
            same = mine == [(part.key, part.body) for part in there.parts]
            return there if same and (facts.source, facts.images) == (found.facts.source, found.facts.images) else None
    return None


@dataclass(frozen=True)
class Look:
    """What a look found at a server: the record, the plan, and the run that ended half-way, if one did."""

    record: Record
    plan: Plan
    run: Run | None
    server: str

    @property
    def elsewhere(self) -> bool:
        """Whether the record was made of another server, or by another address of it."""
        return self.record.manifest.facts.server != self.server


def look(cluster: Cluster, chosen: Record, state: Path, force: bool = False) -> Look:
    """Plan to put a record back.

    Raises:
        UsageError: an undo was begun, or another record's reinstall ended half-way.
        ClusterError: the server cannot be asked.
    """
    run = runs.unfinished(runs.home(state), cluster.server)
    if run is not None and (run.undoing or run.record != chosen.id):
        what = "the undo of" if run.undoing else f"the reinstall of record {run.record},"
        step = "--undo " + run.id if run.undoing else f"{run.record}, or take it back: --undo {run.id}"
        raise UsageError(f"{what} run {run.id} ended half-way", "", f"finish it: tune-nodes recover reinstall {step}")
    waiting = [key for key in run.roll if key not in run.there.rolled] if run is not None else []
    return Look(chosen, planning.look(cluster, chosen, force, waiting), run, cluster.server)


def carry_out(cluster: Cluster, found: Look, state: Path, way: Way) -> tuple[str, list[str]]:
    """Put a record back.

    Returns:
        The run's id ("" where nothing was to be done), and the nodes whose agents are new.

    Raises:
        TuneError: something is in the way, nothing was written then; or see :func:`carry.carry_out`.
    """
    if found.plan.barred:
        raise barred(found.plan)
    if not found.plan.work and found.run is None:
        return "", []
    with _alone(state, found.run.id if found.run else found.record.id, way):
        still = look(cluster, found.record, state, way.force)  # another run may have ended since, and time has passed
        if (still.plan.hash, still.run and still.run.id) != (found.plan.hash, found.run and found.run.id):
            raise TuneError(
                "the cluster is not as it was when this was planned", "nothing was written", "look again: --check"
            )
        _may(cluster, still.plan)
        run = still.run or _begun(cluster, still, state)
        nodes = _carried_out(cluster, still, run, state, way)
        left = planning.look(cluster, found.record, way.force)
        if left.work:
            names = [str(step.part.key) for step in left.steps if step.status != planning.EQUAL] or map(str, left.roll)
            raise TuneError(
                f"all was written in run {run.id}, and is not as recorded",
                f"somebody else writes {', '.join(names)} too",
                "look at who: --check",
            )
        return run.id, nodes


def _carried_out(cluster: Cluster, found: Look, run: Run, state: Path, way: Way) -> list[str]:
    with Journal(run.directory) as journal:
        if found.run is None:
            absent = sorted(run.absent, key=str)
            journal.note("begin", **runs.begin_fields(run.record, run.server, run.roll, absent))
        before = {part.key: part for part in Record.load(run.directory).parts}
        try:
            return carry.carry_out(cluster, found.plan, run, journal, before, _guarded(cluster, run, state, way))
        except TuneError as problem:
            again = f"tune-nodes recover reinstall {run.record}"
            first = f"{problem.next}; then " if problem.next else ""
            problem.next = f"{first}{again} goes on; to take it back: {again} --undo {run.id}"
            raise


@contextlib.contextmanager
def _alone(state: Path, name: str, way: Way) -> Iterator[None]:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise UsageError(f"{state} cannot be made", problem.strerror or "", "choose another --state-dir") from problem
    with guard.alone(state, name, 0, way.cancelled):
        yield


def _guarded(cluster: Cluster, run: Run, state: Path, way: Way) -> Way:
    return replace(way, guards=way.guards or apart.guards(cluster, run.id, state, way.cancelled, way.say))


def _may(cluster: Cluster, plan: Plan) -> None:
    """Refuse what would be stopped half-way: a pause, and rights that the dry run did not ask for. Raises TuneError."""
    apart.refuse_paused(cluster)
    wanted = [
        Right(Call(verb, resource, group, space))
        for space in sorted({key.namespace for key in plan.roll})
        for verb, resource, group in _NEEDED
    ]
    missing = grouped(cluster.lacking(wanted))
    if missing:
        raise TuneError(
            f"{one_line(cluster.user) or 'this account'} may not {'; '.join(missing)}",
            "nothing was written",
            "a CNI is put back by an administrator of the cluster",
        )


def barred(plan: Plan) -> TuneError:
    """Return the error for a plan that cannot be done."""
    first = plan.barred[0]
    more = f"; and {len(plan.barred) - 1} more" if len(plan.barred) > 1 else ""
    if first.status == planning.CONFLICT:
        held = f"{', '.join(first.managers)} holds {first.text} at other values"
        return TuneError(
            f"{first.part.key}: {held}{more}", "nothing was written", "look at it, then --force-conflicts takes them"
        )
    return TuneError(f"{first.part.key} was refused: {first.text}{more}", "nothing was written")


def _begun(cluster: Cluster, found: Look, state: Path) -> Run:
    """Write the backup of what is there now."""
    lookup = Lookup(cluster.api)
    parts: list[Part] = []
    absent: list[Key] = []
    for step in found.plan.steps:
        key = step.part.key
        live = live_of(cluster, lookup, key)
        part = None if live is None else part_of(live, key.api_version, key.kind)
        if part is None:
            absent.append(key)
        else:
            parts.append(part)
    manifest = found.record.manifest.facts
    facts = Facts(
        source=record.CLUSTER,
        server=cluster.server,
        server_version=manifest.server_version,
        cni=manifest.cni,
        images=[],
        helm=[],
        left=[f"what was there before record {found.record.id} was put back"],
    )
    kept = record.write(runs.home(state), parts, facts)
    return Run(kept.directory, found.record.id, cluster.server, found.plan.roll, frozenset(absent))


def take_back(cluster: Cluster, run: Run, state: Path, way: Way) -> undo.Undone:
    """Undo a reinstall: every object as it was before, the agents node by node. Called again, it finishes.

    Raises:
        UsageError: it is another cluster's.
        TuneError: a node is not well; see :func:`undo.undo`.
    """
    if run.server != cluster.server:
        raise UsageError(f"run {run.id} is of another cluster", f"it is of {run.server}, this is {cluster.server}")
    with _alone(state, run.id, way):
        newer = next((one for one in runs.known(runs.home(state)) if one.server == run.server), run)
        if newer.id != run.id and not newer.back.ended:
            raise UsageError(
                f"run {newer.id} came after run {run.id}",
                "taken back in another order, they would undo each other",
                f"tune-nodes recover reinstall --undo {newer.id}",
            )
        run = runs.load(run.directory) or run  # as it is under the lock
        apart.refuse_paused(cluster)
        with Journal(run.directory) as journal:
            before = Record.load(run.directory)
            try:
                return undo.undo(cluster, run, before, journal, _guarded(cluster, run, state, way))
            except TuneError as problem:
                first = f"{problem.next}; then " if problem.next else ""
                problem.next = f"{first}tune-nodes recover reinstall --undo {run.id} goes on"
                raise
