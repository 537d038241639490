"""The Job that closes the door again by itself, also where the controller is gone: its objects (pure), and arming it.

Everything belongs to one ClusterRole, so that deleting that is what removes the rest, whatever namespace it is in: the
Job's last act, and that of whoever restores earlier.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import at, mappings, text
from tune_nodes.policy.model import Policy
from tune_nodes.policy.opening.allows import LABEL, MANAGED

NAMESPACE = "tune-nodes"
RBAC = "rbac.authorization.k8s.io"
#: Bytes of one file of objects, and so of one Secret, which may hold 1 MiB.
CHUNK = 700_000
#: Nobody runs as this user; the Job needs to write nowhere but /tmp.
USER = 65532
#: Only constants: names and addresses come as variables and files, never as a part of the script.
SCRIPT = """\
trap 'exit 1' TERM
export HOME=/tmp
until [ "$(date +%s)" -ge "$UNTIL" ]; do sleep 1; done
for KUBERNETES_SERVICE_HOST in $SERVERS; do
  export KUBERNETES_SERVICE_HOST
  kubectl get --raw /version >/dev/null && break
done
for wave in /restore/*.json; do
  [ -e "$wave" ] || continue
  kubectl create -f "$wave"
  kubectl get -f "$wave" -o name || exit 1
done
for added in /remove/*.json; do
  [ -e "$added" ] || continue
  kubectl delete --ignore-not-found --wait=false -f "$added" || exit 1
done
kubectl delete --ignore-not-found --wait=false clusterrole "$NAME"
"""


@dataclass(frozen=True)
class Door:
    """What shall happen when.

    Args:
        id: of the reset.
        until: seconds since 1970 after which it happens.
        image: with sh, date, sleep and kubectl in it.
        servers: addresses of the API servers themselves: no service address, which a policy or a dead proxy can cut.
        port: of these.
        restore: what is made again: the objects of each wave, as they are sent.
        remove: our own objects, which are deleted then.
    """

    id: str
    until: int
    image: str
    servers: Sequence[str]
    port: int
    restore: Sequence[Sequence[Mapping[str, Any]]]
    remove: Sequence[Policy]
    restored: Sequence[Policy] = ()

    @property
    def name(self) -> str:
        """The name of each of its objects."""
        return f"tune-nodes-restore-{self.id}"


def manifests(door: Door) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they are made; the first owns the rest."""
    bound = [{"kind": "ServiceAccount", "name": door.name, "namespace": NAMESPACE}]
    made: list[dict[str, Any]] = [
        _object(door, RBAC, "ClusterRole", "", rules=_wide(door)),
        _object(door, "", "ServiceAccount"),
        _object(door, RBAC, "ClusterRoleBinding", "", roleRef=_role("ClusterRole", door.name), subjects=bound),
    ]
    for namespace, rules in _within(door):
        made.append(_object(door, RBAC, "Role", namespace, rules=rules))
        role = _role("Role", door.name)
        made.append(_object(door, RBAC, "RoleBinding", namespace, roleRef=role, subjects=bound))
    secrets = list(_secrets(door))
    return [*made, *secrets, _job(door, secrets)]


def _object(
    door: Door, group: str, kind: str, namespace: str = NAMESPACE, name: str = "", **body: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name or door.name, "labels": {**MANAGED, LABEL: door.id}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": metadata, **body}


def _role(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": kind, "name": name}


def _wide(door: Door) -> list[dict[str, Any]]:
    """Return the rights on objects without a namespace, and on itself: with it everything goes."""
    itself = {"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": [door.name], "verbs": ["delete"]}
    return [*_rules([p for p in door.restored if not p.namespace], [p for p in door.remove if not p.namespace]), itself]


def _within(door: Door) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    names = {policy.namespace for policy in (*door.restored, *door.remove)} - {""}
    for name in sorted(names):
        restored = [policy for policy in door.restored if policy.namespace == name]
        yield name, _rules(restored, [policy for policy in door.remove if policy.namespace == name])


def _rules(restored: Iterable[Policy], removed: Iterable[Policy]) -> list[dict[str, Any]]:
    """Return rights on these objects by their names; only ``create`` cannot be limited to a name."""
    rules: list[dict[str, Any]] = []
    for verbs, policies in ((["get"], list(restored)), (["delete"], list(removed))):
        for kind in dict.fromkeys(policy.kind for policy in policies):
            named = {"apiGroups": [kind.group], "resources": [kind.resource]}
            names = sorted({policy.name for policy in policies if policy.kind == kind})
            if verbs == ["get"]:
                rules.append({**named, "verbs": ["create"]})
            rules.append({**named, "resourceNames": names, "verbs": verbs})
    return rules


def _secrets(door: Door) -> Iterator[dict[str, Any]]:
    """Yield the files of the Job, each in a Secret of its own; their names sort in the order of use."""
    removed = [{key: value for key, value in policy.raw.items() if key != "spec"} for policy in door.remove]
    restored = [part for wave in door.restore for part in chunks(wave)]
    files = [*(("restore", part) for part in restored), *(("remove", part) for part in chunks(removed))]
    for number, (where, part) in enumerate(files):
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": part}, separators=(",", ":"))
        secret = _object(door, "", "Secret", name=f"{door.name}-{number}", type="Opaque", immutable=True)
        yield {**secret, "stringData": {f"{where}-{number:05d}.json": listed}}


def chunks(items: Sequence[Mapping[str, Any]], limit: int = CHUNK) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the items in lists that are no larger than ``limit`` bytes as JSON, an item that is larger alone."""
    part: list[Mapping[str, Any]] = []
    size = 0
    for item in items:
        more = len(json.dumps(item, separators=(",", ":"))) + 1
        if part and size + more > limit:
            yield part
            part, size = [], 0
        part.append(item)
        size += more
    if part:
        yield part


def _job(door: Door, secrets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    volumes = [
        {"name": where, "projected": {"defaultMode": 0o440, "sources": _sources(secrets, where)}}
        for where in ("restore", "remove")
    ]
    container = {
        "name": "restore",
        "image": door.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", SCRIPT],
        "env": [
            {"name": "UNTIL", "value": str(door.until)},
            {"name": "NAME", "value": door.name},
            {"name": "SERVERS", "value": " ".join(door.servers)},
            {"name": "KUBERNETES_SERVICE_PORT", "value": str(door.port)},
        ],
        "volumeMounts": [
            *({"name": name, "mountPath": f"/{name}", "readOnly": True} for name in ("restore", "remove")),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "serviceAccountName": door.name,
        "hostNetwork": True,  # no policy selects it, and it needs no working pod network
        "priorityClassName": "system-cluster-critical",
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 5,
        # Any node will do; of one that dies it is taken soon, and started elsewhere.
        "tolerations": [
            {"operator": "Exists", "effect": "NoSchedule"},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }
    labels = {**MANAGED, LABEL: door.id}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return _object(door, "batch", "Job", spec={"backoffLimit": 30, "template": template})


def _sources(secrets: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    return [
        {"secret": {"name": secret["metadata"]["name"], "items": [{"key": key, "path": key} for key in found]}}
        for secret in secrets
        if (found := [key for key in secret["stringData"] if key.startswith(where)])
    ]


def servers(api: Api) -> tuple[list[str], int]:
    """Return the addresses and the port of the API servers themselves. Raises ClusterError."""
    call = Call("get", "endpointslices", "discovery.k8s.io", "default", "kubernetes", "v1")
    found = api.get(call)
    addresses = [
        address
        for endpoint in mappings(found, "endpoints")
        for address in endpoint.get("addresses") or ()
        if isinstance(address, str)
    ]
    port = next((row["port"] for row in mappings(found, "ports") if isinstance(row.get("port"), int)), 0)
    if not addresses or not port:
        raise ClusterError(NOT_FOUND, "the API server's own address is not known", "default/kubernetes has no endpoint")
    return addresses, port


def needed(namespaces: Iterable[str]) -> list[Call]:
    """Return the calls that arming takes, for policies in these namespaces."""
    wide = [Call("create", name, RBAC, version="v1") for name in ("clusterroles", "clusterrolebindings")]
    wide.append(Call("delete", "clusterroles", RBAC, version="v1"))
    own = [("serviceaccounts", ""), ("secrets", ""), ("jobs", "batch")]
    within = [Call("create", name, group, NAMESPACE, version="v1") for name, group in own]
    roles = [
        Call("create", name, RBAC, namespace, version="v1")
        for namespace in sorted(set(namespaces))
        for name in ("roles", "rolebindings")
    ]
    return [*wide, *within, *roles, Call("get", "endpointslices", "discovery.k8s.io", "default", "kubernetes", "v1")]


#: Resource of each kind of manifest.
_PLURAL = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ServiceAccount": "serviceaccounts",
    "Secret": "secrets",
    "Job": "jobs",
}


def call_of(manifest: Mapping[str, Any], verb: str = "create") -> Call:
    """Return the call that makes an object."""
    group, _, version = str(manifest["apiVersion"]).rpartition("/")
    return Call(verb, _PLURAL[manifest["kind"]], group, manifest["metadata"].get("namespace", ""), version=version)


def arm(api: Api, door: Door) -> str:
    """Make the objects, the Job last; what was made of a door that could not be armed is removed again.

    Returns:
        The ClusterRole's uid: its owner.

    Raises:
        ClusterError: one of them was refused.
    """
    _namespace(api)
    first, *rest = manifests(door)
    owner = text(api.post(call_of(first), first), "metadata", "uid")
    reference = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "name": door.name, "uid": owner}
    try:
        for manifest in rest:
            metadata = {**manifest["metadata"], "ownerReferences": [reference]}
            api.post(call_of(manifest), {**manifest, "metadata": metadata})
    except ClusterError:
        disarm(api, door.id)
        raise
    return owner


def _namespace(api: Api) -> None:
    call = Call("get", "namespaces", name=NAMESPACE)
    try:
        api.get(call)
        return
    except ClusterError as problem:
        if problem.code != NOT_FOUND:
            raise
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": dict(MANAGED)}}
    try:
        api.post(Call("create", "namespaces"), body)
    except ClusterError as problem:
        if problem.code != CONFLICT:  # somebody made it meanwhile
            raise


def disarm(api: Api, reset: str) -> bool:
    """Remove a door with all that belongs to it; False where there was none. Raises ClusterError."""
    try:
        api.delete(Call("delete", "clusterroles", RBAC, name=f"tune-nodes-restore-{reset}", version="v1"))
    except ClusterError as problem:
        if problem.code != NOT_FOUND:
            raise
        return False
    return True


def running(api: Api, reset: str) -> str:
    """Return "" where the Job's pod runs, else why not yet, in its own words. Raises ClusterError."""
    pods = list(api.items(Call("list", "pods", namespace=NAMESPACE), {"labelSelector": f"{LABEL}={reset}"}))
    if not pods:
        return "its pod was not made yet"
    for status in mappings(pods[-1], "status", "containerStatuses"):
        waiting = at(status, "state", "waiting")
        if isinstance(waiting, Mapping):
            return ": ".join(part for part in (text(waiting, "reason"), text(waiting, "message")) if part)
        if at(status, "state", "running"):
            return ""
    conditions = [text(one, "message") for one in mappings(pods[-1], "status", "conditions")]
    return next((said for said in conditions if said), text(pods[-1], "status", "phase") or "not started")
