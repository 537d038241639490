"""What is said of a connection: for each direction a decision, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.policy.judging.addresses import touches
from tune_nodes.policy.model import Peer, Pod, Policy, Snapshot

EGRESS, INGRESS = "egress", "ingress"


@dataclass(frozen=True)
class Step:
    """What one policy has to do with a connection. ``text``: a sentence without its subject."""

    policy: Policy
    text: str


@dataclass(frozen=True)
class Decision:
    """Whether one end lets a connection through.

    Args:
        direction: "egress" (out of the source) or "ingress" (into the target).
        allowed: None where it cannot be told.
        decided_by: the policy that decides; None where none does.
        rule: a sentence.
        steps: every policy that selects the pod for this direction, in the order in which they count.
    """

    direction: str
    allowed: bool | None
    decided_by: Policy | None
    rule: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether a connection is let through: both ends must. ``allowed``: None where it cannot be told."""

    allowed: bool | None
    egress: Decision
    ingress: Decision
    not_judged: tuple[str, ...] = ()

    @property
    def deciding(self) -> Decision:
        """The decision that makes the verdict: the end that refuses, else the one that is not known."""
        worst = [one for one in (self.egress, self.ingress) if one.allowed is not True]
        return min(worst, key=lambda one: one.allowed is None, default=self.ingress)


@dataclass(frozen=True)
class Traffic:
    """One connection to judge, with all that is known of the cluster."""

    snapshot: Snapshot
    source: Peer
    target: Peer
    port: int
    protocol: str = "TCP"

    def subject(self, direction: str) -> Peer:
        """Return the end whose policies count in a direction."""
        return self.source if direction == EGRESS else self.target

    def other(self, direction: str) -> Peer:
        """Return the end that these policies speak of."""
        return self.target if direction == EGRESS else self.source

    def namespace_labels(self, pod: Pod) -> Mapping[str, str]:
        """Return the labels of a pod's namespace; its name, which Kubernetes adds itself, is always among them."""
        return {"kubernetes.io/metadata.name": pod.namespace, **self.snapshot.namespaces.get(pod.namespace, {})}

    def from_own_node(self) -> bool:
        """Say whether the source is the node that the target runs on, or a pod with that node's network."""
        source, target = self.source, self.target
        if not isinstance(target, Pod) or not target.node:
            return False
        if isinstance(source, Pod):
            return source.host_network and source.node == target.node
        own = [address for node in self.snapshot.nodes if node.name == target.node for address in node.addresses]
        return source.network.num_addresses == 1 and touches(source, own)


def rows_of(value: Any) -> list[Any]:
    """Return a list as it is; None, which servers write for an empty one, as []; anything else as one bad row."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
