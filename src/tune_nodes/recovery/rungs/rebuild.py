"""R4: rebuild a node's CNI state, on the node emptied of pods; carried on where an earlier run left it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.drain import pods_on
from tune_nodes.cluster.errors import FORBIDDEN, ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.recovery.rebuild import work
from tune_nodes.recovery.rebuild.steps import Step
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import NodeState, mapping, report_of
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken

NUMBER = 4
PLAYBOOK = "recover_rebuild"


class Port:
    """What a rebuild needs of a run, for one node."""

    def __init__(self, run: Recovery, name: str) -> None:
        self.run, self.name = run, name
        self.records: list[NodeRecord] = []

    def node(self, step: str, **fields: Any) -> NodeRecord:
        """Have one step done on the node; of the first, fetch the backup."""
        backup = self.run.file("backup", self.name, ".tar.gz")
        if fields.pop("backup", False):
            fields["dest"] = str(backup)
        record = self.run.ask(PLAYBOOK, {self.name: {"step": step, **fields}})[self.name]
        self.records.append(record)
        if "dest" in fields and record.outcome in (Outcome.OK, Outcome.CHANGED):
            self._fetched(record)
        return record

    def _fetched(self, record: NodeRecord) -> None:
        """Make sure that the backup is on this machine. Raises TuneError: nothing was touched yet."""
        made = mapping(report_of(record), "rebuild", "backup")
        path = self.run.file("backup", self.name, ".tar.gz")
        if made and not path.is_file():
            raise TuneError("the backup could not be fetched", f"it lies on the node: {made.get('path')}")
        if made:
            path.chmod(0o600)
            if hashlib.sha256(path.read_bytes()).hexdigest() != made.get("sha256"):
                raise TuneError("the backup that was fetched is not the one that was made", str(path))

    def journal(self, step: Step, state: str) -> None:
        """Note a step in the run's journal."""
        self.run.fleet.handle.event("rebuild", node=self.name, step=str(step), state=state)

    def note(self, sentence: str) -> None:
        """Tell a person."""
        self.run.fleet.progress.note(f"{self.name}: {sentence}")

    def check(self) -> None:
        """Raise TuneError where the right to work on the node was lost."""
        self.run.slot.check()

    def stopped(self) -> bool:
        """Say whether a person stopped the run."""
        return self.run.fleet.stop.requested

    def unwell(self) -> str:
        """Look again; what is not as it should be before pods come back."""
        record = self.run.look([self.name], settle=True)[self.name]
        if record.error is not None and not report_of(record):
            return record.error.what
        return unwell(self.run.states[self.name])


def unwell(state: NodeState) -> str:
    """Return what speaks against opening a node for pods, "" for nothing (pure)."""
    silent = [f"{ping.pod} ({ping.ip})" for ping in state.pings if not ping.ok]
    found = [
        (not state.conf, "there is no CNI configuration"),
        (state.network_ready is False, f"the runtime says its network is not ready: {state.reason}"),
        (bool(state.missing), f"plugins are missing: {', '.join(state.missing)}"),
        (state.sandboxes is None, "the runtime does not say which sandboxes there are"),
        (bool(silent), f"pods do not answer the node: {', '.join(silent[:5])}"),
        (bool(state.waiting), f"{state.waiting} of its pods still wait for a network"),
    ]
    return "; ".join(sentence for true, sentence in found if true)


def _keep_objects(run: Recovery, name: str, node: str) -> None:
    """Keep the Node and all DaemonSets as the API server has them, beside the backup. Raises ClusterError."""
    assert run.view is not None
    api = run.view.cluster.api
    kept: dict[str, Any] = {"node": api.get(Call("get", "nodes", name=node))}
    try:
        kept["daemonsets"] = list(api.items(Call("list", "daemonsets", "apps")))
    except ClusterError as problem:
        if problem.code != FORBIDDEN:
            raise
        kept["not_kept"] = problem.what
    path = run.file("objects", name, ".json")
    write_atomic(path, json.dumps(kept, indent=1) + "\n")
    path.chmod(0o600)


def _begin(run: Recovery, name: str, port: Port, recovery: str) -> work.Rebuild:
    """Return the rebuild of a node from where it stands. Raises TuneError, work.Stuck."""
    if run.view is None:
        raise TuneError("a rebuild needs the cluster", "its pods are moved away and deleted there", "give --kubeconfig")
    record = port.node("status")
    if record.error is not None:
        raise work.Stuck(record.error.what, record.error.why, record.error.next, data={"code": record.error.code})
    at, node = work.standing(record, recovery), run.view.node_of(name)
    return work.Rebuild(run.view.cluster.api, node, at, run.limits.drain, port)


def _failed(run: Recovery, name: str, record: NodeRecord, at: work.Standing, problem: TuneError) -> NodeRecord:
    """Return the record of a rebuild that did not come to its end; nothing is undone by itself."""
    code = str(problem.data.get("code", ""))
    if not at.phase:
        error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code=code or "refused")
        return record.model_copy(update={"outcome": Outcome.REFUSED, "error": error})
    carry = f"tune-nodes recover cni --nodes {name} --rung {NUMBER}"
    following = f"the node stays closed for pods; carry on: {carry}; take it back: tune-nodes recover undo {at.run}"
    first = f"{problem.next}; " if problem.next else ""
    error = ErrorRecord(what=problem.what, why=problem.why, next=first + following, code=code or "rebuild")
    return record.model_copy(update={"outcome": Outcome.FAILED, "error": error})


def take(run: Recovery, name: str, _taken: Taken) -> NodeRecord:
    """Rebuild a node's CNI state, or carry an earlier rebuild on to its end."""
    port = Port(run, name)
    at = work.Standing(run.fleet.record.id)
    try:
        rebuild = _begin(run, name, port, at.run)
        at = rebuild.at
        if at.phase:
            port.note(f"the rebuild of run {at.run} is carried on; it is {at.phase}")
        else:
            _check_agent(run, name)
        assert run.view is not None
        _keep_objects(run, name, run.view.node_of(name))
        rebuild.carry_on()
    except TuneError as problem:
        return _failed(run, name, _last(run, name, port), at, problem)
    return _whole(port.records, Outcome.CHANGED)


def _check_agent(run: Recovery, name: str) -> None:
    """Make sure that the CNI's agent is a pod that can be replaced. Raises TuneError: nothing was touched."""
    assert run.view is not None
    cni = run.states[name].cni
    if not work.has_agent(pods_on(run.view.cluster.api, run.view.node_of(name)), cni):
        why = f"no pod of a DaemonSet here is the agent of {cni or 'its CNI'}"
        raise TuneError("the CNI's agent cannot be started anew", why, "drain the node and reboot or replace it")


def _last(run: Recovery, name: str, port: Port) -> NodeRecord:
    return port.records[-1] if port.records else run.fleet.record.nodes[name]


def _whole(records: Sequence[NodeRecord], outcome: Outcome) -> NodeRecord:
    """Return one record for all steps: the last one's report, and everything that was changed."""
    changes = [change for record in records for change in record.changes]
    return records[-1].model_copy(update={"outcome": outcome, "changes": changes, "error": None})


def undo(run: Recovery, names: Sequence[str], recovery: str) -> Mapping[str, NodeRecord]:
    """Take rebuilds back: what was taken away comes back, a new agent runs, and the node is opened if we closed it."""
    found = run.ask(PLAYBOOK, {name: {"step": "status", "run": recovery} for name in names})
    return {name: _undo(run, name, record, recovery) for name, record in found.items()}


def _undo(run: Recovery, name: str, record: NodeRecord, recovery: str) -> NodeRecord:
    at = work.standing(record, recovery)
    if record.error is not None or not at.phase:
        error = record.error or ErrorRecord(what="this node has no rebuild of that run", code="unknown")
        return record.model_copy(update={"outcome": Outcome.REFUSED, "error": error})
    port = Port(run, name)
    try:
        if run.view is None:
            raise TuneError(
                "a rebuild is taken back with the cluster", "its agent is started anew there", "give --kubeconfig"
            )
        work.Rebuild(run.view.cluster.api, run.view.node_of(name), at, run.limits.drain, port).take_back()
    except TuneError as problem:
        error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code="rebuild")
        return (port.records or [record])[-1].model_copy(update={"outcome": Outcome.FAILED, "error": error})
    return _whole(port.records, Outcome.CHANGED)


RUNG = Rung(
    NUMBER,
    "rebuild the node's CNI state",
    "its pods are moved to other nodes first, as their budgets allow, and those of DaemonSets are started anew",
    take,
    undo,
    forced=True,
)
