"""The order of things in a run with a cluster: scripted nodes, and a side of it that writes down what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_fleet_execute import ScriptedRunner, fine, fleet, outcomes, planned, targets

from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun
from tune_nodes.fleet.stop import StopSwitch
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.runs.models import ClusterRecord, ErrorRecord, NodeInCluster, NodeRecord, Outcome
from tune_nodes.runs.store import RunStore


class Side:
    """A cluster's side whose answers are attributes."""

    def __init__(self) -> None:
        self.record = ClusterRecord(used=True, context="prod")
        self.roles: dict[str, list[str]] = {}
        self.left_out: dict[str, ErrorRecord] = {}
        self.unwell: dict[str, str] = {}
        self.told: list[str] = []
        self.cancelled: Callable[[], bool] = lambda: False

    def labelled(self, targets: Sequence[Target]) -> list[Target]:
        return list(targets)

    def planned(self, records: Mapping[str, NodeRecord], verb: str) -> dict[str, NodeRecord]:
        return {name: self.attach(record) for name, record in records.items()}

    def attach(self, record: NodeRecord) -> NodeRecord:
        known = NodeInCluster(
            name=record.name, ready=True, roles=self.roles.get(record.name, []), unwell=self.unwell.get(record.name, "")
        )
        return record.model_copy(update={"cluster": known})

    def asked(self, target: Target) -> Target:
        return replace(target, lease={"file": "/f", "name": target.name, "limit": 15})

    @contextmanager
    def watched(self, names: Sequence[str]) -> Iterator[None]:
        self.told.append(f"watch {' '.join(names)}".rstrip())
        yield
        self.told.append("watched")

    @contextmanager
    def closed(self, names: Sequence[str], cancelled: Callable[[], bool]) -> Iterator[dict[str, ErrorRecord]]:
        self.told.append(f"close {' '.join(names)}")
        self.cancelled = cancelled
        try:
            yield {name: error for name, error in self.left_out.items() if name in names}
        finally:
            self.told.append(f"open {' '.join(names)}")

    def look(self, changed: Sequence[str], others: Sequence[str], cancelled: Callable[[], bool]) -> list[str]:
        self.told.append(f"look {' '.join(changed)}; {' '.join(others)}")
        return [name for name in changed if name in self.unwell]

    def close(self) -> None:
        self.told.append("close")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.open(tmp_path / "state")


@pytest.fixture
def side() -> Side:
    return Side()


def in_cluster(
    store: RunStore, side: Side, runner: ScriptedRunner, stop: StopSwitch | None = None, **more: Any
) -> FleetRun:
    plain = fleet(store, runner, stop, **more)
    return FleetRun(runner, plain.handle, plain.progress, plain.stop, plain.settings, side)


def test_each_wave_is_closed_changed_looked_at_and_opened(store: RunStore, side: Side) -> None:
    runner = ScriptedRunner(fine)
    run = in_cluster(store, side, runner)
    run.plan(targets(3))
    run.execute("apply", targets(3))
    assert side.told == [
        "watch n1 n2 n3",
        *("close n1", "look n1; ", "open n1"),
        *("close n2 n3", "look n1 n2 n3; ", "open n2 n3"),
        "watched",
    ]
    assert "lease" not in runner.requests[0]["nodes"]["n1"]
    assert runner.requests[1]["nodes"]["n1"]["lease"] == {"file": "/f", "name": "n1", "limit": 15}
    assert run.record.cluster is not None
    assert store.load(run.record.id).nodes["n3"].cluster is not None
    assert exit_code(run.record) == 0


def test_without_a_node_to_change_dead_runs_are_still_looked_for(store: RunStore, side: Side) -> None:
    run = in_cluster(store, side, ScriptedRunner(fine))
    run.execute("apply", [])
    assert side.told == ["watch", "watched"]


def test_roles_of_the_node_object_protect_too(store: RunStore, side: Side) -> None:
    side.roles = {"n1": ["control-plane"], "n2": ["master"]}
    runner = ScriptedRunner(fine)
    run = in_cluster(store, side, runner)
    run.plan(targets(3))
    run.execute("apply", targets(3))
    assert [names for _, names in runner.calls[1:]] == [["n3"], ["n1"], ["n2"]]


def test_a_node_that_is_unwell_after_its_change_stops_the_run(store: RunStore, side: Side) -> None:
    side.unwell = {"n1": "the Node n1 is not ready any more"}
    run = in_cluster(store, side, ScriptedRunner(fine))
    run.plan(targets(3))
    side.told.clear()
    run.execute("apply", targets(3))
    assert outcomes(run) == ["n1 changed", "n2 skipped", "n3 skipped"]
    assert run.record.stopped == "wave 1: the canary failed: n1 (the Node n1 is not ready any more)"
    assert exit_code(run.record) == 1
    assert "open n1" in side.told


def test_an_unwell_node_counts_though_the_run_may_go_on(store: RunStore, side: Side) -> None:
    side.unwell = {"n3": "its kube-proxy is gone"}
    run = in_cluster(store, side, ScriptedRunner(fine), fail_percent=50)
    run.plan(targets(3))
    run.execute("apply", targets(3))
    assert run.record.stopped == ""
    assert exit_code(run.record) == 1


def test_nodes_that_cannot_be_drained_are_refused_and_the_gate_decides(store: RunStore, side: Side) -> None:
    side.left_out = {"n2": ErrorRecord(what="the Node n2 could not be drained", code="not-drained")}
    runner = ScriptedRunner(fine)
    run = in_cluster(store, side, runner)
    run.plan(targets(4))
    run.execute("apply", targets(4))
    assert runner.calls[2] == ("apply", ["n3"])
    assert outcomes(run) == ["n1 changed", "n2 refused", "n3 changed", "n4 skipped"]
    assert "n2 (refused)" in run.record.stopped
    assert run.record.nodes["n2"].changes  # what was planned is kept


def test_a_wave_of_which_no_node_may_be_touched_sends_nothing(store: RunStore, side: Side) -> None:
    side.left_out = {"n1": ErrorRecord(what="the API server does not answer", code="cluster")}
    runner = ScriptedRunner(fine)
    run = in_cluster(store, side, runner)
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert [call[0] for call in runner.calls] == ["plan"]
    assert outcomes(run) == ["n1 refused", "n2 skipped"]


def test_a_stop_while_draining_skips_the_wave(store: RunStore, side: Side) -> None:
    stop = StopSwitch()
    side.left_out = {"n1": ErrorRecord(what="the run stopped before this node", code="skipped")}
    runner = ScriptedRunner(fine)
    run = in_cluster(store, side, runner, stop)
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert side.cancelled() is False
    stop.press()
    assert side.cancelled() is True
    assert outcomes(run) == ["n1 skipped", "n2 skipped"]
    assert run.record.stopped == STOPPED_BY_USER
    assert exit_code(run.record) == 130


def test_nodes_are_opened_on_the_first_and_on_the_second_stop(store: RunStore, side: Side) -> None:
    for presses in (1, 2):
        side.told.clear()
        stop = StopSwitch()

        def script(
            operation: str, name: str, request: dict[str, Any], stop: StopSwitch = stop, presses: int = presses
        ) -> NodeRecord:
            if operation == "apply":
                for _ in range(presses):
                    stop.press()
            return fine(operation, name, request)

        run = in_cluster(store, side, ScriptedRunner(script, cancels=True), stop)
        run.plan(targets(3))
        run.execute("apply", targets(3))
        assert side.told[1] == "close n1"
        assert side.told[-2:] == ["open n1", "watched"]
        assert exit_code(run.record) == 130


def test_nodes_are_opened_where_the_run_breaks(store: RunStore, side: Side) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "apply":
            raise KeyboardInterrupt
        return fine(operation, name, request)

    run = in_cluster(store, side, ScriptedRunner(script))
    run.plan(targets(2))
    with pytest.raises(KeyboardInterrupt):
        run.execute("apply", targets(2))
    assert side.told[-1] == "open n1"


def test_a_node_that_stays_closed_is_a_failure_of_its_wave(store: RunStore, side: Side) -> None:
    """What opening finds out comes after the look, and counts."""

    @contextmanager
    def closed(names: Sequence[str], cancelled: Callable[[], bool]) -> Iterator[dict[str, ErrorRecord]]:
        yield {}
        side.unwell["n1"] = "the Node n1 is still closed for new pods"

    side.closed = closed
    run = in_cluster(store, side, ScriptedRunner(fine))
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert run.record.stopped == "wave 1: the canary failed: n1 (the Node n1 is still closed for new pods)"


def test_the_soak_asks_the_cluster_too(store: RunStore, side: Side) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "plan" and run.record.waves:
            side.unwell = {"n1": "the Lease of n1 has not been renewed for 40 s"}
            return planned(name, outcome=Outcome.OK, changes=[])
        return fine(operation, name, request)

    run = in_cluster(store, side, ScriptedRunner(script), soak=0.01)
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert run.record.stopped.endswith("s: n1 (the Lease of n1 has not been renewed for 40 s)")


def test_lost_nodes_are_looked_at_with_the_others(store: RunStore, side: Side) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "apply":
            return NodeRecord(name=name, outcome=Outcome.UNREACHABLE)
        return fine(operation, name, request)

    run = in_cluster(store, side, ScriptedRunner(script))
    run.plan(targets(1))
    run.execute("apply", targets(1))
    assert "look ; n1" in side.told
