"""One rule of a CiliumNetworkPolicy: whom and which ports it covers (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tune_nodes.policy.judging import addresses, ports
from tune_nodes.policy.judging.cilium_identity import Identity, is_entity, selects
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, Traffic
from tune_nodes.policy.judging.matching import NO, YES, Match, all_of, any_of, said, unknown
from tune_nodes.policy.judging.selectors import selects as labels_match
from tune_nodes.policy.model import Cidr, Policy, Snapshot

_UNREADABLE = unknown("a rule in it cannot be read")
_PEERS = {
    INGRESS: ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes", "fromGroups"),
    EGRESS: (*("toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toNodes", "toGroups", "toServices", "toFQDNs"),),
}
_DNS_ALL = [{"matchPattern": "*"}]


def covers(traffic: Traffic, direction: str, policy: Policy, rule: Any, other: Identity, *, deny: bool) -> Match:
    """Return whether a rule covers a connection.

    Args:
        traffic: the connection.
        direction: whose side.
        policy: that the rule is of.
        rule: an element of ``ingress``, ``ingressDeny``, ``egress`` or ``egressDeny``.
        other: the far end.
        deny: whether it is one of the denies, which know neither requests nor authentication.
    """
    if not isinstance(rule, Mapping):
        return _UNREADABLE
    match = all_of([_l3(traffic.snapshot, direction, policy, rule, other), _l4(traffic, rule, deny=deny)])
    if match.yes and not deny and _mode(rule) not in ("", "disabled"):
        return unknown("it lets through only ends that authenticate to each other")
    return match


def _mode(rule: Mapping[str, Any]) -> str:
    found = rule.get("authentication")
    mode = found.get("mode") if isinstance(found, Mapping) else found
    return mode if isinstance(mode, str) else ("" if mode is None else "unreadable")


def _l3(snapshot: Snapshot, direction: str, policy: Policy, rule: Mapping[str, Any], other: Identity) -> Match:
    named = {key: rule[key] for key in _PEERS[direction] if rule.get(key) is not None}
    if any(value == [] for value in named.values()):  # a list that is there and empty selects nobody
        return NO
    if not named:  # nobody is named: everybody, but only where ports are
        return said(bool(rule.get("toPorts") or rule.get("icmps")))
    if len(named) > 1:
        return unknown(f"{' and '.join(sorted(named))} stand in one of its rules, which Cilium does not take")
    ((key, value),) = named.items()
    if not isinstance(value, list):
        return _UNREADABLE
    return _KINDS[key.removeprefix("from").removeprefix("to")](snapshot, policy, value, other)


def _endpoints(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return any_of(selects(selector, other, policy.namespace) for selector in value)


def _entities(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return is_entity(value, other)


def _outside(snapshot: Snapshot, other: Identity) -> Match:
    """Say whether ranges of addresses are matched against an end at all: never against pods."""
    if other.unsure:
        return unknown(other.unsure)
    nodes = "nodes" in snapshot.settings.get("policy-cidr-match-mode", "")
    return said("world" in other.classes or (nodes and bool({"host", "remote-node"} & other.classes)))


def _cidrs(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return all_of([_outside(snapshot, other), addresses.within_any(other.peer, value)])


def _cidr_sets(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return all_of([_outside(snapshot, other), any_of(_cidr_set(snapshot, row, other) for row in value)])


def _cidr_set(snapshot: Snapshot, row: Any, other: Identity) -> Match:
    if not isinstance(row, Mapping):
        return _UNREADABLE
    holes = row.get("except")
    if row.get("cidr"):
        return addresses.within(other.peer, row["cidr"], holes)
    groups = [one for one in snapshot.sets if one.kind.engine == "cilium"]
    if row.get("cidrGroupRef"):
        chosen = [(one, YES) for one in groups if one.name == row["cidrGroupRef"]]
    elif row.get("cidrGroupSelector") is not None:
        chosen = [(one, labels_match(row["cidrGroupSelector"], one.labels)) for one in groups]
    else:
        return _UNREADABLE
    return any_of(all_of([match, _group(one, holes, other)]) for one, match in chosen)


def _group(group: Policy, holes: Any, other: Identity) -> Match:
    ranges = group.spec.get("externalCIDRs")
    if not isinstance(ranges, list):
        return unknown(f"{group.ref} cannot be read")
    return any_of(addresses.within(other.peer, cidr, holes) for cidr in ranges)


def _nodes(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    if other.unsure:
        return unknown(other.unsure)
    if not {"host", "remote-node"} & other.classes:
        return NO
    return unknown("it selects nodes by their labels")


def _groups(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return NO if other.is_pod else unknown("it names groups of a cloud, whose addresses are not known here")


def _services(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    return unknown("it names services, whose endpoints are not looked at")


def _names(snapshot: Snapshot, policy: Policy, value: list[Any], other: Identity) -> Match:
    if isinstance(other.peer, Cidr) and ("world" in other.classes or other.unsure):
        return unknown("it lets through DNS names, and which address had which name only Cilium knows")
    return NO


_KINDS: Mapping[str, Callable[[Snapshot, Policy, list[Any], Identity], Match]] = {
    "Endpoints": _endpoints,
    "Entities": _entities,
    "CIDR": _cidrs,
    "CIDRSet": _cidr_sets,
    "Nodes": _nodes,
    "Groups": _groups,
    "Services": _services,
    "FQDNs": _names,
}


def _l4(traffic: Traffic, rule: Mapping[str, Any], *, deny: bool) -> Match:
    rows = rule.get("toPorts")
    if rows is None or rows == []:
        return said(not rule.get("icmps"))  # ICMP alone: no port of any other protocol
    if not isinstance(rows, list):
        return _UNREADABLE
    return any_of(_row(traffic, row, deny=deny) for row in rows)


def _row(traffic: Traffic, row: Any, *, deny: bool) -> Match:
    if not isinstance(row, Mapping) or not isinstance(row.get("ports"), list):
        return _UNREADABLE
    match = any_of(_port(traffic, port) for port in row["ports"])
    if match.yes and not deny and _by_request(row):
        return unknown("on this port it decides by request (L7), not by connection")
    return match


def _by_request(row: Mapping[str, Any]) -> bool:
    if any(row.get(key) for key in ("terminatingTLS", "originatingTLS", "serverNames", "listener")):
        return True
    rules = row.get("rules")
    if not isinstance(rules, Mapping):
        return rules is not None
    return any(bool(value) and not (key == "dns" and value == _DNS_ALL) for key, value in rules.items())


def _port(traffic: Traffic, row: Any) -> Match:
    if not isinstance(row, Mapping):
        return _UNREADABLE
    protocol = row.get("protocol") or "ANY"
    if not isinstance(protocol, str):
        return _UNREADABLE
    if protocol.upper() not in ("ANY", traffic.protocol):
        return NO
    wanted, end = row.get("port"), row.get("endPort")
    if wanted in (None, "", "0", 0) and not end:
        return YES
    return ports.covers(wanted, end or None, traffic.target, traffic.port, traffic.protocol)
