"""One probe of a fleet: ask every node what it is as an end of paths, then let all measure at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.runner import Call
from tune_nodes.probing import likely, pairs, verdict
from tune_nodes.probing.ends import End, Measured, end_of, measured, unheard
from tune_nodes.runs.models import NodeRecord, Outcome

#: Seconds that a node measures at most.
SECONDS = 20.0


@dataclass(frozen=True)
class Wanted:
    """What is to be measured.

    Args:
        size: bytes; None: what each sender uses on each path.
        pods: paths between pods too.
        chords: see :func:`pairs.choose`.
        full: every pair.
    """

    size: int | None = None
    pods: bool = True
    chords: int | None = None
    full: bool = False


@dataclass
class Cost:
    """What the measuring sent."""

    packets: int = 0
    bytes: int = 0


@dataclass
class Probing:
    """A probe in progress; its results stand in the run's record.

    Args:
        fleet: the run.
        addresses: name to ssh address of every node, "" where only the name is known.
    """

    fleet: FleetRun
    addresses: Mapping[str, str]
    cost: Cost = field(default_factory=Cost)
    choice: pairs.Choice = field(default_factory=lambda: pairs.Choice((), ""))
    ends: dict[str, End] = field(default_factory=dict)

    def run(self, wanted: Wanted) -> None:
        """Measure, and put paths and faults into the run's record. Nothing is changed on any node."""
        record = self.fleet.record
        silent = self._ask()
        self.choice = pairs.choose(list(self.ends), wanted.chords, wanted.full)
        keys = pairs.keys(self.choice, self.ends, wanted.pods)
        measures: dict[pairs.Key, Measured] = {}
        if not self.fleet.stop.requested:
            asked = {
                name: pairs.targets(name, keys, self.ends, wanted.size) for name in self.ends if name not in silent
            }
            measures = self._measure({name: rows for name, rows in asked.items() if rows})
        if self.fleet.stop.requested:
            record.stopped = STOPPED_BY_USER
        record.paths = verdict.records(keys, measures, self.ends, wanted.size is not None)
        record.path_faults = likely.faults(record.paths, self.ends, silent)
        record.options |= {"measured": self.choice.words}
        self.fleet.handle.save()

    def _ask(self) -> set[str]:
        """Learn what each node is as an end of paths; return those that could not be asked."""
        silent = set()
        for name, record in self._call("nodes", {name: {"paths": {}} for name in self.addresses}).items():
            end = end_of(record.paths)
            if end is None:
                silent.add(name)
                end = unheard(self.addresses[name])  # the others can still send to it
            elif not end.addresses:
                end = end.model_copy(update={"addresses": (unheard(self.addresses[name]) or end).addresses})
            if end is not None:
                self.ends[name] = end
            self.fleet.handle.node(record.model_copy(update={"address": self.addresses[name]}))
        return silent

    def _measure(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[pairs.Key, Measured]:
        """Let the nodes measure; what came of it stands by path."""
        if not rows:
            return {}
        asked = {name: {"paths": {"targets": list(row), "seconds": SECONDS}} for name, row in rows.items()}
        found: dict[pairs.Key, Measured] = {}
        for name, record in self._call("paths", asked).items():
            sent = {str(row["id"]) for row in rows[name]}
            for one in measured(record.paths):
                if one.id in sent:  # a node speaks of what it was asked only
                    to, layer, family = one.id.rsplit("|", 2)
                    found[name, to, layer, int(family)] = one
                    self.cost.packets += one.packets
                    self.cost.bytes += one.bytes
            if record.outcome is not Outcome.OK:
                kept = self.fleet.record.nodes[name]
                update = {"outcome": record.outcome, "error": record.error, "warnings": record.warnings}
                self.fleet.handle.node(kept.model_copy(update=update))
        return found

    def _call(self, title: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, NodeRecord]:
        self.fleet.progress.phase(title, len(nodes))
        document = {"operation": "probe", "common": {"schema": 1, "run": self.fleet.record.id}, "nodes": nodes}
        call = Call(
            document,
            self.fleet.progress.node,
            lambda: self.fleet.stop.requested,
            self.fleet.settings.idle_timeout,
        )
        return self.fleet.runner.run(call).records
