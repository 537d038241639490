"""What each level of use may ask of a cluster: read from the manifests that grant it, so that both are one list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

import yaml

from tune_nodes.cluster.call import Call
from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line

Level = Literal["read", "tune", "recover"]
LEVELS: tuple[Level, ...] = get_args(Level)
#: Resources that belong to no namespace.
_CLUSTER_WIDE = frozenset(
    {
        "adminnetworkpolicies",
        "baselineadminnetworkpolicies",
        "ciliumclusterwidenetworkpolicies",
        "clusternetworkpolicies",
        "globalnetworkpolicies",
        "namespaces",
        "nodes",
        "tiers",
    }
)


@dataclass(frozen=True)
class Right:
    """One verb on one resource, in one namespace or (where the resource has namespaces) in all of them."""

    call: Call

    def __str__(self) -> str:
        kind = self.call.resource.partition("/")[0]
        everywhere = not self.call.namespace and kind not in _CLUSTER_WIDE
        return f"{self.call} in all namespaces" if everywhere else str(self.call)

    def review(self) -> dict[str, Any]:
        """Return the object that asks the server whether we have it."""
        resource, _, sub = self.call.resource.partition("/")
        attributes = {
            "verb": self.call.verb,
            "group": self.call.group,
            "resource": resource,
            "subresource": sub,
            "namespace": self.call.namespace,
            "name": self.call.name,
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }


def manifest(level: str) -> str:
    """Return the manifest of a level as it is given to kubectl. Raises UsageError for an unknown level."""
    if level not in LEVELS:
        raise UsageError(f"there is no level {one_line(level)!r}", f"there are {', '.join(LEVELS)}")
    return resources.files("tune_nodes.cluster").joinpath("manifests", f"{level}.yml").read_text(encoding="utf-8")


def required(level: Level) -> list[Right]:
    """Return the rights that a level's manifest grants, in its order."""
    return granted(manifest(level))


def granted(text: str) -> list[Right]:
    """Return the rights of the roles in a manifest of ours (pure)."""
    found: dict[Right, None] = {}
    for document in yaml.safe_load_all(text):
        if document["kind"] in ("ClusterRole", "Role"):
            namespace = document["metadata"].get("namespace", "")
            for rule in document["rules"]:
                found |= dict.fromkeys(_rights(rule, namespace))
    return list(found)


def _rights(rule: dict[str, list[str]], namespace: str) -> list[Right]:
    return [
        Right(Call(verb, resource, group, namespace, name))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    ]


def grouped(missing: Iterable[str]) -> list[str]:
    """Return rights in fewer words: those on one resource together, then resources with the same rights (pure)."""
    verbs: dict[str, list[str]] = {}
    for right in missing:
        verb, _, rest = right.partition(" ")
        verbs.setdefault(rest, []).append(verb)
    alike: dict[tuple[str, str], list[str]] = {}
    for rest, words in verbs.items():
        resource, within, where = rest.partition(" in ")
        alike.setdefault((", ".join(words), f"{within}{where}"), []).append(resource)
    return [f"{words} {', '.join(resources)}{where}" for (words, where), resources in alike.items()]
