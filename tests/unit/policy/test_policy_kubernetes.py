"""What NetworkPolicies let through, by the rules of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest
from policy_world import AGENT, BATCH, CLIENT, PODS, WEB, assert_judged, made, np, world

from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Peer, Policy

DENY = np("deny", policyTypes=["Ingress"])
TEAM_DATA = {"matchLabels": {"team": "data"}}
APP_CLIENT = {"matchLabels": {"app": "client"}}


def end(text: str) -> Peer:
    return PODS.get(text) or Cidr(text)


def ingress(*rules: Any, **spec: Any) -> Policy:
    return np("allow", policyTypes=["Ingress"], ingress=list(rules), **spec)


def egress(*rules: Any, **spec: Any) -> Policy:
    return np("allow", policyTypes=["Egress"], egress=list(rules), **spec)


def block(cidr: str, *holes: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(holes)} if holes else {})}}


BY_ALLOW, BY_DENY = "NetworkPolicy shop/allow", "NetworkPolicy shop/deny"
BOTH_ALIKE = ingress({"from": [{"namespaceSelector": TEAM_DATA, "podSelector": APP_CLIENT}]})
ONE_OR_OTHER = ingress({"from": [{"namespaceSelector": TEAM_DATA}, {"podSelector": APP_CLIENT}]})
FROM_JOBS = ingress({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "jobs"}}}]})
NOT_DATA = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["data"]}]}
NOT_FROM_DATA = ingress({"from": [{"namespaceSelector": NOT_DATA}]})
OF_OTHERS = np("other", podSelector={"matchLabels": {"app": "db"}}, policyTypes=["Ingress"])
DENY_SYSTEM = made("NetworkPolicy", "deny", "kube-system", podSelector={}, policyTypes=["Ingress"])
TABLE = [
    # source, target, port, policies -> allowed, who decides
    ("client", "web", 8080, [], True, ""),
    ("client", "web", 8080, [DENY], False, BY_DENY),
    ("client", "web", 8080, [DENY, ingress({})], True, BY_ALLOW),
    ("client", "web", 8080, [DENY, ingress({"from": []})], True, BY_ALLOW),
    ("client", "web", 8080, [np("bare")], False, "NetworkPolicy shop/bare"),  # no policyTypes, no rules: ingress
    ("web", "client", 8080, [np("out", egress=[{"to": [{"podSelector": {}}]}])], False, "NetworkPolicy shop/out"),
    ("client", "web", 8080, [OF_OTHERS], True, ""),
    # podSelector alone: pods of the policy's own namespace
    ("client", "web", 8080, [ingress({"from": [{"podSelector": {}}]})], True, BY_ALLOW),
    ("batch", "web", 8080, [ingress({"from": [{"podSelector": {}}]})], False, BY_ALLOW),
    # namespaceSelector: empty is every namespace, missing is the policy's own
    ("batch", "web", 8080, [ingress({"from": [{"namespaceSelector": {}}]})], True, BY_ALLOW),
    ("batch", "web", 8080, [BOTH_ALIKE], True, BY_ALLOW),
    ("client", "web", 8080, [BOTH_ALIKE], False, BY_ALLOW),
    # two elements are one or the other, not both
    ("client", "web", 8080, [ONE_OR_OTHER], True, BY_ALLOW),
    ("batch", "web", 8080, [FROM_JOBS], True, BY_ALLOW),
    ("batch", "web", 8080, [NOT_FROM_DATA], False, BY_ALLOW),
    # ports
    ("client", "web", 8080, [ingress({"ports": [{"port": 8080}]})], True, BY_ALLOW),
    ("client", "web", 8081, [ingress({"ports": [{"port": 8080}]})], False, BY_ALLOW),
    ("client", "web", 8080, [ingress({"ports": [{"port": "http"}]})], True, BY_ALLOW),
    ("client", "web", 80, [ingress({"ports": [{"port": "http"}]})], False, BY_ALLOW),
    ("client", "web", 8080, [ingress({"ports": [{"port": 8080, "protocol": "UDP"}]})], False, BY_ALLOW),
    ("client", "web", 8085, [ingress({"ports": [{"port": 8000, "endPort": 8090}]})], True, BY_ALLOW),
    ("client", "web", 8091, [ingress({"ports": [{"port": 8000, "endPort": 8090}]})], False, BY_ALLOW),
    ("client", "web", 9, [ingress({"ports": [{"protocol": "TCP"}]})], True, BY_ALLOW),
    # addresses
    ("203.0.113.5", "web", 8080, [ingress({"from": [block("203.0.113.0/24")]})], True, BY_ALLOW),
    ("203.0.113.5", "web", 8080, [ingress({"from": [block("203.0.113.0/24", "203.0.113.0/28")]})], False, BY_ALLOW),
    ("203.0.113.99", "web", 8080, [ingress({"from": [block("203.0.113.0/24", "203.0.113.0/28")]})], True, BY_ALLOW),
    ("203.0.113.0/24", "web", 8080, [ingress({"from": [block("203.0.113.0/28")]})], None, ""),
    ("203.0.113.0/24", "web", 8080, [ingress({"from": [block("203.0.0.0/16")]})], True, BY_ALLOW),
    ("203.0.113.0/24", "web", 8080, [ingress({"from": [block("203.0.0.0/16", "203.0.113.7/32")]})], None, ""),
    ("web", "2001:db8::5", 443, [egress({"to": [block("2001:db8::/32")]})], True, BY_ALLOW),
    ("web", "2001:db8:1::5", 443, [egress({"to": [block("2001:db8::/32", "2001:db8:1::/48")]})], False, BY_ALLOW),
    ("web", "2001:db8::5", 443, [egress({"to": [block("0.0.0.0/0")]})], False, BY_ALLOW),
    # a pod's own address is an address too, and an address may be a pod's
    ("client", "web", 8080, [ingress({"from": [block("10.0.2.0/24")]})], True, BY_ALLOW),
    ("10.0.2.1", "web", 8080, [ingress({"from": [{"podSelector": APP_CLIENT}]})], True, BY_ALLOW),
    # both ends: the target's policies do not help the source
    ("client", "web", 8080, [egress({"to": [block("203.0.113.0/24")]}), ingress({})], False, BY_ALLOW),
    # a node reaches its own pods; pods with a node's network are not selected, and selectors do not surely cover them
    ("192.168.0.1", "web", 8080, [DENY], True, ""),
    ("agent", "web", 8080, [DENY], True, ""),
    ("192.168.0.2", "web", 8080, [DENY], False, BY_DENY),
    ("client", "agent", 8080, [DENY_SYSTEM], True, ""),
    ("web", "web", 1, [DENY, egress()], True, ""),
    # what cannot be read is not known, unless another policy lets it through
    ("client", "web", 8080, [ingress({"from": [{"podSelector": {"matchFields": {}}}]})], None, ""),
    ("client", "web", 8080, [ingress({"from": [{}]})], None, ""),
    ("client", "web", 8080, [ingress({"from": [{}]}), np("more", ingress=[{}])], True, "NetworkPolicy shop/more"),
    ("client", "web", 8080, [np("odd", podSelector=7, policyTypes=["Ingress"])], None, ""),
    ("client", "web", 8080, [ingress("allow")], None, ""),
]


@pytest.mark.parametrize(("source", "target", "port", "policies", "allowed", "decider"), TABLE)
def test_network_policies(
    source: str, target: str, port: int, policies: list[Policy], allowed: bool | None, decider: str
) -> None:
    verdict = judge(world("kube-router", policies), end(source), end(target), port)
    assert_judged(verdict, allowed, decider)


def test_a_host_network_pod_on_another_node_is_not_surely_selected() -> None:
    away = Cidr("192.168.0.2")
    allow = ingress({"from": [{"namespaceSelector": {}}]})
    assert judge(world("kube-router", [allow]), away, WEB, 80).allowed is False
    moved = world("kube-router", [np("n", podSelector=APP_CLIENT, ingress=[{"from": [{"namespaceSelector": {}}]}])])
    verdict = judge(moved, AGENT, CLIENT, 80)  # the agent is on w1, the client on w2
    assert verdict.allowed is None
    assert "differs between CNIs" in verdict.ingress.rule


def test_every_policy_that_selects_the_pod_is_a_step() -> None:
    rows = [DENY, ingress({"from": [{"podSelector": {}}]}), np("out", policyTypes=["Egress"])]
    verdict = judge(world("kube-router", rows), CLIENT, WEB, 80)
    assert [step.policy.name for step in verdict.ingress.steps] == ["allow", "deny"]
    assert [step.policy.name for step in verdict.egress.steps] == ["out"]
    assert verdict.deciding.direction == "egress"


def test_nobody_enforces() -> None:
    verdict = judge(world("", [DENY]), CLIENT, WEB, 80)
    assert verdict.allowed is True
    assert "nobody enforces" in verdict.ingress.rule
    assert [step.policy.name for step in verdict.ingress.steps] == ["deny"]
    assert "would count if it were enforced" in verdict.ingress.steps[0].text


def test_kinds_that_the_engine_does_not_know_have_no_effect() -> None:
    foreign = made("CiliumClusterwideNetworkPolicy", "no", endpointSelector={}, ingressDeny=[{"fromEntities": ["all"]}])
    ranks = made("AdminNetworkPolicy", "anp", priority=1, subject={"namespaces": {}}, ingress=[
        {"action": "Deny", "from": [{"namespaces": {}}]},
    ])  # fmt: skip
    verdict = judge(world("kube-router", [foreign, ranks]), BATCH, WEB, 80)
    assert verdict.allowed is True
    assert {step.text for step in verdict.ingress.steps} == {"has no effect: kube-router enforces nothing of this kind"}


def test_snapshots_with_and_without() -> None:
    before = world("kube-router", [DENY])
    assert judge(before.without(["NetworkPolicy shop/deny"]), CLIENT, WEB, 80).allowed is True
    assert judge(before.plus([np("open", ingress=[{}])]), CLIENT, WEB, 80).allowed is True
    again = before.plus([np("deny", policyTypes=["Egress"])])
    assert len(again.policies) == 1
    assert judge(again, CLIENT, WEB, 80).ingress.allowed is True
