"""The cluster layer against a real API server: facts, cordons, drains, Leases, and accounts with exactly our rights."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tune_nodes.cli import cluster_checks
from tune_nodes.cli.main import run
from tune_nodes.cluster import client, rights
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.health import refuse_reasons, unwell
from tune_nodes.cluster.leases import LeaseWatch
from tune_nodes.cluster.match import Match, match_nodes, same_machine
from tune_nodes.cluster.model import Drained
from tune_nodes.cluster.objects import CORDONED_BY

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind

RUN, OTHER = "20261124-081530-a1b2c3", "20261124-090000-d4e5f6"


def never() -> bool:
    """Let a drain go on."""
    return False


def wait_for(what: str, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something holds, and return it."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


@pytest.fixture
def cluster(kind_cluster: Bed) -> Iterator[client.Cluster]:
    with client.Cluster.open(kind_cluster.kubeconfig) as opened:
        yield opened


@pytest.fixture
def workers(kind_cluster: Bed) -> list[str]:
    return sorted(name for name in kind_cluster.nodes if not name.endswith("control-plane"))


@pytest.fixture
def worker(kind_cluster: Bed, workers: list[str]) -> Iterator[str]:
    """A worker that is open and unmarked afterwards, whatever a test did."""
    name = workers[-1]
    yield name
    kind_cluster.kubectl("uncordon", name)
    kind_cluster.kubectl("annotate", "node", name, f"{CORDONED_BY}-")


# -- what is seen -------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_nodes(kind_cluster: Bed, cluster: client.Cluster) -> None:
    facts = cluster.facts()
    server = json.loads(kind_cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert facts.version == server
    assert facts.not_seen == ()
    assert set(facts.nodes) == set(kind_cluster.nodes)
    control = next(node for node in facts.nodes.values() if "control-plane" in node.roles)
    assert any(taint.startswith("node-role.kubernetes.io/control-plane") for taint in control.taints)
    for name, node in facts.nodes.items():
        assert (node.ready, node.ready_reason, node.cordoned) == (True, "", False)
        assert node.addresses[0] == kind_cluster.nodes[name]
        assert node.kubelet == kind_cluster.ssh(name, "kubelet", "--version").stdout.split()[-1]
        assert node.runtime.startswith("containerd://")
        machine = kind_cluster.ssh(name, "cat", "/etc/machine-id").stdout
        boot = kind_cluster.ssh(name, "cat", "/proc/sys/kernel/random/boot_id").stdout
        assert same_machine(node, machine, boot) is True
        others = [other for other in facts.nodes.values() if other.name != name]
        assert [same_machine(other, machine, boot) for other in others] == [False] * len(others)


def test_the_cni_and_its_agents_are_named(kind_cluster: Bed, cluster: client.Cluster, workers: list[str]) -> None:
    facts = cluster.facts()
    (cni,) = facts.cni
    assert cni.split()[0] in ("flannel", "cilium")
    agents = {(agent.app, agent.node) for agent in facts.agents if agent.ready}
    for name in kind_cluster.nodes:
        assert ("kube-proxy", name) in agents
        assert any(app.startswith(("kube-flannel", "cilium")) and node == name for app, node in agents)
    of_one = cluster.agents([workers[0]])
    assert {agent.node for agent in of_one} == {workers[0]}
    assert {agent.app for agent in of_one} == {app for app, node in agents if node == workers[0]}


def test_nodes_are_matched_by_name_and_by_address(
    kind_cluster: Bed, cluster: client.Cluster, workers: list[str]
) -> None:
    first, second = workers[:2]
    targets = {first: kind_cluster.nodes[first], "another-name": kind_cluster.nodes[second], "nobody": "10.255.0.1"}
    found, sentences = match_nodes(targets, cluster.nodes())
    assert {name: (match.node.name, match.by) for name, match in found.items()} == {
        first: (first, "name"),
        "another-name": (second, "address"),
    }
    assert sentences == ["nobody: no Node object has this name or has the address 10.255.0.1"]
    assert set(cluster.nodes([first, "nobody"])) == {first}


def test_pods_are_called_by_their_names(kind_cluster: Bed, cluster: client.Cluster, workers: list[str]) -> None:
    pods = json.loads(kind_cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    here = {
        pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if pod["spec"].get("nodeName") == workers[0]
    }
    assert here
    assert cluster.pod_names([*here, "no-such-uid"], workers) == here


# -- closing and draining -----------------------------------------------------------------------------------------


def unschedulable(kind_cluster: Bed, node: str) -> bool:
    return (
        json.loads(kind_cluster.kubectl("get", "node", node, "-o", "json"))["spec"].get("unschedulable", False) is True
    )


def test_a_cordon_of_ours_is_opened_by_its_own_run_only(
    kind_cluster: Bed, cluster: client.Cluster, worker: str
) -> None:
    assert cluster.cordon(worker, RUN) is True
    assert unschedulable(kind_cluster, worker)
    assert cluster.nodes([worker])[worker].cordoned_by == RUN
    assert cluster.cordon(worker, RUN) is True  # a lost answer, asked again
    assert cluster.cordon(worker, OTHER) is False
    assert cluster.uncordon(worker, OTHER) is False
    assert unschedulable(kind_cluster, worker)
    assert cluster.uncordon(worker, RUN) is True
    assert not unschedulable(kind_cluster, worker)
    assert CORDONED_BY not in kind_cluster.kubectl("get", "node", worker, "-o", "yaml")
    assert cluster.uncordon(worker, RUN) is False


def test_a_foreign_cordon_stays(kind_cluster: Bed, cluster: client.Cluster, worker: str) -> None:
    kind_cluster.kubectl("cordon", worker)
    assert cluster.cordon(worker, RUN) is False
    assert cluster.uncordon(worker, RUN) is False
    node = cluster.nodes([worker])[worker]
    assert (node.cordoned, node.cordoned_by) == (True, "")
    assert unschedulable(kind_cluster, worker)


def test_ours_that_somebody_opened_and_closed_again_is_theirs(
    kind_cluster: Bed, cluster: client.Cluster, worker: str
) -> None:
    assert cluster.cordon(worker, RUN)
    kind_cluster.kubectl("uncordon", worker)
    kind_cluster.kubectl("cordon", worker)  # our annotation is still there
    assert cluster.nodes([worker])[worker].cordoned_by == ""
    assert cluster.uncordon(worker, RUN) is False
    assert unschedulable(kind_cluster, worker)


def test_cordons_while_others_write_to_the_node(kind_cluster: Bed, cluster: client.Cluster, worker: str) -> None:
    """Each label is a new version of the object: the patch is refused and made again."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 200:
            number += 1
            kind_cluster.kubectl("label", "node", worker, f"tune-nodes-test={number}", "--overwrite")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert cluster.cordon(worker, RUN) is True
            assert cluster.uncordon(worker, RUN) is True
    finally:
        stop.set()
        writer.join(60)
        kind_cluster.kubectl("label", "node", worker, "tune-nodes-test-")
    assert not unschedulable(kind_cluster, worker)


def pause_image(kind_cluster: Bed, node: str) -> str:
    """Return an image that every node has and that does nothing."""
    images = json.loads(kind_cluster.kubectl("get", "node", node, "-o", "json"))["status"]["images"]
    return next(name for image in images for name in image["names"] if "/pause:" in name)


def pod_spec(kind_cluster: Bed, node: str, **more: Any) -> dict[str, Any]:
    container = {"name": "web", "image": pause_image(kind_cluster, node), "imagePullPolicy": "Never"}
    chosen = {"kubernetes.io/hostname": node}
    return {"nodeSelector": chosen, "terminationGracePeriodSeconds": 1, "containers": [container], **more}


@contextmanager
def namespace(kind_cluster: Bed) -> Iterator[str]:
    """A namespace of a test's own, so that none waits for the end of another's."""
    name = f"tune-nodes-test-{secrets.token_hex(3)}"
    kind_cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kind_cluster.kubectl("delete", "namespace", name, "--wait=false")


@dataclass(frozen=True)
class Shop:
    """A namespace with one replicated pod on a node, and a budget that does not let it go."""

    bed: Bed
    name: str
    node: str

    def kubectl(self, *argv: str, timeout: float = 60) -> str:
        return self.bed.kubectl("-n", self.name, *argv, timeout=timeout)

    def pods(self) -> list[str]:
        """Return the names of its pods on the node."""
        listed = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in listed if pod["spec"].get("nodeName") == self.node]

    def counted(self) -> bool:
        """Whether the budget knows its pod."""
        found = json.loads(self.kubectl("get", "pdb", "web", "-o", "json"))
        return bool(found.get("status", {}).get("currentHealthy") == 1)

    def why(self, result: Drained, pod: str) -> str:
        """Return why one pod is in the way."""
        return next(one.why for one in result.blocked if one.pod == f"{self.name}/{pod}")


@pytest.fixture
def shop(kind_cluster: Bed, worker: str) -> Iterator[Shop]:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(kind_cluster, worker)}
    objects = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
    ]
    with namespace(kind_cluster) as name:
        kind_cluster.kubectl("-n", name, "apply", "-f", "-", input=yaml.safe_dump_all(objects))
        made = Shop(kind_cluster, name, worker)
        made.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
        wait_for("the budget has counted its pods", made.counted)
        yield made


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
    kind_cluster: Bed, cluster: client.Cluster, shop: Shop
) -> None:
    spec = pod_spec(kind_cluster, shop.node, volumes=[{"name": "cache", "emptyDir": {}}])
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": shop.name}, "spec": spec}
    kind_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(bare))
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
    kind_cluster: Bed, cluster: client.Cluster, workers: list[str], tmp_path: Path
) -> None:
    lives, dies = workers[:2]
    path = tmp_path / "leases.json"

    def renewed(node: str) -> float:
        return float(json.loads(path.read_text())["renewed"][node])

    with LeaseWatch(cluster, path, [lives, dies]) as watch:
        assert watch.missing == ()
        wait_for("both renewed", lambda: renewed(lives) and renewed(dies), 25)
        kind_cluster.ssh(dies, "systemctl", "stop", "kubelet")
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
            kind_cluster.ssh(dies, "systemctl", "start", "kubelet")
        started = time.monotonic()
        wait_for("it renews again", lambda: renewed(dies) > started, 30)
    wait_for("it is ready again", lambda: cluster.nodes([dies])[dies].ready, 90)
    wait_for("so are its agents", lambda: all(agent.ready for agent in cluster.agents([dies])), 90)


# -- what we may do -----------------------------------------------------------------------------------------------


def as_account(kind_cluster: Bed, directory: Path, token: str, server: str = "") -> Path:
    """Write a kubeconfig with a token, for the same server."""
    document = yaml.safe_load(kind_cluster.kubeconfig.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": token}
    if server:
        document["clusters"][0]["cluster"]["server"] = server
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@contextmanager
def granted(kind_cluster: Bed, directory: Path, level: str) -> Iterator[Path]:
    """Apply a level's manifest as it is printed; yields a kubeconfig of its account."""
    text = rights.manifest(level)
    kind_cluster.kubectl("apply", "-f", "-", input=text)
    try:
        token = kind_cluster.kubectl("-n", "tune-nodes", "create", "token", f"tune-nodes-{level}").strip()
        yield as_account(kind_cluster, directory, token)
    finally:
        kind_cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=text, timeout=120)


TUNE_ONLY = ["patch nodes", "create pods/eviction in all namespaces"]


@pytest.mark.parametrize("level", rights.LEVELS)
def test_a_manifest_grants_its_level_and_no_more(kind_cluster: Bed, tmp_path: Path, level: rights.Level) -> None:
    with granted(kind_cluster, tmp_path, level) as path, client.Cluster.open(path) as cluster:
        assert cluster.user == f"system:serviceaccount:tune-nodes:tune-nodes-{level}"
        assert cluster.missing(level) == []
        facts = cluster.facts()
        assert (set(facts.nodes), facts.not_seen) == (set(kind_cluster.nodes), ())
        with LeaseWatch(cluster, tmp_path / "leases.json", list(facts.nodes)) as watch:
            assert watch.missing == ()
        if level == "read":
            assert cluster.missing("tune") == TUNE_ONLY
        for forbidden in (Call("list", "secrets"), Call("list", "configmaps"), Call("get", "leases", "apps")):
            with pytest.raises(ClusterError) as caught:
                cluster.api.get(forbidden)
            assert caught.value.code == "forbidden"
            assert f"may not {forbidden}" in caught.value.what


def test_reading_rights_cannot_close_a_node(kind_cluster: Bed, tmp_path: Path, worker: str) -> None:
    with (
        granted(kind_cluster, tmp_path, "read") as path,
        client.Cluster.open(path) as cluster,
        pytest.raises(ClusterError, match="may not patch nodes") as caught,
    ):
        cluster.cordon(worker, RUN)
    assert caught.value.code == "forbidden"
    assert not unschedulable(kind_cluster, worker)


def test_tuning_rights_close_a_node_and_change_nothing_else_of_it(
    kind_cluster: Bed, tmp_path: Path, shop: Shop
) -> None:
    shop.kubectl("delete", "pdb", "web")
    with granted(kind_cluster, tmp_path, "tune") as path, client.Cluster.open(path) as cluster:

        def refused(patch: dict[str, Any]) -> str:
            try:
                cluster.api.patch(Call("patch", "nodes", name=shop.node), patch)
            except ClusterError as problem:
                return problem.why
            return ""

        def label() -> str:
            return refused({"metadata": {"labels": {"tune-nodes-test": secrets.token_hex(4)}}})  # a new one each time

        try:
            said = wait_for("the policy of the manifest is in force", label, 30)
            assert "tune-nodes changes no label of a Node" in said
            assert "no taint" in refused({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}})
            assert "no annotation" in refused({"metadata": {"annotations": {"x": "y"}}})
            assert "finalizers" in refused({"metadata": {"finalizers": ["example.com/x"]}})
        finally:
            kind_cluster.kubectl("label", "node", shop.node, "tune-nodes-test-")
        assert cluster.cordon(shop.node, RUN) is True
        assert cluster.drain(shop.node, timeout=60, cancelled=never, delete_emptydir=True).done
        assert cluster.uncordon(shop.node, RUN) is True


@dataclass(frozen=True)
class Nobody:
    """An account without any right; its token outlives it."""

    namespace: str
    kubeconfig: Path


@pytest.fixture
def nobody(kind_cluster: Bed, tmp_path: Path) -> Iterator[Nobody]:
    with namespace(kind_cluster) as name:
        kind_cluster.kubectl("-n", name, "create", "serviceaccount", "nobody")
        token = kind_cluster.kubectl("-n", name, "create", "token", "nobody").strip()
        yield Nobody(name, as_account(kind_cluster, tmp_path, token))


def test_an_account_without_rights(nobody: Nobody) -> None:
    user = f"system:serviceaccount:{nobody.namespace}:nobody"
    with client.Cluster.open(nobody.kubeconfig) as cluster:
        assert cluster.missing("tune") == [str(right) for right in rights.required("tune")]
        with pytest.raises(ClusterError) as caught:
            cluster.facts()
    assert (caught.value.code, caught.value.what) == ("forbidden", f"{user} may not list nodes")
    found = {check.name: check for check in cluster_checks.cluster(nobody.kubeconfig, "")}
    assert (found["cluster"].status, found["nodes"].status) == ("ok", "fail")
    assert found["rights: read"].status == "fail"
    assert found["rights: read"].detail == (
        "missing: get, list nodes; list daemonsets.apps, pods in all namespaces; "
        "list, watch leases.coordination.k8s.io in the namespace kube-node-lease"
    )
    assert found["rights: read"].next == "tune-nodes cluster rbac read | kubectl apply -f -"


def test_a_token_that_is_no_longer_good(kind_cluster: Bed, nobody: Nobody, capsys: pytest.CaptureFixture[str]) -> None:
    kind_cluster.kubectl("-n", nobody.namespace, "delete", "serviceaccount", "nobody")

    def refused() -> ClusterError | None:
        try:
            client.Cluster.open(nobody.kubeconfig).close()
        except ClusterError as problem:
            return problem
        return None

    problem = wait_for("the server forgets the account", refused, 30)
    document = yaml.safe_load(nobody.kubeconfig.read_text(encoding="utf-8"))
    assert problem.code == "unauthorized"
    assert problem.what == f"the token of the context {document['current-context']} was refused"
    assert run(["cluster", "show", "-i", "n1,", "--kubeconfig", str(nobody.kubeconfig)]) == 1
    said = capsys.readouterr()
    assert "expired or was revoked" in said.err
    assert document["users"][0]["user"]["token"] not in said.err + said.out + str(problem)


def test_a_dead_server(kind_cluster: Bed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    path = as_account(kind_cluster, tmp_path, "t", f"https://127.0.0.1:{port}")
    with pytest.raises(ClusterError) as caught:
        client.Cluster.open(path)
    assert (caught.value.code, caught.value.why) == ("unreachable", "connection refused")


def test_a_server_with_another_clusters_certificate(kind_cluster: Bed, tmp_path: Path) -> None:
    document = yaml.safe_load(kind_cluster.kubeconfig.read_text(encoding="utf-8"))
    settings = document["clusters"][0]["cluster"]
    authority = settings.pop("certificate-authority-data")
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ClusterError) as caught:
        client.Cluster.open(path)
    assert (caught.value.code, "its certificate cannot be trusted" in caught.value.why) == ("unreachable", True)
    settings |= {"certificate-authority-data": authority, "tls-server-name": "another.example"}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ClusterError, match="is not the one it should be"):
        client.Cluster.open(path)


def test_the_command_line(kind_cluster: Bed, workers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    hosts = ",".join(kind_cluster.nodes) + ",stranger,"
    words = ["-i", hosts, "--kubeconfig", str(kind_cluster.kubeconfig)]
    assert run(["cluster", "show", *words, "-o", "wide"]) == 0
    said = capsys.readouterr()
    assert all(name in said.out for name in [*kind_cluster.nodes, "stranger", "control-plane", "containerd "])
    assert "stranger: no Node object has this name" in said.err
    assert run(["cluster", "show", *words, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in document["nodes"]}
    assert (rows[workers[0]]["node"], rows[workers[0]]["matched"], rows["stranger"]["node"]) == (
        workers[0],
        "name",
        None,
    )
    found = cluster_checks.cluster(kind_cluster.kubeconfig, "")
    assert [check.status for check in found] == ["ok"] * len(found)
    assert {check.name for check in found} >= {"cluster", "kubernetes", "cni", "nodes", "rights: tune"}
