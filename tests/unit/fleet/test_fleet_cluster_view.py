"""What a cluster says in a run, against a cluster that is a table: refusals, Leases, looks, cordons of dead runs."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tune_nodes.cluster import wiring
from tune_nodes.cluster.errors import FORBIDDEN, UNREACHABLE, ClusterError
from tune_nodes.cluster.model import AgentFacts, Blocked, ClusterFacts, Drained, NodeFacts
from tune_nodes.cluster.wiring import ClusterView, Drain, Occasion
from tune_nodes.fleet.target import Target
from tune_nodes.runs.models import NodeRecord, Outcome, PodRecord, ProbeRecord

RUN, DEAD, ALIVE = "20261124-081530-a1b2c3", "20261124-080000-0dead0", "20261124-080500-a11fe0"
AWAY = ClusterError(UNREACHABLE, "the API server does not answer", "nothing came within 10 s", "look at it")
NAMES = ("n1", "n2", "n3")


def fact(name: str, **fields: Any) -> NodeFacts:
    given = {"ready": True, "machine_id": f"m{name}", "boot_id": "b", "addresses": (f"10.0.0.{name[1]}",), **fields}
    return NodeFacts(name, **given)


class Table:
    """A cluster whose answers are attributes; it remembers what it was told to do."""

    def __init__(self, *nodes: NodeFacts) -> None:
        self.now = {node.name: node for node in nodes}
        self.pods = [AgentFacts("kube-flannel", f"f-{name}", "kube-flannel-ds", name, True) for name in self.now]
        self.error: ClusterError | None = None
        self.refusal: ClusterError | None = None
        self.drained: dict[str, Drained] = {}
        self.told: list[str] = []
        self.names = {"uid-1": "shop/web-1"}

    def facts(self) -> ClusterFacts:
        return ClusterFacts("https://192.0.2.10:6443", "prod", "v1.34.4", ("flannel v0.28.10",), dict(self.now))

    def nodes(self, names: Collection[str]) -> dict[str, NodeFacts]:
        self._fail(self.error)
        return {name: self.now[name] for name in names if name in self.now}

    def agents(self, nodes: Collection[str]) -> list[AgentFacts]:
        self._fail(self.error)
        return [agent for agent in self.pods if agent.node in nodes]

    def pod_names(self, uids: Collection[str], nodes: Collection[str]) -> dict[str, str]:
        self._fail(self.error)
        return {uid: name for uid, name in self.names.items() if uid in uids}

    def cordon(self, node: str, run: str) -> bool:
        self.told.append(f"cordon {node}")
        ours = not self.now[node].cordoned
        if ours:
            self.now[node] = replace(self.now[node], cordoned=True, cordoned_by=run)
        return ours

    def uncordon(self, node: str, run: str) -> bool:
        self.told.append(f"uncordon {node} {run}")
        self._fail(self.refusal)
        if self.now[node].cordoned_by != run:
            return False
        self.now[node] = replace(self.now[node], cordoned=False, cordoned_by="")
        return True

    def drain(self, node: str, timeout: float, cancelled: Any, *, delete_emptydir: bool = False) -> Drained:
        self.told.append(f"drain {node} {timeout:g}")
        return self.drained.get(node, Drained(evicted=2))

    def close(self) -> None:
        self.told.append("close")

    @staticmethod
    def _fail(error: ClusterError | None) -> None:
        if error is not None:
            raise error


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, notes: list[str]) -> Any:
    """Return a maker of views: ``make(table, verb="apply", drain=Drain(), strict=False)``."""

    def view(table: Table, verb: str = "apply", drain: Drain | None = None, **more: Any) -> ClusterView:
        occasion = Occasion(RUN, verb, tmp_path, lambda run: run == DEAD, notes.append, lambda seconds: None)
        targets = {name: f"10.0.0.{name[1]}" for name in NAMES}
        return ClusterView(table, table.facts(), targets, occasion, drain or Drain(), **more)

    return view


@pytest.fixture
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Replace the watch by a file that says of these nodes when they were renewed; without a name: no Lease."""
    renewed: dict[str, float] = {}

    @contextmanager
    def watch(_cluster: Any, path: Path, names: Collection[str]) -> Iterator[Any]:
        def write() -> None:
            path.write_text(json.dumps({"schema": 1, "updated": time.monotonic(), "renewed": renewed, "error": ""}))

        write()
        yield type("Watch", (), {"missing": tuple(sorted(set(names) - set(renewed))), "write": staticmethod(write)})

    monkeypatch.setattr(wiring, "LeaseWatch", watch)
    monkeypatch.setattr(wiring, "PATIENCE", 0.05)
    return renewed


def planned(name: str, outcome: Outcome = Outcome.PENDING, **fields: Any) -> NodeRecord:
    return NodeRecord(name=name, outcome=outcome, host={"machine_id": f"m{name}", "boot_id": "b"}, **fields)


def never() -> bool:
    return False


# -- before any node is touched ---------------------------------------------------------------------------------------


def test_labels_of_nodes_join_those_of_the_inventory_which_win(make: Any) -> None:
    view = make(Table(fact("n1", labels={"rack": "r1", "zone": "a"})))
    first, second = view.labelled([Target("n1", labels={"rack": "mine"}), Target("n2", labels={"x": "y"})])
    assert first.labels == {"rack": "mine", "zone": "a"}
    assert second.labels == {"x": "y"}


REASON = "the Node n1 is not ready: Unknown, NodeStatusUnknown"
NOT_READY = fact("n1", ready=False, ready_reason="Unknown, NodeStatusUnknown")
OTHER = fact("n1", machine_id="someone-else")
JUDGED = [
    ("not ready, to be changed", NOT_READY, "apply", Outcome.PENDING, Outcome.REFUSED, "not-ready", REASON),
    ("not ready, planned", NOT_READY, "plan", Outcome.PENDING, Outcome.REFUSED, "not-ready", REASON),
    ("not ready, nothing to change", NOT_READY, "apply", Outcome.OK, Outcome.OK, "", REASON),
    ("not ready, looked at", NOT_READY, "drift", Outcome.PENDING, Outcome.PENDING, "", REASON),
    # What made it unwell may be what is to be undone.
    ("not ready, rolled back", NOT_READY, "rollback", Outcome.PENDING, Outcome.PENDING, "", REASON),
    ("another machine", OTHER, "apply", Outcome.PENDING, Outcome.REFUSED, "another-machine", "is another machine"),
    ("another machine, looked at", OTHER, "drift", Outcome.OK, Outcome.OK, "", "is another machine"),
    ("well", fact("n1"), "apply", Outcome.PENDING, Outcome.PENDING, "", ""),
    ("unreachable", NOT_READY, "apply", Outcome.UNREACHABLE, Outcome.UNREACHABLE, "", REASON),
]


@pytest.mark.parametrize(
    ("node", "verb", "before", "after", "code", "said"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED]
)
def test_who_may_be_touched(
    make: Any, node: NodeFacts, verb: str, before: Outcome, after: Outcome, code: str, said: str
) -> None:
    record = make(Table(node), verb).planned({"n1": planned("n1", before)}, verb)["n1"]
    assert record.outcome is after
    assert (record.error.code if record.error else "") == code
    told = record.error.what if record.error else "; ".join(record.warnings)
    assert (said in told) if said else not told


def test_a_node_without_a_node_object_goes_on_or_not(make: Any) -> None:
    table = Table(fact("n1"))
    for strict, outcome in ((False, Outcome.PENDING), (True, Outcome.REFUSED)):
        view = make(table, strict=strict)
        records = view.planned({name: planned(name) for name in ("n1", "n2")}, "apply")
        assert (records["n1"].outcome, records["n2"].outcome) == (Outcome.PENDING, outcome)
        assert records["n2"].cluster is None
        assert any(sentence.startswith("n2: no Node object") for sentence in view.record.not_checked)


def test_records_say_what_the_cluster_knows_and_pods_get_their_names(make: Any) -> None:
    table = Table(fact("n1", roles=("control-plane",), kubelet="v1.34.4", taints=("a=b:NoSchedule",), cordoned=True))
    pods = [PodRecord(uid="uid-1", name="web"), PodRecord(uid="uid-2", name="kept")]
    view = make(table)
    record = view.planned({"n1": planned("n1", pods=pods)}, "apply")["n1"]
    assert record.cluster is not None
    assert (record.cluster.roles, record.cluster.kubelet, record.cluster.cordoned) == (
        ["control-plane"],
        "v1.34.4",
        "foreign",
    )
    assert [pod.name for pod in record.pods] == ["shop/web-1", "kept"]
    table.error = ClusterError(FORBIDDEN, "tuner may not list pods")
    view.planned({"n1": planned("n1", pods=pods)}, "apply")
    assert view.record.not_checked[-1] == "what the pods that were looked into are called: tuner may not list pods"


# -- Leases -----------------------------------------------------------------------------------------------------------


def test_only_nodes_that_were_well_and_have_a_lease_are_waited_for(make: Any, leases: dict[str, float]) -> None:
    leases.update(n1=1.0, n2=1.0)
    table = Table(fact("n1"), fact("n2"), fact("n3"))
    view = make(table, "rollback")
    with view.watched(list(NAMES)):
        table.now["n2"] = replace(table.now["n2"], ready=False)
        with view.closed(NAMES, never) as left_out:
            assert left_out == {}  # a rollback goes on
            asked = {name: view.asked(Target(name)).lease for name in NAMES}
    assert asked["n1"] == {"file": str(view._file), "name": "n1", "limit": 15}
    assert asked["n2"] is None
    assert asked["n3"] is None
    assert "for they have none: n3" in view.record.not_checked[-1]
    assert not view._file.exists()


def test_the_renewal_that_was_seen_is_kept(make: Any) -> None:
    view = make(Table(fact("n1")))
    probe = ProbeRecord(id="lease", kind="lease", ok=True, detail="renewed 7 s after the change", ms=7163.0)
    record = view.attach(planned("n1", Outcome.CHANGED, probes_after=[probe]))
    assert record.cluster is not None
    assert record.cluster.lease_seconds == 7.2
    assert view.attach(planned("n1", Outcome.CHANGED)).cluster.lease_seconds == 7.2


# -- a wave -----------------------------------------------------------------------------------------------------------


def test_a_node_that_became_unwell_after_the_plan_is_left_out(make: Any) -> None:
    table = Table(fact("n1"), fact("n2"), fact("n3"))
    view = make(table)
    table.now["n1"] = replace(table.now["n1"], ready=False, ready_reason="False, KubeletNotReady")
    del table.now["n2"]
    with view.closed(NAMES, never) as left_out:
        assert {name: error.what for name, error in left_out.items()} == {
            "n1": "the Node n1 is not ready: False, KubeletNotReady",
            "n2": "the Node n2 is gone",
        }


def test_a_server_that_stops_answering_keeps_its_nodes_from_being_touched(make: Any) -> None:
    table = Table(fact("n1"))
    view = make(table)
    table.error = AWAY
    with view.closed(["n1", "n2"], never) as left_out:
        assert {name: (error.code, error.what) for name, error in left_out.items()} == {"n1": ("cluster", AWAY.what)}


def test_a_wave_is_drained_and_opened_again_whatever_happens(make: Any, notes: list[str]) -> None:
    table = Table(fact("n1"), fact("n2", cordoned=True), fact("n3"))
    table.drained["n3"] = Drained(blocked=(Blocked("shop/web-1", "the budget web needs 1 healthy pod"),))
    view = make(table, drain=Drain(True, 60))

    def work() -> None:
        with view.closed(NAMES, never) as left_out:
            assert {name: error.code for name, error in left_out.items()} == {"n3": "not-drained"}
            assert not table.now["n3"].cordoned  # at once
            assert table.now["n1"].cordoned_by == RUN
            assert view.attach(planned("n1")).cluster.evicted == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [node.cordoned for node in table.now.values()] == [False, True, False]
    assert [view.attach(planned(name)).cluster.cordoned for name in NAMES] == ["ours", "foreign", "ours"]
    assert notes == ["draining n1, n2, n3 (at most 60 s)"]


def test_a_node_that_stays_closed_is_said_loudly(make: Any, notes: list[str]) -> None:
    table = Table(fact("n1"))
    table.refusal = ClusterError(FORBIDDEN, "tuner may not patch nodes")
    view = make(table, drain=Drain(True))
    with view.closed(["n1"], never):
        pass
    said = "the Node n1 is still closed for new pods (tuner may not patch nodes); open it: kubectl uncordon n1"
    assert view.attach(planned("n1")).unwell == said
    assert notes[-1] == f"warning: {said}"
    assert view.record.not_checked[-1] == said
    assert view.look(["n1"], [], never) == []
    assert view.attach(planned("n1")).unwell == said


def test_what_a_killed_run_left_closed_is_opened_before_the_first_wave(make: Any, notes: list[str]) -> None:
    table = Table(
        fact("n1", cordoned=True, cordoned_by=DEAD),
        fact("n2", cordoned=True, cordoned_by=ALIVE),
        fact("n3", cordoned=True),
    )
    view = make(table, leases=False)
    with view.watched([]):  # not even a node to change
        pass
    assert [node.cordoned for node in table.now.values()] == [False, True, True]
    assert table.told == [f"uncordon n1 {DEAD}"]
    assert any("opened the Node n1" in note for note in notes)
    assert any("n2 is closed for new pods by run" in note and "kubectl uncordon n2" in note for note in notes)


# -- after a wave -----------------------------------------------------------------------------------------------------


def changed(view: ClusterView) -> None:
    with view.closed(NAMES, never):
        pass


def test_a_node_or_agent_that_is_worse_than_before_is_found(make: Any, leases: dict[str, float]) -> None:
    table = Table(fact("n1"), fact("n2"), fact("n3"))
    view = make(table)
    changed(view)
    assert view.look(NAMES, [], never) == []
    table.now["n1"] = replace(table.now["n1"], ready=False, ready_reason="Unknown, NodeStatusUnknown")
    table.pods[1] = replace(table.pods[1], ready=False, why="CrashLoopBackOff")
    assert view.look(NAMES, [], never) == ["n1", "n2"]
    known = {name: view.attach(planned(name)).cluster for name in NAMES}
    assert known["n1"].unwell.startswith("the Node n1 is not ready any more")
    assert known["n1"].ready is False
    assert "kube-flannel/kube-flannel-ds (CrashLoopBackOff)" in known["n2"].unwell
    assert known["n3"].unwell == ""
    table.now["n1"] = replace(table.now["n1"], ready=True)
    assert view.look(NAMES, [], never) == ["n1"]  # news: well again
    assert view.attach(planned("n1")).unwell == ""


def test_it_is_waited_for_nodes_to_become_well_but_not_after_a_stop(make: Any, monkeypatch: Any) -> None:
    table = Table(fact("n1"))
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            table.now["n1"] = replace(table.now["n1"], ready=True)

    view = make(table)
    view._occasion = replace(view._occasion, sleep=sleep)
    changed(view)
    table.now["n1"] = replace(table.now["n1"], ready=False)
    assert view.look(["n1"], [], never) == []
    assert len(looks) == 3
    table.now["n1"] = replace(table.now["n1"], ready=False)
    assert view.look(["n1"], [], lambda: True) == ["n1"]


def test_a_server_that_does_not_answer_afterwards_is_a_failure_of_the_wave(make: Any, leases: Any) -> None:
    table = Table(fact("n1"))
    view = make(table)
    changed(view)
    table.error = AWAY
    assert view.look(["n1", "n2"], ["n3"], never) == ["n1"]
    assert view.attach(planned("n1")).unwell == f"it is not known how it is: {AWAY.what}"


def test_a_lease_that_is_no_longer_renewed_shows_at_the_next_look(make: Any, leases: dict[str, float]) -> None:
    leases.update(n1=time.monotonic() - 40, n2=time.monotonic())
    table = Table(fact("n1"), fact("n2"))
    view = make(table)
    with view.watched(["n1", "n2"]):
        changed(view)
        view._since = 0.0
        assert view.look(["n1", "n2"], [], never) == ["n1"]
    assert view.attach(planned("n1")).unwell == "the Lease of n1 has not been renewed for 40 s"


def test_what_is_left_of_lost_nodes_is_looked_at_too(make: Any, leases: Any) -> None:
    table = Table(fact("n1"), fact("n2"))
    view = make(table)
    changed(view)
    table.now["n2"] = replace(table.now["n2"], ready=False)
    assert view.look(["n1"], ["n2"], never) == []
    record = view.attach(planned("n2", Outcome.UNREACHABLE))
    assert (record.cluster.ready, record.unwell) == (False, "")
