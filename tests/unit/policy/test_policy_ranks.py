"""AdminNetworkPolicy and its successors: ranks above and below what namespaces say."""

from __future__ import annotations

from typing import Any

import pytest
from policy_world import PODS, assert_judged, made, np, real, world

from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Peer, Policy

ALL: dict[str, Any] = {"namespaces": {}}
DENY_NP, ALLOW_NP = np("deny", policyTypes=["Ingress"]), np("allow", ingress=[{}])
BY_NP = "NetworkPolicy shop/deny"


def anp(name: str, priority: Any, action: str, peer: Any = None, /, **rule: Any) -> Policy:
    rules = [{"action": action, "from": [peer or ALL], **rule}]
    return made("AdminNetworkPolicy", name, priority=priority, subject=ALL, ingress=rules)


def banp(action: str) -> Policy:
    rules = [{"action": action, "from": [ALL]}]
    return made("BaselineAdminNetworkPolicy", "default", subject=ALL, ingress=rules)


def cnp(name: str, tier: str, priority: int, action: str, /, subject: Any = None, **rule: Any) -> Policy:
    rules = [{"action": action, "from": [ALL], **rule}]
    return made("ClusterNetworkPolicy", name, tier=tier, priority=priority, subject=subject or ALL, ingress=rules)


def egress(name: str, peer: Any, /, **rule: Any) -> Policy:
    rules = [{"action": "Deny", "to": [peer], **rule}]
    return made("ClusterNetworkPolicy", name, tier="Admin", priority=1, subject=ALL, egress=rules)


def pods(namespace: Any, pod: Any) -> dict[str, Any]:
    return {"pods": {"namespaceSelector": namespace, "podSelector": pod}}


def tcp(**port: Any) -> list[dict[str, Any]]:
    return [{"tcp": {"destinationPort": port}}]


A, B, C = "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"
TABLE = [
    # above: final unless it passes on
    ("client", "web", 80, [anp("a", 1, "Allow"), DENY_NP], True, f"{A} a"),
    ("client", "web", 80, [anp("a", 1, "Deny"), ALLOW_NP], False, f"{A} a"),
    ("client", "web", 80, [anp("a", 1, "Pass"), anp("b", 2, "Deny"), DENY_NP], False, BY_NP),
    ("client", "web", 80, [anp("a", 1, "Pass"), anp("b", 2, "Deny"), ALLOW_NP], True, "NetworkPolicy shop/allow"),
    ("client", "web", 80, [anp("a", 2, "Deny"), anp("b", 1, "Allow")], True, f"{A} b"),
    ("client", "web", 80, [anp("a", 2, "Deny", {"namespaces": {"matchLabels": {"team": "data"}}})], True, ""),
    ("batch", "web", 80, [anp("a", 2, "Deny", {"namespaces": {"matchLabels": {"team": "data"}}})], False, f"{A} a"),
    ("client", "web", 80, [anp("a", 1, "Deny", ports=[{"portNumber": {"protocol": "TCP", "port": 81}}])], True, ""),
    (
        "client",
        "web",
        81,
        [anp("a", 1, "Deny", ports=[{"portNumber": {"protocol": "TCP", "port": 81}}])],
        False,
        f"{A} a",
    ),
    ("client", "web", 85, [anp("a", 1, "Deny", ports=[{"portRange": {"start": 80, "end": 90}}])], False, f"{A} a"),
    ("client", "web", 8080, [anp("a", 1, "Deny", ports=[{"namedPort": "http"}])], False, f"{A} a"),
    # below: only where no NetworkPolicy selects the pod
    ("client", "web", 80, [banp("Deny")], False, f"{B} default"),
    ("client", "web", 80, [banp("Deny"), ALLOW_NP], True, "NetworkPolicy shop/allow"),
    ("client", "web", 80, [banp("Allow"), DENY_NP], False, BY_NP),
    ("client", "web", 80, [anp("a", 1, "Pass"), banp("Deny")], False, f"{B} default"),
    # ClusterNetworkPolicy
    ("client", "web", 80, [cnp("a", "Admin", 1, "Accept"), DENY_NP], True, f"{C} a"),
    ("client", "web", 80, [cnp("b", "Baseline", 1, "Deny")], False, f"{C} b"),
    ("client", "web", 80, [cnp("b", "Baseline", 1, "Deny"), cnp("a", "Admin", 9, "Pass")], False, f"{C} b"),
    ("client", "web", 80, [cnp("b", "Baseline", 2, "Deny"), cnp("a", "Baseline", 1, "Pass")], True, ""),
    # the same priority: fine where both say the same, undefined where they do not
    ("client", "web", 80, [cnp("a", "Admin", 5, "Deny"), cnp("b", "Admin", 5, "Deny")], False, f"{C} a"),
    ("client", "web", 80, [cnp("a", "Admin", 5, "Deny"), cnp("b", "Admin", 5, "Accept")], None, ""),
    (
        "client",
        "web",
        80,
        [cnp("z", "Admin", 4, "Accept"), cnp("a", "Admin", 5, "Deny"), cnp("b", "Admin", 5, "Accept")],
        True,
        f"{C} z",
    ),
    (
        "client",
        "web",
        80,
        [cnp("a", "Admin", 5, "Deny"), cnp("b", "Admin", 5, "Accept", protocols=tcp(number=1))],
        False,
        f"{C} a",
    ),
    (
        "client",
        "web",
        85,
        [cnp("a", "Admin", 5, "Deny", protocols=tcp(range={"start": 80, "end": 90}))],
        False,
        f"{C} a",
    ),
    ("client", "web", 80, [cnp("a", "Admin", 5, "Deny", protocols=[{"udp": {}}])], True, ""),
    ("client", "web", 80, [cnp("a", "Admin", 5, "Deny", protocols=[{"tcp": {}}])], False, f"{C} a"),
    (
        "client",
        "web",
        8080,
        [cnp("a", "Admin", 5, "Deny", protocols=[{"destinationNamedPort": "http"}])],
        False,
        f"{C} a",
    ),
    # whom they select: never pods with their node's network, on either side
    ("client", "agent", 80, [cnp("a", "Admin", 5, "Deny")], True, ""),
    ("agent", "client", 80, [cnp("a", "Admin", 5, "Deny")], True, ""),
    (
        "client",
        "web",
        80,
        [cnp("a", "Admin", 5, "Deny", subject=pods({"matchLabels": {"team": "data"}}, {}))],
        True,
        "",
    ),
    (
        "client",
        "web",
        80,
        [cnp("a", "Admin", 5, "Deny", subject=pods({}, {"matchLabels": {"app": "web"}}))],
        False,
        f"{C} a",
    ),
    # addresses: pods' too; nodes by their labels
    ("client", "203.0.113.5", 80, [egress("e", {"networks": ["203.0.113.0/24"]})], False, f"{C} e"),
    ("client", "web", 80, [egress("e", {"networks": ["0.0.0.0/0"]})], False, f"{C} e"),
    ("client", "192.168.0.1", 80, [egress("e", {"nodes": {"matchLabels": {"zone": "a"}}})], False, f"{C} e"),
    ("client", "192.168.0.2", 80, [egress("e", {"nodes": {"matchLabels": {"zone": "a"}}})], True, ""),
    ("client", "web", 80, [egress("e", {"nodes": {}})], True, ""),
    ("client", "203.0.113.5", 80, [egress("e", {"domainNames": ["example.com"]})], None, ""),
    # what cannot be read
    ("client", "web", 80, [cnp("a", "Admin", 5, "Explode")], None, ""),
    ("client", "web", 80, [egress("e", {"galaxies": {}})], None, ""),
    ("client", "web", 80, [cnp("a", "Admin", 5, "Deny", subject={"planets": {}})], None, ""),
    ("client", "web", 80, [anp("a", "high", "Deny"), anp("b", 2, "Allow")], True, f"{A} b"),
]


def end(text: str) -> Peer:
    return PODS.get(text) or Cidr(text)


@pytest.mark.parametrize("engine", ["ovn-kubernetes", "calico"])
@pytest.mark.parametrize(("source", "target", "port", "policies", "allowed", "decider"), TABLE)
def test_ranks(
    engine: str, source: str, target: str, port: int, policies: list[Policy], allowed: bool | None, decider: str
) -> None:
    verdict = judge(world(engine, policies), end(source), end(target), port)
    assert_judged(verdict, allowed, decider)


def test_the_order_of_the_steps_is_that_of_the_ranks() -> None:
    policies = [banp("Deny"), DENY_NP, anp("b", 2, "Allow"), anp("a", 1, "Pass")]
    for engine in ("antrea", "calico"):
        steps = judge(world(engine, policies), PODS["client"], PODS["web"], 80).ingress.steps
        assert [step.policy.name for step in steps] == ["a", "b", "deny", "default"]


def test_real_objects_are_read() -> None:
    known = real("ovn-kubernetes")
    known = known.without([one.ref for one in known.policies if one.kind.engine != "admin"])
    pods = {pod.ref: pod for pod in known.pods}
    client, server = pods["explain-a/client"], pods["explain-b/server"]
    verdict = judge(known, client, server, 8080)
    assert (verdict.egress.allowed, verdict.ingress.allowed) == (True, False)
    assert verdict.ingress.decided_by is not None
    assert verdict.ingress.decided_by.name == "base"
    assert [step.policy.name for step in verdict.egress.steps] == ["deny-metadata", "pass-shop"]
    assert "passes on" in verdict.egress.steps[1].text
    assert judge(known, client, Cidr("169.254.169.254"), 80).egress.allowed is False
