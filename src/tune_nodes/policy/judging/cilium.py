"""Cilium: NetworkPolicy, CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy decide together (pure).

A deny beats every allow, of whatever kind. Any policy that has a section for a direction turns "everything is let
through" into "only what is allowed" there, also where the section holds nothing but denies, unless it says
``enableDefaultDeny: false``. Source: pkg/policy of Cilium 1.20 (repository.go, utils/parserules.go).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tune_nodes.policy.judging import admin, kubernetes
from tune_nodes.policy.judging.addresses import within
from tune_nodes.policy.judging.cilium_identity import Identity, identity, kept, selects
from tune_nodes.policy.judging.cilium_rules import covers
from tune_nodes.policy.judging.decision import INGRESS, Decision, Step, Traffic, rows_of
from tune_nodes.policy.judging.matching import NO, Match, any_of, unknown
from tune_nodes.policy.model import Peer, Pod, Policy

#: The ConfigMap's keys that change what policies do.
ENFORCE, AUDIT, KUBERNETES, CLUSTER_POLICIES, HOST_FIREWALL, MAY_NOT_DENY = (
    "enable-policy",
    "policy-audit-mode",
    "enable-k8s-networkpolicy",
    "enable-k8s-cluster-network-policy",
    "enable-host-firewall",
    "enable-non-default-deny-policies",
)


@dataclass(frozen=True)
class Share:
    """What one policy has to say of one direction.

    Args:
        policy: which.
        certain: whether it selects the pod.
        deny: whether one of its denies covers the connection.
        allow: whether one of its allows does.
        isolates: whether it alone makes Cilium refuse what no policy allows.
        where: the rule that covers it: "egressDeny rule 1 of 2".
        empty: whether it allows nothing in this direction.
    """

    policy: Policy
    certain: Match
    deny: Match
    allow: Match
    isolates: bool
    where: str
    empty: bool


def decide(traffic: Traffic, direction: str) -> Decision:
    """Return what Cilium does with one direction."""
    pod = traffic.subject(direction)
    settings = traffic.snapshot.settings
    if not isinstance(pod, Pod):
        return Decision(direction, True, None, "policies of pods do not select addresses")
    if pod.host_network:
        return _host(traffic, direction, pod)
    other = identity(traffic.snapshot, traffic.other(direction), pod)
    shares = [*_denies_first(_shares(traffic, direction, pod, other))]
    steps = tuple(Step(one.policy, _describe(one, direction)) for one in shares)
    if settings.get(ENFORCE) == "never":
        return Decision(direction, True, None, "Cilium enforces nothing: enable-policy is never", steps)
    if settings.get(AUDIT) == "true":
        return Decision(direction, True, None, "Cilium only logs what it would refuse: policy-audit-mode is on", steps)
    decision = _normal(shares, direction, other, always=settings.get(ENFORCE) == "always")
    if settings.get(CLUSTER_POLICIES) == "true":
        return admin.around(traffic, direction, replace(decision, steps=steps), decided=bool(shares))
    return replace(decision, steps=steps)


def _host(traffic: Traffic, direction: str, pod: Pod) -> Decision:
    """Return the decision for a pod on its node's own network, which only host policies select."""
    rule = f"{pod} has its node's network, which policies for pods do not select"
    hosts = [one for one in traffic.snapshot.of("cilium") if "nodeSelector" in one.spec]
    if traffic.snapshot.settings.get(HOST_FIREWALL) == "true" and hosts:
        return Decision(direction, None, None, f"{rule}; the host policies, such as {hosts[0].ref}, are not judged")
    return Decision(direction, True, None, rule)


def _shares(traffic: Traffic, direction: str, pod: Pod, other: Identity) -> Iterator[Share]:
    snapshot = traffic.snapshot
    if snapshot.settings.get(KUBERNETES) != "false":
        yield from _kubernetes(traffic, direction, other)
    me = identity(snapshot, pod, pod)
    for policy in (*snapshot.of("cilium"), *snapshot.of("cilium", pod.namespace)):
        found = [_share(traffic, direction, policy, spec, me, other) for spec in _specs(policy)]
        yield from (one for one in found if one is not None)


def _specs(policy: Policy) -> list[Any]:
    """Return the rules of a policy: its ``spec``, and each of ``specs``."""
    one = policy.raw.get("spec")
    return ([] if one is None else [one]) + rows_of(policy.raw.get("specs"))


def _kubernetes(traffic: Traffic, direction: str, other: Identity) -> Iterator[Share]:
    def peer_match(known: Traffic, policy: Policy, way: str, peer: Mapping[str, Any]) -> Match:
        block = peer.get("ipBlock")
        if block is None:  # nodes and pods with their network are never selected by labels
            return kubernetes.pod_peer(known, policy.namespace, peer)(known.other(way)) if other.is_pod else NO
        if other.unsure:
            return unknown(other.unsure)
        nodes = "nodes" in known.snapshot.settings.get("policy-cidr-match-mode", "")
        outside = "world" in other.classes or (nodes and not other.is_pod)
        if not outside or not isinstance(block, Mapping):
            return NO if not outside else unknown("an ipBlock in it cannot be read")
        return within(known.other(way), block.get("cidr"), block.get("except"))

    known = replace(traffic, source=_as_known(traffic.source), target=_as_known(traffic.target))
    for one in kubernetes.selecting(known, direction, peer_match, by_rules=True):
        yield Share(one.policy, one.certain, NO, one.match, True, one.rule, one.empty)


def _as_known(peer: Peer) -> Peer:
    return replace(peer, labels=kept(peer.labels)) if isinstance(peer, Pod) else peer


def _share(traffic: Traffic, direction: str, policy: Policy, spec: Any, me: Identity, other: Identity) -> Share | None:
    """Return a policy's share; None where it has no part in this direction of this pod."""
    if not isinstance(spec, Mapping):
        return Share(policy, unknown("it cannot be read"), NO, NO, True, "", True)
    if "endpointSelector" not in spec:
        return None if "nodeSelector" in spec else Share(policy, unknown("it selects nothing"), NO, NO, True, "", True)
    allows, denies = rows_of(spec.get(direction)), rows_of(spec.get(f"{direction}Deny"))
    certain = selects(spec["endpointSelector"], me, policy.namespace, subject=True)
    if certain.yes is False or not (allows or denies):
        return None

    def first(rows: list[Any], *, deny: bool) -> tuple[Match, int]:
        found = [covers(traffic, direction, policy, row, other, deny=deny) for row in rows]
        match = any_of(found)
        return match, next((number for number, one in enumerate(found, 1) if one.yes), 0)

    deny, denied = first(denies, deny=True)
    allow, allowed = first(allows, deny=False)
    where = f"{direction}Deny rule {denied} of {len(denies)}" if deny.yes else ""
    where = where or (f"{direction} rule {allowed} of {len(allows)}" if allow.yes else "")
    return Share(policy, certain, deny, allow, _isolates(traffic, spec, direction), where, not allows)


def _isolates(traffic: Traffic, spec: Mapping[str, Any], direction: str) -> bool:
    asked = spec.get("enableDefaultDeny")
    wish = asked.get(direction) if isinstance(asked, Mapping) else None
    return wish is not False or traffic.snapshot.settings.get(MAY_NOT_DENY) == "false"


def _denies_first(shares: Iterator[Share]) -> list[Share]:
    """Return policies in the order in which they count: what denies, then what allows, then the others."""

    def place(one: Share) -> int:
        return 0 if one.deny.yes else 1 if one.deny.yes is None else 2 if one.allow.yes else 3

    return sorted(shares, key=place)


def _normal(shares: list[Share], direction: str, other: Identity, *, always: bool) -> Decision:
    sure = [one for one in shares if one.certain.yes]
    for one in sure:
        if one.deny.yes:
            return Decision(direction, False, one.policy, f"{one.policy.ref} denies it: {one.where}")
    allowing = next((one for one in sure if one.allow.yes), None)
    isolating = [one for one in sure if one.isolates]
    local = "host" in other.classes and direction == INGRESS
    doubtful = _doubt(shares, granted=allowing is not None or local, isolated=bool(isolating) or always)
    if doubtful is not None:
        return Decision(direction, None, None, f"{doubtful.policy.ref}: {_why(doubtful)}")
    if allowing is not None:
        return Decision(direction, True, allowing.policy, f"{allowing.policy.ref} lets it through: {allowing.where}")
    if local:
        return Decision(direction, True, None, "Cilium always lets a node reach its own pods unless a policy denies it")
    if isolating:
        who = next((one for one in isolating if one.empty), isolating[0])
        return Decision(direction, False, who.policy, _refused(who, direction, len(isolating)))
    if always:
        return Decision(direction, False, None, "Cilium refuses what no policy allows: enable-policy is always")
    rule = (
        f"no policy selects the pod for {direction}" if not shares else "no policy denies it, and none isolates the pod"
    )
    return Decision(direction, True, None, rule)


def _doubt(shares: list[Share], *, granted: bool, isolated: bool) -> Share | None:
    """Return a policy of which too little is known, and whose answer could turn the decision.

    Args:
        shares: of all policies.
        granted: whether something allows the connection.
        isolated: whether what nothing allows is refused.
    """
    for one in shares:
        if not granted and isolated:
            turns = one.allow.yes is None or (one.allow.yes is True and one.certain.yes is None)
        else:
            turns = one.deny.yes is None or (one.deny.yes is True and one.certain.yes is None)
            turns |= not granted and one.isolates and one.certain.yes is None and one.allow.yes is not True
        if turns:
            return one
    return None


def _why(one: Share) -> str:
    return next(match.why for match in (one.certain, one.deny, one.allow, unknown("it cannot be read")) if match.why)


def _describe(one: Share, direction: str) -> str:
    if one.certain.yes is None:
        return f"may select the pod for {direction}: {one.certain.why}"
    if one.deny.yes:
        return f"denies this connection: {one.where}"
    if one.allow.yes:
        return f"lets this connection through: {one.where}"
    doubt = one.deny if one.deny.yes is None else one.allow
    if doubt.yes is None:
        return f"may {'deny' if doubt is one.deny else 'let through'} this connection: {doubt.why}"
    if not one.isolates:
        return "has no rule for this connection, and isolates nothing (enableDefaultDeny: false)"
    if one.empty:
        return f"refuses all {direction} that no policy lets through (it allows nothing itself)"
    return f"refuses {direction} that no policy lets through; none of its rules covers this connection"


def _refused(one: Share, direction: str, isolating: int) -> str:
    others = kubernetes.others(isolating - 1, "isolate")
    spec = one.policy.spec
    if one.empty and rows_of(spec.get(f"{direction}Deny")):
        why = f"has only denies for {direction}, but that alone makes Cilium refuse all that is not allowed"
    elif one.empty:
        why = f"isolates the pod for {direction} and allows nothing"
    else:
        why = f"isolates the pod for {direction}, and none of its rules covers this"
    return f"{one.policy.ref} {why}{others}"
