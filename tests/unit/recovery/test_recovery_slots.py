"""Slots in the API server: one at a time, taken over from the dead only, renewed, given back; and the pause switch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lease_server import Server, node, opened

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.recovery import guard, lock, pause, slots
from tune_nodes.recovery.budget import Budget
from tune_nodes.recovery.lock import Lease, Sightings, lease_of, recovered_of
from tune_nodes.runs.models import NodeRecord, Outcome

THREE = [node("cp", role="control-plane"), node("w1"), node("w2")]
LEASES = "/apis/coordination.k8s.io/v1/namespaces/tune-nodes/leases"


@pytest.fixture
def server() -> Server:
    return Server(list(THREE))


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


def run_of(cluster: Cluster, run: str, origin: str = "", wait: float = 0, **more: Any) -> slots.Slots:
    budget, undo = more.get("budget", Budget()), more.get("undo", False)
    return slots.Slots(cluster, budget, run, origin or f"of {run}", wait, lambda: False, lambda said: None, undo)


def code_of(caught: pytest.ExceptionInfo[TuneError]) -> str:
    return str(caught.value.data.get("code"))


def laid(server: Server, number: int, renewed: str, duration: Any = 60, holder: str = "far_run") -> None:
    """Lay a Lease of somebody else."""
    notes = {lock.NODE: "w2", lock.ORIGIN: "far"}
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": renewed, "leaseTransitions": 1}
    name = f"{lock.PREFIX}{number}"
    server.stamp(f"{LEASES}/{name}", {"metadata": {"name": name, "annotations": notes}, "spec": spec})


def test_a_slot_names_its_holder_and_is_given_back(server: Server, cluster: Cluster) -> None:
    with run_of(cluster, "one").held("w1") as slot:
        slot.check()
        (lease,) = server.leases().values()
        assert lease["spec"]["holderIdentity"].endswith("_one")
        assert lease["spec"]["leaseDurationSeconds"] == lock.DURATION
        assert lease["metadata"]["annotations"][lock.NODE] == "w1"
        assert "w1" in recovered_of(lease["metadata"]["annotations"][lock.RECOVERED])
    (lease,) = server.leases().values()
    assert "holderIdentity" not in lease["spec"]
    assert set(lease["metadata"]["annotations"]) == {lock.RECOVERED}
    with run_of(cluster, "two").held("w2"):  # the same Lease again
        assert [lease["spec"]["leaseTransitions"] for lease in server.leases().values()] == [2]


def test_a_second_run_is_refused_and_names_the_first(cluster: Cluster) -> None:
    with run_of(cluster, "one").held("w1"), pytest.raises(TuneError) as caught, run_of(cluster, "two").held("w2"):
        pass
    assert code_of(caught) == "over-budget"
    assert "under recovery: w1" in caught.value.why
    record = guard.refused(NodeRecord(name="w2", outcome=Outcome.OK), caught.value)
    assert (record.outcome, record.error and record.error.code) == (Outcome.REFUSED, "over-budget")


def test_a_second_run_that_waits_gets_its_turn(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "LOOK", 0.05)
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with run_of(cluster, "two", wait=60).held("w2"):
            order.append("second")

    thread = threading.Thread(target=second)
    with run_of(cluster, "one").held("w1"):
        thread.start()
        begun.wait(10)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_a_larger_budget_has_more_slots_and_never_the_same_node(server: Server, cluster: Cluster) -> None:
    two = Budget(max_nodes=2, max_percent=100)
    with ExitStack() as stack:
        stack.enter_context(run_of(cluster, "one", budget=two).held("w1"))
        with pytest.raises(TuneError) as caught:
            stack.enter_context(run_of(cluster, "two", budget=two).held("w1"))
        assert code_of(caught) == "same-node"
        stack.enter_context(run_of(cluster, "two", budget=two).held("w2"))
        assert sorted(server.leases()) == ["recovery-0", "recovery-1"]
        with pytest.raises(TuneError) as caught:
            stack.enter_context(run_of(cluster, "three", budget=two).held("cp"))
        assert code_of(caught) == "over-budget"


@pytest.mark.parametrize("budget", [Budget(), Budget(2, 67), Budget(3, 100)])
def test_of_many_at_the_same_moment_no_more_than_allowed_get_a_slot(
    server: Server, cluster: Cluster, budget: Budget
) -> None:
    server.nodes = [node(f"n{number}") for number in range(3)]
    running, most = 0, 0
    count, start = threading.Lock(), threading.Barrier(6)
    release = threading.Event()

    def one(number: int) -> None:
        nonlocal running, most
        start.wait(10)
        try:
            with run_of(cluster, f"r{number}", budget=budget).held(f"n{number % 3}"):
                with count:
                    running += 1
                    most = max(most, running)
                release.wait(10)
                with count:
                    running -= 1
        except TuneError as problem:
            assert problem.data["code"] in slots.REFUSED, problem

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads[:3]:
        thread.join(0.5)
    release.set()
    for thread in threads:
        thread.join(30)
    assert most <= budget.at_once(3)


def test_a_dead_run_of_this_machine_is_taken_over_at_once(server: Server, cluster: Cluster) -> None:
    left = lock.Leases(cluster.api, "here_dead", "here").take(Lease("recovery-0"), "w1", False)
    assert left is not None
    with run_of(cluster, "again", "here").held("w1"):
        (lease,) = server.leases().values()
        assert lease["spec"]["holderIdentity"].endswith("_again")


def test_a_dead_run_of_another_machine_is_watched_first(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "LOOK", 0.05)
    server.stamp("/api/v1/namespaces/tune-nodes", {})
    laid(server, 0, "2020-01-01T00:00:00.000000Z", duration=1)
    with run_of(cluster, "two").held("w1"):  # without --wait: its last renewal is old, so it is worth a look
        (lease,) = server.leases().values()
        assert lease["spec"]["holderIdentity"].endswith("_two")
    alive = (datetime.now(UTC) + timedelta(hours=5)).isoformat()  # its clock is ahead
    laid(server, 0, alive, duration=1)
    with pytest.raises(TuneError) as caught, run_of(cluster, "two").held("w1"):
        pass
    assert code_of(caught) == "over-budget"


def test_a_lease_is_dead_only_after_its_duration_on_our_own_clock() -> None:
    now = [100.0]
    seen = Sightings("here", lambda: now[0])
    lease = Lease("recovery-0", holder="far", origin="far", renewed="whatever", duration=60)
    assert seen.live(lease)
    now[0] = 159.9
    assert seen.live(lease)
    renewed = Lease("recovery-0", holder="far", origin="far", renewed="and again", duration=60)
    now[0] = 161.0
    assert seen.live(renewed)  # renewed meanwhile: the time begins anew
    now[0] = 220.9
    assert seen.live(renewed)
    now[0] = 221.0
    assert not seen.live(renewed)
    assert not seen.live(Lease("recovery-0"))


def test_a_slot_that_cannot_be_renewed_is_lost_before_others_may_take_it(server: Server, cluster: Cluster) -> None:
    now = [0.0]
    leases = lock.Leases(cluster.api, "here_run", "here")
    server.stamp("/api/v1/namespaces/tune-nodes", {})
    lease = leases.take(Lease("recovery-0"), "w1", False)
    assert lease is not None
    slot = slots.Slot(leases, lease, 0.0, lambda: now[0])
    server.broken = True
    with pytest.raises(ClusterError):
        slot.renew()
    now[0] = slots.DEADLINE - 1
    slot.check()
    now[0] = slots.DEADLINE + 1
    assert slots.DEADLINE + slots.RENEW < lock.DURATION
    with pytest.raises(TuneError) as caught:
        slot.check()
    assert code_of(caught) == "lock-lost"
    assert guard.refused(NodeRecord(name="w1", outcome=Outcome.OK), caught.value).outcome is Outcome.FAILED
    server.broken = False
    slot.renew()
    slot.check()  # nobody took it meanwhile


def test_a_slot_that_was_taken_over_or_deleted_is_lost(server: Server, cluster: Cluster) -> None:
    server.stamp("/api/v1/namespaces/tune-nodes", {})
    leases = lock.Leases(cluster.api, "here_run", "here")
    for rob in (lambda: laid(server, 0, "now"), lambda: server.objects.pop(f"{LEASES}/recovery-0")):
        server.objects.pop(f"{LEASES}/recovery-0", None)
        lease = leases.take(Lease("recovery-0"), "w1", False)
        assert lease is not None
        slot = slots.Slot(leases, lease, slots._boottime())
        slot.start()
        rob()
        slot.renew()
        with pytest.raises(TuneError) as caught:
            slot.check()
        assert code_of(caught) == "lock-lost"
        before = dict(server.leases())
        slot.leave()
        assert server.leases() == before  # what is another's is left


def test_what_somebody_else_writes_on_a_lease_does_not_lose_it(server: Server, cluster: Cluster) -> None:
    with run_of(cluster, "one").held("w1") as slot:
        assert isinstance(slot, slots.Slot)
        (lease,) = server.leases().values()
        server.stamp(f"{LEASES}/recovery-0", {**lease, "metadata": {**lease["metadata"], "labels": {"team": "shop"}}})
        slot.renew()
        slot.check()
    (lease,) = server.leases().values()
    assert lease["metadata"]["labels"] == {"team": "shop"}
    assert "holderIdentity" not in lease["spec"]


def test_an_api_server_that_cannot_tell_means_no(server: Server, cluster: Cluster) -> None:
    server.broken = True
    with pytest.raises(ClusterError), run_of(cluster, "one").held("w1"):
        pass


def test_a_pause_stops_the_next_node_until_it_is_lifted(server: Server, cluster: Cluster) -> None:
    assert pause.read(cluster.api) is None
    assert pause.pause(cluster.api, "the switch is being replaced", "ann") is None
    again = pause.pause(cluster.api, "another reason", "bob")
    assert again is not None and again.by == "ann"
    with pytest.raises(TuneError) as caught, run_of(cluster, "one", wait=60).held("w1"):
        pass
    assert code_of(caught) == "paused"
    assert "the switch is being replaced" in caught.value.why
    assert not server.leases()
    assert pause.resume(cluster.api) == again
    assert pause.resume(cluster.api) is None
    with run_of(cluster, "one").held("w1"):
        pass


def test_taking_back_needs_no_budget_and_heeds_no_pause(server: Server, cluster: Cluster) -> None:
    server.nodes[2] = node("w2", ready=False)
    pause.pause(cluster.api, "a reason", "somebody")
    with ExitStack() as stack:
        stack.enter_context(run_of(cluster, "one", undo=True).held("w1"))
        stack.enter_context(run_of(cluster, "two", undo=True).held("w2"))
        assert {lease["metadata"]["annotations"][lock.NODE] for lease in server.leases().values()} == {"w1", "w2"}
        remembered = [lease["metadata"]["annotations"][lock.RECOVERED] for lease in server.leases().values()]
        assert remembered == ["{}", "{}"], "what is taken back is no recovery for the storm guard"


def test_nothing_is_taken_back_on_a_node_that_another_works_on(cluster: Cluster) -> None:
    second = run_of(cluster, "two", undo=True)
    with run_of(cluster, "one").held("w1"), pytest.raises(TuneError) as caught, second.held("w1"):
        pass
    assert code_of(caught) == "same-node"


def test_a_pause_made_by_kubectl_without_a_word_counts_too(server: Server, cluster: Cluster) -> None:
    server.stamp(f"/api/v1/namespaces/tune-nodes/configmaps/{pause.NAME}", {"data": {"reason": 7}})
    with pytest.raises(TuneError) as caught, run_of(cluster, "one").held("w1"):
        pass
    assert code_of(caught) == "paused"


def test_a_run_remembers_its_nodes_and_the_storm_guard_counts_them(cluster: Cluster) -> None:
    mine = run_of(cluster, "one", budget=Budget(max_per_hour=2))
    for name in ("w1", "w2", "w2"):
        with mine.held(name):
            pass
    with pytest.raises(TuneError) as caught, mine.held("cp"):
        pass
    assert code_of(caught) == "storm"
    assert "w1, w2" in caught.value.what


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(junk, junk, junk)
def test_junk_in_a_lease_is_survived(metadata: Any, spec: Any, note: Any) -> None:
    lease_of({"metadata": metadata, "spec": spec})
    notes = {"annotations": {lock.RECOVERED: note, lock.NODE: note}, "name": "recovery-0", "resourceVersion": note}
    for body in (spec, {"leaseDurationSeconds": spec, "renewTime": spec, "holderIdentity": "x"}):
        found = lease_of({"metadata": notes, "spec": body})
        assert found is not None and 1 <= found.duration <= lock.LONGEST
        lock.abandoned(found, datetime.now(UTC))
        Sightings("").live(found)


@settings(deadline=None)
@given(st.text(max_size=60) | st.dictionaries(st.text(), st.integers()).map(str))
def test_junk_in_what_is_remembered_is_survived(text: str) -> None:
    recovered_of(text)


def test_an_origin_is_a_directory_of_one_machine(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (tmp_path / "id").write_text("aaaa\n")
    (tmp_path / "other").write_text("bbbb\n")
    known = slots.origin_of(one, tmp_path / "id")
    assert known == slots.origin_of(one, tmp_path / "id")
    assert len({known, slots.origin_of(two, tmp_path / "id"), slots.origin_of(one, tmp_path / "other")}) == 3
    assert slots.origin_of(one, tmp_path / "missing")
