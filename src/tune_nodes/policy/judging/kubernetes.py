"""NetworkPolicy: those that select a pod refuse everything, and every rule adds what is let through (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.policy.judging import addresses, ports
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, Decision, Step, Traffic, rows_of
from tune_nodes.policy.judging.matching import NO, YES, Match, all_of, any_of, unknown
from tune_nodes.policy.judging.selectors import selects
from tune_nodes.policy.model import Pod, Policy

#: Whether one element of ``from`` or ``to`` covers the other end; engines differ in what an ipBlock covers.
PeerMatch = Callable[[Traffic, Policy, str, Mapping[str, Any]], Match]
_SECTION = {INGRESS: ("Ingress", "from"), EGRESS: ("Egress", "to")}
_UNREADABLE = unknown("a rule in it cannot be read")


@dataclass(frozen=True)
class Selected:
    """A policy that selects a pod for one direction, and what its rules say of the connection.

    Args:
        policy: which.
        certain: whether it selects the pod; what is not known is not certain.
        match: whether one of its rules covers the connection.
        rule: "rule 2 of 3" where one does, and what is not known where that cannot be told.
        empty: whether it has no rule at all: a default deny.
    """

    policy: Policy
    certain: Match
    match: Match
    rule: str
    empty: bool


def directions(policy: Policy) -> set[str]:
    """Return the directions for which a policy isolates the pods that it selects."""
    types = policy.spec.get("policyTypes")
    if not isinstance(types, list) or not types:
        return {INGRESS, EGRESS} if rows_of(policy.spec.get("egress")) else {INGRESS}
    return {direction for direction, (name, _) in _SECTION.items() if name in types}


def selecting(
    traffic: Traffic, direction: str, peer_match: PeerMatch | None = None, *, by_rules: bool = False
) -> list[Selected]:
    """Return the policies that select, or may select, the pod whose side this is; by name.

    Args:
        traffic: the connection.
        direction: whose side.
        peer_match: how ``from`` and ``to`` match; None for the ordinary way.
        by_rules: a policy also counts for a direction that it has rules for and does not name in ``policyTypes``.
    """
    pod = traffic.subject(direction)
    if not isinstance(pod, Pod):
        return []
    found = []
    for policy in traffic.snapshot.of("kubernetes", pod.namespace):
        if direction not in directions(policy) and not (by_rules and rows_of(policy.spec.get(direction))):
            continue
        certain = selects(policy.spec.get("podSelector"), pod.labels)
        if certain.yes is not False:
            found.append(_judged(traffic, direction, policy, certain, peer_match or peer_of))
    return found


def _judged(traffic: Traffic, direction: str, policy: Policy, certain: Match, peer_match: PeerMatch) -> Selected:
    rules = rows_of(policy.spec.get(direction))
    doubt = ""
    for number, rule in enumerate(rules, 1):
        match = _rule(traffic, direction, policy, rule, peer_match)
        if match.yes:
            return Selected(policy, certain, YES, f"{direction} rule {number} of {len(rules)}", False)
        doubt = doubt or ("" if match.yes is False else match.why)
    return Selected(policy, certain, unknown(doubt) if doubt else NO, "", not rules)


def _rule(traffic: Traffic, direction: str, policy: Policy, rule: Any, peer_match: PeerMatch) -> Match:
    if not isinstance(rule, Mapping):
        return _UNREADABLE
    peers = rule.get(_SECTION[direction][1])
    far = YES if peers is None or peers == [] else _any_peer(traffic, policy, direction, peers, peer_match)
    return all_of([far, ports.any_port(rule.get("ports"), traffic.target, traffic.port, traffic.protocol)])


def _any_peer(traffic: Traffic, policy: Policy, direction: str, peers: Any, peer_match: PeerMatch) -> Match:
    if not isinstance(peers, list):
        return _UNREADABLE
    return any_of(
        peer_match(traffic, policy, direction, peer) if isinstance(peer, Mapping) else _UNREADABLE for peer in peers
    )


def peer_of(traffic: Traffic, policy: Policy, direction: str, peer: Mapping[str, Any]) -> Match:
    """Return whether an element of ``from`` or ``to`` covers the other end, an ipBlock that of a pod as well."""
    other = traffic.other(direction)
    block = peer.get("ipBlock")
    if block is not None:
        if not isinstance(block, Mapping):
            return _UNREADABLE
        return addresses.within(other, block.get("cidr"), block.get("except"))
    match = pod_peer(traffic, policy.namespace, peer)(other)
    if isinstance(other, Pod) and other.host_network and match.yes:
        return unknown(f"whether a selector covers {other}, which has its node's network, differs between CNIs")
    return match


def pod_peer(traffic: Traffic, namespace: str, peer: Mapping[str, Any]) -> Callable[[Any], Match]:
    """Return how pods are matched by ``podSelector`` and ``namespaceSelector``; addresses never are."""

    def match(other: Any) -> Match:
        if "podSelector" not in peer and "namespaceSelector" not in peer:
            return _UNREADABLE
        if not isinstance(other, Pod):
            return NO
        pods = selects(peer.get("podSelector"), other.labels)
        if peer.get("namespaceSelector") is None:
            return pods if other.namespace == namespace else NO
        return all_of([selects(peer.get("namespaceSelector"), traffic.namespace_labels(other)), pods])

    return match


def decide(traffic: Traffic, direction: str) -> Decision | None:
    """Return what the NetworkPolicies say of one direction; None where none of them selects the pod."""
    found = selecting(traffic, direction)
    if not found:
        return None
    steps = tuple(Step(one.policy, describe(one, direction)) for one in found)
    return combine(found, direction, steps)


def describe(one: Selected, direction: str) -> str:
    """Return what a policy does, for the list of steps."""
    if one.certain.yes is None:
        return f"may select the pod for {direction}: {one.certain.why}"
    if one.match.yes:
        return f"lets this connection through: {one.rule}"
    if one.match.yes is None:
        return f"may let this connection through: {one.match.why}"
    if one.empty:
        return f"refuses all {direction} that no policy lets through (it has no rule)"
    return f"refuses {direction} that no policy lets through; none of its rules covers this connection"


def combine(found: Iterable[Selected], direction: str, steps: tuple[Step, ...]) -> Decision:
    """Return the decision that policies make together, of which at least one may select the pod."""
    rows = list(found)
    sure = [one for one in rows if one.certain.yes]
    for one in sure:
        if one.match.yes:
            return Decision(direction, True, one.policy, f"{one.policy.ref} lets it through: {one.rule}", steps)
    for one in rows:
        if one.certain.yes is None and not sure:
            return Decision(direction, None, None, f"{one.policy.ref}: {one.certain.why}", steps)
        if one.match.yes is None:
            return Decision(direction, None, None, f"{one.policy.ref}: {one.match.why}", steps)
        if one.certain.yes is None and one.match.yes:
            return Decision(direction, None, None, f"{one.policy.ref}: {one.certain.why}", steps)
    who = next((one for one in sure if one.empty), sure[0]).policy
    return Decision(direction, False, who, refused(who, direction, len(sure)), steps)


def refused(policy: Policy, direction: str, selecting: int) -> str:
    """Return the sentence for a connection that no rule lets through."""
    lone = "and has no rule" if not rows_of(policy.spec.get(direction)) else "and none of its rules covers this"
    return f"{policy.ref} selects the pod for {direction} {lone}{others(selecting - 1, 'select')}"


def others(number: int, verb: str) -> str:
    """Return the end of such a sentence: that further policies do not let it through either."""
    if not number:
        return ""
    return f"; {number} {'other ' + verb + 's' if number == 1 else 'others ' + verb} it too, and none allows this"
