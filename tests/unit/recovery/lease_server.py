"""An API server with Nodes, Leases, ConfigMaps and namespaces: versions and preconditions as the real one has them."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster.client import Cluster


def node(name: str, ready: bool = True, role: str = "") -> dict[str, Any]:
    """Return a Node object."""
    labels = {f"node-role.kubernetes.io/{role}": ""} if role else {}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    address = {"type": "InternalIP", "address": "172.18.0.2"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [condition], "addresses": [address]}}


def merge(value: Any, patch: Any) -> Any:
    """Return a value with a merge patch (RFC 7386) applied."""
    if not isinstance(patch, dict):
        return patch
    found = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            found.pop(key, None)
        else:
            found[key] = merge(found.get(key), item)
    return found


class Server:
    """Objects by path. ``before``: called before each request is answered; ``broken``: every request fails."""

    def __init__(self, nodes: list[dict[str, Any]], spaces: tuple[str, ...] = ()) -> None:
        self.nodes = nodes
        self.objects: dict[str, dict[str, Any]] = {f"/api/v1/namespaces/{space}": {} for space in spaces}
        self.asked: list[tuple[str, str, Any]] = []
        self.broken = False
        self.before: Callable[[str, str], None] = lambda method, path: None
        self._version = 0
        self._lock = threading.RLock()

    def stamp(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """Keep an object with a new version."""
        with self._lock:
            self._version += 1
            kept = copy.deepcopy(item)
            kept.setdefault("metadata", {})["resourceVersion"] = str(self._version)
            self.objects[path] = kept
            return kept

    def leases(self) -> dict[str, dict[str, Any]]:
        """Return the Leases by name."""
        return {path.rpartition("/")[2]: item for path, item in self.objects.items() if "/leases/" in path}

    def answer(self, request: Request) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        body = request.body()
        self.before(request.command, path)
        with self._lock:
            self.asked.append((request.command, path, body))
            if self.broken:
                request.refuse(500, "InternalError", "etcd has no leader")
            else:
                getattr(self, f"_{request.command.lower()}")(request, path, body)

    def _get(self, request: Request, path: str, _body: Any) -> None:
        if path == "/api/v1/nodes":
            request.send(200, {"items": self.nodes})
        elif path in self.objects:
            request.send(200, self.objects[path])
        elif path.endswith("/leases"):
            request.send(200, {"items": [item for key, item in self.objects.items() if key.startswith(f"{path}/")]})
        else:
            request.refuse(404, "NotFound", "not found")

    def _post(self, request: Request, path: str, body: Any) -> None:
        made = f"{path}/{body['metadata']['name']}"
        space = re.sub("^/apis/[^/]+/", "/api/", path.rpartition("/")[0])
        if path != "/api/v1/namespaces" and space not in self.objects:
            request.refuse(404, "NotFound", "namespace not found")
        elif made in self.objects:
            request.refuse(409, "AlreadyExists", "already exists")
        else:
            request.send(201, self.stamp(made, body))

    def _patch(self, request: Request, path: str, body: Any) -> None:
        there = self.objects.get(path)
        wanted = body["metadata"].get("resourceVersion")
        if there is None:
            request.refuse(404, "NotFound", "not found")
        elif wanted and wanted != there["metadata"]["resourceVersion"]:
            request.refuse(409, "Conflict", "the object has been modified")
        else:
            request.send(200, self.stamp(path, merge(there, body)))

    def _delete(self, request: Request, path: str, _body: Any) -> None:
        if self.objects.pop(path, None) is None:
            request.refuse(404, "NotFound", "not found")
        else:
            request.send(200, {"kind": "Status"})


@contextmanager
def opened(server: Server, directory: Path) -> Iterator[Cluster]:
    """Yield a cluster that talks to the server."""
    from tune_nodes.cluster.api import Api

    with tiny_api(server.answer) as address:
        api = Api(kubeconfig(directory, address), timeout=5)
        try:
            yield Cluster(api)
        finally:
            api.close()
