"""The verification matrix: what is asked of nodes, and what their answers mean; tables over pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lease_server import Server, node, opened

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.model import NodeFacts
from tune_nodes.recovery import matrix, probepods
from tune_nodes.recovery.matrix import BESIDE, PEER, POD, Check, Ends, Matrix, Service
from tune_nodes.recovery.probepods import ProbePod, ProbePods, ips_of, manifest, trouble_of
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.models import NodeRecord, Outcome, ProbeRecord

A = ProbePod(POD, "w1", "probe-a", "uid-a", {4: "10.244.1.2"}, 1.5)
B = ProbePod(BESIDE, "w1", "probe-b", "uid-b", {4: "10.244.1.3"}, 2.5)
P = ProbePod(PEER, "w2", "probe-p", "uid-p", {4: "10.244.2.2"}, 1.0)
API = Service("pod to ClusterIP (kubernetes)", "10.96.0.1", 443, "TCP")
ENDS = Ends("w1", "w2", {POD: A, BESIDE: B, PEER: P}, {4: "172.18.0.3"}, (API,))


def said(name: str, *rows: Mapping[str, Any], probes: Mapping[str, bool] | None = None) -> NodeRecord:
    """Return what a node answers; every path carries its packets unless a row says otherwise."""
    found = [
        ProbeRecord(id=f"pod:{target}", kind="pod", target=target, ok=ok, detail="connected" if ok else "no answer")
        for target, ok in (probes or {}).items()
    ]
    return NodeRecord(name=name, outcome=Outcome.OK, paths={"measured": list(rows)}, probes_after=found)


def good(ident: str, **more: Any) -> dict[str, Any]:
    return {"id": ident, "size": 1450, "small": "answered", "exact": "answered", "passes": 1450, **more}


HERE = [good("a>b|4"), good("a>p|4"), good("node>a|4"), good("a>node|4")]
THERE = [good("p>a|4")]
REACHED = {"uid-a 10.96.0.1 443 TCP": True}


def test_each_node_is_asked_for_its_own_part() -> None:
    asked = matrix.requests(ENDS)
    assert [row["target"] for row in asked["w1"]["probes"]] == ["uid-a 10.96.0.1 443 TCP"]
    assert {(row["id"], row["pod"], row["address"]) for row in asked["w1"]["paths"]["targets"]} == {
        ("a>b|4", "uid-a", "10.244.1.3"),
        ("a>p|4", "uid-a", "10.244.2.2"),
        ("node>a|4", "", "10.244.1.2"),
        ("a>node|4", "uid-a", "172.18.0.3"),
    }
    assert [row["id"] for row in asked["w2"]["paths"]["targets"]] == ["p>a|4"]


def test_what_has_no_address_is_not_asked_for() -> None:
    dead = Ends("w1", "w2", {POD: ProbePod(POD, "w1", why="no address"), BESIDE: B, PEER: P}, {4: "172.18.0.3"}, (API,))
    assert matrix.requests(dead) == {
        "w1": {"probes": []},
        "w2": {"probes": [{"kind": "pod", "target": "uid-p 10.96.0.1 443 TCP"}]},
    }
    found = matrix.checks(dead, {"w1": said("w1"), "w2": said("w2")})
    assert found[0] == Check("a new pod gets a network", False, "no address")
    assert {check.ok for check in found[1:]} == {None}


def test_both_families_are_measured_where_both_are_there() -> None:
    both = {4: "10.244.1.2", 6: "fd00::2"}
    pods = {POD: ProbePod(POD, "w1", "a", "uid-a", both), BESIDE: ProbePod(BESIDE, "w1", "b", "uid-b", {6: "fd00::3"})}
    ends = Ends("w1", "", pods, {4: "172.18.0.3"})
    assert [row["id"] for row in matrix.requests(ends)["w1"]["paths"]["targets"]] == ["a>b|6", "node>a|4", "a>node|4"]
    words = [check.what for check in matrix.checks(ends, {"w1": said("w1", good("a>b|6"))})]
    assert words == ["a new pod gets a network", "pod to pod on the node (IPv6)", "node to pod", "pod to node"]


def test_all_well() -> None:
    found = matrix.checks(ENDS, {"w1": said("w1", *HERE, probes=REACHED), "w2": said("w2", *THERE)})
    assert {check.ok for check in found} == {True}
    assert [check.what for check in found] == [
        "a new pod gets a network",
        "pod to pod on the node",
        "pod to pod on w2",
        "pod on w2 to pod",
        "node to pod",
        "pod to node",
        "pod to ClusterIP (kubernetes)",
    ]
    assert found[0].said == "within 2.5 s"
    assert found[1].said == "1450 bytes, DF"


@pytest.mark.parametrize(
    ("row", "ok", "words"),
    [
        ({"small": "silent"}, False, "no answer"),
        ({"small": "failed", "trouble": "network is unreachable"}, False, "network is unreachable"),
        ({"exact": "silent", "passes": 1372}, False, "only 1372 of 1450 bytes pass"),
        ({"exact": "", "passes": None}, None, "not with 1450 bytes"),
    ],
)
def test_a_path_that_is_not_whole(row: dict[str, Any], ok: bool | None, words: str) -> None:
    rows = [good("a>p|4", **row) if one["id"] == "a>p|4" else one for one in HERE]
    found = matrix.checks(ENDS, {"w1": said("w1", *rows, probes=REACHED), "w2": said("w2", *THERE)})
    assert [check for check in found if check.what == "pod to pod on w2"] == [Check("pod to pod on w2", ok, words)]


@pytest.mark.parametrize(
    ("here", "there", "ok"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, None)],
)
def test_a_service_that_fails_from_the_peer_too_is_not_its_fault(here: bool, there: bool, ok: bool | None) -> None:
    records = {
        "w1": said("w1", *HERE, probes={"uid-a 10.96.0.1 443 TCP": here}),
        "w2": said("w2", *THERE, probes={"uid-p 10.96.0.1 443 TCP": there}),
    }
    assert matrix.checks(ENDS, records)[-1].ok is ok


def test_a_peer_that_does_not_answer_leaves_the_rest() -> None:
    found = {check.what: check.ok for check in matrix.checks(ENDS, {"w1": said("w1", *HERE, probes=REACHED)})}
    assert found["pod on w2 to pod"] is None
    assert found["pod to pod on w2"] is True


LOOK = {"cni": {"networks": [{"name": "cbr0"}], "leases": [{"ip": "10.244.1.3"}]}}


@pytest.mark.parametrize(
    ("pods", "left", "host", "ok"),
    [
        ([A], [], LOOK, True),
        ([A, B], [], LOOK, False),  # B's address is still held
        ([A], ["probe-a"], LOOK, False),
        ([A], [], {"cni": {"networks": []}}, None),  # an IPAM without leases on the node
        ([A], [], {}, None),
        ([ProbePod(POD, "w1")], [], LOOK, None),
    ],
)
def test_addresses_given_back(pods: list[ProbePod], left: list[str], host: dict[str, Any], ok: bool | None) -> None:
    assert matrix.given_back(pods, left, NodeRecord(name="w1", outcome=Outcome.OK, host=host)).ok is ok
    assert matrix.given_back([A], [], None).ok is None


def test_the_table_has_before_and_after() -> None:
    before = [Check("DNS over UDP", False, "no answer")]
    after = [Check("DNS over UDP", True, "answered"), Check("node to pod", None, "an end has no address")]
    assert matrix.compared(before, after) == [
        Row("DNS over UDP", "no: no answer", "yes: answered", True),
        Row("node to pod", "not measured", "an end has no address", None),
    ]


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
    assert matrix.peer_of("w1", NAMES, nodes, avoid) == peer


def service(name: str, address: str, port: Any = 443, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"clusterIP": address, "ports": [{"port": port}]}}


def test_services() -> None:
    dns = service("kube-dns", "10.96.0.10", 53, **{"k8s-app": "kube-dns"})
    found = matrix.services_of([service("other", "10.96.0.7"), service("kubernetes", "10.96.0.1")], [dns])
    assert [(one.what, one.address, one.port, one.protocol) for one in found] == [
        ("pod to ClusterIP (kubernetes)", "10.96.0.1", 443, "TCP"),
        ("DNS over UDP", "10.96.0.10", 53, "UDP"),
        ("DNS over TCP", "10.96.0.10", 53, "TCP"),
    ]
    assert matrix.services_of([service("kubernetes", "None"), service("kubernetes", "10.96.0.1", "x")], []) == []


def test_a_probe_pod_can_do_nothing_and_ends_by_itself() -> None:
    made = manifest("probe-1", "w1", "example/probe:1", "20261124-101010-abcdef")
    spec, (container,) = made["spec"], made["spec"]["containers"]
    assert spec["nodeName"] == "w1" and spec["activeDeadlineSeconds"] == probepods.LIFE
    assert container["imagePullPolicy"] == "Never"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]


def test_names_fit_and_differ() -> None:
    run = "20261124-101010-abcdef"
    names = {probepods.name_of(run, node, when, role)
             for node in ("w1", "w2") for when in ("before", "after") for role in "abp"}  # fmt: skip
    assert len(names) == 12 and all(len(name) <= 63 for name in names)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(junk, st.lists(junk, max_size=3))
def test_junk_is_survived(one: Any, many: list[Any]) -> None:
    ips_of({"status": {"podIPs": many}} if many else {"status": one})
    dicts = [row for row in many if isinstance(row, dict)]
    trouble_of(dicts, "uid")
    trouble_of([{"involvedObject": one, "message": one, "type": "Warning"}], "uid")
    matrix.services_of(dicts, dicts)
    matrix.checks(ENDS, {"w1": said("w1", *dicts)})


# -- with an API server ----------------------------------------------------------------------------------------------

PODS = "/api/v1/namespaces/tune-nodes/pods"


class Kubelet(Server):
    """Gives each pod an address once it was asked about it; ``deaf``: never."""

    deaf = False

    def _get(self, request: Any, path: str, body: Any) -> None:
        pod = self.objects.get(path) if path.startswith(f"{PODS}/") else None
        if pod is not None and not self.deaf:
            pod["status"] = {"podIPs": [{"ip": f"10.244.1.{len(path)}"}]}
        if path.endswith("/services"):
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
        body["metadata"]["uid"] = f"uid-{body['metadata']['name']}"
        super()._post(request, path, body)


@pytest.fixture
def server() -> Kubelet:
    return Kubelet([node("w1"), node("w2")])


@pytest.fixture
def cluster(server: Kubelet, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


class Nodes:
    """Nodes whose every path is whole."""

    def probe(self, nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, NodeRecord]:
        return {
            name: said(
                name,
                *(good(row["id"]) for row in fields.get("paths", {}).get("targets", ())),
                probes={row["target"]: True for row in fields["probes"]},
            )
            for name, fields in nodes.items()
        }

    def look(self, name: str) -> NodeRecord:
        return NodeRecord(name=name, outcome=Outcome.OK, host={"cni": {"networks": [{"name": "cbr0"}], "leases": []}})


def made(cluster: Cluster, notes: list[str]) -> Matrix:
    pods = ProbePods(cluster.api, "20261124-101010-abcdef", "example/probe:1", lambda: False)
    return Matrix(cluster, pods, Nodes(), {"w1": "w1", "w2": "w2"}, ["w1"], notes.append)


def test_a_node_is_measured_and_nothing_is_left(server: Kubelet, cluster: Cluster) -> None:
    found = made(cluster, []).measure("w1", "before")
    assert {check.ok for check in found} == {True}
    assert found[-1].what == "deleted pods give their addresses back"
    assert len([path for method, path, _ in server.asked if method == "POST" and path == PODS]) >= 3
    assert server.uids() == []


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
