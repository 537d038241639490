"""Policies on a kind cluster, for tests: made, backed up, deleted; kinds that the server serves for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.policy import discovery
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import delete
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal, read
from tune_nodes.policy.model import Policy
from tune_nodes.policy.pace import RETRIES, WIDTH, Pace

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

In = TypeVar("In")
Out = TypeVar("Out")

PREFIX = "policy-backup"
NETWORKING = "networking.k8s.io"
DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
DNS = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}
WEB = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}]}]}


def green() -> str:
    """Return what a probe says that finds all well."""
    return ""


@contextmanager
def namespaces(cluster: Cluster, names: Sequence[str]) -> Iterator[None]:
    """Make namespaces, and have them removed."""
    body = {"apiVersion": "v1", "kind": "Namespace"}
    pace = Pace()
    try:
        pace.over(
            names, lambda name: cluster.api.post(Call("create", "namespaces"), {**body, "metadata": {"name": name}})
        )
        yield
    finally:
        pace.over(names, lambda name: drop(cluster, name))


def drop(cluster: Cluster, name: str) -> None:
    """Have a namespace removed, if it is not being removed already."""
    try:
        cluster.api.delete(Call("delete", "namespaces", name=name))
    except ClusterError as problem:
        if problem.code not in ("not-found", "conflict"):
            raise


def network_policy(namespace: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{NETWORKING}/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def call(verb: str, namespace: str, name: str = "") -> Call:
    return Call(verb, "networkpolicies", NETWORKING, namespace, name, "v1")


def make(cluster: Cluster, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        cluster.api.post(call("create", body["metadata"]["namespace"]), body)


def there(cluster: Cluster, *spaces: str) -> list[Policy]:
    found = discovery.read(cluster.api, discovery.discover(cluster.api))
    return [one for one in found if one.namespace in spaces]


def backed_up(cluster: Cluster, directory: Path, *spaces: str) -> Backup:
    return backups.write(cluster, there(cluster, *spaces), directory, ", ".join(spaces[:3]))


def deleted(cluster: Cluster, backup: Backup, wait: float = 5, pace: Pace | None = None) -> delete.Deleted:
    with Journal(backup.directory) as journal:
        return delete.delete(cluster, backup, list(backup.by_ref), journal=journal, wait=wait, pace=pace)


def noted(backup: Backup, event: str) -> int:
    """Return how often a backup's journal says this."""
    return sum(line.get("event") == event for line in read(backup.directory))


class Halting(Pace):
    """A pace for what is to be cut off half-way: on a quick machine it would be done first.

    Args:
        half: once it returns True, no call more begins.
        width: most calls at once.
        retries: seconds before each further try where the server was lost.
    """

    def __init__(self, half: Callable[[], bool], width: int = WIDTH, retries: Sequence[float] = RETRIES) -> None:
        super().__init__(width, retries=retries)
        self.go = threading.Event()  # set: calls begin again
        self._half = half

    def call(self, work: Callable[[In], Out], item: In) -> Out:
        if self._half():
            self.go.wait(120)
        return super().call(work, item)


def crd(group: str, plural: str, kind: str, scope: str, version: str = "v1") -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    one = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": scope, "names": {"plural": plural, "kind": kind}, "versions": [one]},
    }


@contextmanager
def served(kind_cluster: Bed, *crds: dict[str, Any]) -> Iterator[None]:
    """Have the server serve more kinds."""
    text = yaml.safe_dump_all(crds)
    try:
        kind_cluster.kubectl("apply", "-f", "-", input=text)
        names = [f"crd/{one['metadata']['name']}" for one in crds]
        kind_cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")
        yield
    finally:
        kind_cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=text, timeout=90)
