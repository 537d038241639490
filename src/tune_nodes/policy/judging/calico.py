"""Calico: policies in tiers, of which the first rule that covers a connection counts (pure).

Tiers follow each other by order. In a tier policies do; where at least one of them selects the pod and no rule covers
the connection, the tier's default ends it: Deny unless the tier says Pass. NetworkPolicies of Kubernetes stand in the
tier "default" with order 1000; AdminNetworkPolicy and ClusterNetworkPolicy have tiers of their own before and after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tune_nodes.policy.judging import admin, kubernetes
from tune_nodes.policy.judging.calico_rules import covers, labels_of, namespace_labels, selector
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, Decision, Step, Traffic, rows_of
from tune_nodes.policy.judging.matching import Match, all_of
from tune_nodes.policy.model import TIER, Pod, Policy

DEFAULT = "default"
#: Orders of tiers that are there without an object that says so.
ORDERS = {DEFAULT: 1_000_000.0, admin.ADMIN: 1000.0, admin.BASELINE: 10_000_000.0}
#: The order that Calico gives NetworkPolicies of Kubernetes.
KUBERNETES_ORDER = 1000.0
_TYPES = {INGRESS: "Ingress", EGRESS: "Egress"}


@dataclass(frozen=True)
class Placed:
    """A policy in its tier, and its first rule that covers the connection.

    Args:
        policy: which.
        order: its place in the tier.
        certain: whether it selects the pod.
        action: "Allow", "Deny", "Pass" of that rule; "" where none covers the connection.
        where: "ingress rule 1 of 2".
        doubt: why a rule before that cannot be judged; "" where all can.
    """

    policy: Policy
    order: float
    certain: Match
    action: str = ""
    where: str = ""
    doubt: str = ""


def decide(traffic: Traffic, direction: str) -> Decision:
    """Return what Calico does with one direction."""
    pod = traffic.subject(direction)
    if not isinstance(pod, Pod):
        return Decision(direction, True, None, "policies of pods do not select addresses")
    if pod.host_network:
        return Decision(direction, True, None, f"{pod} has its node's network, which policies for pods do not select")
    steps: list[Step] = []
    decision: Decision | None = None
    for tier in _tiers(traffic, direction, pod):
        found = _ranks(traffic, direction, tier) if tier in admin.TIERS else _tier(traffic, direction, pod, tier)
        steps += found[1]
        decision = decision or found[0]
    if direction == INGRESS and traffic.from_own_node():
        return Decision(direction, True, None, "a node may always reach its own pods", tuple(steps))
    if decision is None:
        rule = f"no policy refuses it for {direction}" if steps else f"no policy selects the pod for {direction}"
        decision = Decision(direction, True, None, rule)
    return replace(decision, steps=tuple(steps))


def _tiers(traffic: Traffic, direction: str, pod: Pod) -> list[str]:
    """Return the tiers that policies here are in, in their order."""
    names = {_tier_of(policy) for policy in _policies(traffic, pod)} | {DEFAULT, admin.ADMIN, admin.BASELINE}
    return sorted(names, key=lambda name: (_order_of_tier(traffic, name), name))


def _policies(traffic: Traffic, pod: Pod) -> tuple[Policy, ...]:
    return (*traffic.snapshot.of("calico"), *traffic.snapshot.of("calico", pod.namespace))


def _tier_of(policy: Policy) -> str:
    name = policy.spec.get("tier") or DEFAULT
    return name if isinstance(name, str) else DEFAULT


def _tier_object(traffic: Traffic, name: str) -> Policy | None:
    return next((one for one in traffic.snapshot.of("calico", role=TIER) if one.name == name), None)


def _order_of_tier(traffic: Traffic, name: str) -> float:
    found = _tier_object(traffic, name)
    return _order(found.spec.get("order") if found else None, ORDERS.get(name, math.inf))


def _order(value: Any, missing: float = math.inf) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else missing


def _passes(traffic: Traffic, name: str) -> bool:
    found = _tier_object(traffic, name)
    return found is not None and found.spec.get("defaultAction") == "Pass"


def _ranks(traffic: Traffic, direction: str, tier: str) -> tuple[Decision | None, tuple[Step, ...]]:
    rows = admin.ranked(traffic, direction, tier)
    said = admin.settle(rows, direction)
    return (said if isinstance(said, Decision) else None), admin.steps_of(rows, tier)


def _tier(traffic: Traffic, direction: str, pod: Pod, tier: str) -> tuple[Decision | None, tuple[Step, ...]]:
    # Kubernetes' own policies only allow: which of them is asked first makes no difference, so those that do are.
    rows = sorted(
        _placed(traffic, direction, pod, tier),
        key=lambda one: (one.order, one.policy.kind.engine == "kubernetes" and one.action != "Allow", one.policy.ref),
    )
    steps = tuple(Step(one.policy, _describe(one, tier)) for one in rows)
    for one in rows:
        if one.certain.yes is None and not _same(one, traffic, tier):
            return Decision(direction, None, None, f"{one.policy.ref}: {one.certain.why}"), steps
        if one.doubt:
            return Decision(direction, None, None, f"{one.policy.ref}: {one.doubt}"), steps
        if one.action == "Pass":
            return None, steps
        if one.action:
            word = "lets it through" if one.action == "Allow" else "denies it"
            rule = f"{one.policy.ref} {word}: {one.where}, tier {tier}"
            return Decision(direction, one.action == "Allow", one.policy, rule), steps
    if not rows or _passes(traffic, tier):
        return None, steps
    last = rows[-1].policy
    rule = (
        f"{last.ref} selects the pod for {direction}, no rule in the tier {tier} covers this, and the tier then denies"
    )
    return Decision(direction, False, last, rule), steps


def _same(one: Placed, traffic: Traffic, tier: str) -> bool:
    """Say whether it makes no difference if a policy selects the pod: it covers nothing and its tier passes on."""
    return not one.action and not one.doubt and _passes(traffic, tier)


def _placed(traffic: Traffic, direction: str, pod: Pod, tier: str) -> Iterator[Placed]:
    for policy in _policies(traffic, pod):
        spec = policy.spec
        if _tier_of(policy) != tier or spec.get("doNotTrack") or spec.get("preDNAT") or direction not in _ways(policy):
            continue
        certain = all_of(
            [
                selector(spec.get("selector"), labels_of(pod)),
                selector(spec.get("namespaceSelector"), namespace_labels(traffic, pod.namespace)),
                selector(spec.get("serviceAccountSelector"), {"projectcalico.org/name": pod.service_account}),
            ]
        )
        if certain.yes is not False:
            yield _first(traffic, direction, policy, certain)
    if tier == DEFAULT:
        for one in kubernetes.selecting(traffic, direction):
            allowed = "Allow" if one.match.yes else ""
            yield Placed(one.policy, KUBERNETES_ORDER, one.certain, allowed, one.rule, one.match.why)


def _ways(policy: Policy) -> set[str]:
    types = policy.spec.get("types")
    if isinstance(types, list) and types:
        return {way for way, name in _TYPES.items() if name in types}
    out, into = bool(rows_of(policy.spec.get(EGRESS))), bool(rows_of(policy.spec.get(INGRESS)))
    return ({EGRESS} if out else set()) | ({INGRESS} if into or not out else set())


def _first(traffic: Traffic, direction: str, policy: Policy, certain: Match) -> Placed:
    order = _order(policy.spec.get("order"))
    rules = rows_of(policy.spec.get(direction))
    for number, rule in enumerate(rules, 1):
        match = covers(traffic, policy, rule)
        where = f"{direction} rule {number} of {len(rules)}"
        if match.yes is None:
            return Placed(policy, order, certain, "", where, match.why)
        if match.yes and rule.get("action") != "Log":
            action = rule.get("action")
            if action not in ("Allow", "Deny", "Pass"):
                return Placed(policy, order, certain, "", where, "its action is not known")
            return Placed(policy, order, certain, action, where)
    return Placed(policy, order, certain)


def _describe(one: Placed, tier: str) -> str:
    place = f"(tier {tier}{'' if one.order == math.inf else f', order {one.order:g}'})"
    if one.certain.yes is None or one.doubt:
        return f"{place} cannot be judged: {one.certain.why or one.doubt}"
    if not one.action:
        return f"{place} has no rule for this connection"
    word = {"Allow": "lets this connection through", "Deny": "denies this connection", "Pass": "passes on"}[one.action]
    return f"{place} {word}: {one.where}"
