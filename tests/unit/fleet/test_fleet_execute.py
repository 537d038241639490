"""The order of things in a run, with a scripted runner in place of ansible-playbook."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tune_nodes.cli.live import Quiet
from tune_nodes.errors import UsageError
from tune_nodes.fleet.execute import STOPPED_BY_USER, FleetRun, Settings
from tune_nodes.fleet.runner import Call, CallResult
from tune_nodes.fleet.standing import settled, unprobed
from tune_nodes.fleet.stop import StopSwitch
from tune_nodes.fleet.target import Target
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.fleet.waves import Policy, Size
from tune_nodes.runs.models import ChangeRecord, ErrorRecord, NodeRecord, Outcome, ProbeRecord, RunRecord, Transaction
from tune_nodes.runs.store import RunStore, new_run_id

Script = Callable[[str, str, dict[str, Any]], NodeRecord]
CHANGE = ChangeRecord(family="sysctl", key="net.core.somaxconn", before="128", want="4096")


class ScriptedRunner:
    """Answers each node's request by a function of (operation, node, request); keeps what it was asked."""

    def __init__(self, script: Script, cancels: bool = False) -> None:
        self.script = script
        self.cancels = cancels
        self.calls: list[tuple[str, list[str]]] = []
        self.requests: list[dict[str, Any]] = []

    def run(self, call: Call) -> CallResult:
        """Answer at once."""
        operation = str(call.request["operation"])
        self.calls.append((operation, call.names))
        self.requests.append(json.loads(json.dumps(call.request)))
        records = {}
        for name in call.names:
            records[name] = self.script(operation, name, call.request["nodes"][name])
            call.on_record(records[name])
        return CallResult(records, cancelled=self.cancels and call.cancelled())


def planned(name: str, **fields: Any) -> NodeRecord:
    host = {"roles": ["worker"], "machine_id": f"m-{name}", "boot_id": f"b-{name}"}
    given = {"outcome": Outcome.PENDING, "host": host, "plan_hash": f"sha256:{name}", "changes": [CHANGE], **fields}
    return NodeRecord.model_validate({"name": name, **given})


def fine(operation: str, name: str, _request: dict[str, Any]) -> NodeRecord:
    if operation == "plan":
        return planned(name)
    return NodeRecord(name=name, outcome=Outcome.CHANGED, tx=Transaction(id="r", state="DONE"))


def but(operation: str, node: str, record: NodeRecord) -> Script:
    """Return a script in which one node answers one operation differently."""

    def script(asked: str, name: str, request: dict[str, Any]) -> NodeRecord:
        return record if (asked, name) == (operation, node) else fine(asked, name, request)

    return script


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.open(tmp_path / "state")


def fleet(store: RunStore, runner: ScriptedRunner, stop: StopSwitch | None = None, **settings: Any) -> FleetRun:
    record = RunRecord(schema=1, id=new_run_id(), verb="apply", version="0", started=datetime.now(UTC))
    chosen = {"policy": Policy(serial=(Size(2),)), "window": 0, **settings}
    return FleetRun(runner, store.begin(record), Quiet(), stop or StopSwitch(), Settings(**chosen))


def targets(count: int) -> list[Target]:
    return [Target(f"n{number}", f"10.0.0.{number}") for number in range(1, count + 1)]


def outcomes(run: FleetRun) -> list[str]:
    return [f"{name} {record.outcome}" for name, record in run.record.nodes.items()]


def test_plan_then_waves(store: RunStore) -> None:
    runner = ScriptedRunner(fine)
    run = fleet(store, runner)
    run.plan(targets(5))
    run.execute("apply", targets(5))
    assert runner.calls == [
        ("plan", ["n1", "n2", "n3", "n4", "n5"]),
        ("apply", ["n1"]),
        ("apply", ["n2", "n3"]),
        ("apply", ["n4", "n5"]),
    ]
    assert [wave.gate for wave in run.record.waves] == ["passed"] * 3
    assert exit_code(run.record) == 0
    node = run.record.nodes["n2"]
    assert (node.wave, node.address, node.plan_hash, node.outcome) == (2, "10.0.0.2", "sha256:n2", Outcome.CHANGED)
    assert node.changes == [CHANGE]


def test_peers_are_outside_the_wave_and_the_same_for_every_run(store: RunStore) -> None:
    asked = []
    for _ in range(2):
        runner = ScriptedRunner(fine)
        run = fleet(store, runner)
        run.plan(targets(6))
        run.execute("apply", targets(6))
        asked.append([request["nodes"] for request in runner.requests])
    assert asked[0] == asked[1]
    wave = asked[0][2]
    for node in wave.values():
        peers = {probe["target"] for probe in node["probes"] if probe["kind"] == "peer"}
        assert len(peers) == 2
        assert not peers & {"10.0.0.2", "10.0.0.3"}


def test_a_failed_canary_stops_everything(store: RunStore) -> None:
    error = ErrorRecord(what="probe lost", code="reverted")
    runner = ScriptedRunner(but("apply", "n1", NodeRecord(name="n1", outcome=Outcome.REVERTED, error=error)))
    run = fleet(store, runner)
    run.plan(targets(5))
    run.execute("apply", targets(5))
    assert [call[0] for call in runner.calls] == ["plan", "apply"]
    assert outcomes(run) == ["n1 reverted", "n2 skipped", "n3 skipped", "n4 skipped", "n5 skipped"]
    assert [wave.gate for wave in run.record.waves] == ["failed", "skipped", "skipped"]
    assert exit_code(run.record) == 3
    (held,) = store.quarantined()
    assert (held.name, held.machine_id, held.reason) == ("n1", "m-n1", "probe lost")


def test_a_node_lost_with_a_change_on_it_is_quarantined(store: RunStore) -> None:
    """Though its answer, and with it the transaction, never arrived."""
    error = ErrorRecord(what="the node did not come back within its window", code="unconfirmed")
    runner = ScriptedRunner(but("apply", "n1", NodeRecord(name="n1", outcome=Outcome.UNREACHABLE, error=error)))
    run = fleet(store, runner)
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert outcomes(run) == ["n1 unreachable", "n2 skipped"]
    assert exit_code(run.record) == 3
    assert [(held.name, held.machine_id) for held in store.quarantined()] == [("n1", "m-n1")]


def test_failures_below_the_limit_go_on(store: RunStore) -> None:
    runner = ScriptedRunner(but("apply", "n3", NodeRecord(name="n3", outcome=Outcome.FAILED)))
    run = fleet(store, runner, fail_percent=50)
    run.plan(targets(5))
    run.execute("apply", targets(5))
    assert len(runner.calls) == 4
    assert run.record.stopped == ""
    assert exit_code(run.record) == 1


def test_one_machine_under_two_names_is_refused_under_both(store: RunStore) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if name == "n3":
            return fine(operation, name, request)
        return planned(name, host={"machine_id": "m", "boot_id": "b"})

    run = fleet(store, ScriptedRunner(script))
    records = run.plan(targets(3))
    assert [record.outcome for record in records.values()] == [Outcome.REFUSED, Outcome.REFUSED, Outcome.PENDING]
    error = records["n1"].error
    assert error is not None
    assert "n2" in error.what


def test_control_plane_last(store: RunStore) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "plan" and name in ("n1", "n2"):
            return planned(name, host={"roles": ["control-plane", "etcd"]})
        return fine(operation, name, request)

    runner = ScriptedRunner(script)
    run = fleet(store, runner)
    run.plan(targets(4))
    run.execute("apply", targets(4))
    assert [names for _, names in runner.calls[1:]] == [["n3"], ["n4"], ["n1"], ["n2"]]


def test_first_stop_finishes_the_wave_in_flight(store: RunStore) -> None:
    stop = StopSwitch()

    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "apply" and name == "n2":
            stop.press()
        return fine(operation, name, request)

    run = fleet(store, ScriptedRunner(script), stop)
    run.plan(targets(5))
    run.execute("apply", targets(5))
    assert outcomes(run) == ["n1 changed", "n2 changed", "n3 changed", "n4 skipped", "n5 skipped"]
    assert run.record.stopped == STOPPED_BY_USER
    assert exit_code(run.record) == 130


def test_second_stop_cancels_the_call_and_wins_over_the_gate(store: RunStore) -> None:
    stop = StopSwitch()

    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "plan":
            return planned(name)
        stop.press()
        stop.press()
        error = ErrorRecord(what="no result came back", code="no-result")
        return NodeRecord(name=name, outcome=Outcome.FAILED, error=error)

    runner = ScriptedRunner(script, cancels=True)
    run = fleet(store, runner, stop)
    run.plan(targets(3))
    run.execute("apply", targets(3))
    assert [call[0] for call in runner.calls] == ["plan", "apply"]  # and nobody is asked again
    assert exit_code(run.record) == 130


def test_a_stop_while_planning_leaves_nodes_untouched(store: RunStore) -> None:
    stop = StopSwitch()
    stop.press()

    def silent(_operation: str, name: str, _request: dict[str, Any]) -> NodeRecord:
        return NodeRecord(name=name, outcome=Outcome.FAILED, error=ErrorRecord(what="x", code="no-result"))

    run = fleet(store, ScriptedRunner(silent, cancels=True), stop)
    run.plan(targets(2))
    assert outcomes(run) == ["n1 skipped", "n2 skipped"]
    assert exit_code(run.record) == 130


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("REVERTED", "reverted"), ("DONE", "changed"), ("COMMITTED", "changed"), ("ARMED", "failed"), ("", "failed")],
)
def test_a_node_without_a_result_is_asked_again(store: RunStore, state: str, outcome: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("tune_nodes.fleet.execute.REVERT_MARGIN", 0.0)

    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "status":
            assert request["tx"] == run.record.id
            tx = Transaction(id="r", state=state) if state else None
            return NodeRecord(name=name, outcome=Outcome.OK, tx=tx)
        if operation == "apply":
            error = ErrorRecord(what="no result came back", code="no-result")
            return NodeRecord(name=name, outcome=Outcome.FAILED, error=error)
        return fine(operation, name, request)

    runner = ScriptedRunner(script)
    run = fleet(store, runner)
    run.plan(targets(1))
    run.execute("apply", targets(1))
    assert [call[0] for call in runner.calls] == ["plan", "apply", "status"]
    assert outcomes(run) == [f"n1 {outcome}"]


def test_soak_looks_again_and_stops_where_a_node_is_no_longer_well(store: RunStore) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        soaking = operation == "plan" and run.record.waves
        if not soaking:
            return fine(operation, name, request)
        return planned(name, outcome=Outcome.PENDING if name == "n2" else Outcome.OK, changes=[])

    runner = ScriptedRunner(script)
    run = fleet(store, runner, soak=0.01)
    run.plan(targets(5))
    run.execute("apply", [Target(t.name, t.address, expect="sha256:x") for t in targets(5)])
    assert [call[0] for call in runner.calls] == ["plan", "apply", "plan", "apply", "plan"]
    assert all("expect" not in node for node in runner.requests[2]["nodes"].values())
    assert run.record.waves[0].gate_detail.endswith("still well after 0 s")
    assert "n2 (pending)" in run.record.stopped
    assert exit_code(run.record) == 1


def test_quarantined_nodes_are_left_out_by_machine(store: RunStore) -> None:
    store.quarantine("old-name", "m-n2", "20260101-000000-aaaaaa", "reverted")
    store.quarantine("n3", "another machine", "20260101-000000-aaaaaa", "reverted")
    run = fleet(store, ScriptedRunner(fine))
    run.plan(targets(3))
    assert run.leave_out(store.quarantined()) == ["n2"]
    assert outcomes(run) == ["n1 pending", "n2 quarantined", "n3 pending"]


def test_a_wave_is_recorded_before_it_is_touched(store: RunStore) -> None:
    seen: list[RunRecord] = []

    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if operation == "apply":
            seen.append(store.load(run.record.id))
        return fine(operation, name, request)

    run = fleet(store, ScriptedRunner(script))
    run.plan(targets(2))
    run.execute("apply", targets(2))
    assert [[wave.started is not None for wave in record.waves] for record in seen] == [[True, False], [True, True]]
    assert seen[1].nodes["n1"].outcome is Outcome.CHANGED


def test_a_store_that_fails_halfway_stops_after_the_wave(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fleet(store, ScriptedRunner(fine))
    run.plan(targets(5))

    def full(kind: str, **_fields: Any) -> None:
        if kind == "node":
            raise UsageError("the state directory cannot be used", "No space left on device")

    monkeypatch.setattr(run.handle, "event", full)
    run.execute("apply", targets(5))
    assert run.record.nodes["n1"].outcome is Outcome.CHANGED
    assert "No space left" in run.record.stopped
    assert run.record.nodes["n4"].outcome is Outcome.SKIPPED
    assert exit_code(run.record) == 1


def test_a_call_that_cannot_start_stops_the_run_and_touches_nobody_more(store: RunStore) -> None:
    def script(operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        if name == "n3" and operation == "apply":
            raise UsageError("Ansible refused inventory, playbook or variables", "gone")
        return fine(operation, name, request)

    runner = ScriptedRunner(script)
    run = fleet(store, runner)
    run.plan(targets(5))
    run.execute("apply", targets(5))
    assert outcomes(run) == ["n1 changed", "n2 failed", "n3 failed", "n4 skipped", "n5 skipped"]
    assert len(runner.calls) == 3


def test_where_nothing_answers_beforehand() -> None:
    def probe(kind: str, ok: bool) -> ProbeRecord:
        return ProbeRecord(id=kind, kind=kind, ok=ok)

    blind = planned("n1", probes_before=[probe("gateway", False), probe("peer", False), probe("dns", True)])
    seen = planned("n2", probes_before=[probe("gateway", False), probe("peer", True)])
    assert unprobed([blind, seen, planned("n3")]) == ["n1"]


def test_settled_keeps_the_plan() -> None:
    before = planned("n1", outcome=Outcome.FAILED)
    status = NodeRecord(name="n1", outcome=Outcome.OK, tx=Transaction(id="r", state="REVERTED"))
    after = settled(before, status)
    assert (after.outcome, after.changes, after.host) == (Outcome.REVERTED, before.changes, before.host)
