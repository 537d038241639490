"""Whole runs in a real cluster: Leases, drains and budgets, a kubelet that stops, credentials that are no good.

The command line is a process of its own; what it left is read by kubectl and by programs of the nodes.
"""

from __future__ import annotations

import base64
import json
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clirun import Cli, assert_clear, kill_all
from clusterworks import wait_for
from kindbed.cluster import Cluster
from kindbed.images import PROBE

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]

KEY, OLD, NEW = "net.ipv4.tcp_fin_timeout", "60", "33"
PROFILE = {
    "description": "One sysctl for tests",
    "sysctl": {KEY: {"value": int(NEW), "class": "exact", "reason": "a test", "source": "a test"}},
}
ANNOTATION = "tune-nodes/cordoned-by"
WINDOW = "90"
#: On a node: waits until a transaction is armed there, then stops the kubelet, and says when by the machine's clock.
STOP_KUBELET = """
import glob, subprocess, time
end = time.monotonic() + 120
while not glob.glob("/var/lib/tune-nodes/tx/*/ARMED") and time.monotonic() < end:
    time.sleep(0.01)
print(time.monotonic(), flush=True)
subprocess.run(["systemctl", "stop", "kubelet"], check=True, timeout=60)
"""


@pytest.fixture
def workers(kind_cluster: Cluster) -> list[str]:
    return sorted(name for name in kind_cluster.nodes if not name.endswith("control-plane"))


@pytest.fixture
def cli(tmp_path: Path, kind_cluster: Cluster) -> Iterator[Cli]:
    """The command line; what its runs changed is undone afterwards."""
    made = Cli(tmp_path / "cli", kind_cluster.hosts)
    yield made
    for run in made.store.history(limit=-1, verb="apply"):
        if made.store.load(run.id).touched():
            made("rollback", run.id, "--yes", "--cluster", "off", "--window", "60")
    assert [value(kind_cluster, name) for name in kind_cluster.nodes] == [OLD] * len(kind_cluster.nodes)


def value(cluster: Cluster, node: str) -> str:
    return cluster.exec(node, "sysctl", "-n", KEY).strip()


def closed(cluster: Cluster) -> dict[str, str]:
    """Return the nodes that take no new pods, and which run closed each."""
    items = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return {
        item["metadata"]["name"]: item["metadata"].get("annotations", {}).get(ANNOTATION, "")
        for item in items
        if item["spec"].get("unschedulable")
    }


def ready(cluster: Cluster, node: str) -> bool:
    said = cluster.kubectl("get", "node", node, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
    return said == "True"


def apply(cli: Cli, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return cli("apply", "-p", cli.profile(PROFILE), "--window", WINDOW, "--yes", *words, timeout=300, **env)


# -- the ordinary way -------------------------------------------------------------------------------------------------


def test_a_run_waits_for_leases_and_takes_the_control_plane_last(
    kind_cluster: Cluster, cli: Cli, workers: list[str]
) -> None:
    done = apply(cli, "--serial", "100%")
    assert_clear(done, 0, "changed 3 of 3", f"cluster: kind-{kind_cluster.name} v1.", "flannel")
    record = cli.record()
    (control,) = set(kind_cluster.nodes) - set(workers)
    assert [wave.nodes for wave in record.waves] == [workers[:1], workers[1:], [control]]
    for node in record.nodes.values():
        assert node.cluster is not None
        assert node.cluster.ready
        assert node.cluster.lease_seconds is not None
        assert 0 < node.cluster.lease_seconds < 15
        assert node.cluster.kubelet.startswith("v1.")
        after = {probe.kind: probe for probe in node.probes_after}
        assert after["lease"].ok
        assert after["kubelet"].ok
        assert after["api"].detail.startswith("TLSv1")
    assert record.nodes[control].cluster.roles == ["control-plane"]
    assert [value(kind_cluster, name) for name in kind_cluster.nodes] == [NEW] * 3
    page = cli("report", "latest", "--out", "report.html")
    assert_clear(page, 0)
    assert "containerd://" in (cli.directory / "report.html").read_text()


# -- a kubelet that stops ---------------------------------------------------------------------------------------------


def test_a_kubelet_that_stops_right_after_the_change(kind_cluster: Cluster, cli: Cli, workers: list[str]) -> None:
    """Its Lease is not renewed: put back within 15 s, nothing stays closed. Later it is not Ready: refused by name."""
    first, second = workers
    said: list[str] = []
    hook = threading.Thread(
        target=lambda: said.append(kind_cluster.exec(first, "python3", "-", input=STOP_KUBELET, timeout=150))
    )
    hook.start()
    try:
        done = apply(cli, "-l", ",".join(workers), "--drain")
        hook.join(150)
        assert_clear(done, 3, f"reverted {first}", "its kubelet is stopped or cut off", "stopped early: wave 1")
        record = cli.record()
        assert cli.outcomes() == {first: "reverted", second: "skipped"}
        assert record.nodes[first].timings["lease"] < 16
        assert record.nodes[first].error.why == (
            f"the Lease of {first} was not renewed within 15 s of the change: its kubelet is stopped or cut off"
        )
        assert first in record.stopped
        assert closed(kind_cluster) == {}
        assert [value(kind_cluster, name) for name in workers] == [OLD, OLD]
        assert said, "the hook ran"

        cli("quarantine", "clear", first)
        wait_for(f"{first} is no longer Ready", lambda: not ready(kind_cluster, first), 120)
        done = apply(cli, "-l", ",".join(workers))
        assert_clear(done, 1, f"refused {first}: the Node {first} is not ready", "changed 1 of 2")
        assert cli.outcomes() == {first: "refused", second: "changed"}
        assert [value(kind_cluster, name) for name in workers] == [OLD, NEW]
    finally:
        hook.join(150)
        kind_cluster.exec(first, "systemctl", "start", "kubelet")
        wait_for(f"{first} is Ready", lambda: ready(kind_cluster, first), 120)


# -- credentials ------------------------------------------------------------------------------------------------------


def signed_anew(cluster: Cluster, token: str) -> str:
    """Return the same token as the cluster would have made it two hours ago for one hour: an expired one."""

    def coded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head, body, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    now = int(time.time())
    claims |= {"iat": now - 7200, "nbf": now - 7200, "exp": now - 3600}
    text = f"{head}.{coded(json.dumps(claims).encode())}"
    control = f"{cluster.name}-control-plane"
    sign = "openssl dgst -sha256 -sign /etc/kubernetes/pki/sa.key | base64 -w0"
    return f"{text}.{coded(base64.b64decode(cluster.exec(control, 'sh', '-c', sign, input=text)))}"


@pytest.fixture
def namespace(kind_cluster: Cluster) -> Iterator[str]:
    """A namespace of its own: one that is being deleted takes nothing new."""
    name = f"tune-nodes-test-{secrets.token_hex(3)}"
    kind_cluster.kubectl("create", "namespace", name)
    yield name
    kind_cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubeconfig_of(kind_cluster: Cluster, namespace: str, tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of kubeconfigs that are no good: ``no-rights``, ``expired``, ``dead``."""
    kind_cluster.kubectl("-n", namespace, "create", "serviceaccount", "nobody")
    document = yaml.safe_load(kind_cluster.kubeconfig.read_text())

    def make(kind: str) -> Path:
        token = kind_cluster.kubectl("-n", namespace, "create", "token", "nobody").strip()
        document["users"][0]["user"] = {"token": signed_anew(kind_cluster, token) if kind == "expired" else token}
        if kind == "dead":
            with socket.create_server(("127.0.0.1", 0)) as server:
                document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{server.getsockname()[1]}"
        path = tmp_path / f"{kind}.conf"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    return make


CREDENTIALS = [
    ("no-rights", ":nobody may not list nodes"),
    ("expired", "was refused: it has expired or was revoked"),
    ("dead", "cannot be reached: connection refused"),
]


@pytest.mark.parametrize(("kind", "said"), CREDENTIALS)
def test_a_cluster_that_cannot_be_used_is_left_out_or_ends_the_run(
    cli: Cli, workers: list[str], kubeconfig_of: Callable[[str], Path], kind: str, said: str
) -> None:
    path = kubeconfig_of(kind)
    secret = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
    what, _, why = said.partition(": ")
    words = ("plan", "-p", cli.profile(PROFILE), "-l", workers[0], "--kubeconfig", str(path))

    done = cli(*words, "--cluster", "required")
    assert_clear(done, 1, what, why, "--cluster auto")
    assert cli.store.history() == [], "the run did not even begin"
    required = {**PROFILE, "cluster": {"mode": "required"}}
    done = cli("plan", "-p", cli.profile(required, "strict"), *words[3:])
    assert_clear(done, 1, what, why)
    assert cli.store.history() == []

    done = cli(*words)
    assert_clear(done, 0, "warning: the cluster is not used", what, why, "1 change", "cluster: not used; not checked")
    record = cli.record()
    assert record.cluster.used is False
    assert what in record.cluster.not_checked[0]
    assert secret not in done.stdout + done.stderr + record.model_dump_json()


def test_without_the_cluster_nodes_are_tuned_all_the_same(
    kind_cluster: Cluster, cli: Cli, workers: list[str], kubeconfig_of: Callable[[str], Path]
) -> None:
    done = apply(cli, "-l", workers[0], "--kubeconfig", str(kubeconfig_of("expired")))
    assert_clear(done, 0, "changed 1 of 1", "not checked")
    assert value(kind_cluster, workers[0]) == NEW
    kinds = {probe.kind for probe in cli.record().nodes[workers[0]].probes_after}
    assert {"ssh", "gateway", "api", "kubelet"} <= kinds, "what the node itself can see is probed"
    assert "lease" not in kinds


# -- drains -----------------------------------------------------------------------------------------------------------


def guarded(namespace: str, node: str) -> str:
    """Return the manifest of one pod on a node whose budget lets it never go."""
    labels = {"app": "web"}
    pod = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "web", "image": PROBE, "command": ["sleep", "3600"]}],
    }
    meta = {"name": "web", "namespace": namespace}
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {**meta, "name": "always-one"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
    ]
    return yaml.safe_dump_all(documents)


@pytest.fixture
def shop(kind_cluster: Cluster, namespace: str, workers: list[str]) -> Iterator[str]:
    """A worker with a pod that its budget keeps there."""
    node = workers[0]
    kind_cluster.kubectl("apply", "-f", "-", input=guarded(namespace, node))
    kind_cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s", timeout=90)
    yield node
    kind_cluster.kubectl("uncordon", node)
    kind_cluster.kubectl("annotate", "node", node, f"{ANNOTATION}-")


def test_a_drain_keeps_a_budget_and_goes_on_without_it(
    kind_cluster: Cluster, cli: Cli, namespace: str, shop: str
) -> None:
    pod = kind_cluster.kubectl("-n", namespace, "get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    done = apply(cli, "-l", shop, "--drain", "--drain-timeout", "6")
    assert_clear(done, 1, f"refused {shop}: the Node {shop} could not be drained", f"{namespace}/{pod}", "always-one")
    assert closed(kind_cluster) == {}
    assert value(kind_cluster, shop) == OLD
    assert pod in kind_cluster.kubectl("-n", namespace, "get", "pods", "-o", "name")

    kind_cluster.kubectl("-n", namespace, "delete", "pdb", "always-one")
    done = apply(cli, "-l", shop, "--drain")
    assert_clear(done, 0, "changed 1 of 1", f"draining {shop}")
    known = cli.record().nodes[shop].cluster
    assert (known.cordoned, known.evicted >= 1) == ("ours", True)
    assert closed(kind_cluster) == {}
    assert pod not in kind_cluster.kubectl("-n", namespace, "get", "pods", "-o", "name")


def draining(cli: Cli, cluster: Cluster, node: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a run that hangs in its drain; return it and its id."""
    words = ("--window", WINDOW, "--yes", "-l", node, "--drain", "--drain-timeout", "200")
    process = cli.start("apply", "-p", cli.profile(PROFILE), *words)
    wait_for("the node is closed", lambda: node in closed(cluster))
    return process, closed(cluster)[node]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_while_draining_opens_its_node(
    kind_cluster: Cluster, cli: Cli, shop: str, number: signal.Signals
) -> None:
    process, run = draining(cli, kind_cluster, shop)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert closed(kind_cluster) == {}
    assert cli.record().id == run
    assert cli.outcomes() == {shop: "skipped"}
    assert value(kind_cluster, shop) == OLD


def test_what_a_killed_run_left_closed_is_opened_by_the_next(kind_cluster: Cluster, cli: Cli, shop: str) -> None:
    process, run = draining(cli, kind_cluster, shop)
    kill_all(process)
    assert closed(kind_cluster) == {shop: run}
    assert_clear(cli("plan", "-p", cli.profile(PROFILE), "-l", shop), 0)
    assert closed(kind_cluster) == {shop: run}, "a plan changes nothing"
    done = apply(cli, "-l", shop)
    assert_clear(
        done, 0, f"opened the Node {shop} for pods again: run {run} was killed and left it closed", "changed 1"
    )
    assert closed(kind_cluster) == {}


def test_what_a_person_closed_stays_closed(kind_cluster: Cluster, cli: Cli, workers: list[str]) -> None:
    kind_cluster.kubectl("cordon", workers[0])
    try:
        assert_clear(apply(cli, "-l", workers[0], "--drain"), 0, "changed 1 of 1")
        assert closed(kind_cluster) == {workers[0]: ""}
        assert cli.record().nodes[workers[0]].cluster.cordoned == "foreign"
    finally:
        kind_cluster.kubectl("uncordon", workers[0])
