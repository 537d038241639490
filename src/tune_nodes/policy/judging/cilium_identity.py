"""Who Cilium takes the ends of a connection for: identities, and how its selectors and entities match them (pure).

Source: pkg/labelsfilter, pkg/policy/api and pkg/k8s/apis/cilium.io/utils of Cilium 1.20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.policy.judging.addresses import touches
from tune_nodes.policy.judging.matching import NO, Match, all_of, any_of, said, unknown
from tune_nodes.policy.judging.selectors import keys_of, matches
from tune_nodes.policy.model import Cidr, Peer, Pod, Snapshot

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "io.cilium.k8s.policy.cluster"
#: Labels of pods that Cilium keeps out of identities unless it is told otherwise: a selector never finds them.
_KEPT = ("app.kubernetes.io", NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT, CLUSTER)
_LEFT_OUT = re.compile(
    r"io\.kubernetes|kubernetes\.io|statefulset\.kubernetes\.io/pod-name|apps\.kubernetes\.io/pod-index"
    r"|batch\.kubernetes\.io/job-completion-index|batch\.kubernetes\.io/controller-uid|.*beta\.kubernetes\.io"
    r"|k8s\.io|pod-template-generation|pod-template-hash|controller-revision-hash|controller-uid|annotation"
    r"|etcd_node|topology\.kubernetes\.io"
)
#: What each entity stands for. "pod" is any pod that Cilium manages.
ENTITIES: Mapping[str, frozenset[str]] = {
    "all": frozenset({"pod", "host", "remote-node", "world"}),
    "world": frozenset({"world"}),
    "world-ipv4": frozenset({"world-ipv4"}),
    "world-ipv6": frozenset({"world-ipv6"}),
    "host": frozenset({"host"}),
    "remote-node": frozenset({"remote-node"}),
    "cluster": frozenset({"pod", "host", "remote-node", "kube-apiserver"}),
    "cluster-mesh": frozenset({"pod", "host", "remote-node", "kube-apiserver"}),
    "kube-apiserver": frozenset({"kube-apiserver"}),
    "init": frozenset(),
    "ingress": frozenset(),
    "unmanaged": frozenset(),
    "health": frozenset(),
    "none": frozenset(),
}


@dataclass(frozen=True)
class Identity:
    """One end. ``classes``: what entities it belongs to; ``labels``: with their source, "k8s:app"; ``unsure``: why its
    classes are not known, "" where they are."""

    peer: Peer
    classes: frozenset[str]
    labels: Mapping[str, str]
    unsure: str = ""

    @property
    def is_pod(self) -> bool:
        """Whether it is a pod with an identity of its own."""
        return "pod" in self.classes


def identity(snapshot: Snapshot, peer: Peer, near: Peer) -> Identity:
    """Return who one end is.

    Args:
        snapshot: of the cluster.
        peer: the end.
        near: the pod whose policies are asked: its own node is the host, every other one a remote node.
    """
    if isinstance(peer, Pod) and not peer.host_network:
        return Identity(peer, frozenset({"pod"}), _labels(snapshot, peer))
    here = near.node if isinstance(near, Pod) else ""
    if isinstance(peer, Pod):
        classes = {"host" if peer.node == here else "remote-node"}
        servers = set(snapshot.apiservers) & set(peer.ips)
        return _reserved(peer, classes | ({"kube-apiserver"} if servers else set()))
    if snapshot.node_addresses and touches(peer, snapshot.node_addresses):
        return _of_node(snapshot, peer, here)
    classes = {"world", "world-ipv4" if peer.network.version == 4 else "world-ipv6"}
    if touches(peer, snapshot.apiservers):
        classes.add("kube-apiserver")
    covered = [pod.ref for pod in snapshot.pods if not pod.host_network and touches(peer, pod.ips)]
    unsure = f"pod {covered[0]} is among the {peer}" if covered else ""
    return _reserved(peer, classes, unsure)


def _of_node(snapshot: Snapshot, peer: Cidr, here: str) -> Identity:
    node = next(node for node in snapshot.nodes if touches(peer, node.addresses))
    classes = {"host" if node.name == here else "remote-node"}
    if touches(peer, snapshot.apiservers):
        classes.add("kube-apiserver")
    wide = peer.network.num_addresses > 1
    return _reserved(peer, classes, f"node {node.name} is among the {peer}" if wide else "")


def _reserved(peer: Peer, classes: set[str], unsure: str = "") -> Identity:
    return Identity(peer, frozenset(classes), {f"reserved:{one}": "" for one in classes}, unsure)


def _labels(snapshot: Snapshot, pod: Pod) -> Mapping[str, str]:
    namespace = {"kubernetes.io/metadata.name": pod.namespace, **snapshot.namespaces.get(pod.namespace, {})}
    found = {f"k8s:{key}": value for key, value in kept(pod.labels).items()}
    found |= {f"k8s:{NAMESPACE_LABELS}.{key}": value for key, value in namespace.items()}
    return found | {
        f"k8s:{NAMESPACE}": pod.namespace,
        f"k8s:{SERVICE_ACCOUNT}": pod.service_account,
        f"k8s:{CLUSTER}": snapshot.settings.get("cluster-name", "default"),
    }


def kept(labels: Mapping[str, str]) -> dict[str, str]:
    """Return those labels of a pod that Cilium makes its identity of."""
    return {key: value for key, value in labels.items() if key.startswith(_KEPT) or not _LEFT_OUT.match(key)}


def _values(labels: Mapping[str, str], key: str) -> tuple[str, ...]:
    source, colon, rest = key.partition(":")
    if not colon:
        source, rest = "any", key
    if source != "any":
        return (labels[key],) if key in labels else ()
    return tuple(labels[full] for full in (f"k8s:{rest}", f"reserved:{rest}") if full in labels)


def selects(selector: Any, who: Identity, namespace: str, *, subject: bool = False) -> Match:
    """Return whether an endpoint selector selects an end.

    Args:
        selector: the selector.
        who: the end.
        namespace: the policy's; "" for a clusterwide one, whose selectors speak of pods in all namespaces.
        subject: whether it chooses the pods that the policy is for, which are those of its own namespace only.
    """
    if who.unsure:
        return unknown(who.unsure)
    keys = keys_of(selector)
    match = matches(selector, lambda key: _values(who.labels, key))
    if any(key.startswith("reserved:") for key in keys):
        return match
    if not who.is_pod:
        return NO if match.yes is not None else match
    found = who.labels[f"k8s:{NAMESPACE}"]
    if subject:
        return all_of([said(not namespace or found == namespace), match])
    plain = {key.partition(":")[2] if ":" in key else key for key in keys}
    names_one = NAMESPACE in plain or (any(one.startswith(f"{NAMESPACE_LABELS}.") for one in plain))
    return all_of([said(names_one or not namespace or found == namespace), match])


def is_entity(names: Any, who: Identity) -> Match:
    """Return whether an end is one of several entities."""
    if who.unsure:
        return unknown(who.unsure)
    if not isinstance(names, list):
        return unknown("a list of entities in it cannot be read")
    return any_of(_entity(name, who) for name in names)


def _entity(name: Any, who: Identity) -> Match:
    if not isinstance(name, str) or name not in ENTITIES:
        return unknown("it names an entity that is not known")
    return said(bool(ENTITIES[name] & who.classes))
