"""Which connections prove a reset, and what an answer counts as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from policy_world import AGENT, CLIENT, WEB, np, world

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.model import Pod
from tune_nodes.policy.opening import flows, ladder
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.opening.ladder import Question
from tune_nodes.policy.opening.record import ResetRecord
from tune_nodes.policy.opening.reset import Done, Plan
from tune_nodes.policy.opening.scope import Scope
from tune_nodes.policy.proving import nodeside, prove, sampling
from tune_nodes.policy.proving.proof import Proof

DNS = Pod("kube-system", "dns", "u9", "w1", ("10.0.1.9",), {"k8s-app": "kube-dns"}, phase="Running")
SHOP = Scope("namespace", "shop")
WEB_PORT = Flow(CLIENT, WEB, 8080)


def plan() -> Plan:
    """Return what is done about a namespace that a default deny cuts."""
    found = world("cilium", [np("deny", policyTypes=["Ingress", "Egress"])])
    found = replace(found, pods=(*found.pods, DNS))
    steps = ladder.climb(Question(found, SHOP, flows.wide(found, SHOP), judge))
    assert steps.chosen is not None
    return Plan(SHOP, found, steps, steps.chosen)


def done() -> Done:
    """Return that, carried out."""
    return Done(plan(), cast("Backup", None), ResetRecord(id="r", scope="shop", rung=3, plan_hash=""))


def test_services_of_the_scope_and_dns_are_tried() -> None:
    found = [str(flow) for flow in sampling.samples(plan(), {"shop/web": [8080]})]
    assert found == ["shop/client -> shop/web 8080/TCP", "shop/web -> kube-system/dns 53/UDP"]


def test_only_connections_between_pods_on_a_port_can_be_made() -> None:
    asked = [WEB_PORT, Flow(flows.OUTSIDE, WEB, 80), Flow(CLIENT, WEB, flows.ANY_PORT), Flow(CLIENT, flows.OUTSIDE, 80)]
    assert sampling.provable(asked) == [WEB_PORT]


class Nodes:
    """Nodes that answer in turn what they are given."""

    def __init__(self, *answers: tuple[bool, str]) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Sequence[str]]] = []

    def __call__(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[tuple[str, str], tuple[bool, str]]:
        self.asked.append(wanted)
        answer = self.answers.pop(0)
        return {(node, target): answer for node, targets in wanted.items() for target in targets}


@pytest.mark.parametrize(
    ("answers", "word", "times"),
    [
        (((True, "connected"),), "proved", 1),
        (((False, "no answer within 1.6 s"), (True, "connected")), "proved", 2),
        (((False, "no answer within 1.6 s"),) * 3, "does not flow", 3),
        (((False, "refused: nobody listens there, or a policy rejects it"),), "not proved", 1),
        (((False, "the pod does not run here, or has another kernel"),), "not proved", 1),
    ],
)
def test_what_an_answer_counts_as(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[tuple[bool, str], ...], word: str, times: int
) -> None:
    nodes = Nodes(*answers)
    monkeypatch.setattr(nodeside, "reach", lambda cluster, inventory: ({"w1": "n1", "w2": "n2"}, nodes))
    found = nodeside.tried(cast("Cluster", None), ["prod"], [WEB_PORT])
    assert [proof.word for proof in found] == [word]
    assert len(nodes.asked) == times
    assert nodes.asked[0] == {"n2": ["u2 10.0.1.1 8080 TCP"]}


def test_a_pod_of_the_nodes_network_connects_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes((True, "connected"))
    monkeypatch.setattr(nodeside, "reach", lambda cluster, inventory: ({"w1": "n1"}, nodes))
    nodeside.tried(cast("Cluster", None), ["prod"], [Flow(AGENT, WEB, 8080)])
    assert nodes.asked == [{"n1": ["node 10.0.1.1 8080 TCP"]}]


def test_a_node_that_is_not_in_the_inventory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodeside, "reach", lambda cluster, inventory: ({}, Nodes()))
    found = nodeside.tried(cast("Cluster", None), ["prod"], [WEB_PORT])
    assert found == [Proof(None, "shop/client -> shop/web 8080/TCP: the node w2 is not in the inventory", made=False)]


class Services:
    """A cluster that has one service, or fails."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.api = self
        self._items = items

    def items(self, call: object) -> list[dict[str, Any]]:
        return list(self._items)


SERVICE = {
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}, {"port": 9, "protocol": "UDP"}]}
}


def test_without_an_inventory_nothing_is_proved() -> None:
    (found,) = prove.prove(cast("Cluster", Services(SERVICE)), done(), [], "", explicit=False)
    assert found.word == "not proved"
    assert "no node can try it without an inventory (-i)" in found.text


def test_a_run_that_fails_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cluster: Cluster, inventory: Sequence[str]) -> None:
        raise TuneError("the node could not be reached", "no answer on the ssh port")

    monkeypatch.setattr(nodeside, "reach", fail)
    found = prove.prove(cast("Cluster", Services(SERVICE)), done(), ["prod"], "", explicit=False)
    assert [proof.word for proof in found] == ["not proved", "not proved"]
    assert "the node could not be reached: no answer on the ssh port" in found[0].text


def test_ports_are_those_that_services_send_to() -> None:
    assert sampling.ports(cast("Cluster", Services(SERVICE)), plan()) == {"shop/web": [8080]}
