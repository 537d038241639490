"""The manifests grant what the code asks for, to an account of ours, and each line says why."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cli import cluster_checks
from tune_nodes.cli.main import run
from tune_nodes.cluster import rights
from tune_nodes.cluster.client import Cluster

SOURCE = Path(rights.__file__).parent
#: How the code names a call: Call("verb", "resource", "group" ...
_CALL = re.compile(r'Call\("(\w+)", "([\w/]+)"(?:, "([\w.]+)")?')
#: Every authenticated user may do these, by the cluster's own system:basic-user.
EVERYBODYS = {"selfsubjectaccessreviews", "selfsubjectreviews", "version"}


def documents(level: str) -> list[Any]:
    return list(yaml.safe_load_all(rights.manifest(level)))


def test_every_call_of_the_code_is_granted_and_none_besides() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py")]
    used = {match for text in texts for match in _CALL.findall(text) if match[1] not in EVERYBODYS}
    granted = {(r.call.verb, r.call.resource, r.call.group) for r in rights.required("tune")}
    assert granted == used
    reading = {(r.call.verb, r.call.resource, r.call.group) for r in rights.required("read")}
    assert reading == {one for one in used if one[0] in ("get", "list", "watch")}


def test_what_the_cnis_configuration_needs_stands_apart() -> None:
    maps = {"kube-flannel-cfg", "canal-config", "calico-config", "cilium-config", "kube-router-cfg"}
    for level, verbs in (("read", {"get", "list"}), ("tune", {"get", "list", "patch"})):
        calls = [right.call for right in rights.granted(rights.manifest(level), "mtu")]
        assert {call.name for call in calls if call.resource == "configmaps"} == maps
        assert {call.resource for call in calls} == {"configmaps", "installations", "felixconfigurations"}
        assert {call.verb for call in calls} == verbs
        assert not {call.resource for call in calls} & {
            right.call.resource for right in rights.granted(rights.manifest(level))
        }
    said = [str(right) for right in rights.optional("tune", "mtu")]
    assert "patch configmaps cilium-config in all namespaces" in said
    assert "list felixconfigurations.crd.projectcalico.org" in said


def test_each_level_holds_the_one_below() -> None:
    for less, more in itertools.pairwise(rights.LEVELS):
        assert set(rights.required(less)) < set(rights.required(more))


@pytest.mark.parametrize("level", rights.LEVELS)
def test_a_manifest_is_for_its_own_account_only(level: str) -> None:
    found = documents(level)
    account = {"kind": "ServiceAccount", "name": f"tune-nodes-{level}", "namespace": "tune-nodes"}
    for document in found:
        if document["kind"].endswith("Binding") and "subjects" in document:
            assert document["subjects"] == [account]
            assert document["roleRef"]["name"] in (f"tune-nodes-{level}", f"tune-nodes-{level}-mtu")
    assert "'*'" not in str(found)
    secret = [str(right) for right in rights.granted(rights.manifest(level)) if right.call.resource == "secrets"]
    assert secret == (["create secrets in the namespace tune-nodes"] if level == "recover" else [])


@pytest.mark.parametrize("level", rights.LEVELS)
def test_each_rule_says_why(level: str) -> None:
    lines = rights.manifest(level).splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]
    assert rules
    assert all(lines[number - 1].startswith("  # ") for number in rules)


def test_words() -> None:
    said = [str(right) for right in rights.required("tune")]
    assert "patch nodes" in said
    assert "create pods/eviction in all namespaces" in said
    assert "watch leases.coordination.k8s.io in the namespace kube-node-lease" in said
    recover = [str(right) for right in rights.required("recover")]
    assert "get configmaps cilium-config in the namespace kube-system" in recover
    given = ["get a in x", "list a in x", "patch b", "get c in x", "list c in x", "get d", "patch e"]
    assert rights.grouped(given) == ["get, list a, c in x", "patch b, e", "get d"]


def test_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cluster", "rbac", "tune"]) == 0
    assert capsys.readouterr().out == rights.manifest("tune")
    assert run(["cluster", "rbac", "root"]) == 5
    assert "there are read, tune, recover" in capsys.readouterr().err


class Partly:
    """A server where only some verbs are ours."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = verbs
        self.reviews: list[Any] = []

    def __call__(self, request: Request) -> None:
        body = request.body()
        if request.path.endswith("selfsubjectaccessreviews"):
            self.reviews.append(body["spec"]["resourceAttributes"])
            allowed = self.reviews[-1]["verb"] in self.verbs
            request.send(201, {"status": {"allowed": allowed}})
        elif request.path.endswith("selfsubjectreviews"):
            request.send(201, {"status": {"userInfo": {"username": "jo"}}})
        elif request.path == "/version":
            request.send(200, {"gitVersion": "v1.34.4"})
        elif "/nodes" in request.path:
            metadata = {"name": "w1", "annotations": {"tune-nodes/cordoned-by": "20261124-081530-a1b2c3"}}
            request.send(200, {"items": [{"metadata": metadata, "spec": {"unschedulable": True}}]})
        else:
            request.send(200, {"items": []})


def test_what_is_missing_is_named_exactly(tmp_path: Path) -> None:
    server = Partly("get", "list", "watch", "patch")
    with tiny_api(server) as url, Cluster.open(kubeconfig(tmp_path, url)) as cluster:
        assert cluster.user == "jo"
        assert cluster.missing("read") == []
        assert cluster.missing("tune") == ["create pods/eviction in all namespaces"]
    asked = {"verb": "create", "resource": "pods", "subresource": "eviction"}
    assert asked in server.reviews
    assert {"verb": "list", "group": "coordination.k8s.io", "resource": "leases", "namespace": "kube-node-lease"} in (
        server.reviews
    )


def test_the_doctors_report(tmp_path: Path) -> None:
    with tiny_api(Partly("get", "list", "watch")) as url:
        path = kubeconfig(tmp_path, url)
        found = {check.name: check for check in cluster_checks.cluster(path, "")}
    assert found["cluster"].detail == f"{url}, as jo (context tiny of {path})"
    assert found["kubernetes"].detail == "v1.34.4"
    assert (found["cni"].status, found["cni"].detail) == ("warn", "not recognised")
    assert found["nodes"].detail == "0 of 1 ready; not ready: w1"
    assert found["not seen"].detail.endswith("its certificate is not checked")
    assert found["cordon w1"].detail == "closed for new pods by the run 20261124-081530-a1b2c3"
    assert found["cordon w1"].next.endswith(f"kubectl --kubeconfig {path} --context tiny uncordon w1")
    assert found["rights: read"].status == "ok"
    assert found["rights: tune"].detail == "missing: patch nodes; create pods/eviction in all namespaces"
    said = "for tune-nodes mtu cni alone, missing: patch the CNI's own configuration"
    assert (found["rights: tune, mtu"].status, found["rights: tune, mtu"].detail) == ("warn", said)
    assert found["rights: tune"].next == "tune-nodes cluster rbac tune | kubectl apply -f -"


def test_the_doctor_without_a_cluster(tmp_path: Path) -> None:
    (missing,) = cluster_checks.cluster(None, "")
    assert (missing.status, missing.name) == ("fail", "kubeconfig")
    (dead,) = cluster_checks.cluster(kubeconfig(tmp_path, "https://127.0.0.1:1"), "")
    assert dead.status == "fail"
    assert "cannot be reached: connection refused" in dead.detail


def test_a_run_without_a_cluster_does_not_load_its_client() -> None:
    loaded = "any(m.split('.')[0] in ('kubernetes', 'urllib3') for m in sys.modules)"
    code = f"import sys, tune_nodes.cli.main as m; m.run(['--help']); sys.exit({loaded})"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
