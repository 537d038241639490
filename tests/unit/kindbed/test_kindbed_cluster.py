"""What a cluster shall be, what it is, and what of it is not ready."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kindbed import bed
from kindbed.__main__ import arguments, main
from kindbed.cluster import NETWORK, Spec, containers, kind_config, manifest
from kindbed.health import AGENTS, from_before, not_ready
from kindbed.images import CILIUM, FLANNEL, PROBE

from tune_nodes.errors import UsageError

IMAGES = {"flannel": {FLANNEL}, "cilium": {CILIUM}, "probe": {PROBE}}


@pytest.mark.parametrize(
    ("workers", "nodes"),
    [
        (0, ["a-control-plane"]),
        (1, ["a-control-plane", "a-worker"]),
        (3, ["a-control-plane", "a-worker", "a-worker2", "a-worker3"]),
    ],
)
def test_nodes_have_the_names_that_kind_gives(workers: int, nodes: list[str]) -> None:
    assert Spec("a", "flannel", workers).nodes == nodes
    config = json.loads(kind_config(Spec("a", "flannel", workers)))
    assert [node["role"] for node in config["nodes"]] == ["control-plane", *["worker"] * workers]
    assert config["networking"]["disableDefaultCNI"]


@pytest.mark.parametrize("name", ["", "Big", "a b", "-a", "../a", "a/b", "a;b", "a" * 31, "a\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a cluster"):
        Spec(name)


def test_what_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="no CNI 'calico'"):
        Spec("a", "calico")
    for workers in (-1, 10):
        with pytest.raises(UsageError, match="workers are not possible"):
            Spec("a", "flannel", workers)


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_manifests_name_the_images_that_are_built_here(name: str) -> None:
    text = manifest(name)
    assert "IMAGE_" not in text
    documents = list(yaml.safe_load_all(text))
    (workload,) = (item for item in documents if item["kind"] == "DaemonSet")
    spec = workload["spec"]["template"]["spec"]
    assert {c["image"] for c in (*spec["containers"], *spec.get("initContainers", []))} == IMAGES[name]
    (tolerated,) = spec["tolerations"]
    assert tolerated["operator"] == "Exists", "on every node, also one that is not ready yet"
    assert "key" not in tolerated
    if name in AGENTS:
        assert (workload["metadata"]["namespace"], workload["metadata"]["name"]) == AGENTS[name]


def inspected(name: str, network: str = NETWORK, *, running: bool = True) -> dict[str, Any]:
    address = "172.20.0.2" if running else ""
    networks = {network: {"IPAddress": address}}
    return {"Name": f"/{name}", "NetworkSettings": {"Networks": networks}, "State": {"Running": running}}


def test_containers() -> None:
    found = containers(
        [inspected("a-worker10"), inspected("a-worker2"), inspected("a-worker"), inspected("a-control-plane")]
    )
    assert [node.name for node in found] == ["a-control-plane", "a-worker", "a-worker2", "a-worker10"]
    assert all(node.ours and node.running and node.address == "172.20.0.2" for node in found)
    (foreign,) = containers([inspected("kind-control-plane", "kind")])
    assert not foreign.ours
    (stopped,) = containers([inspected("a-worker", running=False)])
    assert (stopped.running, stopped.address) == (False, "")


def listed() -> dict[str, Any]:
    """Return a cluster of one node in which all is ready."""
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    namespace, name = AGENTS["flannel"]
    container = {"name": "agent", "state": {"running": {"startedAt": "2026-01-31T12:00:00Z"}}}
    return {
        "items": [
            {"kind": "Node", "metadata": {"name": "n"}, "status": ready},
            {
                "kind": "Pod",
                "metadata": {"namespace": namespace, "name": "agent-x"},
                "spec": {"nodeName": "n"},
                "status": {**ready, "containerStatuses": [container]},
            },
            {"kind": "Pod", "metadata": {"namespace": "d", "name": "job"}, "status": {"phase": "Succeeded"}},
            {"kind": "DaemonSet", "metadata": {"namespace": namespace, "name": name}, "status": {"numberReady": 1}},
        ]
    }


def test_a_cluster_that_is_ready() -> None:
    assert not_ready(listed(), ["n"], "flannel") == []


def test_what_is_not_ready_is_named() -> None:
    found = not_ready({}, ["n"], "cilium")
    assert found == ["node n has not registered", "DaemonSet kube-system/cilium: 0 of 1 pods are ready"]
    broken = copy.deepcopy(listed())
    node, pod, _, agents = broken["items"]
    node["status"] = {"conditions": [{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}]}
    pod["status"] = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}], "phase": "Pending"}
    agents["status"] = {}
    assert not_ready(broken, ["n"], "flannel") == [
        "node n is not Ready: cni plugin not initialized",
        "pod kube-flannel/agent-x on n is not ready: ImagePullBackOff",
        "DaemonSet kube-flannel/kube-flannel-ds: 0 of 1 pods are ready",
    ]
    pod["status"], pod["spec"], node["status"] = {}, {}, {}
    assert not_ready(broken, ["n"], "flannel")[:2] == [
        "node n is not Ready: no condition yet",
        "pod kube-flannel/agent-x on no node is not ready: no status yet",
    ]


@pytest.mark.parametrize(("restarted", "stale"), [("2026-01-31T12:00:01Z", 1), ("2026-01-31T11:59:59Z", 0)])
def test_what_is_told_from_before_a_restart_does_not_count(restarted: str, stale: int) -> None:
    assert len(from_before(listed(), "n", restarted)) == stale
    assert from_before(listed(), "other", restarted) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up"], {"name": "tune-nodes", "cni": "flannel", "workers": 2}),
        (["up", "--name", "a", "--cni", "cilium", "--workers", "1"], {"name": "a", "cni": "cilium", "workers": 1}),
        (["down", "--all"], {"all": True}),
        (["build", "--cni", "cilium"], {"cni": "cilium"}),
        (["inventory", "--name", "a"], {"name": "a"}),
        (["lock", "kube", "kind"], {"module": ["kube", "kind"]}),
        (["lock"], {"module": []}),
        (["status"], {"verb": "status"}),
        (["check"], {"verb": "check"}),
    ],
)
def test_the_command_line(words: list[str], expected: dict[str, Any]) -> None:
    chosen = vars(arguments().parse_args(words))
    assert {name: chosen[name] for name in expected} == expected


def test_an_error_says_what_why_and_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TUNE_NODES_TEST_CACHE", str(tmp_path))
    monkeypatch.setattr(bed.os, "geteuid", lambda: 1000)
    assert main(["up"]) != 0
    told = capsys.readouterr().err
    assert "error: the clusters need root" in told
    assert "  next: sudo make kind-up" in told
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_a_machine_that_cannot_is_told_apart_from_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kindbed.__main__.why_not", lambda: "missing: dockerd")
    assert main(["check"]) == 77
    assert "no cluster can be made here: missing: dockerd" in capsys.readouterr().err
    monkeypatch.setattr("kindbed.__main__.why_not", lambda: "")
    assert main(["check"]) == 0
