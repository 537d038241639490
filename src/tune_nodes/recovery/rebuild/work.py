"""The rebuild of one node, carried out: from where it stands to its end, or to the step that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tune_nodes.cluster import cordon, drain
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.drain import pods_on
from tune_nodes.errors import TuneError
from tune_nodes.recovery.rebuild import pods
from tune_nodes.recovery.rebuild.steps import TAKEN_AWAY, WORDS, Step, left
from tune_nodes.recovery.state import mapping, report_of, text, texts
from tune_nodes.runs.models import NodeRecord, Outcome

#: Seconds in which the runtime ends what the API server no longer has.
LATE = 60.0
PAUSE = 1.0


@dataclass(frozen=True)
class Options:
    """How a node is drained, as with kubectl drain.

    Args:
        timeout: seconds for the drain, and again for the pods that are left.
        delete_emptydir: also pods that keep something on the node.
        force: also pods that nothing starts again elsewhere.
    """

    timeout: float = 300
    delete_emptydir: bool = False
    force: bool = False


class Stuck(TuneError):
    """A step that the node refused or could not do; ``data["code"]`` is the node's code."""


class Port(Protocol):
    """What a rebuild needs of the run that it is part of."""

    def node(self, step: str, **fields: Any) -> NodeRecord:
        """Have one step done on the node."""

    def journal(self, step: Step, state: str) -> None:
        """Note durably that a step begins, or is done."""

    def note(self, sentence: str) -> None:
        """Tell a person something."""

    def check(self) -> None:
        """Raise TuneError where the right to work on the node was lost."""

    def stopped(self) -> bool:
        """Say whether a person stopped the run."""

    def unwell(self) -> str:
        """Look at the node again and return what is not as it should be, "" for nothing."""


@dataclass
class Standing:
    """What is known of the rebuild by now: the node's own record, and whether the cordon is ours."""

    run: str
    phase: str = ""
    cni: str = ""
    agents: tuple[str, ...] = ()
    cordoned: bool | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)


def standing(record: NodeRecord, run: str) -> Standing:
    """Return how far a rebuild has come by what the node says (pure); ``run`` names one that is not begun."""
    found = mapping(report_of(record), "rebuild", "record")
    if not found:
        return Standing(run)
    return Standing(
        text(found, "run", 120) or run,
        text(found, "phase", 20),
        text(found, "cni", 40),
        texts(found, "agents"),
        counts=mapping(found, "counts"),
    )


class Rebuild:
    """One rebuild under way.

    Args:
        api: the API server.
        node: the Node object's name.
        at: where it stands.
        options: how the node is drained.
        port: the run.
    """

    def __init__(self, api: Api, node: str, at: Standing, options: Options, port: Port) -> None:
        self._api, self._node, self._options, self._port = api, node, options, port
        self.at = at
        self.done: list[Step] = []
        self._steps: Mapping[Step, Callable[[], object]] = {
            Step.BEGIN: lambda: self._ask("begin", backup=True),
            Step.CORDON: self._cordon,
            Step.DRAIN: self._drain,
            Step.FENCE: lambda: self._ask("fence"),
            Step.PODS: self._pods,
            Step.CLEAR: self._clear,
            Step.START: self._start,
            Step.OPEN: lambda: self._ask("open"),
            Step.VERIFY: self._verify,
            Step.UNCORDON: self._uncordon,
            Step.FINISH: lambda: self._ask("finish"),
        }

    def carry_on(self) -> None:
        """Take the steps that are left.

        Raises:
            TuneError: a step failed, was refused (:class:`Stuck`), or a person stopped the run. Nothing is undone: the
                node says how far it came.
        """
        for step in left(self.at.phase):
            if self._port.stopped():
                raise TuneError("the rebuild was stopped", f"before: {WORDS[step]}")
            self._port.check()
            self._port.note(WORDS[step])
            self._port.journal(step, "begin")
            self._steps[step]()
            self._port.journal(step, "done")
            self.done.append(step)

    def _ask(self, step: str, **fields: Any) -> NodeRecord:
        record = self._port.node(step, run=self.at.run, **fields)
        found = standing(record, self.at.run)
        self.at.phase, self.at.cni = found.phase or self.at.phase, found.cni or self.at.cni
        self.at.agents, self.at.counts = found.agents or self.at.agents, found.counts or self.at.counts
        error = record.error
        if error is not None or record.outcome not in (Outcome.OK, Outcome.CHANGED):
            what = error.what if error else f"the node came out {record.outcome}"
            why, following, code = (error.why, error.next, error.code) if error else ("", "", "")
            raise Stuck(what, why, following, data={"code": code, "outcome": str(record.outcome)})
        return record

    def _cordon(self) -> None:
        self.at.cordoned = cordon.cordon(self._api, self._node, self.at.run)
        if not self.at.cordoned:
            self._port.note("the node was closed for new pods by somebody else; it stays so afterwards")

    def _drain(self) -> None:
        options = self._options
        result = drain.drain(
            self._api,
            self._node,
            options.timeout,
            self._port.stopped,
            force=options.force,
            delete_emptydir=options.delete_emptydir,
        )
        if result.done:
            return
        blocked = [f"{one.pod}: {one.why}" for one in result.blocked] or [
            f"{pod}: it does not end" for pod in result.left
        ]
        raise TuneError(
            "its pods could not all be moved away",
            "; ".join(blocked[:3]) or "it was stopped",
            "give the budget room, or see --drain-timeout, --delete-emptydir-data and --force",
        )

    def _pods(self) -> None:
        pods.end_all(self._api, self._node, self._options.timeout, self._port.stopped)

    def _clear(self) -> None:
        """Have the state taken away; the runtime may need a moment more than the API server to end a pod."""
        until = time.monotonic() + LATE
        while True:
            items = pods_on(self._api, self._node)
            agents = [agent.pod.uid for agent in pods.agents(items, self.at.cni)]
            try:
                self._ask("clear", host_pods=pods.host_uids(items), agents=agents)
                return
            except Stuck as problem:
                late = time.monotonic() >= until or self._port.stopped()
                if problem.data.get("code") != "alive" or late:
                    raise
            time.sleep(PAUSE)
            self._pods()

    def _start(self) -> None:
        pods.replace_agent(self._api, self._node, self.at.cni, self.at.agents, self._port.stopped)

    def _verify(self) -> None:
        unwell = self._port.unwell()
        if unwell:
            raise TuneError("the node is not as it should be after the rebuild", unwell, "look at the evidence")

    def _uncordon(self) -> None:
        if not cordon.uncordon(self._api, self._node, self.at.run):
            self._port.note("the node is not closed by this rebuild (any more); it is left as it is")

    def take_back(self) -> None:
        """Undo it: what was taken away comes back, sandboxes may start, a new agent runs, the node is opened.

        Raises:
            TuneError: it could not be, or not wholly.
        """
        touched = self.at.phase in TAKEN_AWAY
        self._ask("undo")
        if touched:
            self._start()
        self._uncordon()


def has_agent(items: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Say whether the CNI's agent is a DaemonSet's pod on this node, so that it can be replaced (pure)."""
    return bool(pods.agents(items, name))
