"""AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy: ranks above and below NetworkPolicy (pure).

Source: sigs.k8s.io/network-policy-api, apis/v1alpha1 and apis/v1alpha2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tune_nodes.policy.judging import addresses, ports
from tune_nodes.policy.judging.decision import EGRESS, Decision, Step, Traffic, rows_of
from tune_nodes.policy.judging.matching import NO, YES, Match, all_of, any_of, said, unknown
from tune_nodes.policy.judging.selectors import selects
from tune_nodes.policy.model import Cidr, Peer, Pod, Policy

ADMIN, BASELINE = "Admin", "Baseline"
TIERS = (ADMIN, BASELINE)
#: Lowest rank that a priority may have; those that cannot be read come last.
LAST = 1001
_UNREADABLE = unknown("a rule in it cannot be read")
_ACTIONS = {"Allow": "lets through", "Accept": "lets through", "Deny": "denies", "Pass": "passes on"}


@dataclass(frozen=True)
class Ranked:
    """A policy that selects, or may select, the pod, and its first rule that covers the connection.

    Args:
        policy: which.
        priority: 0 counts first.
        certain: whether it selects the pod.
        action: "Allow", "Deny", "Pass" of that rule; "" where none covers the connection.
        where: "egress rule 1 of 2".
        doubt: why an earlier rule, or the whole, cannot be judged; "" where it can.
    """

    policy: Policy
    priority: int
    certain: Match
    action: str
    where: str
    doubt: str = ""


def tier_of(policy: Policy) -> str:
    """Return the rank of a policy: "Admin" or "Baseline"."""
    if policy.kind.resource == "clusternetworkpolicies":
        return BASELINE if policy.spec.get("tier") == BASELINE else ADMIN
    return BASELINE if policy.kind.resource == "baselineadminnetworkpolicies" else ADMIN


def ranked(traffic: Traffic, direction: str, tier: str) -> list[Ranked]:
    """Return the policies of one rank that have a part in one direction, in the order in which they count."""
    pod = traffic.subject(direction)
    if not isinstance(pod, Pod) or pod.host_network:  # never selected
        return []
    found = []
    for policy in traffic.snapshot.of("admin"):
        rules = rows_of(policy.spec.get(direction))
        if tier_of(policy) != tier or not rules:
            continue
        certain = _selected(traffic, policy.spec.get("subject"), pod)
        if certain.yes is not False:
            found.append(_first(traffic, direction, policy, certain, rules))
    return sorted(found, key=lambda one: (one.priority, one.policy.ref))


def _first(traffic: Traffic, direction: str, policy: Policy, certain: Match, rules: list[Any]) -> Ranked:
    wanted = policy.spec.get("priority", 0 if tier_of(policy) == BASELINE else None)
    priority = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else LAST
    for number, rule in enumerate(rules, 1):
        match = _rule(traffic, direction, rule)
        where = f"{direction} rule {number} of {len(rules)}"
        if match.yes is None:
            return Ranked(policy, priority, certain, "", where, match.why)
        if match.yes:
            action = rule.get("action")
            if action not in _ACTIONS:
                return Ranked(policy, priority, certain, "", where, "its action is not known")
            return Ranked(policy, priority, certain, "Allow" if action == "Accept" else action, where)
    return Ranked(policy, priority, certain, "", "")


def _selected(traffic: Traffic, subject: Any, pod: Pod) -> Match:
    """Return whether a ``subject``, or a peer that names pods, selects a pod."""
    if not isinstance(subject, Mapping) or len(subject) != 1:
        return unknown("its subject cannot be read")
    if subject.get("namespaces") is not None:
        return selects(subject["namespaces"], traffic.namespace_labels(pod))
    pods = subject.get("pods")
    if not isinstance(pods, Mapping):
        return unknown("its subject cannot be read")
    namespaces = selects(pods.get("namespaceSelector"), traffic.namespace_labels(pod))
    return all_of([namespaces, selects(pods.get("podSelector"), pod.labels)])


def _rule(traffic: Traffic, direction: str, rule: Any) -> Match:
    if not isinstance(rule, Mapping):
        return _UNREADABLE
    peers = rule.get("to" if direction == EGRESS else "from")
    if not isinstance(peers, list) or not peers:
        return _UNREADABLE
    other = traffic.other(direction)
    return all_of([any_of(_peer(traffic, peer, other) for peer in peers), _ports(traffic, rule)])


def _peer(traffic: Traffic, peer: Any, other: Peer) -> Match:
    if not isinstance(peer, Mapping) or len(peer) != 1:
        return _UNREADABLE
    if "networks" in peer:
        return addresses.within_any(other, peer["networks"])
    if "domainNames" in peer:
        return unknown("it names domains, whose addresses are not known here") if isinstance(other, Cidr) else NO
    if "nodes" in peer:
        return _node(traffic, peer["nodes"], other)
    if "namespaces" in peer or "pods" in peer:
        return _selected(traffic, peer, other) if isinstance(other, Pod) and not other.host_network else NO
    return _UNREADABLE


def _node(traffic: Traffic, selector: Any, other: Peer) -> Match:
    if isinstance(other, Pod) and not other.host_network:
        return NO
    return any_of(
        all_of([selects(selector, node.labels), addresses.within_any(other, list(node.addresses))])
        for node in traffic.snapshot.nodes
    )


def _ports(traffic: Traffic, rule: Mapping[str, Any]) -> Match:
    rows = rule.get("protocols", rule.get("ports"))
    if rows is None or rows == []:
        return YES
    if not isinstance(rows, list):
        return _UNREADABLE
    return any_of(_port(traffic, row) for row in rows)


def _port(traffic: Traffic, row: Any) -> Match:
    """Return whether one element of ``ports`` (v1alpha1) or ``protocols`` (v1alpha2) covers the port."""
    if not isinstance(row, Mapping) or len(row) != 1:
        return _UNREADABLE
    ((name, value),) = row.items()
    if name in ("namedPort", "destinationNamedPort"):
        named = isinstance(value, str)
        return ports.named(value, traffic.target, traffic.port, traffic.protocol) if named else _UNREADABLE
    if not isinstance(value, Mapping):
        return _UNREADABLE
    if name in ("portNumber", "portRange"):
        first, last = (value.get("port"), None) if name == "portNumber" else (value.get("start"), value.get("end"))
        return _number(traffic, value.get("protocol", "TCP"), first, last)
    if name not in ("tcp", "udp", "sctp"):
        return _UNREADABLE
    wanted = value.get("destinationPort")
    if wanted is None:
        return said(name.upper() == traffic.protocol)
    if not isinstance(wanted, Mapping):
        return _UNREADABLE
    span = wanted.get("range")
    if isinstance(span, Mapping):
        return _number(traffic, name.upper(), span.get("start"), span.get("end"))
    return _number(traffic, name.upper(), wanted.get("number"), None)


def _number(traffic: Traffic, protocol: Any, first: Any, last: Any) -> Match:
    if ports.number(first) is None:
        return _UNREADABLE
    if protocol != traffic.protocol:
        return NO
    return ports.covers(first, last, traffic.target, traffic.port, traffic.protocol)


def settle(rows: list[Ranked], direction: str) -> Decision | str:
    """Return what one rank decides, or what is next: "" where it says nothing, "Pass" where it passes the rest on."""
    for priority in sorted({one.priority for one in rows}):
        same = [one for one in rows if one.priority == priority]
        doubtful = next((one for one in same if one.doubt or (one.certain.yes is None and one.action)), None)
        if doubtful:
            return Decision(direction, None, None, f"{doubtful.policy.ref}: {doubtful.doubt or doubtful.certain.why}")
        acting = [one for one in same if one.action]
        if len({one.action for one in acting}) > 1:
            names = " and ".join(one.policy.ref for one in acting)
            rule = f"{names} have the same priority {priority} and disagree: which one counts is not defined"
            return Decision(direction, None, None, rule)
        if acting:
            first = acting[0]
            if first.action == "Pass":
                return "Pass"
            sentence = f"{first.policy.ref} {_ACTIONS[first.action]} it: {first.where}, priority {priority}"
            return Decision(direction, first.action == "Allow", first.policy, sentence)
    return ""


def steps_of(rows: list[Ranked], tier: str) -> tuple[Step, ...]:
    """Return what each policy of a rank does."""
    return tuple(Step(one.policy, _describe(one, tier)) for one in rows)


def _describe(one: Ranked, tier: str) -> str:
    rank = f"{tier} rank, priority {one.priority}" if one.policy.kind.kind != "BaselineAdminNetworkPolicy" else tier
    if one.doubt or one.certain.yes is None:
        return f"({rank}) cannot be judged: {one.doubt or one.certain.why}"
    if not one.action:
        return f"({rank}) has no rule for this connection"
    after = " to the next rank" if one.action == "Pass" else ""
    return f"({rank}) {_ACTIONS[one.action]} this connection{after}: {one.where}"


def around(traffic: Traffic, direction: str, inner: Decision, *, decided: bool) -> Decision:
    """Return the decision of all three ranks.

    Args:
        traffic: the connection.
        direction: whose side.
        inner: what the namespaces' own policies say.
        decided: whether one of them selects the pod; else the Baseline rank counts.
    """
    above, below = ranked(traffic, direction, ADMIN), ranked(traffic, direction, BASELINE)
    steps = (*steps_of(above, ADMIN), *inner.steps, *steps_of(below, BASELINE))
    first = settle(above, direction)
    if isinstance(first, Decision):
        return replace(first, steps=steps)
    if decided:
        return replace(inner, steps=steps)
    last = settle(below, direction)
    return replace(last if isinstance(last, Decision) else inner, steps=steps)
