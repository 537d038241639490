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
#: The label of a role that one command alone needs: a run does not ask for it.
OPTIONAL = "tune-nodes/optional"
#: Resources that belong to no namespace.
_CLUSTER_WIDE = frozenset(
    {
        "adminnetworkpolicies",
        "baselineadminnetworkpolicies",
        "ciliumclusterwidenetworkpolicies",
        "ciliumcidrgroups",
        "clusternetworkpolicies",
        "felixconfigurations",
        "clusterrolebindings",
        "clusterroles",
        "globalnetworkpolicies",
        "installations",
        "globalnetworksets",
        "namespaces",
        "nodes",
        "stagedglobalnetworkpolicies",
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
    """Return the rights that a level's manifest grants, in its order, without those of one command alone."""
    return granted(manifest(level))


def optional(level: Level, purpose: str) -> list[Right]:
    """Return the rights that a level's manifest grants for one purpose alone ("mtu")."""
    return granted(manifest(level), purpose)


def granted(text: str, purpose: str = "") -> list[Right]:
    """Return the rights of the roles in a manifest of ours: those with this mark, or without any (pure)."""
    found: dict[Right, None] = {}
    for document in yaml.safe_load_all(text):
        if document["kind"] in ("ClusterRole", "Role"):
            if document["metadata"].get("labels", {}).get(OPTIONAL, "") != purpose:
                continue
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
