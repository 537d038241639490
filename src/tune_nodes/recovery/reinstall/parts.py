"""One object of a CNI: what it is, as it is applied, and in which order (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster.objects import at
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping.clean import clean

DAEMONSET = ("apps/v1", "DaemonSet")
#: Written by controllers of the server or by kubectl, and of no use to anybody who applies.
_NOTES = frozenset(
    {
        "deployment.kubernetes.io/revision",
        "deprecated.daemonset.template.generation",
        "kubectl.kubernetes.io/last-applied-configuration",
    }
)
#: Kind: fields that the server fills in, at their path.
_FILLED_IN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Namespace": (("spec", "finalizers"),),
    "ServiceAccount": (("secrets",),),
    "Service": (("spec", "healthCheckNodePort"),),
}
#: In this order they are made: what others are in, what others are of, who may do what, what is read, what runs, and
#: last what the server asks before it takes anything.
_RANKS = {
    "Namespace": 0,
    "CustomResourceDefinition": 1,
    "PriorityClass": 2,
    "ServiceAccount": 2,
    "ClusterRole": 3,
    "Role": 3,
    "ClusterRoleBinding": 4,
    "RoleBinding": 4,
    "ConfigMap": 5,
    "Deployment": 8,
    "StatefulSet": 8,
    "DaemonSet": 9,
    "APIService": 10,
    "MutatingWebhookConfiguration": 10,
    "ValidatingWebhookConfiguration": 10,
}
_CONFIGURATION = 6
#: The label of roles that the server itself keeps, and the ConfigMap that it puts into every namespace.
_BOOTSTRAP, _CA = "kubernetes.io/bootstrapping", "kube-root-ca.crt"


@dataclass(frozen=True)
class Key:
    """Which object: "apps/v1", "DaemonSet", "kube-flannel" ("" where its kind has none), "kube-flannel-ds"."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return one_line(f"{self.kind} {where}{self.name}", 300)

    @property
    def is_daemonset(self) -> bool:
        """Whether its pods are started node by node."""
        return (self.api_version, self.kind) == DAEMONSET


@dataclass(frozen=True)
class Part:
    """One object.

    Args:
        key: which.
        body: as it is applied.
        raw: as it was read.
    """

    key: Key
    body: Mapping[str, Any]
    raw: Mapping[str, Any]


def part_of(raw: Mapping[str, Any], api_version: str = "", kind: str = "") -> Part | None:
    """Return an object as a part; None for one without a kind and a name.

    Args:
        raw: as it was read.
        api_version: of a member of a list, which does not say it itself.
        kind: likewise.
    """
    api_version, kind = api_version or _said(raw, "apiVersion"), kind or _said(raw, "kind")
    name, namespace = _said(raw, "metadata", "name"), _said(raw, "metadata", "namespace")
    if not (api_version and kind and name):
        return None
    return Part(Key(api_version, kind, namespace, name), tidy(raw, api_version, kind), raw)


def _said(raw: Mapping[str, Any], *path: str) -> str:
    found = at(raw, *path)
    return found if isinstance(found, str) else ""


def tidy(raw: Mapping[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    """Return an object as it is applied: without what the server, its controllers and kubectl add."""
    body = clean(raw, api_version, kind)
    metadata = body["metadata"]
    notes = metadata.pop("annotations", None)
    kept = {key: value for key, value in notes.items() if key not in _NOTES} if isinstance(notes, dict) else {}
    if kept:
        metadata["annotations"] = kept
    for *path, last in _FILLED_IN.get(kind, ()):
        inner = at(body, *path) if path else body
        if isinstance(inner, dict):
            inner.pop(last, None)
    if kind == "Namespace" and not body.get("spec"):
        body.pop("spec", None)
    if kind == "Service" and at(body, "spec", "clusterIP") != "None":  # one without an address must stay so
        spec = body.get("spec")
        if isinstance(spec, dict):
            body["spec"] = {key: value for key, value in spec.items() if key not in ("clusterIP", "clusterIPs")}
    if kind == "ClusterRole" and body.get("aggregationRule"):
        body.pop("rules", None)  # the server puts them together
    template = at(body, "spec", "template", "metadata")
    if isinstance(template, dict) and template.get("creationTimestamp", "") is None:
        del template["creationTimestamp"]  # older servers write null there
    return body


def is_servers_own(part: Part) -> bool:
    """Say whether the server itself keeps an object: put back, it would be what an older server had."""
    notes = at(part.raw, "metadata", "labels", _BOOTSTRAP)
    return notes is not None or (part.key.kind == "ConfigMap" and part.key.name == _CA)


def in_order(parts: Iterable[Part]) -> list[Part]:
    """Return parts in the order in which they are made."""
    return sorted(parts, key=lambda one: (rank(one.key), one.key.namespace, one.key.name))


def rank(key: Key) -> int:
    """Return an object's place in that order."""
    return _RANKS.get(key.kind, _CONFIGURATION)


def pod_spec(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pod's specification in a workload, {} for an object that is none."""
    found = at(body, "spec", "template", "spec")
    return found if isinstance(found, Mapping) else {}


def without_strategy(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DaemonSet that does not say how its pods are replaced (pure)."""
    spec = {key: value for key, value in body["spec"].items() if key != "updateStrategy"}
    return {**body, "spec": spec}
