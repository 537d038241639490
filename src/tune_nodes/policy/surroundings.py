"""What policies speak of: pods, namespaces, nodes, the CNI and its settings, read from the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tune_nodes.cluster import cni
from tune_nodes.cluster.api import Api, members
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import FORBIDDEN, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import at, mappings, name_of, node_facts, text, texts
from tune_nodes.policy.model import NamedPort, Node, Pod, strings

#: Annotations in which CNIs write further addresses of a node: its side of the tunnel.
_CNI_ADDRESSES = (
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "io.cilium.network.ipv4-cilium-host",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
)
CILIUM_SETTINGS = "cilium-config"


def read_pods(api: Api, namespace: str = "", query: Mapping[str, str] | None = None) -> list[Pod]:
    """Return the pods of a namespace, "" for all, that a query ("fieldSelector") does not leave out."""
    found = (pod_of(item) for item in api.items(Call("list", "pods", namespace=namespace), query))
    return list({pod.uid or pod.ref: pod for pod in found if pod is not None}.values())


def pod_of(item: Mapping[str, Any]) -> Pod | None:
    """Return a Pod object as plain data; None for one without a usable name or namespace (pure)."""
    name, namespace = name_of(item), text(item, "metadata", "namespace")
    if not (name and namespace):
        return None
    found = [text(row, "ip", limit=60) for row in mappings(item, "status", "podIPs")]
    first = text(item, "status", "podIP", limit=60)
    return Pod(
        namespace=namespace,
        name=name,
        uid=text(item, "metadata", "uid"),
        node=text(item, "spec", "nodeName"),
        ips=tuple(dict.fromkeys(ip for ip in (first, *found) if ip)),
        labels=strings(at(item, "metadata", "labels")),
        host_network=at(item, "spec", "hostNetwork") is True,
        ports=tuple(_ports(item)),
        service_account=text(item, "spec", "serviceAccountName") or "default",
        phase=text(item, "status", "phase", limit=40),
    )


def _ports(item: Mapping[str, Any]) -> Iterator[NamedPort]:
    for container in (*mappings(item, "spec", "containers"), *mappings(item, "spec", "initContainers")):
        for row in mappings(container, "ports"):
            name, number = row.get("name"), row.get("containerPort")
            if isinstance(name, str) and isinstance(number, int):
                yield NamedPort(name, number, text(row, "protocol", limit=10) or "TCP")


def read_namespaces(api: Api) -> dict[str, Mapping[str, str]]:
    """Return the labels of each namespace."""
    found = api.items(Call("list", "namespaces"))
    return {name: strings(at(item, "metadata", "labels")) for item in found if (name := name_of(item))}


def read_nodes(api: Api) -> tuple[tuple[Node, ...], set[str]]:
    """Return the nodes, and the CNIs that left their mark on them."""
    nodes, annotated = [], set()
    for page in api.pages(Call("list", "nodes")):
        items = members(page)
        annotated |= cni.of_nodes(items)
        nodes += [node for node in map(node_of, items) if node is not None]
    return tuple({node.name: node for node in nodes}.values()), annotated


def node_of(item: Mapping[str, Any]) -> Node | None:
    """Return a Node object as plain data (pure)."""
    facts = node_facts(item)
    if facts is None:
        return None
    notes = texts(item, "metadata", "annotations")
    more = [notes[key].partition("/")[0] for key in _CNI_ADDRESSES if notes.get(key)]
    return Node(facts.name, tuple(dict.fromkeys([*facts.addresses, *more])), strings(at(item, "metadata", "labels")))


def read_daemonsets(api: Api) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Return the CNIs among the DaemonSets; {} and a sentence where they may not be listed."""
    try:
        return cni.of_daemonsets(api.items(Call("list", "daemonsets", "apps"))), []
    except ClusterError as problem:
        if problem.code != FORBIDDEN:
            raise
        return {}, [f"who enforces was read off the nodes alone: {problem.what}"]


def read_settings(api: Api) -> tuple[Mapping[str, str], list[str]]:
    """Return Cilium's settings; {} and a sentence where they cannot be read."""
    try:
        found = api.get(Call("get", "configmaps", namespace=cni.SYSTEM, name=CILIUM_SETTINGS))
    except ClusterError as problem:
        if problem.code not in (FORBIDDEN, NOT_FOUND):
            raise
        return {}, [f"Cilium's settings, for which its defaults are taken: {problem.what}"]
    return strings(at(found, "data")), []


def kept_from_judging(settings: Mapping[str, str]) -> list[str]:
    """Return what Cilium's settings keep from being judged."""
    if settings.get("labels"):
        return ["which labels Cilium makes identities of: its default choice is taken, and `labels` is set"]
    return []


def read_apiservers(api: Api) -> tuple[tuple[str, ...], list[str]]:
    """Return the addresses at which the API server answers, for Cilium's entity kube-apiserver."""
    call = Call("get", "endpointslices", "discovery.k8s.io", "default", "kubernetes", "v1")
    try:
        found = api.get(call)
    except ClusterError as problem:
        if problem.code not in (FORBIDDEN, NOT_FOUND):
            raise
        return (), [f"which addresses are the API server's (entity kube-apiserver): {problem.what}"]
    rows = [one for row in mappings(found, "endpoints") for one in (row.get("addresses") or []) if isinstance(one, str)]
    return tuple(rows), []
