"""A record put back and taken back, against a server that controls DaemonSets as the real one does."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cni_server import AGENT, CONFIG, DAEMONSET, CniServer, changed_map
from lease_server import opened
from reinstalled import WAY, put_back, take_back

from tune_nodes.cluster import api as wire
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, UNREACHABLE, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.errors import Exit, TuneError, UsageError
from tune_nodes.recovery import pause
from tune_nodes.recovery.reinstall import gate, plan, record, runs, service
from tune_nodes.recovery.reinstall.carry import Way

ORDER = ["w1", "w2", "cp"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LOOK", 0.01)
    monkeypatch.setattr(wire, "RETRIES", ())


@pytest.fixture
def server() -> CniServer:
    return CniServer()


@pytest.fixture
def cluster(server: CniServer, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def made(cluster: Cluster, state: Path) -> record.Record:
    return service.make(cluster, record.home(state))


def test_a_record_holds_the_cni_and_nothing_of_the_servers(made: record.Record) -> None:
    assert [str(part.key) for part in made.parts] == [
        "Namespace kube-flannel",
        "ServiceAccount kube-flannel/flannel",
        "ClusterRole flannel",
        "ClusterRoleBinding flannel",
        "ConfigMap kube-flannel/kube-flannel-cfg",
        "DaemonSet kube-flannel/kube-flannel-ds",
    ]
    assert made.manifest.facts.cni == ["flannel v0.28.1"]
    for part in made.parts:
        assert not {"uid", "resourceVersion", "generation"} & set(part.body["metadata"])
        assert "status" not in part.body


def test_nothing_is_done_where_all_is_as_recorded(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    before = server.writes
    assert put_back(cluster, made, state) == ("", [])
    assert (server.writes, server.made) == (before, [])


def test_what_was_deleted_comes_back_node_by_node(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    whole = server.said()
    server.lose(DAEMONSET, CONFIG)
    found = service.look(cluster, made, state)
    assert [(str(one.part.key), one.status) for one in found.plan.steps if one.status != plan.EQUAL] == [
        ("ConfigMap kube-flannel/kube-flannel-cfg", "create"),
        ("DaemonSet kube-flannel/kube-flannel-ds", "create"),
    ]
    run, nodes = service.carry_out(cluster, found, state, WAY)
    assert server.made == nodes == ORDER, "each node once, the control plane last"
    assert server.said() == whole
    assert server.strangers() == [], "no probe pod stays"
    labels = {pod["metadata"]["labels"]["controller-revision-hash"] for pod in server._pods()}
    assert len(labels) == 1, "the controller would start them anew"
    assert service.look(cluster, made, state).plan.work is False
    server.made.clear()
    done = take_back(cluster, state)
    assert sorted(done.removed) == ["ConfigMap kube-flannel/kube-flannel-cfg", "DaemonSet kube-flannel/kube-flannel-ds"]
    assert not {DAEMONSET, CONFIG} & set(server.objects)
    assert runs.named(runs.home(state), run).back.ended


def test_agents_read_a_changed_map_anew_and_an_undo_brings_the_change_back(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    whole, agents = server.said(), server.agents()
    server.keep(CONFIG, changed_map(server))
    drifted = server.said()
    with pytest.raises(TuneError, match="kubectl-edit holds"):
        put_back(cluster, made, state)
    assert server.agents() == agents
    force = Way(force=True, limit=5)
    _, nodes = put_back(cluster, made, state, force)
    assert (nodes, server.said()) == (ORDER, whole)
    assert not set(server.agents().values()) & set(agents.values())
    agents = server.agents()
    done = take_back(cluster, state)
    assert (done.nodes, done.left, server.said()) == (ORDER, [], drifted)
    assert not set(server.agents().values()) & set(agents.values())
    # What an undo wrote is ours: the next reinstall needs no force for it.
    assert put_back(cluster, made, state)[1] == ORDER
    assert server.said() == whole


def test_the_first_node_that_is_not_well_ends_it(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    server.lose(DAEMONSET)
    server.sick.add("w2")
    with pytest.raises(
        TuneError, match=r"w2 is not well after 0\.1 s: .*not ready; 1 node after it not touched"
    ) as caught:
        put_back(cluster, made, state, Way(limit=0.1))
    run = runs.named(runs.home(state), "latest")
    assert caught.value.next.endswith(
        f"goes on; to take it back: tune-nodes recover reinstall {made.id} --undo {run.id}"
    )
    assert set(server.agents()) == {"w1", "w2"}
    server.sick.clear()
    pod = server.objects[f"/api/v1/namespaces/kube-flannel/pods/{AGENT}-w2"]
    pod["status"]["conditions"][0]["status"] = "True"
    assert put_back(cluster, made, state)[0] == run.id
    assert server.made == ORDER


def test_agents_left_running_without_their_daemonset_are_replaced_in_their_turn(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    whole, before = server.said(), server.agents()
    server.lose(DAEMONSET, orphan=True)
    server.sick.add("w1")
    with pytest.raises(TuneError, match="w1 is not well"):
        put_back(cluster, made, state, Way(limit=0.1))
    now = server.agents()
    assert [node for node in ORDER if now[node] != before[node]] == ["w1"], "the others still run"
    server.sick.clear()
    server.objects[f"/api/v1/namespaces/kube-flannel/pods/{AGENT}-w1"]["status"]["conditions"][0]["status"] = "True"
    put_back(cluster, made, state)
    assert (server.made, server.said()) == (ORDER, whole)
    assert not set(server.agents().values()) & set(before.values())


def test_a_daemonset_that_a_forgotten_run_left_half_made(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    whole = server.said()
    server.lose(DAEMONSET)
    server.sick.add("w2")
    with pytest.raises(TuneError, match="w2 is not well"):
        put_back(cluster, made, state, Way(limit=0.1))
    shutil.rmtree(runs.home(state))
    server.sick.clear()
    server.made.clear()
    put_back(cluster, made, state)
    assert server.made == ORDER, "none before its turn, though the first was new already"
    assert server.said() == whole


def test_stopped_between_two_nodes(server: CniServer, cluster: Cluster, made: record.Record, state: Path) -> None:
    server.lose(DAEMONSET)
    way = Way(limit=5, cancelled=lambda: "w1" in server.made and not server.strangers() and len(server.made) == 2)
    with pytest.raises(TuneError, match="stopped") as caught:
        put_back(cluster, made, state, way)
    assert caught.value.exit is Exit.INTERRUPTED
    assert put_back(cluster, made, state)[1]
    assert server.made == ORDER


def test_a_plan_that_is_not_true_any_more_is_not_carried_out(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    server.lose(DAEMONSET)
    found = service.look(cluster, made, state)
    put_back(cluster, made, state)
    agents = server.agents()
    with pytest.raises(TuneError, match="not as it was when this was planned"):
        service.carry_out(cluster, found, state, WAY)
    assert server.agents() == agents


@pytest.mark.parametrize(
    ("denied", "said"),
    [({"create pods"}, "may not create pods in the namespace kube-flannel"), (set(), "recoveries are paused")],
)
def test_refused_before_anything_is_written(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path, denied: set[str], said: str
) -> None:
    server.lose(DAEMONSET)
    server.denied = denied
    if not denied:
        pause.pause(cluster.api, "the switch is being replaced", "somebody")
    before = server.writes
    with pytest.raises(TuneError, match=said):
        put_back(cluster, made, state)
    assert (server.writes, DAEMONSET in server.objects) == (before, False)
    assert list(runs.known(runs.home(state))) == []


def test_without_a_cni_no_node_is_ready_and_that_is_no_storm(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    server.lose(DAEMONSET)
    for one in server.nodes:
        one["status"]["conditions"][0]["status"] = "False"

    # A node becomes ready when its agent is there.
    def heal(method: str, path: str) -> None:
        for one in server.nodes:
            there = one["metadata"]["name"] in server.agents()
            one["status"]["conditions"][0]["status"] = "True" if there else "False"

    server.before = heal
    assert put_back(cluster, made, state)[1] == ORDER


def test_what_somebody_changed_since_is_left_by_an_undo(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    server.lose(CONFIG)
    put_back(cluster, made, state)
    server.keep(CONFIG, changed_map(server))
    done = take_back(cluster, state)
    assert done.left == ["ConfigMap kube-flannel/kube-flannel-cfg: it was changed since"]
    assert "10.9.0.0" in server.objects[CONFIG]["data"]["net-conf.json"]


def test_an_older_run_is_not_taken_back_before_a_newer_one(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    ids = []
    for _ in range(2):
        server.lose(CONFIG)
        ids.append(put_back(cluster, made, state)[0])
    home = runs.home(state)
    ids.sort()  # both may be of one second
    with pytest.raises(UsageError, match=f"run {ids[1]} came after"):
        service.take_back(cluster, runs.named(home, ids[0]), state, WAY)
    first = runs.named(home, ids[0])
    first.server = "https://192.0.2.1:6443"
    with pytest.raises(UsageError, match="of another cluster"):
        service.take_back(cluster, first, state, WAY)


def test_an_undo_that_was_begun_is_finished_first(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    server.lose(DAEMONSET)
    run, _ = put_back(cluster, made, state)
    server.writes, server.dies = 0, 1
    with pytest.raises(TuneError):
        take_back(cluster, state)
    server.broken, server.dies = False, -1
    with pytest.raises(UsageError, match=f"the undo of run {run} ended half-way") as caught:
        service.look(cluster, made, state)
    assert caught.value.next.endswith(f"--undo {run}")
    assert take_back(cluster, state).left == []
    assert service.look(cluster, made, state).plan.work


def test_what_the_server_refuses_stands_in_the_way(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    going = copy.deepcopy(server.objects[CONFIG])
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    server.objects[CONFIG] = going
    found = service.look(cluster, made, state)
    assert [one.text for one in found.plan.barred] == ["it is being deleted: finalizers hold it"]
    with pytest.raises(TuneError, match="was refused: it is being deleted"):
        service.carry_out(cluster, found, state, WAY)


def test_nodes_in_their_order(server: CniServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, labels in (("win", {"kubernetes.io/os": "windows"}), ("far", {"type": "virtual-kubelet"}), ("dead", {})):
        server.nodes.append({"metadata": {"name": name, "labels": labels}, "status": {}})
    late = {"dead": "2026-11-24T09:58:00.0Z"}
    monkeypatch.setattr(
        server,
        "_lease",
        lambda name: {
            "metadata": {"name": name},
            "spec": {"renewTime": late.get(name, "2026-11-24T10:00:00.0Z" if name != "w1" else "2026-11-24T09:59:30Z")},
        },
    )
    assert plan.nodes_of(cluster) == (("w1", "w2", "cp"), ("dead",), frozenset({"cp"}))
    server.nodes[:] = [one for one in server.nodes if one["metadata"]["name"] in ("win", "far")]
    with pytest.raises(TuneError, match="no Linux node"):
        plan.nodes_of(cluster)


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        ({}, True),
        ({"containerStatuses": [{"containerID": ""}]}, True),
        ({"podIP": "10.244.1.9"}, False),
        ({"phase": "Failed", "containerStatuses": [{"containerID": "containerd://1"}]}, False),
    ],
)
def test_a_new_pod_has_a_network(server: CniServer, cluster: Cluster, status: dict[str, Any], lacks: bool) -> None:
    server.objects["/api/v1/namespaces/kube-flannel/pods/p"] = {"metadata": {"name": "p"}, "status": status}
    proof = gate.Gate(cluster.api, "kube-flannel", "image", 1, lambda: False)
    assert bool(proof._without_network(Call("get", "pods", namespace="kube-flannel", name="p"))) is lacks


def test_a_server_that_is_away_for_a_moment_is_waited_for(cluster: Cluster) -> None:
    answers: list[Any] = [
        ClusterError(UNREACHABLE, "away"),
        Refused(ClusterError("server", "lost"), 503),
        "not yet",
        "",
    ]

    def lacks() -> str:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return str(found)

    gate.Gate(cluster.api, "kube-flannel", "image", 5, lambda: False).wait("w1", lacks)
    assert answers == []
    with pytest.raises(ClusterError, match="gone"):
        answers.append(ClusterError(NOT_FOUND, "gone"))
        gate.Gate(cluster.api, "kube-flannel", "image", 5, lambda: False).wait("w1", lacks)


def test_the_hash_is_of_what_the_plan_rests_on(
    server: CniServer, cluster: Cluster, made: record.Record, state: Path
) -> None:
    def hash_now(**more: Any) -> str:
        return service.look(cluster, made, state, **more).plan.hash

    first = hash_now()
    server.objects[DAEMONSET]["status"]["numberReady"] = 3
    assert hash_now() == first, "what moves by itself is not in it"
    assert hash_now(force=True) != first
    server.nodes.append({**copy.deepcopy(server.nodes[0]), "metadata": {"name": "w3", "labels": {}}})
    assert hash_now() != first
