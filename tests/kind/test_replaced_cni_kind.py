"""Cilium's DaemonSet is gone, its datapath is left, Flannel takes its place: said with proof, and nothing is cut loose.

What is counted is read by kubectl, bpftool's file system, ip and ls on the node, never by the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusterworks import wait_for
from kindbed.cluster import manifest

from commandline import PROGRAM, Done, env_of, finished

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = [pytest.mark.kind, pytest.mark.timeout(500, func_only=True)]

CONFS = "/etc/cni/net.d"
LEFT = f"ls /sys/fs/bpf/cilium {CONFS}/05-cilium.conflist; ip -o link show cilium_host; iptables-save | grep -c CILIUM_"


@dataclass
class Bed:
    """A cluster whose Cilium is taken away and put back."""

    cluster: Cluster
    worker: str
    directory: Path

    def look(self, *words: str) -> Done:
        """Run ``tune-nodes recover cni`` on the worker."""
        argv = [*PROGRAM, "recover", "cni", "-i", str(self.cluster.hosts), "--nodes", self.worker, *words]
        return finished(argv, env_of(self.directory, COLUMNS="300"))

    def left(self) -> str:
        """Return what the worker's programs show of Cilium."""
        return self.cluster.ssh(self.worker, LEFT).stdout

    def agents(self, namespace: str, label: str) -> list[dict[str, Any]]:
        """Return an agent's pods on the worker."""
        where = f"spec.nodeName={self.worker}"
        told = self.cluster.kubectl(
            "-n", namespace, "get", "pods", "-l", label, "--field-selector", where, "-o", "json"
        )
        return list(json.loads(told)["items"])


@pytest.fixture
def bed(cilium_cluster: Cluster, tmp_path: Path) -> Iterator[Bed]:
    """A cluster without Cilium's agents; they are there again afterwards, and what Flannel made is not."""
    worker = next(name for name in sorted(cilium_cluster.nodes) if not name.endswith("control-plane"))
    found = Bed(cilium_cluster, worker, tmp_path)
    delete = ["delete", "--ignore-not-found", "-f", "-"]
    drain = ["drain", worker, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=90s"]
    try:
        # What a pod lives by is no leftover; a drain leaves those of DaemonSets, such as other tests' probes.
        cilium_cluster.kubectl("delete", "daemonset", "probe", "--ignore-not-found", "--timeout=60s", timeout=70)
        cilium_cluster.kubectl(*drain, timeout=100)
        cilium_cluster.kubectl("-n", "kube-system", "delete", "daemonset", "cilium", "--timeout=90s", timeout=100)
        wait_for("the agent ends", lambda: not found.agents("kube-system", "k8s-app=cilium"), 90)
        yield found
    finally:
        cilium_cluster.kubectl(*delete, input=manifest("flannel"), timeout=120)
        for node in cilium_cluster.nodes:
            script = f"rm -rf {CONFS}/10-flannel.conflist /run/flannel /var/lib/tune-nodes/evidence"
            cilium_cluster.ssh(node, f"{script}; ip link del flannel.1; ip link del cni0; true")
        cilium_cluster.kubectl("apply", "-f", "-", input=manifest("cilium"))
        cilium_cluster.wait_ready()
        cilium_cluster.kubectl("uncordon", worker)


def test_what_cilium_left_is_named_with_proof_and_a_reboot_is_asked_for(bed: Bed) -> None:
    before = bed.left()
    assert "cilium_host" in before
    said = bed.look("--check").stdout
    assert "cilium is configured, but its agent has no pod on this node" in said, said
    bed.cluster.kubectl("apply", "-f", "-", input=manifest("flannel"))
    rollout = ["-n", "kube-flannel", "rollout", "status", "daemonset", "--timeout=120s"]
    bed.cluster.kubectl(*rollout, timeout=130)
    done = bed.look("--check")
    said = " ".join(done.stdout.split())
    assert "05-cilium.conflist comes before 10-flannel.conflist" in said, said
    assert "left by cilium" in said and "its BPF programs are in the kernel" in said, said
    assert "a reboot of this node, once its pods are moved away" in said, said
    assert "R5 reboot or replace the node: asked for, never done here" in said, said
    assert "R3 remove" not in said, said
    done = bed.look("--rung", "0", "--yes", "-o", "json")
    document = json.loads(done.stdout)
    assert 5 in [finding["rung"] for finding in document["recovery"][bed.worker]["findings"]]
    kept = bed.directory / "state/runs" / document["id"] / f"cni-{bed.worker}-before.json"
    rows = [row for row in json.loads(kept.read_text())["orphans"] if row["owner"] == "cilium"]
    assert {"bpf", "link", "file", "chains"} <= {row["kind"] for row in rows}
    assert all(row["proof"] and row["refused"] for row in rows)
    assert bed.left() == before
