"""Flannel deleted by hand on a real cluster, and put back from its record: killed half-way, finished, taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cnibed as bed
import pytest
from kindbed.cluster import Cluster, manifest
from kindbed.images import PROBE

from tune_nodes.recovery.lock import NAMESPACE as SLOTS

TUNE_NODES = str(Path(sys.executable).with_name("tune-nodes"))
SPACE = "cni-reinstall-kind"
GONE = (f"daemonset/{bed.AGENTS}", f"configmap/{bed.CONFIG}")


class Recover:
    """``tune-nodes recover`` against one cluster, with a state directory of its own."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._kubeconfig = str(cluster.kubeconfig)
        self._env = {**os.environ, "TUNE_NODES_STATE_DIR": str(directory / "state"), "COLUMNS": "300"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it; both streams come through one pipe."""
        argv = [TUNE_NODES, "recover", *words, "--kubeconfig", self._kubeconfig]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(argv, env=self._env, text=True, **pipes)

    def __call__(self, *words: str) -> str:
        """Run it; what it says. The test fails where it does."""
        process = self.start(*words)
        try:
            said, _ = process.communicate(timeout=150)
        finally:
            process.kill()
        assert process.returncode == 0, said
        return said


def get(cluster: Cluster, *words: str) -> Any:
    """Return what kubectl prints as JSON."""
    return json.loads(cluster.kubectl("-n", bed.FLANNEL, "get", *words, "-o", "json"))


def agents(cluster: Cluster) -> dict[str, str]:
    """Return node to the uid of its agent, of those that are ready."""
    found = {}
    for pod in get(cluster, "pods", "-l", "app=flannel")["items"]:
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        if ready and "deletionTimestamp" not in pod["metadata"]:
            found[pod["spec"]["nodeName"]] = pod["metadata"]["uid"]
    return found


def said(cluster: Cluster, what: str) -> tuple[Any, Any]:
    """Return what an object says, and its labels."""
    item = get(cluster, what)
    return item.get("spec") or item.get("data"), item["metadata"].get("labels")


def there(cluster: Cluster) -> str:
    """Return the names of those of the deleted objects that are there."""
    return cluster.kubectl("-n", bed.FLANNEL, "get", "--ignore-not-found", "-o", "name", *GONE).strip()


@contextmanager
def two_pods(cluster: Cluster) -> Iterator[list[dict[str, Any]]]:
    """Have a pod on each of two nodes."""
    workers = sorted(name for name in cluster.nodes if not name.endswith("control-plane"))[:2]
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"end-{number}", "namespace": SPACE},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "end", "image": PROBE, "command": ["sleep", "3600"]}],
            },
        }
        for number, node in enumerate(workers)
    ]
    cluster.kubectl("create", "namespace", SPACE)
    try:
        cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        ready = ["--for=condition=Ready", "pods", "--all", "--timeout=60s"]
        cluster.kubectl("-n", SPACE, "wait", *ready, timeout=70)
        yield json.loads(cluster.kubectl("-n", SPACE, "get", "pods", "-o", "json"))["items"]
    finally:
        cluster.kubectl("delete", "namespace", SPACE, "--ignore-not-found", "--wait=false")


@contextmanager
def as_before(cluster: Cluster) -> Iterator[None]:
    """Put Flannel back by its own manifest, and our namespace away if it was not there, whatever a test did."""
    known = cluster.kubectl("get", "namespace", SLOTS, "--ignore-not-found", "-o", "name").strip()
    try:
        yield
    finally:
        cluster.kubectl("-n", bed.FLANNEL, "delete", "pods", "-l", "tune-nodes/probe=reinstall", "--wait=false")
        cluster.kubectl("apply", "-f", "-", input=manifest("flannel"))
        cluster.kubectl("-n", bed.FLANNEL, "rollout", "status", GONE[0], "--timeout=90s", timeout=100)
        if not known:
            cluster.kubectl("delete", "namespace", SLOTS, "--ignore-not-found", "--wait=true", timeout=90)
        cluster.wait_ready()


def cut_after_one_node(process: subprocess.Popen[str]) -> str:
    """Kill a reinstall when its first node is done; return what it had said."""
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "a new pod has a network" in line:
                break
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == -9, "".join(lines)
    return "".join(lines)


def test_deleted_by_hand_put_back_and_taken_back(
    kind_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recover = Recover(kind_cluster, tmp_path)
    with as_before(kind_cluster), two_pods(kind_cluster) as (near, far):
        before = {what: said(kind_cluster, what) for what in GONE}
        assert "flannel" in recover("record")
        assert "nothing is to be done" in recover("reinstall", "latest", "--yes")

        kind_cluster.kubectl("-n", bed.FLANNEL, "delete", *GONE, "--wait=true", timeout=90)
        bed.wait("the agents are gone", lambda: not get(kind_cluster, "pods", "-l", "app=flannel")["items"])
        started = time.monotonic()
        cut_after_one_node(recover.start("reinstall", "latest", "--yes"))
        (first,) = agents(kind_cluster).items()
        assert first[0] != f"{kind_cluster.name}-control-plane", "the control plane comes last"

        text = recover("reinstall", "latest", "--yes")
        spent = time.monotonic() - started
        assert "ended half-way; this finishes it" in text
        now = agents(kind_cluster)
        assert set(now) == set(kind_cluster.nodes)
        assert now[first[0]] == first[1], "what was done before the cut is not done twice"
        assert {what: said(kind_cluster, what) for what in GONE} == before
        status = get(kind_cluster, GONE[0])["status"]
        assert status["updatedNumberScheduled"] == status["numberReady"] == len(kind_cluster.nodes)
        assert not get(kind_cluster, "pods", "-l", "tune-nodes/probe")["items"]
        assert bed.passes(kind_cluster, near, far, 84)
        assert bed.passes(kind_cluster, far, near, 84)

        assert "nothing is to be done" in recover("reinstall", "latest", "--yes")
        assert agents(kind_cluster) == now, "nobody starts them anew, the controller neither"

        assert "2 removed" in recover("reinstall", "--undo", "latest", "--yes")
        assert there(kind_cluster) == ""
    assert set(agents(kind_cluster)) == set(kind_cluster.nodes)
    with capsys.disabled():
        print(
            f"\nreinstall: {len(kind_cluster.nodes)} nodes in {spent:.1f} s, cut and begun again after the first",
            end="",
        )
