"""A fleet's MTU in two rounds: when it takes two, what keeps it from beginning, and what stops it in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_fleet_execute import ScriptedRunner, fleet, planned, targets

from tune_nodes.fleet import rounds, two_rounds
from tune_nodes.fleet.execute import FleetRun
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.runs.models import ChangeRecord, ErrorRecord, NodeRecord, Outcome, Transaction
from tune_nodes.runs.store import RunStore


def change(key: str, before: str, want: str, status: str = "pending", **more: Any) -> ChangeRecord:
    identity = {"driver": "veth", "mac": "02:00:00:00:00:01"} if key == "eth0/mtu" else {}
    return ChangeRecord(family="mtu", key=key, before=before, want=want, status=status, identity=identity, **more)


LINK, PIN, FREE = (
    change("eth0/mtu", "1500", "9000"),
    change("eth0/route-mtu", "none", "1500"),
    change("eth0/route-mtu", "1500", "none"),
)


def done(name: str, *changes: ChangeRecord, outcome: Outcome = Outcome.CHANGED, **more: Any) -> NodeRecord:
    rows = [c.model_copy(update={"status": "changed" if c.status == "pending" else c.status}) for c in changes]
    return NodeRecord(name=name, outcome=outcome, changes=rows, tx=Transaction(id="r", state="DONE"), **more)


class Nodes:
    """Nodes as they answer: old, held after the first round, done after the second."""

    def __init__(self, **odd: Any) -> None:
        self.odd = odd
        self.held: set[str] = set()

    def __call__(self, operation: str, name: str, request: dict[str, Any]) -> NodeRecord:
        """Answer; ``odd`` names "WHEN_NODE" and the record instead."""
        when = f"{operation}{2 if name in self.held else 1}_{name}"
        if when in self.odd:
            found: NodeRecord = self.odd[when]
            return found
        if operation == "plan":
            return planned(name, changes=[FREE if name in self.held else LINK])
        if name in self.held:
            return done(name, FREE)
        self.held.add(name)
        return done(name, PIN, LINK)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.open(tmp_path / "state")


def carried_out(store: RunStore, nodes: Nodes, count: int = 3) -> tuple[FleetRun, ScriptedRunner]:
    runner = ScriptedRunner(nodes)
    run = fleet(store, runner)
    run.plan(targets(count))
    two_rounds.apply(run, [t for t in targets(count) if run.record.nodes[t.name].outcome is Outcome.PENDING])
    return run, runner


def test_every_node_is_held_before_the_first_is_let_go(store: RunStore) -> None:
    run, runner = carried_out(store, Nodes())
    assert [f"{operation} {' '.join(names)}" for operation, names in runner.calls] == [
        *("plan n1 n2 n3", "apply n1", "apply n2 n3"),
        *("plan n1 n2 n3", "apply n1", "apply n2 n3"),
    ]
    common = [request["common"] for request in runner.requests]
    assert [bool(row.get("hold")) for row in common] == [False, True, True, False, False, False]
    assert [row["run"].removeprefix(run.record.id) for row in common] == ["", "", "", "-2", "-2", "-2"]
    assert [wave.round for wave in run.record.waves] == [1, 1, 2, 2]
    node = run.record.nodes["n1"]
    assert [(c.key, c.before, c.want) for c in node.changes] == [("eth0/mtu", "1500", "9000")], "the pin is no change"
    assert (node.round, exit_code(run.record)) == (2, 0)


@pytest.mark.parametrize(
    "record",
    [
        NodeRecord(name="n3", outcome=Outcome.UNREACHABLE),
        planned("n3", outcome=Outcome.OK, changes=[change("eth0/mtu", "1500", "9000", "owned", owner="DHCP")]),
        planned("n3", outcome=Outcome.OK, changes=[change("eth0/mtu", "1500", "9000", "unsupported", note="too much")]),
    ],
)
def test_a_node_that_would_stay_behind_keeps_all_from_beginning(store: RunStore, record: NodeRecord) -> None:
    run, runner = carried_out(store, Nodes(plan1_n3=record))
    assert [operation for operation, _ in runner.calls] == ["plan"]
    assert "n3" in run.record.stopped
    assert "nothing was changed" in run.record.stopped
    assert exit_code(run.record) != 0


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"apply1_n2": NodeRecord(name="n2", outcome=Outcome.REVERTED)}, "wave 2"),
        ({"apply1_n2": done("n2", change("eth0/mtu", "1500", "9000", "unsupported", note="no"))}, "n2 (eth0 stays"),
        ({"plan2_n2": NodeRecord(name="n2", outcome=Outcome.UNREACHABLE)}, "n2 (unreachable)"),
        ({"plan2_n2": planned("n2", changes=[LINK])}, "n2 (eth0/route-mtu is gone: was it rebooted?)"),
    ],
)
def test_the_second_round_waits_for_every_node(store: RunStore, odd: dict[str, NodeRecord], said: str) -> None:
    run, runner = carried_out(store, Nodes(**odd))
    assert said in run.record.stopped
    assert not [row for row in runner.requests if row["common"]["run"].endswith("-2") and row["operation"] == "apply"]
    assert exit_code(run.record) != 0
    assert "n1" in [node.name for node in run.record.touched()], "a rollback takes the first round back"


def test_a_canary_that_fails_in_the_second_round_leaves_the_others_held(store: RunStore) -> None:
    error = ErrorRecord(what="the change was put back", why="probe lost", code="reverted")
    back = NodeRecord(name="n1", outcome=Outcome.REVERTED, error=error)
    run, _ = carried_out(store, Nodes(apply2_n1=back))
    assert [f"{n.name} {n.outcome} {n.round}" for n in run.record.nodes.values()] == [
        *("n1 reverted 1", "n2 changed 1", "n3 changed 1")
    ]
    assert "the canary failed" in run.record.stopped
    assert [node.name for node in run.record.touched()] == ["n1", "n2", "n3"]


def test_a_run_that_was_stopped_between_goes_on_in_one_round(store: RunStore) -> None:
    nodes = Nodes()
    nodes.held = {"n1", "n2", "n3"}
    run, runner = carried_out(store, nodes)
    assert [operation for operation, _ in runner.calls] == ["plan", "apply", "apply"]
    assert (run.record.rounds, {str(n.outcome) for n in run.record.nodes.values()}) == (1, {"changed"})


def test_what_changes_no_interface_takes_one_round() -> None:
    tunnel = change("flannel.1/mtu", "1500", "1450")
    assert not rounds.needs_two([planned("n1", changes=[tunnel])])
    assert rounds.needs_two([planned("n1", changes=[tunnel]), planned("n2", changes=[LINK])])
