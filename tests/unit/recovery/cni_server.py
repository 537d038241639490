"""An API server with Flannel on three nodes: server-side apply with its managers, and a DaemonSet controller."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from hypothesis import strategies as st
from lease_server import Server, merge, node
from tiny_api import Request

from tune_nodes.policy.keeping.clean import digest

#: Anything that JSON can hold.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
SPACE, MAP, AGENT = "kube-flannel", "kube-flannel-cfg", "kube-flannel-ds"
DAEMONSET = f"/apis/apps/v1/namespaces/{SPACE}/daemonsets/{AGENT}"
CONFIG = f"/api/v1/namespaces/{SPACE}/configmaps/{MAP}"
NODES = [node("w1"), node("cp", role="control-plane"), node("w2")]
MANIFEST = Path(__file__).parents[2] / "kind" / "kindbed" / "manifests" / "flannel.yml"
_RBAC, _CRDS = "rbac.authorization.k8s.io/v1", "apiextensions.k8s.io/v1"
#: API version: kind to plural, and whether it has namespaces.
KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "Namespace": ("namespaces", False),
        "ConfigMap": ("configmaps", True),
        "ServiceAccount": ("serviceaccounts", True),
        "Service": ("services", True),
        "Pod": ("pods", True),
    },
    "apps/v1": {"DaemonSet": ("daemonsets", True), "Deployment": ("deployments", True)},
    _RBAC: {
        "ClusterRole": ("clusterroles", False),
        "ClusterRoleBinding": ("clusterrolebindings", False),
        "RoleBinding": ("rolebindings", True),
        "Role": ("roles", True),
    },
    _CRDS: {"CustomResourceDefinition": ("customresourcedefinitions", False)},
}


def flannel(image: str = "example/flannel:v0.28.1") -> list[dict[str, Any]]:
    """Return Flannel's objects as its manifest has them."""
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8").replace("IMAGE_FLANNEL", image)))


def path_of(item: dict[str, Any]) -> str:
    """Return the path of an object."""
    version = item["apiVersion"]
    plural, namespaced = KINDS[version][item["kind"]]
    inside = f"/namespaces/{item['metadata']['namespace']}" if namespaced else ""
    return f"/{'apis' if '/' in version else 'api'}/{version}{inside}/{plural}/{item['metadata']['name']}"


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the fields of an object that somebody can hold; a list is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


class CniServer(Server):
    """``made``: the nodes whose agents were made, in that order; ``dies``: how many writes it takes before it is gone.

    ``held``: path to field to who wrote it last; ``denied``: verbs on resources that an access review refuses;
    ``sick``: nodes whose agents do not become ready.
    """

    def __init__(self, nodes: int = 3) -> None:
        super().__init__(copy.deepcopy(NODES[:nodes]), (SPACE, "kube-system", "tune-nodes"))
        self.held: dict[str, dict[tuple[str, ...], str]] = {}
        self.made: list[str] = []
        self.kinds = copy.deepcopy(KINDS)
        self.dies = -1
        self.writes = 0
        self.denied: set[str] = set()
        self.sick: set[str] = set()
        self._count = 0
        for item in flannel():
            self.keep(path_of(item), item, "kubectl/Apply")
        self.made.clear()

    # -- what tests do by hand ---------------------------------------------------------------------------------

    def keep(self, path: str, item: dict[str, Any], manager: str = "kubectl-edit/Update") -> None:
        """Write an object as somebody else does."""
        before = self.objects.get(path)
        self.held.setdefault(path, {}).update(dict.fromkeys((at for at, _ in leaves(item)), manager))
        self.objects[path] = self._stamped(before, copy.deepcopy(item))
        self._control()

    def lose(self, *paths: str, orphan: bool = False) -> None:
        """Delete objects. ``orphan``: the pods that are theirs are left running."""
        for pod in self._pods() if orphan else ():
            pod["metadata"].pop("ownerReferences", None)
        for path in paths:
            del self.objects[path]
            self.held.pop(path, None)
        self._control()

    def agents(self) -> dict[str, str]:
        """Return the uid of each node's agent."""
        found = {}
        for item in self._pods():
            if item["metadata"].get("ownerReferences"):
                found[item["spec"]["nodeName"]] = item["metadata"]["uid"]
        return found

    def said(self) -> dict[str, Any]:
        """Return what Flannel's objects say, without what the server gives them."""
        given = ("uid", "resourceVersion", "generation")
        return {
            path: {
                **{key: value for key, value in item.items() if key not in ("metadata", "status")},
                "metadata": {key: value for key, value in item["metadata"].items() if key not in given},
            }
            for path, item in self.objects.items()
            if ("flannel" in path and "/pods/" not in path and "revisions" not in path) and item.get("kind")
        }

    def strangers(self) -> list[str]:
        """Return the pods that are nobody's agent."""
        return [item["metadata"]["name"] for item in self._pods() if not item["metadata"].get("ownerReferences")]

    # -- the wire ----------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> None:
        """Answer one request."""
        request.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer takes 40 ms
        with self._lock:
            dry = "dryRun" in request.path or "reviews" in request.path
            if request.command != "GET" and not dry:
                self.writes += 1
                self.broken = self.broken or self.writes == self.dies
        super().answer(request)

    def _get(self, request: Request, path: str, _body: Any) -> None:
        query = parse_qs(urlsplit(request.path).query)
        head, _, name = path.rpartition("/")
        if path == "/version":
            request.send(200, {"gitVersion": "v1.34.0"})
        elif (version := path.removeprefix("/apis/").removeprefix("/api/")) in self.kinds:
            rows = [
                {"name": plural, "kind": kind, "namespaced": spaced} for kind, (plural, spaced) in self._kinds(version)
            ]
            request.send(200, {"resources": rows})
        elif head.endswith("kube-node-lease/leases"):
            request.send(200, self._lease(name))
        elif path.endswith("kube-node-lease/leases"):
            request.send(200, {"items": [self._lease(one["metadata"]["name"]) for one in self.nodes]})
        elif head == "/api/v1/nodes":
            request.send(200, next(one for one in self.nodes if one["metadata"]["name"] == name))
        elif path in self.objects or path == "/api/v1/nodes":
            super()._get(request, path, _body)
        else:
            items = self._listed(path, query)
            if items is None:
                request.refuse(404, "NotFound", f"{path} not found")
            else:
                request.send(200, {"items": items})

    def _kinds(self, version: str) -> list[tuple[str, tuple[str, bool]]]:
        return list(self.kinds[version].items())

    def _lease(self, name: str) -> dict[str, Any]:
        self._count += 1
        return {"metadata": {"name": name}, "spec": {"renewTime": f"2026-11-24T10:00:00.{self._count:06d}Z"}}

    def _listed(self, path: str, query: dict[str, list[str]]) -> list[dict[str, Any]] | None:
        """Return the objects of a list; None for a path that is none."""
        plural = path.rpartition("/")[2]
        if plural not in {one for kinds in KINDS.values() for one, _ in kinds.values()} | {
            "controllerrevisions",
            "priorityclasses",
            "leases",
        }:
            return None
        head = path.rpartition("/")[0]
        everywhere = "/namespaces/" not in path
        found = []
        for key, item in self.objects.items():
            above, _, last = key.rpartition("/")[0].rpartition("/")
            if last == plural and item and (above == head or (everywhere and above.startswith(f"{head}/namespaces/"))):
                found.append({key: value for key, value in item.items() if key not in ("apiVersion", "kind")})
        field, _, value = query.get("fieldSelector", ["="])[0].partition("=")
        label, _, wanted = query.get("labelSelector", ["="])[0].partition("=")
        return [
            one
            for one in found
            if (not field or one["spec"].get("nodeName") == value)
            and (not label or one["metadata"].get("labels", {}).get(label) == wanted)
        ]

    def _post(self, request: Request, path: str, body: Any) -> None:
        if path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            request.send(201, {"status": {"allowed": f"{asked['verb']} {asked['resource']}" not in self.denied}})
            return
        if path.endswith("selfsubjectreviews"):
            request.send(201, {"status": {"userInfo": {"username": "somebody"}}})
            return
        if path.endswith("/pods"):
            body = {**body, "metadata": {**body["metadata"], "uid": self._uid()}, "status": {"podIP": "10.244.0.9"}}
        super()._post(request, path, body)

    def _patch(self, request: Request, path: str, body: Any) -> None:
        query = parse_qs(urlsplit(request.path).query)
        if "apply" in (request.headers.get("Content-Type") or ""):
            self._apply(request, path, body, query)
            return
        if path not in self.held:
            super()._patch(request, path, body)
            return
        before = self.objects[path]
        if body["metadata"].get("resourceVersion", "") not in ("", before["metadata"]["resourceVersion"]):
            request.refuse(409, "Conflict", "the object has been modified")
            return
        manager = f"{query['fieldManager'][0]}/Update"
        self.held[path].update(dict.fromkeys((at for at, _ in leaves(body)), manager))
        self.objects[path] = self._stamped(before, merge(before, body))
        self._control()
        request.send(200, self.objects[path])

    def _delete(self, request: Request, path: str, body: Any) -> None:
        there, wanted = self.objects.get(path), ((body or {}).get("preconditions") or {}).get("uid")
        if there is not None and wanted and there["metadata"]["uid"] != wanted:
            request.refuse(409, "Conflict", "another object")
            return
        super()._delete(request, path, body)
        self.held.pop(path, None)
        self._control()

    # -- server-side apply -------------------------------------------------------------------------------------

    def _apply(self, request: Request, path: str, body: Any, query: dict[str, list[str]]) -> None:
        manager = f"{query['fieldManager'][0]}/Apply"
        space = path.partition("/namespaces/")[2].partition("/")[0] if "/namespaces/" in path else ""
        if space and path != f"/api/v1/namespaces/{space}" and f"/api/v1/namespaces/{space}" not in self.objects:
            request.refuse(404, "NotFound", f'namespaces "{space}" not found')
            return
        before = self.objects.get(path)
        held, wanted = dict(self.held.get(path, {})), dict(leaves(body))
        result = copy.deepcopy(before) if before else {}
        against = set()
        for at, value in wanted.items():
            if at in held and held[at] != manager and _read(result, at) != value:
                against.add(held[at].partition("/")[0])
        if against and query["force"] != ["true"]:
            causes = [
                {"reason": "FieldManagerConflict", "message": f'conflict with "{one}"'} for one in sorted(against)
            ]
            request.refuse(409, "Conflict", "Apply failed with conflicts", causes)
            return
        for at in [one for one, who in held.items() if who == manager and one not in wanted]:
            _remove(result, at)
            del held[at]
        result = merge(result, body)
        held |= dict.fromkeys(wanted, manager)
        result = self._stamped(before, result)
        if "dryRun" not in query and result["kind"] == "CustomResourceDefinition":
            self._define(result)
        if "dryRun" not in query:
            self.objects[path], self.held[path] = result, held
            self._control()
        request.send(200 if before else 201, self.objects[path] if "dryRun" not in query else result)

    def _define(self, item: dict[str, Any]) -> None:
        """Serve a kind."""
        spec, names = item["spec"], item["spec"]["names"]
        version = f"{spec['group']}/{spec['versions'][0]['name']}"
        self.kinds[version] = {names["kind"]: (names["plural"], spec["scope"] == "Namespaced")}
        item["status"] = {"conditions": [{"type": "Established", "status": "True"}]}

    def _uid(self) -> str:
        self._count += 1
        return f"uid-{self._count}"

    def _stamped(self, before: dict[str, Any] | None, item: dict[str, Any]) -> dict[str, Any]:
        """Return an object with what the server gives it."""
        metadata = item.setdefault("metadata", {})
        if metadata.get("annotations") == {}:
            del metadata["annotations"]
        metadata["uid"] = before["metadata"]["uid"] if before else metadata.get("uid") or self._uid()
        if item.get("kind") == "DaemonSet":
            item["spec"].setdefault("updateStrategy", {"type": "RollingUpdate"})
            changed = not before or before["spec"] != item["spec"]
            metadata["generation"] = (before["metadata"]["generation"] if before else 0) + (1 if changed else 0)
        if not before or before != item:
            self._count += 1
            metadata["resourceVersion"] = str(self._count)
        return item

    # -- the controller ----------------------------------------------------------------------------------------

    def _pods(self) -> list[dict[str, Any]]:
        return [item for path, item in self.objects.items() if "/pods/" in path]

    def _control(self) -> None:
        """Give every node that it belongs to its agent, as the DaemonSet controller does."""
        owners = {one["metadata"]["uid"] for path, one in self.objects.items() if "/daemonsets/" in path}
        for path in [path for path in self.objects if "/pods/" in path or "/controllerrevisions/" in path]:
            owned = self.objects[path]["metadata"].get("ownerReferences")
            if owned and owned[0]["uid"] not in owners:
                del self.objects[path]
        for path in [path for path in self.objects if "/daemonsets/" in path]:
            self._daemonset(path, self.objects[path])

    def _daemonset(self, path: str, item: dict[str, Any]) -> None:
        uid, name = item["metadata"]["uid"], item["metadata"]["name"]
        space, template = item["metadata"]["namespace"], item["spec"]["template"]
        owner = [{"controller": True, "kind": "DaemonSet", "name": name, "uid": uid}]
        hash = digest(template)[:10]
        revision = f"/apis/apps/v1/namespaces/{space}/controllerrevisions/{name}-{hash}"
        if revision not in self.objects:
            self._count += 1
            metadata = {
                "name": f"{name}-{hash}",
                "labels": {"controller-revision-hash": hash},
                "ownerReferences": owner,
            }
            data = {"spec": {"template": template}}
            self.objects[revision] = {"metadata": metadata, "data": copy.deepcopy(data), "revision": self._count}
        names = [one["metadata"]["name"] for one in self.nodes]
        allowed = [one for one in names if _belongs(template["spec"], one)]
        rolling = item["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        for one in names:
            at = f"/api/v1/namespaces/{space}/pods/{name}-{one}"
            pod = self.objects.get(at)
            if pod is not None:
                pod["metadata"].setdefault("ownerReferences", owner)
            old = pod is not None and pod["metadata"]["labels"]["controller-revision-hash"] != hash
            if pod is not None and (one not in allowed or (old and rolling)):
                del self.objects[at]
                pod = None
            if one in allowed and pod is None:
                self.made.append(one)
                ready = "False" if one in self.sick else "True"
                self.objects[at] = {
                    "metadata": {
                        "name": f"{name}-{one}",
                        "namespace": space,
                        "uid": self._uid(),
                        "resourceVersion": "1",
                        "labels": {**template["metadata"]["labels"], "controller-revision-hash": hash},
                        "ownerReferences": owner,
                    },
                    "spec": {"nodeName": one},
                    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
                }
        item["status"] = {
            "observedGeneration": item["metadata"]["generation"],
            "desiredNumberScheduled": len(allowed),
        }


def _belongs(spec: dict[str, Any], name: str) -> bool:
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms")
    return terms is None or any(name in row["values"] for term in terms for row in term.get("matchFields", []))


def _read(item: Any, at: tuple[str, ...]) -> Any:
    for step in at:
        item = item.get(step) if isinstance(item, dict) else None
    return item


def _remove(item: dict[str, Any], at: tuple[str, ...]) -> None:
    *path, last = at
    above = [item]
    for step in path:
        inner = above[-1].get(step)
        if not isinstance(inner, dict):
            return
        above.append(inner)
    above[-1].pop(last, None)
    for outer, step in zip(reversed(above[:-1]), reversed(path), strict=True):
        if outer[step] == {}:
            del outer[step]


def changed_map(server: CniServer) -> dict[str, Any]:
    """Return Flannel's ConfigMap with another network."""
    found = copy.deepcopy(server.objects[CONFIG])
    found["data"]["net-conf.json"] = json.dumps({"Network": "10.9.0.0/16", "Backend": {"Type": "vxlan"}})
    return found
