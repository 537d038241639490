"""A cluster in a run: whether one is used, what it says of each node before, and how well its nodes are afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.tune.nodes.plugins.plugin_utils import lease

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.health import refuse_reasons, unwell
from tune_nodes.cluster.leases import LeaseWatch
from tune_nodes.cluster.match import Match, match_nodes, same_machine
from tune_nodes.cluster.model import AgentFacts, ClusterFacts, NodeFacts
from tune_nodes.fleet import held, standing
from tune_nodes.fleet.closing import Closing
from tune_nodes.fleet.target import Target
from tune_nodes.runs.models import CHANGING, ClusterRecord, ErrorRecord, NodeInCluster, NodeRecord, Outcome

#: Seconds after a change within which a Lease must be renewed; a kubelet does it every ten.
LEASE_LIMIT = 15
#: Seconds without a renewal after which a node that was changed earlier counts as unwell.
LEASE_STALE = 25
#: Seconds that nodes and agents get to be as well as they were.
PATIENCE = 20.0
LOOK_AGAIN = 1.0
#: Nodes whose pods are asked for by name; the report gathers equal ones, so a few tell it all.
NAMED = 50
#: Nodes without a Node object that are named one by one.
UNMATCHED = 10


@dataclass(frozen=True)
class Drain:
    """Whether nodes are drained before they are changed. ``timeout`` in seconds."""

    wanted: bool = False
    timeout: float = 300
    delete_emptydir: bool = False


@dataclass(frozen=True)
class Occasion:
    """The run that uses a cluster.

    Args:
        run: its id.
        verb: plan, apply, ...
        directory: where it keeps its files.
        over: says whether another run, by its id, is known and has ended.
        note: tells a person something.
        sleep: waits some seconds.
    """

    run: str
    verb: str
    directory: Path
    over: Callable[[str], bool]
    note: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep

    @property
    def changing(self) -> bool:
        """Whether nodes are to be changed."""
        return self.verb in CHANGING


class ClusterView:
    """The :class:`~tune_nodes.fleet.clusterside.ClusterSide` of a run that uses a cluster.

    Args:
        cluster: the connection.
        facts: what it said at the beginning.
        targets: inventory name to address.
        occasion: the run.
        drain: whether nodes are drained.
        strict: whether nodes without a Node object are refused.
        blind: what cannot be looked at, in sentences.
        leases: whether Leases can be watched.
    """

    def __init__(
        self,
        cluster: Cluster,
        facts: ClusterFacts,
        targets: Mapping[str, str],
        occasion: Occasion,
        drain: Drain,
        strict: bool = False,
        blind: Sequence[str] = (),
        leases: bool = True,
    ) -> None:
        self._cluster, self._occasion, self._drain = cluster, occasion, drain
        self._strict, self._leases = strict, leases
        self._matches, unmatched = match_nodes(targets, facts.nodes)
        self._agents = not any("agents" in sentence for sentence in facts.not_seen)
        self._nodes = {name: _in_cluster(match) for name, match in self._matches.items()}
        self._before: dict[str, NodeFacts] = {}
        self._agents_before: list[AgentFacts] = []
        self._file = occasion.directory / "leases.json"
        self._watched: frozenset[str] = frozenset()
        self._since = 0.0
        self._stuck: set[str] = set()  # nodes that are still closed: that is said of them to the end
        self.record: ClusterRecord | None = ClusterRecord(
            used=True,
            server=facts.server,
            context=facts.context,
            version=facts.version,
            cni=list(facts.cni),
            not_checked=[*facts.not_seen, *blind, *_some(unmatched)],
        )

    @property
    def matched(self) -> int:
        """How many nodes of the inventory have a Node object."""
        return len(self._matches)

    def close(self) -> None:
        """Let go of the connections."""
        self._cluster.close()

    # -- before any node is touched ----------------------------------------------------------------------------

    def labelled(self, targets: Sequence[Target]) -> list[Target]:
        """Return targets with the labels of their Nodes; what the inventory says wins."""
        return [
            replace(target, labels={**match.node.labels, **target.labels})
            if (match := self._matches.get(target.name)) is not None
            else target
            for target in targets
        ]

    def planned(self, records: Mapping[str, NodeRecord], verb: str) -> dict[str, NodeRecord]:
        """Return planned records with what the cluster knows; nodes that must not be touched are refused."""
        found = {name: self._judged(record, verb) for name, record in records.items()}
        names = self._pod_names(found)
        return {name: _with_pod_names(record, names) for name, record in found.items()}

    def _judged(self, record: NodeRecord, verb: str) -> NodeRecord:
        match = self._matches.get(record.name)
        if match is None:
            missing = self._strict and record.outcome is Outcome.PENDING
            return standing.refuse(record, held.no_node(record.name)) if missing else record
        if same_machine(match.node, *standing.machine(record)) is False:
            del self._matches[record.name], self._nodes[record.name]
            return held.held_back(record, held.another_machine(record, match.node), verb)
        record = self.attach(record)
        reason = refuse_reasons(match)
        return held.held_back(record, held.not_ready(reason), verb) if reason else record

    def _pod_names(self, records: Mapping[str, NodeRecord]) -> dict[str, str]:
        with_pods = [name for name, record in records.items() if record.pods and name in self._matches][:NAMED]
        uids = [pod.uid for name in with_pods for pod in records[name].pods]
        try:
            return self._cluster.pod_names(uids, [self._matches[name].node.name for name in with_pods])
        except ClusterError as problem:
            self._blind(f"what the pods that were looked into are called: {problem.what}")
            return {}

    def attach(self, record: NodeRecord) -> NodeRecord:
        """Return a record with what the cluster knows of its node by now."""
        known = self._nodes.get(record.name)
        if known is None:
            return record
        renewed = next((probe.ms for probe in record.probes_after if probe.kind == "lease" and probe.ok), None)
        if renewed is not None:
            known = self._nodes[record.name] = known.model_copy(update={"lease_seconds": round(renewed / 1000, 1)})
        return record.model_copy(update={"cluster": known})

    # -- while waves go on -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self, names: Sequence[str]) -> Iterator[None]:
        """Watch these nodes' Leases during all waves; first open what a dead run left closed.

        Raises:
            ClusterError: Leases cannot be watched after all; no node was touched.
        """
        self._open_stale()
        nodes = [self._matches[name].node.name for name in names if name in self._matches]
        if not (self._leases and nodes):
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.callback(self._file.unlink, missing_ok=True)
            watch = stack.enter_context(LeaseWatch(self._cluster, self._file, nodes))
            self._watched = frozenset(nodes) - frozenset(watch.missing)
            self._since = time.monotonic()
            if watch.missing:
                self._blind(f"whether these kubelets renew their Leases, for they have none: {_list(watch.missing)}")
            yield

    def _open_stale(self) -> None:
        """Open nodes that a run closed which has ended without doing so: it was killed."""
        for match in self._matches.values():
            run = match.node.cordoned_by
            if not run or run == self._occasion.run:
                continue
            node = match.node.name
            if not self._occasion.over(run):
                self._say(
                    f"the Node {node} is closed for new pods by run {run}, which is under way or not known here; "
                    f"it stays closed. If that run is over: kubectl uncordon {node}"
                )
                continue
            try:
                if self._cluster.uncordon(node, run):
                    self._occasion.note(
                        f"opened the Node {node} for pods again: run {run} was killed and left it closed"
                    )
            except ClusterError as problem:
                self._say(_still_closed(node, problem.what))

    def asked(self, target: Target) -> Target:
        """Return a target with the wait for its Lease, where it has one to wait for."""
        before = self._before.get(target.name)
        if before is None or not before.ready or before.name not in self._watched:
            return target
        return replace(target, lease={"file": str(self._file), "name": before.name, "limit": LEASE_LIMIT})

    @contextlib.contextmanager
    def closed(self, names: Sequence[str], cancelled: Callable[[], bool]) -> Iterator[dict[str, ErrorRecord]]:
        """Look at a wave's nodes once more; close and drain them where that is wanted; open them again at the end.

        Yields:
            Nodes that must not be touched, and why.
        """
        left_out = self._no_longer_well(names)
        if not self._drain.wanted:
            yield left_out
            return
        by_node = {self._matches[n].node.name: n for n in names if n in self._matches and n not in left_out}
        run, drain = self._occasion.run, self._drain
        closing = Closing(self._cluster, run, drain.timeout, drain.delete_emptydir, self._occasion.sleep)
        try:
            if by_node:
                self._occasion.note(f"draining {_list(by_node)} (at most {drain.timeout:g} s)")
            refused = closing.close(list(by_node), cancelled)
            closing.open(list(refused))  # at once: the wave may take long
            for node, name in by_node.items():
                self._update(name, cordoned=closing.closed_by.get(node, ""), evicted=closing.evicted.get(node))
            yield left_out | {by_node[node]: error for node, error in refused.items()}
        finally:
            for node, why in closing.open().items():
                self._say(_still_closed(node, why))
                self._update(by_node[node], unwell=_still_closed(node, why))
                self._stuck.add(by_node[node])

    def _no_longer_well(self, names: Collection[str]) -> dict[str, ErrorRecord]:
        """Note how a wave's nodes are right before it; return those that have become unwell since the plan."""
        mine = {name: self._matches[name].node.name for name in names if name in self._matches}
        if not mine:
            return {}
        try:
            nodes = self._cluster.nodes(set(mine.values()))
            self._agents_before += self._cluster.agents(set(mine.values())) if self._agents else []
        except ClusterError as problem:
            error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code="cluster")
            return dict.fromkeys(mine, error)
        left_out = {}
        for name, node in mine.items():
            if node not in nodes:
                left_out[name] = held.not_ready(f"the Node {node} is gone")
                continue
            self._before[name] = nodes[node]
            closed = "foreign" if nodes[node].cordoned else ""
            self._update(name, ready=nodes[node].ready, cordoned=closed)
            reason = refuse_reasons(Match(nodes[node], "name"))
            if reason and self._occasion.verb != "rollback":
                left_out[name] = held.not_ready(reason)
        return left_out

    def look(self, changed: Sequence[str], others: Sequence[str], cancelled: Callable[[], bool]) -> list[str]:
        """See whether changed nodes are as well as they were, and how others are that a wave touched.

        Returns:
            Changed nodes that are unwell or well again since the last look.
        """
        self._unwell([name for name in others if name in self._before])  # notes whether they are Ready
        mine = [name for name in changed if name in self._before and name not in self._stuck]
        limit = time.monotonic() + PATIENCE
        found = self._unwell(mine)
        while any(found.values()) and time.monotonic() < limit and not cancelled():
            self._occasion.sleep(LOOK_AGAIN)
            found = self._unwell(mine)
        news = [name for name, sentence in found.items() if sentence != self._nodes[name].unwell]
        for name in news:
            self._update(name, unwell=found[name])
        return news

    def _unwell(self, names: Sequence[str]) -> dict[str, str]:
        """Return what is wrong with each of these nodes, "" for nothing."""
        if not names:
            return {}
        wanted = {self._before[name].name for name in names}
        try:
            nodes = self._cluster.nodes(wanted)
            agents = self._cluster.agents(wanted) if self._agents else []
        except ClusterError as problem:
            return dict.fromkeys(names, f"it is not known how it is: {problem.what}")
        found = {}
        for name in names:
            before = self._before[name]
            now = nodes.get(before.name)
            found[name] = unwell(before, now, self._agents_before, agents) or self._silent(before.name)
            self._update(name, ready=now is not None and now.ready)
        return found

    def _silent(self, node: str) -> str:
        """Say since when a node's Lease has not been renewed, "" where all is well or nobody watches."""
        seen = lease.read(str(self._file), node) if node in self._watched else None
        if seen is None or seen.error or not self._before_ready(node):
            return ""
        silent = seen.updated - max(seen.renewed, self._since)
        return f"the Lease of {node} has not been renewed for {silent:.0f} s" if silent > LEASE_STALE else ""

    def _before_ready(self, node: str) -> bool:
        return any(before.name == node and before.ready for before in self._before.values())

    def _update(self, name: str, **fields: Any) -> None:
        self._nodes[name] = self._nodes[name].model_copy(update=fields)

    def _say(self, text: str) -> None:
        """Tell a person now, and whoever reads the report."""
        self._occasion.note(f"warning: {text}")
        self._blind(text)

    def _blind(self, sentence: str) -> None:
        if self.record is not None and sentence not in self.record.not_checked:
            self.record.not_checked.append(sentence)


def _in_cluster(match: Match) -> NodeInCluster:
    node = match.node
    return NodeInCluster(
        name=node.name,
        matched=match.by,
        ready=node.ready,
        roles=list(node.roles),
        kubelet=node.kubelet,
        runtime=node.runtime,
        labels=dict(node.labels),
        taints=list(node.taints),
        cordoned="foreign" if node.cordoned else "",
    )


def _still_closed(node: str, why: str) -> str:
    return f"the Node {node} is still closed for new pods ({why}); open it: kubectl uncordon {node}"


def _with_pod_names(record: NodeRecord, names: Mapping[str, str]) -> NodeRecord:
    if not any(pod.uid in names for pod in record.pods):
        return record
    pods = [pod.model_copy(update={"name": names.get(pod.uid, pod.name)}) for pod in record.pods]
    return record.model_copy(update={"pods": pods})


def _some(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - UNMATCHED
    return [*sentences[:UNMATCHED], *([f"and {more} more nodes without a Node object"] if more > 0 else [])]


def _list(names: Collection[str], most: int = 6) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
