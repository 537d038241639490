"""One rule of a Calico policy: which connections it covers (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_nodes.policy.judging import addresses, ports
from tune_nodes.policy.judging.calico_selector import is_global, matches
from tune_nodes.policy.judging.decision import Traffic
from tune_nodes.policy.judging.matching import NO, YES, Match, all_of, any_of, said, unknown
from tune_nodes.policy.model import Cidr, Peer, Pod, Policy

_UNREADABLE = unknown("a rule in it cannot be read")
_NUMBERS = {6: "TCP", 17: "UDP", 132: "SCTP"}


def labels_of(pod: Pod) -> dict[str, str]:
    """Return a pod's labels as Calico's selectors see them."""
    return {
        **pod.labels,
        "projectcalico.org/namespace": pod.namespace,
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": pod.service_account,
    }


def namespace_labels(traffic: Traffic, name: str) -> dict[str, str]:
    """Return a namespace's labels as Calico's selectors see them."""
    known = traffic.snapshot.namespaces.get(name, {})
    return {"kubernetes.io/metadata.name": name, **known, "projectcalico.org/name": name}


def selector(value: Any, labels: Mapping[str, str]) -> Match:
    """Return whether a selector holds; None and "" hold for everything."""
    if value is None:
        return YES
    return matches(value, labels) if isinstance(value, str) else _UNREADABLE


def covers(traffic: Traffic, policy: Policy, rule: Any) -> Match:
    """Return whether a rule covers a connection."""
    if not isinstance(rule, Mapping):
        return _UNREADABLE
    match = all_of(
        [
            _protocols(traffic, rule),
            _version(traffic, rule.get("ipVersion")),
            _entity(traffic, policy, rule.get("source"), traffic.source, far_port=False),
            _entity(traffic, policy, rule.get("destination"), traffic.target, far_port=True),
        ]
    )
    if match.yes and rule.get("http"):
        return unknown("it decides by request (http), not by connection")
    return match


def _protocols(traffic: Traffic, rule: Mapping[str, Any]) -> Match:
    if rule.get("icmp") or rule.get("notICMP"):
        return NO
    wanted, unwanted = rule.get("protocol"), rule.get("notProtocol")
    return all_of(
        [
            YES if wanted is None else _protocol(traffic, wanted),
            YES if unwanted is None else ~_protocol(traffic, unwanted),
        ]
    )


def _protocol(traffic: Traffic, value: Any) -> Match:
    if isinstance(value, bool):
        return _UNREADABLE
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 4:
        value = int(value)
    if isinstance(value, int):
        return said(_NUMBERS.get(value) == traffic.protocol)
    return said(value.upper() == traffic.protocol) if isinstance(value, str) else _UNREADABLE


def _version(traffic: Traffic, wanted: Any) -> Match:
    if wanted is None:
        return YES
    seen = {one.version for one in addresses.networks(traffic.target)}
    return unknown(f"{traffic.target} has no address yet") if not seen else said(wanted in seen)


def _entity(traffic: Traffic, policy: Policy, entity: Any, end: Peer, *, far_port: bool) -> Match:
    if entity is None:
        return YES
    if not isinstance(entity, Mapping):
        return _UNREADABLE
    found = [_members(traffic, policy, entity, end)]
    if entity.get("nets"):
        found.append(addresses.within_any(end, entity["nets"]))
    if entity.get("notNets"):
        found.append(~addresses.within_any(end, entity["notNets"]))
    for key in ("ports", "notPorts"):
        if entity.get(key):
            match = (
                _ports(traffic, entity[key]) if far_port else unknown("it names ports that the source connects from")
            )
            found.append(match if key == "ports" else ~match)
    if entity.get("services"):
        found.append(unknown("it names a service, whose endpoints are not looked at"))
    return all_of(found)


def _members(traffic: Traffic, policy: Policy, entity: Mapping[str, Any], end: Peer) -> Match:
    """Return whether the selectors of an entity select one end: a pod, or a set that its address is in."""
    wanted, spaces = entity.get("selector") or None, entity.get("namespaceSelector") or None
    accounts, unwanted = entity.get("serviceAccounts"), entity.get("notSelector") or None
    found = [YES]
    if wanted is not None or spaces is not None:
        found.append(_selected(traffic, policy.namespace, wanted, spaces, end))
    if unwanted is not None:
        found.append(~_selected(traffic, "", unwanted, None, end))
    if accounts is not None:
        found.append(_accounts(policy, accounts, end))
    return all_of(found)


def _selected(traffic: Traffic, namespace: str, wanted: Any, spaces: Any, end: Peer) -> Match:
    """Return whether a selector selects an end.

    Args:
        traffic: the connection.
        namespace: that the policy is in, "" for none: without a namespace selector it speaks of this one only.
        wanted: the selector; None for all.
        spaces: of namespaces; None for none, "global()" for what is in no namespace.
        end: a pod or addresses.
    """

    def place(name: str) -> Match:
        if is_global(spaces):
            return said(not name)
        if spaces is None:
            return said(not namespace or name == namespace)
        return selector(spaces, namespace_labels(traffic, name)) if name else NO

    found = [
        all_of(
            [place(one.namespace), selector(wanted, one.labels), addresses.within_any(end, one.spec.get("nets") or [])]
        )
        for one in traffic.snapshot.sets
        if one.kind.engine == "calico"
    ]
    if isinstance(end, Pod) and not end.host_network:
        found.append(all_of([place(end.namespace), selector(wanted, labels_of(end))]))
    elif isinstance(end, Cidr) and end.network.num_addresses > 1:
        inside = [pod for pod in traffic.snapshot.pods if not pod.host_network and addresses.touches(end, pod.ips)]
        found += [unknown(f"pod {pod.ref} is among the {end}") for pod in inside[:1]]
    return any_of(found)


def _accounts(policy: Policy, accounts: Any, end: Peer) -> Match:
    if not isinstance(accounts, Mapping):
        return _UNREADABLE
    if not isinstance(end, Pod) or end.host_network:
        return NO
    if accounts.get("selector"):
        return unknown("it selects service accounts by their labels, which are not read")
    names = accounts.get("names") or []
    if not isinstance(names, list):
        return _UNREADABLE
    return said((not names or end.service_account in names) and policy.namespace in ("", end.namespace))


def _ports(traffic: Traffic, rows: Any) -> Match:
    if not isinstance(rows, list):
        return _UNREADABLE
    return any_of(_port(traffic, row) for row in rows)


def _port(traffic: Traffic, row: Any) -> Match:
    first, colon, last = row.partition(":") if isinstance(row, str) else (row, "", "")
    if colon and (ports.number(first) is None or ports.number(last) is None):
        return _UNREADABLE
    end = last if colon else None
    return (
        ports.covers(first, end, traffic.target, traffic.port, traffic.protocol) if first is not None else _UNREADABLE
    )
