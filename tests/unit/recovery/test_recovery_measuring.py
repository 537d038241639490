"""Measuring the matrix with an API server: pods are made, addresses asked about, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lease_server import Server, node, opened
from test_recovery_matrix import good, said
from test_recovery_services import on_nodes, service

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.model import NodeFacts
from tune_nodes.recovery import measuring, probepods
from tune_nodes.recovery.matrix import Check
from tune_nodes.recovery.measuring import Matrix, peer_of
from tune_nodes.recovery.probepods import ProbePods
from tune_nodes.runs.models import NodeRecord, Outcome

NAMES = {"w1": "w1", "w2": "node-two", "w3": "w3", "cp": "cp"}


@pytest.mark.parametrize(
    ("facts", "avoid", "peer"),
    [
        ({"node-two": {}, "w3": {}}, [], "w2"),
        ({"node-two": {}, "w3": {}}, ["w1", "w2"], "w3"),
        ({"node-two": {"ready": False}, "w3": {}}, [], "w3"),
        ({"node-two": {"cordoned": True}, "w3": {}}, [], "w3"),
        ({"cp": {"roles": ("control-plane",)}, "w3": {}}, [], "w3"),
        ({"cp": {"roles": ("control-plane",)}}, [], "cp"),
        ({"w1": {}}, [], ""),
    ],
)
def test_the_peer_is_a_healthy_node(facts: dict[str, dict[str, Any]], avoid: list[str], peer: str) -> None:
    nodes = {name: NodeFacts(name, **{"ready": True, **more}) for name, more in facts.items()}
    assert peer_of("w1", NAMES, nodes, avoid) == peer


PODS = "/api/v1/namespaces/tune-nodes/pods"


class Kubelet(Server):
    """Gives each pod an address once it was asked about it.

    ``deaf``: never; ``elsewhere``: pods that have the same address; ``policies``: whether they may be made.
    """

    deaf = False
    policies = True
    elsewhere: Sequence[Mapping[str, Any]] = ()

    def _get(self, request: Any, path: str, body: Any) -> None:
        pod = self.objects.get(path) if path.startswith(f"{PODS}/") else None
        if pod is not None and not self.deaf:
            pod["status"] = {"podIPs": [{"ip": f"10.244.1.{len(path)}"}]}
        if path == "/api/v1/pods":
            request.send(200, {"items": self.elsewhere})
        elif path == "/api/v1/services":
            request.send(200, {"items": [on_nodes("web", 30080)]})
        elif path.endswith("/services"):
            request.send(200, {"items": [service("kubernetes", "10.96.0.1")] if "default" in path else []})
        elif path.endswith("/events"):
            involved = {"uid": next(iter(self.uids()), "")}
            said = {"type": "Warning", "involvedObject": involved, "message": "no IP addresses available in range set"}
            request.send(200, {"items": [said]})
        else:
            super()._get(request, path, body)

    def uids(self) -> list[str]:
        return [item["metadata"]["uid"] for path, item in self.objects.items() if path.startswith(f"{PODS}/")]

    def _post(self, request: Any, path: str, body: Any) -> None:
        if path.endswith("/networkpolicies") and not self.policies:
            request.refuse(403, "Forbidden", "may not create networkpolicies")
            return
        body["metadata"]["uid"] = f"{len(self.asked)}-{body['metadata']['name']}"
        super()._post(request, path, body)


@pytest.fixture
def server() -> Kubelet:
    return Kubelet([node("w1"), node("w2")])


@pytest.fixture
def cluster(server: Kubelet, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


class Nodes:
    """Nodes whose every path is whole, and whose policies are enforced from one of the requests on."""

    def __init__(self, enforced_from: int = 1) -> None:
        self.enforced_from = enforced_from
        self.asked = 0

    def answer(self, ident: str) -> dict[str, Any]:
        closed = ident.startswith("a>d") and self.asked >= self.enforced_from
        return good(ident, small="silent") if closed else good(ident)

    def probe(self, nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, NodeRecord]:
        self.asked += 1
        return {
            name: said(
                name,
                *(self.answer(row["id"]) for row in fields.get("paths", {}).get("targets", ())),
                probes={row["target"]: True for row in fields["probes"]},
            )
            for name, fields in nodes.items()
        }

    def look(self, name: str) -> NodeRecord:
        return NodeRecord(name=name, outcome=Outcome.OK, host={"cni": {"networks": [{"name": "cbr0"}], "leases": []}})


def made(cluster: Cluster, notes: list[str], nodes: Nodes | None = None) -> Matrix:
    pods = ProbePods(cluster.api, "20261124-101010-abcdef", "example/probe:1", lambda: False)
    return Matrix(cluster, pods, nodes or Nodes(), {"w1": "w1", "w2": "w2"}, ["w1"], notes.append)


def test_a_node_is_measured_and_nothing_is_left(server: Kubelet, cluster: Cluster) -> None:
    found = made(cluster, []).measure("w1", "before")
    assert {check.ok for check in found} == {True}
    assert [check.what for check in found][-5:] == [
        "pod to ClusterIP (kubernetes)",
        "NodePort 30080 (shop/web)",
        "a denied flow stays denied",
        "a new pod's address is its own",
        "deleted pods give their addresses back",
    ]
    closing = [body for method, path, body in server.asked if path.endswith("/networkpolicies")]
    assert [body["metadata"]["ownerReferences"][0]["kind"] for body in closing] == ["Pod"]
    assert found[-1].what == "deleted pods give their addresses back"
    assert len([path for method, path, _ in server.asked if method == "POST" and path == PODS]) >= 4
    assert server.uids() == []


def denied(found: Sequence[Check]) -> Check:
    return next(check for check in found if check.kept)


def test_policies_that_are_enforced_a_while_later_are_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_ENFORCED_PAUSE", 0.01)
    before = made(cluster, []).measure("w1", "before")
    late = Nodes(enforced_from=3)
    assert denied(made(cluster, [], late).measure("w1", "after", before)).ok
    assert late.asked == 3
    never = Nodes(enforced_from=100)
    assert denied(made(cluster, [], never).measure("w1", "after", before)).ok is False
    assert never.asked == 4
    unknown = Nodes(enforced_from=100)
    assert denied(made(cluster, [], unknown).measure("w1", "after")).ok is False
    assert unknown.asked == 1, "nothing was denied before, so nothing is waited for"


def test_where_no_policy_may_be_made_the_rest_is_measured(server: Kubelet, cluster: Cluster) -> None:
    server.policies = False
    found = made(cluster, []).measure("w1", "before")
    assert denied(found).ok is None and "networkpolicies" in denied(found).said
    assert {check.ok for check in found if not check.kept} == {True}


def test_an_address_that_another_pod_has_too(server: Kubelet, cluster: Cluster) -> None:
    server.elsewhere = [
        {"metadata": {"name": "web-1", "namespace": "shop", "uid": "x"}, "status": {"phase": "Running"}}
    ]
    found = {check.what: check for check in made(cluster, []).measure("w1", "after")}
    alone = found["a new pod's address is its own"]
    assert alone.ok is False and "shop/web-1" in alone.said


def test_a_pod_without_a_network_says_why(server: Kubelet, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probepods, "APPEAR", 0.2)
    server.deaf = True
    found = made(cluster, []).measure("w1", "before")
    assert found[0].ok is False
    assert "no IP addresses available" in found[0].said
    assert server.uids() == []


def test_what_a_killed_run_left_is_taken_away_first(server: Kubelet, cluster: Cluster) -> None:
    name = probepods.name_of("20261124-101010-abcdef", "w1", "before", "a")
    server.stamp("/api/v1/namespaces/tune-nodes", {})
    server.stamp(f"{PODS}/{name}", {"metadata": {"name": name, "uid": "an older one"}})
    assert made(cluster, []).measure("w1", "before")[0].ok
    assert server.uids() == []


def test_what_the_api_server_refuses_is_noted(server: Kubelet, cluster: Cluster) -> None:
    server.broken = True
    notes: list[str] = []
    assert made(cluster, notes).measure("w1", "after") == []
    assert "was not measured after" in notes[0]
