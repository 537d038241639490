"""The policies that a reset adds: what they say in each API, and how they are recognised as ours (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster.objects import at
from tune_nodes.policy.model import TIER, Kind, Pod, Policy, Snapshot
from tune_nodes.policy.opening.scope import NAME_LABEL, Scope

#: On everything that a reset makes; its value is the reset's id, which is that of its backup.
LABEL = "tune-nodes/reset"
MANAGED = {"app.kubernetes.io/managed-by": "tune-nodes"}
#: When a reset's objects go away again (UTC), "" where only a restore removes them; and who asked.
UNTIL, OWNER = "tune-nodes/until", "tune-nodes/owner"
PREFIX = "tune-nodes-allow"
_DNS_LABELS = ({"k8s-app": "kube-dns"}, {"k8s-app": "node-local-dns"}, {"app.kubernetes.io/name": "coredns"})
_EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Mark:
    """What a reset writes on its objects. ``name``: of each; ``id``: of the reset."""

    id: str = "plan"
    until: str = ""
    owner: str = ""

    @property
    def name(self) -> str:
        """The name of every object that is added."""
        return f"{PREFIX}-{self.id}"

    def metadata(self, namespace: str = "") -> dict[str, Any]:
        """Return an object's metadata."""
        found: dict[str, Any] = {
            "name": self.name,
            "labels": {**MANAGED, LABEL: self.id},
            "annotations": {UNTIL: self.until, OWNER: self.owner},
        }
        return {**found, "namespace": namespace} if namespace else found


def is_dns(pod: Pod) -> bool:
    """Say whether a pod is one of the cluster's own name servers."""
    return any(pod.labels.get(key) == value for want in _DNS_LABELS for key, value in want.items())


def narrow(snapshot: Snapshot, scope: Scope, mark: Mark, sides: Iterable[str]) -> list[Policy]:
    """Return policies that allow DNS out of, and the nodes' health checks into, a scope's pods.

    Args:
        snapshot: where the name servers and nodes are.
        scope: whose pods.
        mark: of the reset.
        sides: "ingress", "egress": where its pods are cut already. A policy for a side that was open would cut it.
    """
    servers = sorted({pod.namespace for pod in snapshot.pods if is_dns(pod)}) or ["kube-system"]
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    to = [{"namespaceSelector": {"matchLabels": {NAME_LABEL: name}}} for name in servers]
    nodes = [
        {"ipBlock": {"cidr": f"{address}/{128 if ':' in address else 32}"}}
        for address in sorted(snapshot.node_addresses)
    ]
    rules: dict[str, list[dict[str, Any]]] = {
        "egress": [{"to": to, "ports": ports}],
        "ingress": [{"from": nodes}] if nodes else [],
    }
    return _network_policies(snapshot, scope, mark, {side: rules[side] for side in sides})


def everything(snapshot: Snapshot, scope: Scope, mark: Mark) -> Iterator[list[Policy]]:
    """Yield ways to allow all in a scope, the simplest API first; which of them wins is for the judge to say."""
    yield _network_policies(snapshot, scope, mark, {"ingress": [{}], "egress": [{}]})
    if admin := _admin(snapshot, scope, mark):
        yield admin
    if calico := _calico(snapshot, scope, mark):
        yield calico


def _kind(snapshot: Snapshot, group: str, resource: str) -> Kind | None:
    return next((kind for kind in snapshot.kinds if (kind.group, kind.resource) == (group, resource)), None)


def policy(kind: Kind, namespace: str, mark: Mark, spec: Mapping[str, Any]) -> Policy:
    """Return an object of ours that does not exist yet."""
    raw = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": mark.metadata(namespace),
        "spec": dict(spec),
    }
    return Policy(kind, namespace, mark.name, raw)


def _network_policies(
    snapshot: Snapshot, scope: Scope, mark: Mark, rules: Mapping[str, list[dict[str, Any]]]
) -> list[Policy]:
    kind = _kind(snapshot, "networking.k8s.io", "networkpolicies")
    selector = scope.selector(snapshot)
    if kind is None or selector is None or not rules:
        return []
    spec = {"podSelector": selector, "policyTypes": [side.capitalize() for side in rules], **rules}
    return [policy(kind, namespace, mark, spec) for namespace in scope.namespaces(snapshot)]


def _subject(scope: Scope, snapshot: Snapshot) -> dict[str, Any] | None:
    selector = scope.selector(snapshot)
    if selector is None:
        return None
    within = {"matchLabels": {NAME_LABEL: scope.namespace}} if scope.namespace else {}
    return {"pods": {"namespaceSelector": within, "podSelector": selector}} if selector else {"namespaces": within}


def _admin(snapshot: Snapshot, scope: Scope, mark: Mark) -> list[Policy]:
    """Return the policy of the Admin tier's first place, in the newer API where it is served."""
    subject = _subject(scope, snapshot)
    newer = _kind(snapshot, "policy.networking.k8s.io", "clusternetworkpolicies")
    older = _kind(snapshot, "policy.networking.k8s.io", "adminnetworkpolicies")
    kind = newer or older
    if kind is None or subject is None:
        return []
    action = "Accept" if newer else "Allow"
    anyone: list[dict[str, Any]] = [{"namespaces": {}}]
    anywhere = [*anyone, {"networks": list(_EVERYWHERE)}]
    spec = {
        **({"tier": "Admin"} if newer else {}),
        "priority": 0,
        "subject": subject,
        "ingress": [{"name": "tune-nodes", "action": action, "from": anyone}],
        "egress": [{"name": "tune-nodes", "action": action, "to": anywhere}],
    }
    return [policy(kind, "", mark, spec)]


def _calico(snapshot: Snapshot, scope: Scope, mark: Mark) -> list[Policy]:
    """Return the first policy of the first tier. Only through Calico's API server: it keeps names and tiers right."""
    kind = _kind(snapshot, "projectcalico.org", "globalnetworkpolicies")
    selector = scope.selector(snapshot)
    if kind is None or selector is None:
        return []
    tiers = [one for one in snapshot.of("calico", role=TIER) if _order(one) is not None]
    tier = min(tiers, key=lambda one: (_order(one), one.name)).name if tiers else "default"
    mine = [one for one in snapshot.policies if one.kind.engine == "calico" and one.spec.get("tier", "default") == tier]
    orders = [order for one in mine if (order := _order(one)) is not None]
    labels = selector.get("matchLabels", {})
    chosen = " && ".join(f"{key} == '{value}'" for key, value in sorted(labels.items())) or "all()"
    spec = {
        "tier": tier,
        "order": min(orders, default=1.0) - 1,
        "selector": chosen,
        **({"namespaceSelector": f"projectcalico.org/name == '{scope.namespace}'"} if scope.namespace else {}),
        "types": ["Ingress", "Egress"],
        "ingress": [{"action": "Allow"}],
        "egress": [{"action": "Allow"}],
    }
    made = policy(kind, "", mark, spec)
    if tier == "default":
        return [made]
    name = f"{tier}.{mark.name}"  # Calico wants the tier in front of the name
    raw = {**made.raw, "metadata": {**made.raw["metadata"], "name": name}}
    return [Policy(kind, "", name, raw)]


def _order(one: Policy) -> float | None:
    value = at(one.raw, "spec", "order")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
