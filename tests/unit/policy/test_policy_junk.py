"""Whatever objects hold, there is a verdict or "cannot be judged", and it comes quickly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_world import CLIENT, JSON, KINDS, PODS, WEB, many, real, world

from tune_nodes.policy.judging.summary import summary
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Pod, Policy, Snapshot, policy_of

ENGINES = ("cilium", "calico", "kube-router", "ovn-kubernetes", "")
#: Those that engines look for: what is almost right goes deeper than what is wrong throughout.
KEYS = (
    st.sampled_from(["ingress", "egress", "ingressDeny", "egressDeny", "podSelector", "endpointSelector", "subject"])
    | st.sampled_from(["from", "to", "fromEndpoints", "toEndpoints", "toCIDRSet", "toPorts", "ports", "port", "rules"])
    | st.sampled_from(["protocol", "ipBlock", "cidr", "except", "namespaces", "pods", "matchLabels", "specs", "number"])
    | st.sampled_from(["matchExpressions", "key", "operator", "values", "policyTypes", "types", "tier", "order", "tcp"])
    | st.sampled_from(["priority", "selector", "source", "destination", "nets", "action", "networks", "protocols"])
    | st.sampled_from(["enableDefaultDeny", "destinationPort", "range"])
)
WORDS = st.sampled_from(
    ["Ingress", "Egress", "Allow", "Deny", "Pass", "Admin", "all()", "TCP", "10.0.0.0/8", "80", "In"]
)
NEAR = st.recursive(
    WORDS | st.integers(-1, 70000) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


def judged(policies: list[Policy], settings: Mapping[str, str] | None = None) -> None:
    for engine in ENGINES:
        known = world(engine, policies, settings)
        for source, target in ((CLIENT, WEB), (Cidr("203.0.113.0/24"), WEB), (CLIENT, Cidr("2001:db8::1"))):
            verdict = judge(known, source, target, 80)
            assert verdict.allowed in (True, False, None)
            assert all(isinstance(one.rule, str) and one.rule for one in (verdict.egress, verdict.ingress))


@settings(max_examples=60)
@given(st.sampled_from(sorted(KINDS)), NEAR | JSON)
def test_any_spec_is_judged_or_said_not_to_be(kind: str, spec: Any) -> None:
    raw = {"metadata": {"name": "a", "namespace": "shop", "labels": spec}, "spec": spec, "specs": spec}
    policy = policy_of(KINDS[kind], raw)
    assert policy is not None
    assert summary(policy)
    judged([policy])


@settings(max_examples=60)
@given(st.sampled_from(sorted(KINDS)), NEAR)
def test_any_rule_is_judged_or_said_not_to_be(kind: str, rules: Any) -> None:
    spec = {
        **{way: rules if isinstance(rules, list) else [rules] for way in ("ingress", "egress", "ingressDeny")},
        "podSelector": {},
        "endpointSelector": {},
        "subject": {"namespaces": {}},
        "policyTypes": ["Ingress", "Egress"],
    }
    policy = policy_of(KINDS[kind], {"metadata": {"name": "a", "namespace": "shop"}, "spec": spec})
    assert policy is not None
    assert summary(policy)
    judged([policy])


@given(JSON)
def test_objects_without_a_name_are_none(metadata: Any) -> None:
    found = policy_of(KINDS["NetworkPolicy"], {"metadata": metadata})
    assert found is None or found.name


@pytest.mark.parametrize("engine", ENGINES)
def test_two_thousand_policies_are_judged_in_no_time(engine: str) -> None:
    policies = [policy_of(KINDS["NetworkPolicy"], item) for item in many(2000, 200)]
    clusterwide = {"endpointSelector": {"matchLabels": {"app": "none"}}, "ingressDeny": [{"fromEntities": ["world"]}]}
    rows = [{"metadata": {"name": f"c{n}"}, "spec": {**clusterwide, "selector": "app == 'none'"}} for n in range(200)]
    kinds = ("CiliumClusterwideNetworkPolicy", "CalicoGlobalNetworkPolicy")
    policies += [policy_of(KINDS[kind], row) for kind in kinds for row in rows]
    pods = [
        Pod(f"ns{n % 200}", f"pod{n}", f"u{n}", "w1", (f"10.1.{n // 250}.{n % 250}",), {"app": "web"})
        for n in range(5000)
    ]
    known = Snapshot(tuple(KINDS.values()), tuple(one for one in policies if one), tuple(pods), engine=engine)
    started = time.process_time()
    judge(known, pods[1], pods[2], 80)
    assert time.process_time() - started < 0.5
    started = time.process_time()
    for number in range(100):
        judge(known, pods[number], pods[number + 7], 80)
    assert time.process_time() - started < 1.5


def test_every_real_policy_is_judged_under_every_engine() -> None:
    for engine in ENGINES:
        known = real(engine)
        pods = [pod for pod in known.pods if pod.namespace.startswith("explain")]
        for source in pods:
            for target in (*pods, *PODS.values()):
                assert judge(known, source, target, 8080).egress.rule
