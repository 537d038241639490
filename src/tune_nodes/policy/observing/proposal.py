"""Allows for what was seen, as files for review: for each kind of pod what goes in, and what comes out (pure).

Pods are of a kind where their labels are alike, but for those that name one of them. What a node sends or gets is in no
file: each CNI has its own way to name nodes. DNS has a file of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Cidr, Peer, Pod, Snapshot
from tune_nodes.policy.observing.flows import Observed, Talk, shown
from tune_nodes.policy.opening.allows import is_dns
from tune_nodes.policy.opening.flows import DNS
from tune_nodes.policy.opening.scope import NAME_LABEL

#: Labels that name one pod, or one generation of pods: a policy by them would not outlive the next rollout.
VOLATILE = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "job-name",
        "controller-uid",
    }
)
#: Connections named one by one in a file's comment.
NAMED = 12

Labels = tuple[tuple[str, str], ...]
Spec = dict[str, Any]


def lasting(pod: Pod) -> Labels:
    """Return the labels that pods of a kind share."""
    return tuple(sorted((key, value) for key, value in pod.labels.items() if key not in VOLATILE))


def proposed(namespace: str, observed: Observed, snapshot: Snapshot) -> list[tuple[str, str, Spec, list[str]]]:
    """Return the policies, in an order that stays: name of the file, of the policy, its spec, its comment."""
    made: list[tuple[str, str, Spec, list[str]]] = []
    for number, side in ((30, "ingress"), (40, "egress")):
        kinds: dict[Labels, list[Talk]] = {}
        for talk in observed.talks:
            pod, other = (talk.target, talk.source) if side == "ingress" else (talk.source, talk.target)
            if (
                is_mine(pod, namespace)
                and isinstance(pod, Pod)
                and lasting(pod)
                and is_for_a_file(talk, other, snapshot)
            ):
                kinds.setdefault(lasting(pod), []).append(talk)
        taken: set[str] = set()
        for labels, mine in sorted(kinds.items()):
            name = _name(labels, taken)
            word = "to" if side == "ingress" else "from"
            made.append(
                (
                    f"{number}-observed-{word}-{name}.yaml",
                    f"observed-{word}-{name}",
                    _spec(side, labels, mine),
                    _said(mine),
                )
            )
    return made


def is_mine(peer: Peer, namespace: str) -> bool:
    """Say whether an end is one of the namespace's pods, with a network of its own."""
    return isinstance(peer, Pod) and peer.namespace == namespace and not peer.host_network


def is_for_a_file(talk: Talk, other: Peer, snapshot: Snapshot) -> bool:
    """Say whether a connection with this other end is written into a file of what was seen."""
    if isinstance(talk.target, Pod) and is_dns(talk.target) and talk.port == DNS:
        return False
    if isinstance(other, Pod):
        return not other.host_network and bool(lasting(other))
    return other.text not in snapshot.node_addresses


def left_out(namespace: str, observed: Observed, snapshot: Snapshot) -> list[str]:
    """Return the connections that are in no file, for the reader to decide on."""
    found = []
    for talk in observed.talks:
        sides = ((talk.target, talk.source), (talk.source, talk.target))
        for pod, other in sides:
            dns = isinstance(talk.target, Pod) and is_dns(talk.target) and talk.port == DNS
            if not is_mine(pod, namespace) or dns or not isinstance(pod, Pod):
                continue
            if not lasting(pod):
                found.append(f"{_line(talk)}: {pod.ref} has no label that lasts")
            elif not is_for_a_file(talk, other, snapshot):
                found.append(
                    f"{_line(talk)}: {'a node' if not isinstance(other, Pod) else 'no label that lasts, or a node'}"
                )
    return list(dict.fromkeys(found))


def _spec(side: str, labels: Labels, talks: Iterable[Talk]) -> Spec:
    """Return a policy's spec: a rule for each other end, with the ports at which it was seen."""
    ports: dict[str, tuple[Mapping[str, Any], list[dict[str, Any]]]] = {}
    for talk in talks:
        other = talk.source if side == "ingress" else talk.target
        peer = _peer(other)
        _, rows = ports.setdefault(repr(peer), (peer, []))
        row = {"protocol": talk.protocol, "port": talk.port}
        if row not in rows:
            rows.append(row)
    key = "from" if side == "ingress" else "to"
    rules = [{key: [dict(peer)], "ports": rows} for _, (peer, rows) in sorted(ports.items())]
    return {"podSelector": {"matchLabels": dict(labels)}, "policyTypes": [side.capitalize()], side: rules}


def _peer(other: Peer) -> Mapping[str, Any]:
    if isinstance(other, Cidr):
        return {"ipBlock": {"cidr": str(other.network)}}
    space = {"matchLabels": {NAME_LABEL: other.namespace}}
    return {"namespaceSelector": space, "podSelector": {"matchLabels": dict(lasting(other))}}


def _name(labels: Labels, taken: set[str]) -> str:
    """Return a name for pods of a kind that no other has: of their app, where a label says it."""
    held = dict(labels)
    keys = ("app.kubernetes.io/name", "app", "k8s-app", "name")
    best = next((held[key] for key in keys if held.get(key)), labels[0][1] or labels[0][0])
    name = re.sub(r"[^a-z0-9]+", "-", best.lower()).strip("-")[:40] or "pods"
    number = 1
    while (one := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    taken.add(one)
    return one


def _said(talks: Sequence[Talk]) -> list[str]:
    lines = [f"Seen: {_line(talk)}" for talk in talks[:NAMED]]
    return [*lines, *([f"and {len(talks) - NAMED} more"] if len(talks) > NAMED else [])]


def _line(talk: Talk) -> str:
    return one_line(f"{shown(talk.source)} -> {shown(talk.target)} {talk.port}/{talk.protocol}", 200)
