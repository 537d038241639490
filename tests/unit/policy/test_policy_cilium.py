"""What Cilium lets through: all kinds together, a deny first, and a default deny that any section brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from policy_world import AGENT, CLIENT, PODS, WEB, assert_judged, made, np, real, world

from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Peer, Policy

CNP, CCNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
APP = {name: {"matchLabels": {"app": name}} for name in ("web", "client")}
IN_JOBS = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "jobs"}}
OPEN = np("open", policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{}])


def end(text: str) -> Peer:
    return PODS.get(text) or Cidr(text)


def cnp(name: str = "cnp", selector: Any = None, /, **spec: Any) -> Policy:
    return made(CNP, name, "shop", endpointSelector={} if selector is None else selector, **spec)


def ccnp(name: str = "ccnp", selector: Any = None, /, **spec: Any) -> Policy:
    return made(CCNP, name, endpointSelector={} if selector is None else selector, **spec)


def tcp(*numbers: str, **more: Any) -> list[dict[str, Any]]:
    return [{"ports": [{"port": number, "protocol": "TCP"} for number in numbers], **more}]


GROUP = made("CiliumCIDRGroup", "offices", "", {"for": "people"}, externalCIDRs=["198.51.100.0/24", "2001:db8::/32"])
NO_DENY = {"ingress": False, "egress": False}
FAR = "203.0.113.5"
TABLE = [
    ("client", "web", 80, [], True, ""),
    # a deny beats every allow, of whatever kind and wherever it stands
    ("client", "web", 80, [OPEN, ccnp("no", APP["client"], egressDeny=[{"toEndpoints": [{}]}])], False, f"{CCNP} no"),
    (
        "client",
        "web",
        80,
        [cnp("yes", ingress=[{"fromEndpoints": [{}]}]), cnp("no", ingressDeny=[{"fromEndpoints": [{}]}])],
        False,
        f"{CNP} shop/no",
    ),
    (
        "client",
        "web",
        80,
        [OPEN, ccnp("no", egressDeny=[{"toEndpoints": [{}], "toPorts": tcp("443")}])],
        True,
        "NetworkPolicy shop/open",
    ),
    # a section that only denies refuses everything else too, in its own direction
    (
        "client",
        "web",
        80,
        [ccnp("world", APP["client"], egressDeny=[{"toEntities": ["world"]}])],
        False,
        f"{CCNP} world",
    ),
    ("web", "client", 80, [ccnp("world", APP["client"], egressDeny=[{"toEntities": ["world"]}])], True, ""),
    ("client", "web", 80, [ccnp("world", egressDeny=[{"toEntities": ["world"]}], enableDefaultDeny=NO_DENY)], True, ""),
    (
        "client",
        FAR,
        80,
        [ccnp("world", egressDeny=[{"toEntities": ["world"]}], enableDefaultDeny=NO_DENY)],
        False,
        f"{CCNP} world",
    ),
    # any one policy is enough to isolate
    (
        "client",
        "web",
        80,
        [ccnp("soft", ingressDeny=[{}], enableDefaultDeny=NO_DENY), cnp("hard", ingress=[{}])],
        False,
        f"{CNP} shop/hard",
    ),
    ("client", "web", 80, [cnp("empty", ingress=[])], True, ""),
    ("client", "web", 80, [cnp("empty", ingress=[{}])], False, f"{CNP} shop/empty"),
    ("client", "web", 80, [cnp("none", ingress=[{"fromEndpoints": []}])], False, f"{CNP} shop/none"),
    ("client", "web", 80, [cnp("ports", ingress=[{"toPorts": tcp("80")}])], True, f"{CNP} shop/ports"),
    # NetworkPolicy and Cilium's own isolate and allow together
    (
        "client",
        "web",
        80,
        [np("deny", policyTypes=["Ingress"]), cnp("yes", ingress=[{"fromEndpoints": [APP["client"]]}])],
        True,
        f"{CNP} shop/yes",
    ),
    (
        "batch",
        "web",
        80,
        [np("yes", ingress=[{"from": [{"namespaceSelector": {}}]}]), cnp("own", ingress=[{"fromEndpoints": [{}]}])],
        True,
        "NetworkPolicy shop/yes",
    ),
    # selectors: one's own namespace, another by name, by its labels, all
    ("batch", "web", 80, [cnp("own", ingress=[{"fromEndpoints": [{}]}])], False, f"{CNP} shop/own"),
    ("batch", "web", 80, [ccnp("all", ingress=[{"fromEndpoints": [{}]}])], True, f"{CCNP} all"),
    ("batch", "web", 80, [cnp("jobs", ingress=[{"fromEndpoints": [IN_JOBS]}])], True, f"{CNP} shop/jobs"),
    (
        "batch",
        "web",
        80,
        [
            cnp(
                "any",
                ingress=[
                    {"fromEndpoints": [{"matchLabels": {"any:app": "client", "io.kubernetes.pod.namespace": "jobs"}}]}
                ],
            )
        ],
        True,
        f"{CNP} shop/any",
    ),
    (
        "batch",
        "web",
        80,
        [cnp("k8s", ingress=[{"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.namespace.labels.team": "data"}}]}])],
        True,
        f"{CNP} shop/k8s",
    ),
    (
        "batch",
        "web",
        80,
        [cnp("wrong", ingress=[{"fromEndpoints": [{"matchLabels": {"container:app": "client"}}]}])],
        False,
        f"{CNP} shop/wrong",
    ),
    (
        "client",
        "web",
        80,
        [
            ccnp(
                "sa", ingress=[{"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "default"}}]}]
            )
        ],
        True,
        f"{CCNP} sa",
    ),
    ("client", "web", 80, [cnp("elsewhere", IN_JOBS, ingress=[{}])], True, ""),
    # entities
    ("client", "web", 80, [cnp("c", ingress=[{"fromEntities": ["cluster"]}])], True, f"{CNP} shop/c"),
    (FAR, "web", 80, [cnp("c", ingress=[{"fromEntities": ["cluster"]}])], False, f"{CNP} shop/c"),
    (FAR, "web", 80, [cnp("w", ingress=[{"fromEntities": ["world"]}])], True, f"{CNP} shop/w"),
    (FAR, "web", 80, [cnp("w", ingress=[{"fromEntities": ["world-ipv6"]}])], False, f"{CNP} shop/w"),
    ("client", "web", 80, [cnp("w", ingress=[{"fromEntities": ["world"]}])], False, f"{CNP} shop/w"),
    ("192.168.0.2", "web", 80, [cnp("r", ingress=[{"fromEntities": ["remote-node"]}])], True, f"{CNP} shop/r"),
    ("192.168.0.2", "web", 80, [cnp("h", ingress=[{"fromEntities": ["host"]}])], False, f"{CNP} shop/h"),
    ("client", "192.168.0.2", 6443, [cnp("k", egress=[{"toEntities": ["kube-apiserver"]}])], True, f"{CNP} shop/k"),
    ("client", "192.168.0.1", 6443, [cnp("k", egress=[{"toEntities": ["kube-apiserver"]}])], False, f"{CNP} shop/k"),
    ("client", "web", 80, [cnp("x", ingress=[{"fromEntities": ["martians"]}])], None, ""),
    # a node reaches its own pods, unless a policy denies that
    ("192.168.0.1", "web", 80, [cnp("none", ingress=[{}])], True, ""),
    ("agent", "web", 80, [cnp("none", ingress=[{}])], True, ""),
    ("agent", "web", 80, [cnp("none", ingressDeny=[{"fromEntities": ["host"]}])], False, f"{CNP} shop/none"),
    # addresses: never pods
    ("client", "web", 80, [cnp("a", egress=[{"toCIDR": ["0.0.0.0/0"]}])], False, f"{CNP} shop/a"),
    ("client", FAR, 80, [cnp("a", egress=[{"toCIDR": ["0.0.0.0/0"]}])], True, f"{CNP} shop/a"),
    ("client", "192.168.0.2", 80, [cnp("a", egress=[{"toCIDR": ["0.0.0.0/0"]}])], False, f"{CNP} shop/a"),
    (
        "client",
        FAR,
        80,
        [cnp("s", egress=[{"toCIDRSet": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}]}])],
        False,
        f"{CNP} shop/s",
    ),
    (
        "client",
        "203.0.113.99",
        80,
        [cnp("s", egress=[{"toCIDRSet": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}]}])],
        True,
        f"{CNP} shop/s",
    ),
    (
        "client",
        "198.51.100.7",
        80,
        [GROUP, cnp("g", egress=[{"toCIDRSet": [{"cidrGroupRef": "offices"}]}])],
        True,
        f"{CNP} shop/g",
    ),
    (
        "client",
        "2001:db8::7",
        80,
        [GROUP, cnp("g", egress=[{"toCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"for": "people"}}}]}])],
        True,
        f"{CNP} shop/g",
    ),
    (
        "client",
        FAR,
        80,
        [GROUP, cnp("g", egress=[{"toCIDRSet": [{"cidrGroupRef": "offices"}]}])],
        False,
        f"{CNP} shop/g",
    ),
    ("client", FAR, 80, [cnp("g", egress=[{"toCIDRSet": [{"cidrGroupRef": "missing"}]}])], False, f"{CNP} shop/g"),
    ("client", "10.0.0.0/8", 80, [cnp("a", egress=[{"toCIDR": ["0.0.0.0/0"]}])], None, ""),
    # ports
    ("client", "web", 8080, [cnp("p", ingress=[{"toPorts": tcp("http")}])], True, f"{CNP} shop/p"),
    ("client", "web", 80, [cnp("p", ingress=[{"toPorts": tcp("http")}])], False, f"{CNP} shop/p"),
    ("client", "web", 80, [cnp("p", ingress=[{"toPorts": tcp("0")}])], True, f"{CNP} shop/p"),
    (
        "client",
        "web",
        85,
        [cnp("p", ingress=[{"toPorts": [{"ports": [{"port": "80", "endPort": 90}]}]}])],
        True,
        f"{CNP} shop/p",
    ),
    ("client", "web", 80, [cnp("p", ingress=[{"icmps": [{"fields": [{"type": 8}]}]}])], False, f"{CNP} shop/p"),
    # what is decided by name, by request, by certificate or by the cloud cannot be judged
    ("client", FAR, 443, [cnp("n", egress=[{"toFQDNs": [{"matchName": "example.com"}]}])], None, ""),
    ("client", "web", 443, [cnp("n", egress=[{"toFQDNs": [{"matchName": "example.com"}]}])], False, f"{CNP} shop/n"),
    ("client", FAR, 443, [cnp("n", egress=[{"toGroups": [{"aws": {}}]}])], None, ""),
    ("client", "web", 80, [cnp("n", egress=[{"toServices": [{"k8sService": {}}]}])], None, ""),
    ("client", "web", 80, [cnp("l7", ingress=[{"toPorts": tcp("80", rules={"http": [{"path": "/"}]})}])], None, ""),
    (
        "client",
        "web",
        81,
        [cnp("l7", ingress=[{"toPorts": tcp("80", rules={"http": [{"path": "/"}]})}])],
        False,
        f"{CNP} shop/l7",
    ),
    (
        "client",
        "web",
        53,
        [cnp("dns", ingress=[{"toPorts": tcp("53", rules={"dns": [{"matchPattern": "*"}]})}])],
        True,
        f"{CNP} shop/dns",
    ),
    (
        "client",
        "web",
        80,
        [cnp("auth", ingress=[{"fromEndpoints": [{}], "authentication": {"mode": "required"}}])],
        None,
        "",
    ),
    ("client", "web", 80, [cnp("two", ingress=[{"fromEndpoints": [{}], "fromEntities": ["all"]}])], None, ""),
    # nothing that is not known matters where a deny is certain, or an allow is and no deny is open
    (
        "client",
        "web",
        80,
        [cnp("auth", ingress=[{"toPorts": 7}]), cnp("yes", ingress=[{"fromEndpoints": [{}]}])],
        True,
        f"{CNP} shop/yes",
    ),
    (
        "client",
        "web",
        80,
        [cnp("odd", ingressDeny=[{"toPorts": 7}]), cnp("yes", ingress=[{"fromEndpoints": [{}]}])],
        None,
        "",
    ),
    ("client", "web", 80, [cnp("odd", {"matchLabels": 3}, ingress=[{}])], None, ""),
    # host policies select no pod; a node's own network is not selected
    ("client", "web", 80, [made(CCNP, "host", nodeSelector={}, ingressDeny=[{"fromEntities": ["all"]}])], True, ""),
    ("client", "agent", 80, [ccnp("no", ingressDeny=[{"fromEntities": ["all"]}])], True, ""),
]


@pytest.mark.parametrize(("source", "target", "port", "policies", "allowed", "decider"), TABLE)
def test_cilium(
    source: str, target: str, port: int, policies: list[Policy], allowed: bool | None, decider: str
) -> None:
    verdict = judge(world("cilium", policies), end(source), end(target), port)
    assert_judged(verdict, allowed, decider)


DENY = [np("deny", policyTypes=["Ingress"])]
RANKS = [
    made(
        "ClusterNetworkPolicy",
        "cnp",
        tier="Admin",
        priority=1,
        subject={"namespaces": {}},
        ingress=[
            {"action": "Deny", "from": [{"namespaces": {}}]},
        ],
    ),
]


@pytest.mark.parametrize(
    ("settings", "policies", "allowed", "word"),
    [
        ({"enable-policy": "never"}, DENY, True, "enable-policy is never"),
        ({"enable-policy": "always"}, [], False, "enable-policy is always"),
        ({"policy-audit-mode": "true"}, DENY, True, "only logs"),
        ({"enable-k8s-networkpolicy": "false"}, DENY, True, "no policy"),
        ({}, RANKS, True, "no policy"),
        ({"enable-k8s-cluster-network-policy": "true"}, RANKS, False, "priority 1"),
        (
            {"enable-non-default-deny-policies": "false"},
            [cnp("soft", ingressDeny=[{}], enableDefaultDeny=NO_DENY)],
            False,
            "only denies",
        ),
        (
            {"policy-cidr-match-mode": "nodes"},
            [cnp("a", ingress=[{"fromCIDR": ["192.168.0.2/32"]}])],
            False,
            "none of its rules",
        ),
    ],
)
def test_settings_count(settings: Mapping[str, str], policies: list[Policy], allowed: bool, word: str) -> None:
    verdict = judge(world("cilium", policies, settings), CLIENT, WEB, 80)
    assert verdict.allowed is allowed
    assert word in verdict.ingress.rule


def test_ranges_cover_nodes_where_cilium_is_told_so() -> None:
    policies = [cnp("a", ingress=[{"fromCIDR": ["192.168.0.2/32"]}])]
    assert judge(world("cilium", policies), Cidr("192.168.0.2"), WEB, 80).allowed is False
    told = world("cilium", policies, {"policy-cidr-match-mode": "nodes"})
    assert judge(told, Cidr("192.168.0.2"), WEB, 80).allowed is True


def test_host_policies_leave_pods_of_the_node_open() -> None:
    host = [made(CCNP, "host", nodeSelector={}, ingressDeny=[{"fromEntities": ["all"]}])]
    verdict = judge(world("cilium", host, {"enable-host-firewall": "true"}), CLIENT, AGENT, 80)
    assert verdict.allowed is None
    assert "host policies" in verdict.ingress.rule


def test_denies_come_first_among_the_steps() -> None:
    policies = [OPEN, ccnp("no", egressDeny=[{"toEndpoints": [{}]}]), cnp("other", egress=[{}])]
    steps = judge(world("cilium", policies), CLIENT, WEB, 80).egress.steps
    assert [step.policy.name for step in steps] == ["no", "open", "other"]
    assert steps[0].text == "denies this connection: egressDeny rule 1 of 1"
    assert "refuses all egress" not in steps[1].text


def test_a_policy_may_have_several_specs() -> None:
    policy = ccnp("many")
    raw = {**policy.raw, "spec": None, "specs": [
        {"endpointSelector": APP["web"], "ingress": [{"fromEntities": ["all"]}]},
        {"endpointSelector": APP["client"], "egressDeny": [{"toEndpoints": [APP["web"]]}]},
    ]}  # fmt: skip
    verdict = judge(world("cilium", [Policy(policy.kind, "", "many", raw)]), CLIENT, WEB, 80)
    assert (verdict.egress.allowed, verdict.ingress.allowed) == (False, True)


def test_real_objects_are_read() -> None:
    known = real()
    pods = {pod.ref: pod for pod in known.pods}
    client, server = pods["explain-a/client"], pods["explain-b/server"]
    verdict = judge(known, client, server, 8080)
    assert verdict.allowed is False
    assert verdict.egress.decided_by is not None
    assert verdict.egress.decided_by.ref == "CiliumClusterwideNetworkPolicy egress-deny"
    assert not [step for step in (*verdict.egress.steps, *verdict.ingress.steps) if "cannot be read" in step.text]
    alone = known.without({one.ref for one in known.policies} - {"CiliumNetworkPolicy explain-a/to-offices"})
    assert judge(alone, client, Cidr("198.51.100.1"), 443).allowed is True
    assert judge(alone, client, Cidr("198.51.100.129"), 443).allowed is False
    assert judge(known.without([one.ref for one in known.policies]), client, server, 8080).allowed is True
    grouped = alone.plus(one for one in known.sets)
    assert judge(grouped, client, Cidr("192.0.2.7"), 443).allowed is True
    assert judge(grouped, client, Cidr("192.0.2.200"), 443).allowed is False
