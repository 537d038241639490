"""A worker's CNI state rebuilt while a Deployment with a budget serves; killed at each step and carried on; taken back.

What is counted is read by kubectl, ip, ls and ping, never by the code under test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import foreign
import pytest
from cnibed import wait
from kindbed.images import PROBE

from commandline import PROGRAM, Done, env_of, finished
from tune_nodes.recovery.rebuild.steps import Step

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900, func_only=True)]

NAMESPACE = "cni-rebuild"
BUDGET = 5
FENCE = "/etc/cni/net.d/0-tune-nodes-rebuild.conflist"

MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  replicas: 6
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - name: probe
          image: {PROBE}
          command: [sh, -c, "hostname >/www/index.html && exec httpd -f -p 8080 -h /www"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web, namespace: {NAMESPACE}}}
spec: {{minAvailable: {BUDGET}, selector: {{matchLabels: {{app: web}}}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: each, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: each}}}}
  template:
    metadata: {{labels: {{app: each}}}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - {{name: probe, image: {PROBE}, command: [sleep, infinity]}}
"""

# The command, which kills itself where a step begins or has had its effect; evidence is another test's.
KILLED = """
import os, signal, sys
from dataclasses import replace
from tune_nodes.cli.main import main
from tune_nodes.recovery import ladder
from tune_nodes.recovery.rungs import rebuild
step, state = sys.argv.pop(1), sys.argv.pop(1)
kept = rebuild.Port.journal
def journal(self, at, when):
    if (str(at), when) == (step, state):
        os.kill(os.getpid(), signal.SIGKILL)
    kept(self, at, when)
rebuild.Port.journal = journal
ladder.EVIDENCE = replace(ladder.EVIDENCE, take=lambda run, name, taken: run.fleet.record.nodes[name])
sys.exit(main())
"""


@dataclass
class Bed:
    """A worker, and the ways to look at it."""

    cluster: Cluster
    worker: str
    peer: str
    directory: Path

    def node(self, *argv: str, check: bool = True) -> str:
        """Run a command on the worker."""
        return self.cluster.ssh(self.worker, *argv, check=check).stdout

    def get(self, *words: str) -> str:
        """Ask kubectl in the namespace."""
        return self.cluster.kubectl("-n", NAMESPACE, "get", *words)

    def command(self, *words: str, controller: str, first: tuple[str, ...] = PROGRAM) -> Done:
        """Run ``tune-nodes recover`` as on a controller of its own."""
        argv = [*first, "recover", *words, "-i", str(self.cluster.hosts), "--yes"]
        return finished(argv, env_of(self.directory, controller), 500)

    def rebuild(self, controller: str = "one") -> Done:
        """Rebuild, or carry on."""
        words = ("cni", "--nodes", self.worker, "--rung", "4", "-o", "json")
        return self.command(*words, controller=controller)

    def killed(self, step: Step, state: str, controller: str = "one") -> None:
        """Rebuild, or carry on, and be killed there."""
        words = ("cni", "--nodes", self.worker, "--rung", "4")
        done = self.command(*words, controller=controller, first=(sys.executable, "-c", KILLED, str(step), state))
        assert done.returncode == -9, done.stdout + done.stderr

    def forget(self, controller: str = "one") -> None:
        """Make a controller forget all its runs, so that what is known is known from node and API server."""
        shutil.rmtree(self.directory / controller / "runs")
        (self.directory / controller / "index.sqlite3").unlink()

    @property
    def closed(self) -> bool:
        """Whether the worker takes no new pods."""
        return self.cluster.kubectl("get", "node", self.worker, "-o", "jsonpath={.spec.unschedulable}") == "true"

    def links(self) -> dict[str, str]:
        """Return name -> hardware address of the CNI's devices."""
        rows = json.loads(self.node("ip", "-j", "link"))
        return {row["ifname"]: row["address"] for row in rows if row["ifname"] in ("cni0", "flannel.1")}

    def pod_here(self) -> str:
        """Return the address of the DaemonSet's pod on the worker once it is ready, "" before."""
        pods = json.loads(self.get("pods", "-l", "app=each", "-o", "json"))["items"]
        for pod in pods:
            conditions = {row["type"]: row["status"] for row in pod["status"].get("conditions", [])}
            if pod["spec"].get("nodeName") == self.worker and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["status"]["podIP"]) if conditions.get("Ready") == "True" else ""
        return ""

    def is_well(self) -> None:
        """Make sure that the worker is open, its network whole, and packets pass from the other worker."""
        assert not self.closed
        assert self.node("ls", "/etc/cni/net.d").split() == ["10-flannel.conflist"]
        assert self.node("ls", "/opt/cni/bin/tune-nodes-fence", check=False) == ""
        wait("the worker's own pod is ready", self.pod_here)
        for node in (self.worker, self.peer):
            assert " 0% packet loss" in self.cluster.ssh(node, "ping", "-c3", "-i0.2", "-W2", self.pod_here()).stdout


@pytest.fixture(scope="module")
def bed(kind_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A worker, another one, six pods with a budget and one of a DaemonSet on each; all of it is gone afterwards."""
    workers = [name for name in sorted(kind_cluster.nodes) if not name.endswith("control-plane")]
    found = Bed(kind_cluster, workers[0], workers[-1], tmp_path_factory.mktemp("rebuild"))
    kind_cluster.kubectl("apply", "-f", "-", input=MANIFEST)
    try:
        found.cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
        wait("the worker has a pod of the DaemonSet", found.pod_here)
        with foreign.untouched(kind_cluster, found.worker):
            yield found
    finally:
        kind_cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s", timeout=100)
        kind_cluster.kubectl("uncordon", found.worker)
        kind_cluster.kubectl("-n", "tune-nodes", "delete", "leases", "--all")  # a killed run's are held for a while
        found.node(f"rm -rf /var/lib/tune-nodes/rebuild /var/lib/tune-nodes/removed {FENCE}")


def test_rebuilt_within_the_budget_though_its_controller_dies(bed: Bed) -> None:
    before = bed.links()
    assert set(before) == {"cni0", "flannel.1"}
    watching = [str(bed.cluster.kubectl_program), "--kubeconfig", str(bed.cluster.kubeconfig), "-n", NAMESPACE, "get"]
    watching += ["deployment", "web", "--watch", "-o", 'jsonpath={.status.readyReplicas}{"\\n"}']
    with subprocess.Popen(watching, stdout=subprocess.PIPE, text=True) as watch:
        try:
            bed.killed(Step.CLEAR, "done")
            assert bed.closed and "cni0" not in bed.links()
            assert bed.node("ls", FENCE).strip() == FENCE
            bed.forget()
            done = bed.rebuild()
        finally:
            watch.terminate()
            told = watch.communicate(timeout=20)[0].split()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(told) > 3 and min(map(int, told)) >= BUDGET, told
    recovered = json.loads(done.stdout)["recovery"][bed.worker]
    assert recovered["rungs"] == [0, 4] and all(row["good"] is not False for row in recovered["compared"])
    bed.is_well()
    after = bed.links()
    assert after["cni0"] != before["cni0"]


def test_killed_at_each_step_the_next_run_carries_on(bed: Bed) -> None:
    for step in Step:
        bed.killed(step, "done")
    assert bed.node("grep", "-h", "phase", "-r", "/var/lib/tune-nodes/rebuild", "--include=*.json").count("done") >= 2
    bed.is_well()


def test_killed_in_the_middle_undo_brings_all_back(bed: Bed) -> None:
    before = bed.links()
    bed.killed(Step.CLEAR, "done")
    assert "cni0" not in bed.links()  # the agent, which the kubelet has started again, may have a tunnel by now
    run = max(path.name for path in (bed.directory / "one/runs").iterdir())
    done = bed.command("undo", run, controller="one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(bed.links()) == set(before)
    bed.is_well()
