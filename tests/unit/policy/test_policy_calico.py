"""What Calico lets through: tiers, orders, and its selector language."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_world import PODS, assert_judged, made, np, world

from tune_nodes.policy.judging.calico_selector import is_global, matches
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Peer, Policy

G, N = "GlobalNetworkPolicy.projectcalico.org", "NetworkPolicy.projectcalico.org"
FAR = "203.0.113.5"


def gnp(name: str, *ingress: Any, order: Any = None, tier: str = "default", **spec: Any) -> Policy:
    rows = {"order": order} if order is not None else {}
    more = {"ingress": list(ingress), "types": ["Ingress"]} if "egress" not in spec else {}
    return made("CalicoGlobalNetworkPolicy", name, **{"tier": tier, **rows, **more, **spec})


def local(name: str, *ingress: Any, **spec: Any) -> Policy:
    return made("CalicoNetworkPolicy", name, "shop", ingress=list(ingress), types=["Ingress"], **spec)


def tier(name: str, order: Any = None, default: str = "Deny") -> Policy:
    return made("CalicoTier", name, order=order, defaultAction=default)


def allow(**source: Any) -> dict[str, Any]:
    return {"action": "Allow", "source": source}


def deny(**source: Any) -> dict[str, Any]:
    return {"action": "Deny", "source": source}


def port(action: str, *ports: Any, protocol: Any = "TCP") -> dict[str, Any]:
    return {"action": action, "protocol": protocol, "destination": {"ports": list(ports)}}


NP_DENY, NP_ALLOW = np("deny", policyTypes=["Ingress"]), np("allow", ingress=[{}])
NETS = made("CalicoGlobalNetworkSet", "partners", "", {"kind": "partner"}, nets=["203.0.113.0/24"])
OWN_NETS = made("CalicoNetworkSet", "own", "jobs", {"kind": "own"}, nets=["198.51.100.0/24"])
STAGED = made("CalicoStagedGlobalNetworkPolicy", "staged", types=["Ingress"], ingress=[{"action": "Deny"}])
TABLE = [
    ("client", "web", 80, [], True, ""),
    ("client", "web", 80, [gnp("a", deny())], False, f"{G} a"),
    # a tier that selects the pod and has no rule for it denies, or passes where it says so
    ("client", "web", 80, [gnp("a", allow(selector="app == 'db'"))], False, f"{G} a"),
    ("client", "web", 80, [tier("sec", 10), gnp("a", tier="sec"), NP_ALLOW], False, f"{G} a"),
    ("client", "web", 80, [tier("sec", 10, "Pass"), gnp("a", tier="sec"), NP_ALLOW], True, "NetworkPolicy shop/allow"),
    (
        "client",
        "web",
        80,
        [tier("sec", 10), gnp("a", {"action": "Pass"}, tier="sec"), NP_ALLOW],
        True,
        "NetworkPolicy shop/allow",
    ),
    (
        "client",
        "web",
        80,
        [tier("sec", 10), gnp("a", {"action": "Pass"}, tier="sec"), NP_DENY],
        False,
        "NetworkPolicy shop/deny",
    ),
    ("client", "web", 80, [tier("sec", 10), gnp("a", {"action": "Pass"}, tier="sec")], True, ""),
    (
        "client",
        "web",
        80,
        [tier("sec", 10), gnp("a", tier="sec", selector="app == 'db'"), NP_ALLOW],
        True,
        "NetworkPolicy shop/allow",
    ),
    # tiers by order; a tier without one comes last
    (
        "client",
        "web",
        80,
        [tier("one", 10), tier("two", 20), gnp("a", deny(), tier="two"), gnp("b", allow(), tier="one")],
        True,
        f"{G} b",
    ),
    (
        "client",
        "web",
        80,
        [tier("one"), tier("two", 20), gnp("a", deny(), tier="one"), gnp("b", allow(), tier="two")],
        True,
        f"{G} b",
    ),
    # policies by order, then by name; one without an order comes last
    ("client", "web", 80, [gnp("a", deny(), order=20), gnp("b", allow(), order=10)], True, f"{G} b"),
    ("client", "web", 80, [gnp("a", deny()), gnp("b", allow(), order=10)], True, f"{G} b"),
    ("client", "web", 80, [gnp("b", deny(), order=5), gnp("a", allow(), order=5)], True, f"{G} a"),
    # NetworkPolicies of Kubernetes stand in the default tier at 1000
    ("client", "web", 80, [gnp("a", deny(), order=999), NP_ALLOW], False, f"{G} a"),
    ("client", "web", 80, [gnp("a", deny(), order=1001), NP_ALLOW], True, "NetworkPolicy shop/allow"),
    ("client", "web", 80, [gnp("a", allow(), order=1001), NP_DENY], True, f"{G} a"),
    ("client", "web", 80, [NP_DENY, NP_ALLOW], True, "NetworkPolicy shop/allow"),
    # logging decides nothing; staged policies neither
    ("client", "web", 80, [gnp("a", {"action": "Log"}, allow())], True, f"{G} a"),
    ("client", "web", 80, [STAGED], True, ""),
    # whom a policy is for
    (
        "client",
        "web",
        80,
        [gnp("a", deny(), selector="app == 'web'", namespaceSelector="team == 'shop'")],
        False,
        f"{G} a",
    ),
    ("client", "web", 80, [gnp("a", deny(), namespaceSelector="team == 'data'")], True, ""),
    (
        "client",
        "web",
        80,
        [gnp("a", deny(), serviceAccountSelector="projectcalico.org/name == 'web'")],
        False,
        f"{G} a",
    ),
    ("client", "web", 80, [gnp("a", deny(), doNotTrack=True, applyOnForward=True)], True, ""),
    # whom a rule speaks of
    ("client", "web", 80, [local("a", allow(selector="app == 'client'"))], True, f"{N} shop/a"),
    ("batch", "web", 80, [local("a", allow(selector="app == 'client'"))], False, f"{N} shop/a"),
    (
        "batch",
        "web",
        80,
        [local("a", allow(selector="app == 'client'", namespaceSelector="all()"))],
        True,
        f"{N} shop/a",
    ),
    ("batch", "web", 80, [gnp("a", allow(selector="app == 'client'"))], True, f"{G} a"),
    ("batch", "web", 80, [gnp("a", allow(namespaceSelector="team == 'data'"))], True, f"{G} a"),
    ("batch", "web", 80, [gnp("a", allow(namespaceSelector="global()"))], False, f"{G} a"),
    ("batch", "web", 80, [gnp("a", allow(notSelector="app == 'client'"))], False, f"{G} a"),
    ("client", "web", 80, [gnp("a", allow(serviceAccounts={"names": ["default"]}))], True, f"{G} a"),
    ("client", "web", 80, [gnp("a", allow(serviceAccounts={"names": ["other"]}))], False, f"{G} a"),
    ("client", "web", 80, [gnp("a", allow(nets=["10.0.2.0/24"]))], True, f"{G} a"),
    ("client", "web", 80, [gnp("a", allow(notNets=["10.0.2.0/24"]))], False, f"{G} a"),
    (FAR, "web", 80, [NETS, gnp("a", allow(selector="kind == 'partner'"))], True, f"{G} a"),
    (
        FAR,
        "web",
        80,
        [NETS, gnp("a", allow(selector="kind == 'partner'", namespaceSelector="global()"))],
        True,
        f"{G} a",
    ),
    (FAR, "web", 80, [gnp("a", allow(selector="kind == 'partner'"))], False, f"{G} a"),
    ("198.51.100.7", "web", 80, [OWN_NETS, local("a", allow(selector="kind == 'own'"))], False, f"{N} shop/a"),
    ("198.51.100.7", "web", 80, [OWN_NETS, gnp("a", allow(selector="kind == 'own'"))], True, f"{G} a"),
    # ports and protocols
    ("client", "web", 80, [gnp("a", port("Allow", 80))], True, f"{G} a"),
    ("client", "web", 85, [gnp("a", port("Allow", "80:90"))], True, f"{G} a"),
    ("client", "web", 91, [gnp("a", port("Allow", "80:90"))], False, f"{G} a"),
    ("client", "web", 8080, [gnp("a", port("Allow", "http"))], True, f"{G} a"),
    ("client", "web", 80, [gnp("a", port("Allow", 80, protocol=6))], True, f"{G} a"),
    ("client", "web", 80, [gnp("a", port("Allow", 80, protocol="UDP"))], False, f"{G} a"),
    ("client", "web", 80, [gnp("a", {"action": "Allow", "notProtocol": "UDP"})], True, f"{G} a"),
    ("client", "web", 80, [gnp("a", {"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8}})], False, f"{G} a"),
    (
        "client",
        "2001:db8::1",
        80,
        [gnp("a", types=["Egress"], egress=[{"action": "Deny", "ipVersion": 6}])],
        False,
        f"{G} a",
    ),
    # types that are not given follow from the rules
    ("client", "web", 80, [made("CalicoGlobalNetworkPolicy", "a", egress=[{"action": "Allow"}])], True, f"{G} a"),
    ("client", "web", 80, [made("CalicoGlobalNetworkPolicy", "a")], False, f"{G} a"),
    # a node reaches its own pods; pods of a node's network are not selected
    ("agent", "web", 80, [gnp("a", deny())], True, ""),
    ("client", "agent", 80, [gnp("a", deny())], True, ""),
    # what cannot be judged
    ("client", "web", 80, [gnp("a", {"action": "Allow", "http": {"methods": ["GET"]}})], None, ""),
    ("client", "web", 80, [gnp("a", {"action": "Allow", "destination": {"services": {"name": "web"}}})], None, ""),
    ("client", "web", 80, [gnp("a", {"action": "Allow", "protocol": "TCP", "source": {"ports": [1]}})], None, ""),
    ("client", "web", 80, [gnp("a", deny(), selector="app ==")], None, ""),
    ("client", "web", 80, [gnp("a", {"action": "Maybe"})], None, ""),
    ("client", "web", 80, [gnp("a", allow(), order=1), gnp("b", deny(), order=2, selector="(")], True, f"{G} a"),
]


def end(text: str) -> Peer:
    return PODS.get(text) or Cidr(text)


@pytest.mark.parametrize(("source", "target", "number", "policies", "allowed", "decider"), TABLE)
def test_calico(
    source: str, target: str, number: int, policies: list[Policy], allowed: bool | None, decider: str
) -> None:
    verdict = judge(world("calico", policies), end(source), end(target), number)
    assert_judged(verdict, allowed, decider)


def test_staged_policies_are_named() -> None:
    verdict = judge(world("calico", [STAGED]), PODS["client"], PODS["web"], 80)
    assert [step.text for step in verdict.ingress.steps] == ["has no effect: it is staged, which is only logged"]


LABELS = {"app": "web", "env": "prod", "k8s.io/role": "front-end"}


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("all()", True),
        ("app == 'web'", True),
        ('app == "web"', True),
        ("app=='web'&&env!='test'", True),
        ("missing != 'x'", True),
        ("missing == 'x'", False),
        ("has(k8s.io/role)", True),
        ("!has(missing)", True),
        ("!!has(app)", True),
        ("app in {'web', 'db'}", True),
        ("app not in { 'web' }", False),
        ("missing not in {'x'}", True),
        ("env in {}", False),
        ("k8s.io/role contains 'nt-e'", True),
        ("k8s.io/role starts with 'front'", True),
        ("k8s.io/role ends  with 'front'", False),
        ("app == 'db' || env == 'prod' && has(app)", True),
        ("(app == 'db' || env == 'prod') && has(missing)", False),
        ("app", None),
        ("app == web", None),
        ("app == 'web' extra", None),
        ("(app == 'web'", None),
        ("global()", None),
        ("(" * 90 + "all()" + ")" * 90, None),
        ("!" * 500 + "all()", None),
        ("app in {'web'" + ",'x'" * 5000 + "}", None),
    ],
)
def test_selectors(selector: str, holds: bool | None) -> None:
    assert matches(selector, LABELS).yes is holds


def test_global_is_a_word_of_its_own() -> None:
    assert is_global(" global( ) ")
    assert not is_global("all()")
    assert not is_global(None)


@given(st.text(alphabet="ab()!&|={}'\", hasin.", max_size=60))
def test_any_text_is_a_selector_or_unreadable(text: str) -> None:
    assert matches(text, LABELS).yes in (True, False, None)
