"""Pods' MTU made wrong by hand on a real cluster with Flannel: found, put right layer by layer, proved by packets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cnibed as bed
import pytest
from kindbed.cluster import Cluster

from commandline import PROGRAM, env_of, finished

RIGHT = 1450
PLAY = """
- hosts: all
  gather_facts: false
  roles:
    - role: tune.nodes.mtu_alignment
      vars:
        mtu_alignment_kubeconfig: {kubeconfig}
  post_tasks:
    - name: Keep what the cluster's part returned
      ansible.builtin.copy:
        content: "{{{{ mtu_alignment_cni | to_json }}}}"
        dest: {result}
        mode: "0600"
      delegate_to: localhost
      run_once: true
"""


class Bed:
    """Command line and plays on one cluster, with a state directory of its own."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.environment = env_of(directory, HOME=str(directory))  # where the module keeps its backups

    def run(self, argv: list[str], codes: tuple[int, ...] = (0,)) -> str:
        """Run a program; its standard output. The test fails where its exit code is not one of these."""
        done = finished(argv, self.environment)
        assert done.returncode in codes, f"{argv}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def cli(self, verb: str, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run ``tune-nodes mtu VERB``."""
        program = [*PROGRAM, "mtu", verb, "-i", str(self.cluster.hosts)]
        return self.run([*program, "--kubeconfig", str(self.cluster.kubeconfig), *words], codes)

    def look(self) -> dict[str, Any]:
        """Return what ``mtu show`` says."""
        return dict(json.loads(self.cli("show", "-o", "json")))

    def role(self, *words: str) -> dict[str, Any]:
        """Run the role over all nodes; what it says of the cluster."""
        play, result = self.directory / "play.yml", self.directory / "result.json"
        play.write_text(PLAY.format(kubeconfig=self.cluster.kubeconfig, result=result))
        program = str(Path(sys.executable).parent / "ansible-playbook")
        self.run([program, "-i", str(self.cluster.hosts), str(play), *words])
        return dict(json.loads(result.read_text())) if result.exists() else {}


@pytest.fixture
def wrong(kind_cluster: Cluster, tmp_path: Path) -> Iterator[Bed]:
    """Return a cluster whose pods' MTU is wrong at every layer; it is put back at the end."""
    with bed.wrong_by_hand(kind_cluster):
        yield Bed(kind_cluster, tmp_path)


@pytest.mark.timeout(480, func_only=True)  # 80 s on a machine that does nothing else
def test_found_put_right_and_proved_by_packets(wrong: Bed) -> None:
    cluster = wrong.cluster
    old = bed.pods(cluster)
    assert {bed.pod_mtu(cluster, pod) for pod in old} == {bed.OLD}

    # Found, at every layer.
    seen = wrong.look()
    assert {node["given"] for node in seen["nodes"].values()} == {bed.OLD}
    assert {node["pods"] for node in seen["nodes"].values()} == {RIGHT}
    assert "set the nodes' own MTUs first" in seen["plan"]["refused"]
    assert _stale(seen["workloads"]) == {"Deployment web": (2, 2, ""), "Pod alone": (1, 1, "no controller")}

    # Put right: tunnel devices and bridges by the nodes, the configuration and its agents by the cluster's part.
    done = wrong.role()
    (setting,) = done["settings"]
    assert (setting["now"], setting["want"], setting["status"]) == (bed.WRONG, None, "changed")
    assert sorted(done["restarted"]) == sorted(cluster.nodes)
    assert _stale(done["workloads"]) == {"Deployment web": (2, 2, ""), "Pod alone": (1, 1, "no controller")}
    assert "MTU" not in bed.backend(cluster)
    for node in cluster.nodes:
        assert bed.mtu(cluster, node, "flannel.1") == RIGHT
        assert bed.given(cluster, node) == str(RIGHT)
    backup = Path(done["backup"]) / "backup.json"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert f'"MTU": {bed.WRONG}' in json.loads(backup.read_text())["objects"][0]["object"]["data"]["net-conf.json"]

    # Pods that run keep theirs; only those are made anew, and the one that nothing would make again is left.
    wrong.cli("restart-pods", "--yes")
    new = {pod["metadata"]["name"]: pod for pod in bed.pods(cluster)}
    assert len(new) == 3
    gone = {pod["metadata"]["name"] for pod in old} - set(new)
    assert len(gone) == 2 and "alone" in new
    one, other = (pod for name, pod in new.items() if name != "alone")
    assert one["spec"]["nodeName"] != other["spec"]["nodeName"]
    assert {bed.pod_mtu(cluster, one), bed.pod_mtu(cluster, other)} == {RIGHT}
    assert bed.pod_mtu(cluster, new["alone"]) == bed.OLD
    for source, target in ((one, other), (other, one)):
        assert bed.passes(cluster, source, target, RIGHT)
        assert not bed.passes(cluster, source, target, RIGHT + 1)

    # Nothing is left to do.
    seen = wrong.look()
    assert [setting["status"] for setting in seen["plan"]["settings"]] == ["ok"]
    assert _stale(seen["workloads"]) == {"Pod alone": (1, 1, "no controller")}
    assert bed.mtu(cluster, new["alone"]["spec"]["nodeName"], "cni0") == bed.OLD
    wrong.cli("cni", "--yes")

    # And back: the change is undone field by field, and refused where somebody has changed it since.
    wrong.cli("cni", "--undo", done["backup"], "--yes")
    assert bed.backend(cluster)["MTU"] == bed.WRONG
    assert {bed.given(cluster, node) for node in cluster.nodes} == {str(bed.OLD)}


def _stale(workloads: list[dict[str, Any]]) -> dict[str, tuple[int, int, str]]:
    """Return "KIND NAME" -> (old pods, all pods, the first words of why it is left) of the test's own namespace."""
    return {
        f"{row['kind']} {row['name']}": (len(row["stale"]), row["pods"], " ".join(row["left"].split()[:2]))
        for row in workloads
        if row["namespace"] == bed.NAMESPACE
    }
