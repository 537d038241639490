"""An API server that answers what a real one did."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from policy_world import load
from tiny_api import Request


class Server:
    """Answers as the real server did, with a list of NetworkPolicies of a test's own; counts what it is asked."""

    def __init__(self, policies: list[dict[str, Any]]) -> None:
        self.policies = policies
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.apis: dict[str, Any] = load("apis")
        self.resources: dict[str, Any] = load("resources")

    def __call__(self, request: Request) -> None:
        request.body()
        parts = urlsplit(request.path)
        self.asked.append(request.path)
        if parts.path in self.refused:
            request.refuse(403, "Forbidden", f'User "somebody" cannot list resource at {parts.path}')
            return
        if self.resources.get(parts.path.removeprefix("/apis/"), True) is None:  # an API server of its own that is down
            request.refuse(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            return
        answer = self._answer(parts.path, parse_qs(parts.query))
        request.send(200 if answer is not None else 404, answer or {"kind": "Status", "code": 404})

    def _answer(self, path: str, query: dict[str, list[str]]) -> Any:
        if path == "/version":
            return load("version")
        if path == "/apis":
            return self.apis
        found = self.resources.get(path.removeprefix("/apis/"))
        if found is not None:
            return found
        if path == "/apis/networking.k8s.io/v1/networkpolicies":
            start, size = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
            more = str(start + size) if start + size < len(self.policies) else ""
            return {"metadata": {"continue": more}, "items": self.policies[start : start + size]}
        kind = path.rpartition("/")[2]
        if kind == "pods":
            return {"items": [pod for pod in load("pods")["items"] if _meant(pod, path, query)]}
        if kind in ("nodes", "namespaces", "daemonsets") or "networkpolicies" in kind or "cidrgroups" in kind:
            return load(kind)
        return {"cilium-config": load("cilium-config"), "kubernetes": load("apiserver-slice")}.get(kind)


def _meant(pod: dict[str, Any], path: str, query: dict[str, list[str]]) -> bool:
    space = path.split("/")[4] if "/namespaces/" in path else ""
    field, _, value = query.get("fieldSelector", ["="])[0].partition("=")
    held = {"": value, "metadata.name": pod["metadata"]["name"], "status.podIP": pod["status"].get("podIP")}
    return space in ("", pod["metadata"]["namespace"]) and held[field] == value
