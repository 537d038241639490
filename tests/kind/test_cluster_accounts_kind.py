"""Accounts with exactly our rights, with none, and servers that are not the one they should be."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from clusterworks import (
    RUN,
    Shop,
    as_account,
    made_shop,
    namespace,
    never,
    opened_after,
    unschedulable,
    wait_for,
)

from tune_nodes.cli import cluster_checks
from tune_nodes.cli.main import run
from tune_nodes.cluster import client, rights
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.leases import LeaseWatch

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind


@pytest.fixture
def worker(either_cluster: Bed) -> Iterator[str]:
    with opened_after(either_cluster) as name:
        yield name


@pytest.fixture
def shop(either_cluster: Bed, worker: str) -> Iterator[Shop]:
    with made_shop(either_cluster, worker) as made:
        yield made


@contextmanager
def granted(either_cluster: Bed, directory: Path, level: str) -> Iterator[Path]:
    """Apply a level's manifest as it is printed; yields a kubeconfig of its account."""
    text = rights.manifest(level)
    either_cluster.kubectl("apply", "-f", "-", input=text)
    try:
        token = either_cluster.kubectl("-n", "tune-nodes", "create", "token", f"tune-nodes-{level}").strip()
        yield as_account(either_cluster, directory, token)
    finally:
        either_cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=text, timeout=120)


TUNE_ONLY = ["patch nodes", "create pods/eviction in all namespaces"]


@pytest.mark.parametrize("level", rights.LEVELS)
def test_a_manifest_grants_its_level_and_no_more(either_cluster: Bed, tmp_path: Path, level: rights.Level) -> None:
    with granted(either_cluster, tmp_path, level) as path, client.Cluster.open(path) as cluster:
        assert cluster.user == f"system:serviceaccount:tune-nodes:tune-nodes-{level}"
        assert (cluster.missing(level), cluster.missing(level, "mtu")) == ([], [])
        facts = cluster.facts()
        assert (set(facts.nodes), facts.not_seen) == (set(either_cluster.nodes), ())
        with LeaseWatch(cluster, tmp_path / "leases.json", list(facts.nodes)) as watch:
            assert watch.missing == ()
        if level == "read":
            assert cluster.missing("tune") == TUNE_ONLY
        for forbidden in (Call("list", "secrets"), Call("list", "configmaps"), Call("get", "leases", "apps")):
            with pytest.raises(ClusterError) as caught:
                cluster.api.get(forbidden)
            assert caught.value.code == "forbidden"
            assert f"may not {forbidden}" in caught.value.what


def test_reading_rights_cannot_close_a_node(either_cluster: Bed, tmp_path: Path, worker: str) -> None:
    with (
        granted(either_cluster, tmp_path, "read") as path,
        client.Cluster.open(path) as cluster,
        pytest.raises(ClusterError, match="may not patch nodes") as caught,
    ):
        cluster.cordon(worker, RUN)
    assert caught.value.code == "forbidden"
    assert not unschedulable(either_cluster, worker)


def test_tuning_rights_close_a_node_and_change_nothing_else_of_it(
    either_cluster: Bed, tmp_path: Path, shop: Shop
) -> None:
    shop.kubectl("delete", "pdb", "web")
    with granted(either_cluster, tmp_path, "tune") as path, client.Cluster.open(path) as cluster:

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
            either_cluster.kubectl("label", "node", shop.node, "tune-nodes-test-")
        assert cluster.cordon(shop.node, RUN) is True
        assert cluster.drain(shop.node, timeout=60, cancelled=never, delete_emptydir=True).done
        assert cluster.uncordon(shop.node, RUN) is True


@dataclass(frozen=True)
class Nobody:
    """An account without any right; its token outlives it."""

    namespace: str
    kubeconfig: Path


@pytest.fixture
def nobody(either_cluster: Bed, tmp_path: Path) -> Iterator[Nobody]:
    with namespace(either_cluster) as name:
        either_cluster.kubectl("-n", name, "create", "serviceaccount", "nobody")
        token = either_cluster.kubectl("-n", name, "create", "token", "nobody").strip()
        yield Nobody(name, as_account(either_cluster, tmp_path, token))


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


def test_a_token_that_is_no_longer_good(
    either_cluster: Bed, nobody: Nobody, capsys: pytest.CaptureFixture[str]
) -> None:
    either_cluster.kubectl("-n", nobody.namespace, "delete", "serviceaccount", "nobody")

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


def test_a_dead_server(either_cluster: Bed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    path = as_account(either_cluster, tmp_path, "t", f"https://127.0.0.1:{port}")
    with pytest.raises(ClusterError) as caught:
        client.Cluster.open(path)
    assert (caught.value.code, caught.value.why) == ("unreachable", "connection refused")


def test_a_server_with_another_clusters_certificate(either_cluster: Bed, tmp_path: Path) -> None:
    document = yaml.safe_load(either_cluster.kubeconfig.read_text(encoding="utf-8"))
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
