"""What a CNI is made of in a cluster now: its DaemonSets, and all that these stand on (I/O in)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tune_nodes.cluster import cni, objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, NOT_FOUND, ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.recovery.reinstall import needs, releases
from tune_nodes.recovery.reinstall.catalogue import CONFIGURATION, GROUPS, NAMESPACES, OPERATORS
from tune_nodes.recovery.reinstall.parts import Key, Part, in_order, is_servers_own, part_of, pod_spec
from tune_nodes.recovery.reinstall.record import CLUSTER, Facts, ImageRow

RBAC = "rbac.authorization.k8s.io"
_APPS, _V1, _RBAC_V1 = "apps/v1", "v1", f"{RBAC}/v1"
#: Namespaces that are the cluster's own.
_OWN = frozenset({"default", "kube-system"})
_BINDINGS = {"RoleBinding": "rolebindings", "ClusterRoleBinding": "clusterrolebindings"}
_ROLES = {"Role": "roles", "ClusterRole": "clusterroles"}


class _Collection:
    """Parts as they are found, each once."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.parts: dict[Key, Part] = {}
        self.left: dict[str, None] = {}
        self._bindings: list[tuple[str, Mapping[str, Any]]] = []

    def take(self, raw: Mapping[str, Any] | None, api_version: str, kind: str) -> Part | None:
        """Take an object in; one that a controller makes is left to it."""
        part = None if raw is None else part_of(raw, api_version, kind)
        if part is None:
            return None
        owner = objects.controller_of(part.raw)
        if owner is not None:
            made = f"{objects.text(owner, 'kind')} {objects.text(owner, 'name')}"
            self.left[f"{part.key}: {made} makes it"] = None
            return None
        if is_servers_own(part):
            self.left[f"{part.key}: the server keeps it itself"] = None
            return None
        self.parts[part.key] = part
        return part

    def get(self, call: Call, api_version: str, kind: str) -> Part | None:
        """Take one object in; None where it is not there."""
        try:
            return self.take(self.api.get(call), api_version, kind)
        except ClusterError as problem:
            if problem.code != NOT_FOUND:
                raise
            where = f"{call.namespace}/" if call.namespace else ""
            self.left[f"{kind} {where}{call.name}: it is not there"] = None
            return None

    def workload(self, part: Part) -> None:
        """Take in what a workload stands on."""
        space, wanted = part.key.namespace, needs.of(pod_spec(part.body))
        if space not in _OWN:
            self.get(Call("get", "namespaces", name=space), _V1, "Namespace")
        for name in sorted(wanted.config_maps):
            self.get(Call("get", "configmaps", namespace=space, name=name), _V1, "ConfigMap")
        for name in sorted(wanted.secrets):
            self.left[f"Secret {space}/{name}: secrets are never recorded; keep it where you keep secrets"] = None
        if wanted.priority and not wanted.priority.startswith("system-"):
            call = Call("get", "priorityclasses", "scheduling.k8s.io", name=wanted.priority, version="v1")
            self.get(call, "scheduling.k8s.io/v1", "PriorityClass")
        self._services(space, objects.at(part.body, "spec", "template", "metadata", "labels"))
        if wanted.account != "default":
            call = Call("get", "serviceaccounts", namespace=space, name=wanted.account)
            self.get(call, _V1, "ServiceAccount")
            self._rights(space, wanted.account)

    def _services(self, space: str, labels: Any) -> None:
        """Take in the Services that lead to a workload's pods: agents find their other half by them."""
        if not isinstance(labels, Mapping):
            return
        for item in self.api.items(Call("list", "services", namespace=space)):
            selector = objects.at(item, "spec", "selector")
            if isinstance(selector, Mapping) and selector and selector.items() <= labels.items():
                self.take(item, _V1, "Service")

    def _rights(self, space: str, account: str) -> None:
        if not self._bindings:
            self._bindings = [
                (kind, item)
                for kind, plural in _BINDINGS.items()
                for item in self.api.items(Call("list", plural, RBAC, version="v1"))
            ]
        for kind, item in self._bindings:
            if any(_is(subject, space, account) for subject in objects.mappings(item, "subjects")):
                if self.take(item, _RBAC_V1, kind) is None:
                    continue
                role, name = objects.text(item, "roleRef", "kind"), objects.text(item, "roleRef", "name")
                if role in _ROLES and name:
                    inside = objects.text(item, "metadata", "namespace") if role == "Role" else ""
                    self.get(Call("get", _ROLES[role], RBAC, inside, name, "v1"), _RBAC_V1, role)

    def kinds(self, groups: set[str]) -> None:
        """Take in the definitions of a CNI's own kinds, and the objects of them that people write."""
        definitions = Call("list", "customresourcedefinitions", "apiextensions.k8s.io", version="v1")
        for item in self.api.items(definitions) if groups else ():
            if objects.text(item, "spec", "group") in groups:
                self.take(item, "apiextensions.k8s.io/v1", "CustomResourceDefinition")
        lookup = Lookup(self.api)
        for group in sorted(groups):
            version = lookup.version(group)
            for kind in CONFIGURATION.get(group, ()) if version else ():
                call = lookup.call(version, kind, "list")
                for item in self.api.items(call) if call is not None else ():
                    self.take(item, version, kind)


def _is(subject: Mapping[str, Any], space: str, account: str) -> bool:
    said = (subject.get("kind"), subject.get("namespace"), subject.get("name"))
    return said == ("ServiceAccount", space, account)


def collect(cluster: Cluster) -> tuple[list[Part], Facts]:
    """Return what the cluster's CNI is made of, and what is known of it.

    Raises:
        TuneError: no DaemonSet of a CNI is there.
        ClusterError: something cannot be read; half a record is none.
    """
    api = cluster.api
    found = _Collection(api)
    daemonsets = list(api.items(Call("list", "daemonsets", "apps")))
    known = cni.of_daemonsets(daemonsets)
    if not known:
        raise TuneError(
            "no DaemonSet of a CNI is in this cluster",
            "its agent may be part of another program, as in k3s, or the CNI is gone already",
            "record it from the manifests that it was installed by: --manifest FILE",
        )
    names = {label.partition(" ")[0] for label in known.values()}
    chosen = [item for item in daemonsets if _place(item) in known]
    workloads = [*(found.take(item, _APPS, "DaemonSet") for item in chosen), *_operators(found, known)]
    for part in workloads:
        if part is not None:
            found.workload(part)
    found.kinds({group for name in names for group in GROUPS.get(name, ())})
    parts = in_order(found.parts.values())
    return parts, Facts(
        source=CLUSTER,
        server=cluster.server,
        server_version=objects.text(api.version(), "gitVersion", limit=60),
        cni=sorted(set(known.values())),
        images=image_rows(parts, needs.digests(_pods(api, {space for space, _ in known}))),
        helm=releases.of(parts),
        left=list(found.left),
    )


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    return objects.text(item, "metadata", "namespace"), objects.name_of(item)


def _operators(found: _Collection, known: Mapping[tuple[str, str], str]) -> Iterator[Part | None]:
    for space in sorted({*NAMESPACES, *(space for space, _ in known)}):
        for item in found.api.items(Call("list", "deployments", "apps", space)):
            if objects.name_of(item) in OPERATORS:
                yield found.take(item, _APPS, "Deployment")


def _pods(api: Api, spaces: set[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the pods of some namespaces; none where they may not be seen: digests are worth knowing, no more."""
    for space in sorted(spaces):
        try:
            yield from api.items(Call("list", "pods", namespace=space))
        except ClusterError as problem:
            if problem.code != FORBIDDEN:
                raise


def image_rows(parts: list[Part], known: Mapping[str, str]) -> list[ImageRow]:
    """Return the images of workloads with their digests (pure)."""
    names = dict.fromkeys(image for part in parts for image in needs.images(pod_spec(part.body)))
    return [ImageRow(image=name, digest=known.get(name, "")) for name in names]
