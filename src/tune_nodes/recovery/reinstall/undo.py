"""Taking a reinstall back: each object as it was before, if it still is what was written; then the agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.policy.keeping.clean import digest, merge_patch
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.recovery.guard import NoGuards
from tune_nodes.recovery.reinstall.carry import Way, gate_of
from tune_nodes.recovery.reinstall.parts import Key, Part, rank, tidy
from tune_nodes.recovery.reinstall.plan import ROLLING, call_of, live_of, nodes_of
from tune_nodes.recovery.reinstall.record import Record
from tune_nodes.recovery.reinstall.rollout import Rollout
from tune_nodes.recovery.reinstall.rolls import CHANGING, Roll, final_strategy
from tune_nodes.recovery.reinstall.runs import Run

#: Others may have put things into these since: they stay, empty or not.
_STAY = frozenset({"Namespace", "CustomResourceDefinition"})


@dataclass
class Undone:
    """What an undo did: objects as they were before, objects that went, nodes whose agents are new, what was left."""

    restored: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class _Undo:
    def __init__(self, cluster: Cluster, run: Run, record: Record) -> None:
        self.cluster = cluster
        self.api = cluster.api
        self.run = run
        self.parts = {part.key: part for part in record.parts}
        self.lookup = Lookup(cluster.api)
        self.done = Undone()

    def ours(self, key: Key, live: Mapping[str, Any]) -> bool:
        """Say whether an object is what the run wrote: by its sum, by our mark, or as the run's write was cut off."""
        wrote = self.run.wrote.get(key, "")
        marked = objects.text(live, "metadata", "annotations", ROLLING).startswith(self.run.id)
        return marked or not wrote or digest(tidy(live, key.api_version, key.kind)) == wrote

    def back(self, part: Part) -> None:
        """Make an object what it was."""
        live = live_of(self.cluster, self.lookup, part.key)
        if live is None:
            self.done.left.append(f"{part.key}: it is gone; tune-nodes keeps it in {self.run.directory}")
        elif tidy(live, part.key.api_version, part.key.kind) == part.body:
            return
        elif not self.ours(part.key, live):
            self.done.left.append(f"{part.key}: it was changed since")
        else:
            self.put(part.key, part.body)
            self.done.restored.append(str(part.key))

    def put(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object this, and nothing beside; if nobody writes it at the same moment."""
        live = live_of(self.cluster, self.lookup, key)
        call = call_of(self.lookup, key, "patch")
        if live is None or call is None:
            raise ClusterError(NOT_FOUND, f"{key} is gone", "it was there a moment ago")
        patch = merge_patch(tidy(live, key.api_version, key.kind), body)
        version = objects.text(live, "metadata", "resourceVersion")
        metadata = {**(patch.get("metadata") or {}), "resourceVersion": version}
        return self.api.patch(call, {**patch, "metadata": metadata})

    def away(self, key: Key) -> None:
        """Remove an object that the run made."""
        live = live_of(self.cluster, self.lookup, key)
        if live is None or objects.text(live, "metadata", "deletionTimestamp"):
            return
        if key.kind in _STAY:
            self.done.left.append(f"{key}: what is in it may be others'")
            return
        if not self.ours(key, live):
            self.done.left.append(f"{key}: it was changed since")
            return
        call = call_of(self.lookup, key, "delete")
        if call is not None:
            self._delete(call, live)
            self.done.removed.append(str(key))

    def _delete(self, call: Call, live: Mapping[str, Any]) -> None:
        try:
            self.api.delete(call, objects.text(live, "metadata", "uid"))
        except ClusterError as problem:
            if problem.code != NOT_FOUND:
                raise

    def roll(self, part: Part) -> Roll | None:
        """Return the rollout of a DaemonSet that was there before and whose agents the run started anew."""
        live = live_of(self.cluster, self.lookup, part.key)
        if live is None:
            self.done.left.append(f"{part.key}: it is gone; tune-nodes keeps it in {self.run.directory}")
            return None
        if not self.ours(part.key, live) and part.key not in self.run.back.rolling:
            self.done.left.append(f"{part.key}: it was changed since")
            return None
        self.done.restored.append(str(part.key))
        strategy = final_strategy(part.body, None)
        mark = f"{self.run.id} {CHANGING}"
        return Roll(self.api, part.key, CHANGING, mark, partial(self._roll_put, part.key), part.body, strategy)

    def _roll_put(self, key: Key, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write a DaemonSet; while it is held, mark and strategy stay."""
        live = live_of(self.cluster, self.lookup, key)
        if "updateStrategy" not in body["spec"] and live is not None:
            held = tidy(live, key.api_version, key.kind)
            notes = {**(objects.at(body, "metadata", "annotations") or {})}
            notes[ROLLING] = objects.text(held, "metadata", "annotations", ROLLING)
            spec = {**body["spec"], "updateStrategy": held["spec"]["updateStrategy"]}
            body = {**body, "metadata": {**body["metadata"], "annotations": notes}, "spec": spec}
        return self.put(key, body)


def undo(cluster: Cluster, run: Run, record: Record, journal: Journal, way: Way) -> Undone:
    """Take a run back.

    Args:
        cluster: where.
        run: what is taken back, as its journal tells it.
        record: its backup.
        journal: of the run.
        way: how.

    Raises:
        TuneError: a node is not well with what was before either; the nodes after it were left.
    """
    work = _Undo(cluster, run, record)
    journal.note("undo")
    touched = {*run.wrote, *run.there.rolling}
    rolled = [part for part in record.parts if part.key in run.there.rolling and part.key not in run.absent]
    for part in record.parts:
        if part.key in touched and part not in rolled:
            work.back(part)
    for key in sorted((one for one in touched if one in run.absent), key=_last_first):
        work.away(key)
    rolls = [roll for part in rolled if part.key not in run.back.rolled and (roll := work.roll(part)) is not None]
    if rolls:
        nodes, _, protected = nodes_of(cluster)
        gate = gate_of(cluster, rolls[0].key, rolls[0].body, way)
        gate.sweep()
        rollout = Rollout(gate, way.guards or NoGuards(), journal, run.back, True, way.say, way.cancelled)
        work.done.nodes = rollout.run(rolls, nodes, protected)
    journal.note("done", undo=True)
    return work.done


def _last_first(key: Key) -> tuple[int, str]:
    return (-rank(key), str(key))
