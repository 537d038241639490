"""What a reset is for: one pod, a namespace, the pods with some labels, or the cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod, Policy, Snapshot

#: Namespaces have this label since Kubernetes 1.22, and nobody can set it to anything else.
NAME_LABEL = "kubernetes.io/metadata.name"
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_POD_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\Z")
_KEY = re.compile(r"(?:[a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")


@dataclass(frozen=True)
class Scope:
    """Which pods are meant.

    Args:
        kind: how they were named.
        namespace: the one they are in, "" for all (kind label or cluster).
        pod: the pod's name, "" for the other kinds.
        labels: that they have (kind label).
    """

    kind: Literal["pod", "namespace", "label", "cluster"]
    namespace: str = ""
    pod: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        """Its name, as it has to be typed where it must be: "shop", "shop/web-0", "app=web", "shop app=web"."""
        if self.kind == "pod":
            return f"{self.namespace}/{self.pod}"
        chosen = ",".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        return " ".join(part for part in (self.namespace, chosen) if part) or "cluster"

    def __str__(self) -> str:
        """For a sentence: "the namespace shop"."""
        words = {
            "pod": f"the pod {self.text}",
            "namespace": f"the namespace {self.namespace}",
            "label": f"the pods with {','.join(f'{k}={v}' for k, v in sorted(self.labels.items()))}"
            + (f" in {self.namespace}" if self.namespace else ""),
            "cluster": "the whole cluster",
        }
        return words[self.kind]

    def has(self, pod: Pod) -> bool:
        """Say whether a pod is in it. Pods of the node's own network are never: policies do not select them."""
        if pod.host_network or (self.namespace and pod.namespace != self.namespace):
            return False
        if self.kind == "pod":
            return pod.name == self.pod
        return all(pod.labels.get(key) == value for key, value in self.labels.items())

    def pods(self, snapshot: Snapshot) -> list[Pod]:
        """Return its pods that may have a network."""
        return [pod for pod in snapshot.pods if self.has(pod) and pod.phase not in ("Succeeded", "Failed")]

    def namespaces(self, snapshot: Snapshot) -> list[str]:
        """Return the namespaces of its pods; its own is there also where it has no pod yet."""
        found = {pod.namespace for pod in self.pods(snapshot)} | ({self.namespace} - {""})
        if self.kind == "cluster":
            found |= {policy.namespace for policy in snapshot.policies if policy.namespace}
        return sorted(found)

    def selector(self, snapshot: Snapshot) -> dict[str, Any] | None:
        """Return the label selector for its pods in one namespace; {} for all, None where labels cannot tell them."""
        if self.kind == "pod":
            pod = next(iter(self.pods(snapshot)), None)
            return {"matchLabels": dict(pod.labels)} if pod and pod.labels else None
        return {"matchLabels": dict(self.labels)} if self.labels else {}

    def reaches(self, policy: Policy) -> bool:
        """Say whether a policy may be changed for this scope: it is in its namespace, or in none."""
        return not policy.namespace or not self.namespace or policy.namespace == self.namespace


def scope_of(namespace: str, pod: str, label: str, cluster: bool) -> Scope:
    """Return the scope that options name. Raises UsageError unless they name exactly one."""
    if sum((bool(pod), cluster, bool(namespace or label))) != 1:
        raise UsageError(
            "say for what: one of --namespace, --pod, --selector or --cluster",
            "they cannot be combined but for -n with -l" if pod or cluster else "none was given",
            "tune-nodes policy reset -n NAMESPACE",
        )
    if pod:
        of, _, name = pod.rpartition("/")
        if not (_NAME.match(of) and _POD_NAME.match(name)):
            raise UsageError(f"{one_line(pod)!r} names no pod", "it must be NAMESPACE/POD")
        return Scope("pod", of, name)
    if cluster:
        return Scope("cluster")
    if namespace and not _NAME.match(namespace):
        raise UsageError(f"{one_line(namespace)!r} cannot be a namespace")
    return Scope("label", namespace, labels=_labels(label)) if label else Scope("namespace", namespace)


def _labels(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        key, sign, value = part.strip().partition("=")
        if not (sign and _KEY.match(key) and _VALUE.match(value)):
            raise UsageError(f"{one_line(part)!r} is no label", "it must be KEY=VALUE; several with commas")
        found[key] = value
    return found
