"""What a node's tuning does not reach, on a real node: its own pod, found by containerd's cgroups and read by a plan.

The values are checked by kubectl and sysctl, the run goes through the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from commandline import PROGRAM, env_of, finished

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = pytest.mark.kind

SOMAXCONN = "net.core.somaxconn"
PROFILE = {
    "description": "One key that no pod gets from its node",
    "sysctl": {
        SOMAXCONN: {
            "value": 65535,
            "class": "floor",
            "reason": "a test",
            "source": "https://docs.kernel.org/networking/ip-sysctl.html",
        }
    },
}


class Cli:
    """The command line with state and configuration of its own, limited to one node."""

    def __init__(self, directory: Path, inventory: Path, node: str) -> None:
        self.profile = directory / "profile.yml"
        self.profile.write_text(yaml.safe_dump(PROFILE))
        self.target = ["-i", str(inventory), "-l", node, "--cluster", "off"]  # the node alone is asked
        self.environment = env_of(directory)

    def __call__(self, verb: str, *words: str) -> str:
        """Run a verb; its standard output. The test fails where it does."""
        argv = [*PROGRAM, verb, *self.target, *words]
        done = finished(argv, self.environment)
        assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def plan(self, node: str) -> dict[str, Any]:
        """Return the node's part of a plan."""
        document = json.loads(self("plan", "-p", str(self.profile), "-o", "json"))
        return dict(document["nodes"][node])


@pytest.fixture
def pods(either_cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return uid -> pod, as the API server has it, of the running pods with a network of their own, one a node."""
    either_cluster.probe_pods()
    listed = json.loads(either_cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    return {
        pod["metadata"]["uid"]: pod
        for pod in listed
        if pod["status"]["phase"] == "Running" and not pod["spec"].get("hostNetwork")
    }


@pytest.fixture
def worker(either_cluster: Cluster) -> str:
    """Return a worker's name."""
    return next(name for name in sorted(either_cluster.nodes) if not name.endswith("control-plane"))


@pytest.fixture
def cli(tmp_path: Path, either_cluster: Cluster, worker: str) -> Iterator[Cli]:
    """Return the command line for the worker, tuned; it is put back at the end."""
    run = Cli(tmp_path, either_cluster.hosts, worker)
    run("apply", "-p", str(run.profile), "--yes")
    yield run
    run("rollback", "--yes")


def test_a_plan_says_what_a_pod_of_a_tuned_node_has(
    either_cluster: Cluster, pods: dict[str, dict[str, Any]], worker: str, cli: Cli
) -> None:
    assert worker in {pod["spec"]["nodeName"] for pod in pods.values()}
    assert either_cluster.ssh(worker, "sysctl", "-n", SOMAXCONN).stdout.strip() == "65535"
    record = cli.plan(worker)
    assert record["outcome"] == "ok" and record["warnings"] == []
    (found,) = record["pods"]
    pod = pods[found["uid"]]
    assert pod["spec"]["nodeName"] == worker
    assert found["name"] == pod["metadata"]["name"]
    (row,) = found["values"]
    assert (row["key"], row["node"], row["pod"], row["reach"]) == (SOMAXCONN, "65535", "4096", "default")
    assert "allowedUnsafeSysctls" in row["note"]
    # The pod itself, by another way than the node's own code: the process that holds its network.
    script = f"for p in $(grep -l {found['uid'].replace('-', '_')} /proc/[0-9]*/cgroup); do echo $p; done | head -1"
    pid = either_cluster.ssh(worker, script).stdout.split("/")[2]
    assert either_cluster.ssh(worker, f"nsenter -t {pid} -n sysctl -n {SOMAXCONN}").stdout.strip() == "4096"
