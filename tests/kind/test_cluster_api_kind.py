"""The cluster layer against a real API server: facts, cordons, drains, Leases."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from clusterworks import (
    OTHER,
    RUN,
    Shop,
    made_shop,
    never,
    opened_after,
    pod_spec,
    unschedulable,
    wait_for,
    workers_of,
)

from tune_nodes.cli import cluster_checks
from tune_nodes.cli.main import run
from tune_nodes.cluster import client
from tune_nodes.cluster.health import refuse_reasons, unwell
from tune_nodes.cluster.leases import LeaseWatch
from tune_nodes.cluster.match import Match, match_nodes, same_machine
from tune_nodes.cluster.model import Drained
from tune_nodes.cluster.objects import CORDONED_BY

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind


@pytest.fixture
def workers(either_cluster: Bed) -> list[str]:
    return workers_of(either_cluster)


@pytest.fixture
def worker(either_cluster: Bed) -> Iterator[str]:
    with opened_after(either_cluster) as name:
        yield name


@pytest.fixture
def shop(either_cluster: Bed, worker: str) -> Iterator[Shop]:
    with made_shop(either_cluster, worker) as made:
        yield made


# -- what is seen -------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_nodes(either_cluster: Bed, cluster: client.Cluster) -> None:
    facts = cluster.facts()
    server = json.loads(either_cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert facts.version == server
    assert facts.not_seen == ()
    assert set(facts.nodes) == set(either_cluster.nodes)
    control = next(node for node in facts.nodes.values() if "control-plane" in node.roles)
    assert any(taint.startswith("node-role.kubernetes.io/control-plane") for taint in control.taints)
    for name, node in facts.nodes.items():
        assert (node.ready, node.ready_reason, node.cordoned) == (True, "", False)
        assert node.addresses[0] == either_cluster.nodes[name]
        assert node.kubelet == either_cluster.ssh(name, "kubelet", "--version").stdout.split()[-1]
        assert node.runtime.startswith("containerd://")
        machine = either_cluster.ssh(name, "cat", "/etc/machine-id").stdout
        boot = either_cluster.ssh(name, "cat", "/proc/sys/kernel/random/boot_id").stdout
        assert same_machine(node, machine, boot) is True
        others = [other for other in facts.nodes.values() if other.name != name]
        assert [same_machine(other, machine, boot) for other in others] == [False] * len(others)


def test_the_cni_and_its_agents_are_named(either_cluster: Bed, cluster: client.Cluster, workers: list[str]) -> None:
    facts = cluster.facts()
    (cni,) = facts.cni
    assert cni.split()[0] in ("flannel", "cilium")
    agents = {(agent.app, agent.node) for agent in facts.agents if agent.ready}
    for name in either_cluster.nodes:
        assert ("kube-proxy", name) in agents
        assert any(app.startswith(("kube-flannel", "cilium")) and node == name for app, node in agents)
    of_one = cluster.agents([workers[0]])
    assert {agent.node for agent in of_one} == {workers[0]}
    assert {agent.app for agent in of_one} == {app for app, node in agents if node == workers[0]}


def test_nodes_are_matched_by_name_and_by_address(either_cluster: Bed, cluster: client.Cluster) -> None:
    first, second = sorted(either_cluster.nodes)[:2]
    targets = {first: either_cluster.nodes[first], "another-name": either_cluster.nodes[second], "nobody": "10.255.0.1"}
    found, sentences = match_nodes(targets, cluster.nodes())
    assert {name: (match.node.name, match.by) for name, match in found.items()} == {
        first: (first, "name"),
        "another-name": (second, "address"),
    }
    assert sentences == ["nobody: no Node object has this name or has the address 10.255.0.1"]
    assert set(cluster.nodes([first, "nobody"])) == {first}


def test_pods_are_called_by_their_names(either_cluster: Bed, cluster: client.Cluster, workers: list[str]) -> None:
    pods = json.loads(either_cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    here = {
        pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if pod["spec"].get("nodeName") == workers[0]
    }
    assert here
    assert cluster.pod_names([*here, "no-such-uid"], workers) == here


# -- closing and draining -----------------------------------------------------------------------------------------


def test_a_cordon_of_ours_is_opened_by_its_own_run_only(
    either_cluster: Bed, cluster: client.Cluster, worker: str
) -> None:
    assert cluster.cordon(worker, RUN) is True
    assert unschedulable(either_cluster, worker)
    assert cluster.nodes([worker])[worker].cordoned_by == RUN
    assert cluster.cordon(worker, RUN) is True  # a lost answer, asked again
    assert cluster.cordon(worker, OTHER) is False
    assert cluster.uncordon(worker, OTHER) is False
    assert unschedulable(either_cluster, worker)
    assert cluster.uncordon(worker, RUN) is True
    assert not unschedulable(either_cluster, worker)
    assert CORDONED_BY not in either_cluster.kubectl("get", "node", worker, "-o", "yaml")
    assert cluster.uncordon(worker, RUN) is False


def test_a_foreign_cordon_stays(either_cluster: Bed, cluster: client.Cluster, worker: str) -> None:
    either_cluster.kubectl("cordon", worker)
    assert cluster.cordon(worker, RUN) is False
    assert cluster.uncordon(worker, RUN) is False
    node = cluster.nodes([worker])[worker]
    assert (node.cordoned, node.cordoned_by) == (True, "")
    assert unschedulable(either_cluster, worker)


def test_ours_that_somebody_opened_and_closed_again_is_theirs(
    either_cluster: Bed, cluster: client.Cluster, worker: str
) -> None:
    assert cluster.cordon(worker, RUN)
    either_cluster.kubectl("uncordon", worker)
    either_cluster.kubectl("cordon", worker)  # our annotation is still there
    assert cluster.nodes([worker])[worker].cordoned_by == ""
    assert cluster.uncordon(worker, RUN) is False
    assert unschedulable(either_cluster, worker)


def test_cordons_while_others_write_to_the_node(either_cluster: Bed, cluster: client.Cluster, worker: str) -> None:
    """Each label is a new version of the object: the patch is refused and made again."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 200:
            number += 1
            either_cluster.kubectl("label", "node", worker, f"tune-nodes-test={number}", "--overwrite")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert cluster.cordon(worker, RUN) is True
            assert cluster.uncordon(worker, RUN) is True
    finally:
        stop.set()
        writer.join(60)
        either_cluster.kubectl("label", "node", worker, "tune-nodes-test-")
    assert not unschedulable(either_cluster, worker)


def test_a_budget_blocks_a_drain_and_then_lets_it_go(cluster: client.Cluster, shop: Shop) -> None:
    (name,) = shop.pods()
    assert cluster.cordon(shop.node, RUN)
    result = cluster.drain(shop.node, timeout=3, cancelled=never, delete_emptydir=True)
    assert not result.done
    assert shop.why(result, name) == "The disruption budget web needs 1 healthy pods and has 1 currently"
    assert shop.pods() == [name]

    freed = threading.Timer(1, shop.kubectl, ["delete", "pdb", "web"])
    freed.start()
    result = cluster.drain(shop.node, timeout=60, cancelled=never, delete_emptydir=True)
    freed.join(60)
    assert result.done
    assert result.evicted >= 1
    assert shop.pods() == []
    # What a drain leaves alone is still there.
    assert {agent.app for agent in cluster.agents([shop.node]) if agent.ready} >= {"kube-proxy"}


def test_a_drain_stops_when_it_is_told(cluster: client.Cluster, shop: Shop) -> None:
    started = time.monotonic()
    stop_after = 2
    result = cluster.drain(
        shop.node, timeout=60, cancelled=lambda: time.monotonic() - started > stop_after, delete_emptydir=True
    )
    assert result.cancelled
    assert time.monotonic() - started < 10
    assert len(shop.pods()) == 1


def test_pods_that_would_be_lost_stop_a_drain_before_it_begins(
    either_cluster: Bed, cluster: client.Cluster, shop: Shop
) -> None:
    spec = pod_spec(either_cluster, shop.node, volumes=[{"name": "cache", "emptyDir": {}}])
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": shop.name}, "spec": spec}
    either_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(bare))
    shop.kubectl("wait", "--for=condition=Ready", "pod/bare", "--timeout=60s", timeout=70)
    shop.kubectl("delete", "pdb", "web")
    result = cluster.drain(shop.node, timeout=5, cancelled=never)
    assert shop.why(result, "bare").startswith("nothing would start it")
    assert (result.evicted, len(shop.pods())) == (0, 2)
    lost = cluster.drain(shop.node, timeout=5, cancelled=never, force=True)
    assert shop.why(lost, "bare").endswith("emptyDir cache")
    assert cluster.cordon(shop.node, RUN)
    done = cluster.drain(shop.node, timeout=60, cancelled=never, force=True, delete_emptydir=True)
    assert (done, shop.pods()) == (Drained(evicted=done.evicted), [])


# -- whether a kubelet lives --------------------------------------------------------------------------------------


def test_a_stopped_kubelet_is_seen_while_its_node_is_still_ready(
    either_cluster: Bed, cluster: client.Cluster, workers: list[str], tmp_path: Path
) -> None:
    dies = workers[0]
    lives = next(name for name in either_cluster.nodes if name != dies)
    path = tmp_path / "leases.json"

    def renewed(node: str) -> float:
        return float(json.loads(path.read_text())["renewed"][node])

    with LeaseWatch(cluster, path, [lives, dies]) as watch:
        assert watch.missing == ()
        wait_for("both renewed", lambda: renewed(lives) and renewed(dies), 25)
        either_cluster.ssh(dies, "systemctl", "stop", "kubelet")
        stopped = time.monotonic()
        try:
            wait_for("the other one renewed twice", lambda: renewed(lives) > stopped + 10, 30)
            assert renewed(dies) <= stopped + 0.5
            document = json.loads(path.read_text())
            assert document["error"] == ""
            assert time.monotonic() - document["updated"] < 2
            before = cluster.nodes([dies])[dies]
            assert before.ready, "Ready is what does not see it"
            wait_for("the control plane sees it too", lambda: not cluster.nodes([dies])[dies].ready, 90)
            now = cluster.nodes([dies])[dies]
            assert now.ready_reason.startswith("Unknown, NodeStatusUnknown: ")
            assert unwell(before, now, [], []).startswith(f"the Node {dies} is not ready any more: Unknown")
            assert refuse_reasons(Match(now, "name")) == f"the Node {dies} is not ready: {now.ready_reason}"
        finally:
            either_cluster.ssh(dies, "systemctl", "start", "kubelet")
        started = time.monotonic()
        wait_for("it renews again", lambda: renewed(dies) > started, 30)
    wait_for("it is ready again", lambda: cluster.nodes([dies])[dies].ready, 90)
    wait_for("so are its agents", lambda: all(agent.ready for agent in cluster.agents([dies])), 90)


# -- all of it ----------------------------------------------------------------------------------------------------


def test_the_command_line(either_cluster: Bed, workers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    hosts = ",".join(either_cluster.nodes) + ",stranger,"
    words = ["-i", hosts, "--kubeconfig", str(either_cluster.kubeconfig)]
    assert run(["cluster", "show", *words, "-o", "wide"]) == 0
    said = capsys.readouterr()
    assert all(name in said.out for name in [*either_cluster.nodes, "stranger", "control-plane", "containerd "])
    assert "stranger: no Node object has this name" in said.err
    assert run(["cluster", "show", *words, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in document["nodes"]}
    assert (rows[workers[0]]["node"], rows[workers[0]]["matched"], rows["stranger"]["node"]) == (
        workers[0],
        "name",
        None,
    )
    found = cluster_checks.cluster(either_cluster.kubeconfig, "")
    assert [check.status for check in found] == ["ok"] * len(found)
    assert {check.name for check in found} >= {"cluster", "kubernetes", "cni", "nodes", "rights: tune"}
