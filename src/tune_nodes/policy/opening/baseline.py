"""A first set of policies for a namespace, as files for review: deny by default, DNS, what its services serve (pure).

What is proposed rests on Services and the pods behind them, and on the connections that were seen where nodes watched.
Each file says so, and what to check before it is applied. Nothing here applies anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from tune_nodes.cluster.objects import at, mappings, text
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod, Snapshot, strings
from tune_nodes.policy.observing.flows import Observed
from tune_nodes.policy.observing.proposal import left_out, proposed
from tune_nodes.policy.opening.allows import is_dns
from tune_nodes.policy.opening.scope import NAME_LABEL

#: Types of services that are reached from outside the cluster.
_OUTSIDE = ("LoadBalancer", "NodePort")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def propose(
    namespace: str, services: Iterable[Mapping[str, Any]], snapshot: Snapshot, observed: Observed | None = None
) -> dict[str, str]:
    """Return the proposal: file name to text, in the order in which they are to be applied.

    Args:
        namespace: which.
        services: its Service objects.
        snapshot: its pods, and the cluster's name servers.
        observed: the connections that were seen, None where nobody watched.
    """
    pods = [pod for pod in snapshot.pods if pod.namespace == namespace and not pod.host_network]
    found = {"10-allow-dns.yaml": _dns(namespace, snapshot)}
    served: set[str] = set()
    for service in sorted(services, key=lambda one: text(one, "metadata", "name")):
        made = _service(namespace, service, pods)
        if made:
            name, body, refs = made
            found[f"20-allow-{name}.yaml"] = body
            served |= refs
    for file, name, spec, comment in proposed(namespace, observed, snapshot) if observed else ():
        found[file] = _policy(namespace, name, spec, comment)
    found["90-default-deny.yaml"] = _deny(namespace)
    found["README.md"] = _readme(namespace, pods, served, _basis(namespace, snapshot, observed))
    return found


def _basis(namespace: str, snapshot: Snapshot, observed: Observed | None) -> list[str]:
    """Return what the proposal rests on, for its README."""
    if observed is None:
        return [
            "Made from Services and the pods behind them. No traffic was observed: what leaves the namespace, and who",
            "comes from other namespaces, stands in no file here and would be cut. Add that first.",
        ]
    lines = [f"Made from Services and the pods behind them, and from {sources(observed)}.", ""]
    lines += [
        "What did not talk in that time stands in no file and would be cut: what runs at night, at the end of a month,",
        "or when something fails. The files 20-* are wider than what was seen: they let the whole namespace in.",
    ]
    lines += ["", "Not seen:", *(f"- {one}" for one in observed.missing)] if observed.missing else []
    others = left_out(namespace, observed, snapshot)
    lines += ["", "Seen, and in no file:", *(f"- {one}" for one in others[:50])] if others else []
    return [*lines, *([f"- and {len(others) - 50} more"] if len(others) > 50 else [])]


def sources(observed: Observed) -> str:
    """Say where observed connections come from, and for how long they were watched."""
    tracking = [name for name in observed.nodes if name not in observed.untracked]
    where = [f"the kernel's conntrack on {', '.join(tracking)}"] if tracking else []
    where += [f"the TCP sockets of {observed.pods} of its pods"] if observed.pods else []
    words = " and ".join(where) or "no node at all"
    bare = f" ({', '.join(observed.untracked)} shows no conntrack)" if observed.untracked else ""
    return one_line(f"{words}{bare}, watched for {observed.seconds:g} s from {observed.begun} on", 400)


def _policy(namespace: str, name: str, spec: Mapping[str, Any], comment: Sequence[str]) -> str:
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
    head = "".join(f"# {one_line(line, 300)}\n" for line in comment)
    return head + yaml.safe_dump(document, sort_keys=False)


def _deny(namespace: str) -> str:
    comment = ["Nothing in and nothing out, but what the other files allow."]
    return _policy(namespace, "default-deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, comment)


def _dns(namespace: str, snapshot: Snapshot) -> str:
    places = sorted({pod.namespace for pod in snapshot.pods if is_dns(pod)})
    to = [{"namespaceSelector": {"matchLabels": {NAME_LABEL: place}}} for place in places or ["kube-system"]]
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    where = ", ".join(places)
    seen = f"Name servers were seen in: {where}." if where else "No name server was seen: kube-system is a guess."
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]}
    return _policy(namespace, "allow-dns", spec, [seen])


def _service(namespace: str, service: Mapping[str, Any], pods: Sequence[Pod]) -> tuple[str, str, set[str]] | None:
    """Return a service's name, its policy and its pods; None for one without a selector, or without pods."""
    selector = strings(at(service, "spec", "selector"))
    behind = [pod for pod in pods if selector and selector.items() <= dict(pod.labels).items()]
    ports = list(_ports(service))
    if not behind or not ports:
        return None
    name = text(service, "metadata", "name")
    outside = text(service, "spec", "type") in _OUTSIDE
    rule: dict[str, Any] = {"ports": ports} if outside else {"from": [{"podSelector": {}}], "ports": ports}
    within = {
        "to": [{"podSelector": {"matchLabels": dict(selector)}}],
        "ports": ports,
    }
    comment = [
        f"What the service {name} offers. Who uses it was not observed: all pods of this namespace may.",
        "It is reached from outside the cluster, so everybody may." if outside else "Add who else needs it.",
        f"Pods behind it now: {', '.join(pod.name for pod in behind[:5])}",
    ]
    spec = {"podSelector": {"matchLabels": dict(selector)}, "policyTypes": ["Ingress"], "ingress": [rule]}
    out = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [within]}
    body = _policy(namespace, f"allow-to-{name}", spec, comment)
    body += "---\n" + _policy(namespace, f"allow-out-to-{name}", out, ["The way out of the pods that use it."])
    return name, body, {pod.ref for pod in behind}


def _ports(service: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in mappings(service, "spec", "ports"):
        port, protocol = row.get("targetPort", row.get("port")), row.get("protocol", "TCP")
        if isinstance(port, int | str) and protocol in _PROTOCOLS:
            yield {"protocol": protocol, "port": port}


def _readme(namespace: str, pods: Sequence[Pod], served: set[str], basis: Sequence[str]) -> str:
    others = sorted(pod.name for pod in pods if pod.ref not in served)
    lines = [
        f"# A first set of policies for {namespace}",
        "",
        *basis,
        "",
        "1. Review the files. From the first one on, what no file allows is cut: apply them together.",
        "2. `kubectl apply -f .`, and watch.",
        f"3. If something breaks: `tune-nodes policy reset -n {namespace}`.",
        "",
        f"Pods behind no service: {', '.join(others[:20]) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"
