"""Which resource an API version and a kind are, by asking the server: owners and GitOps objects may be of any."""

from __future__ import annotations

import re
import threading
from typing import Any

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import mappings, text

_API_VERSION = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,252}/)?v[a-z0-9]{1,30}\Z")


class Lookup:
    """Asks for each API version once; safe to use from several threads."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, dict[str, tuple[str, bool]]] = {}
        self._guard = threading.Lock()

    def call(self, api_version: str, kind: str, verb: str, namespace: str = "", name: str = "") -> Call | None:
        """Return the call for an object; None where the server does not serve its kind. Raises ClusterError.

        Args:
            api_version: "apps/v1", or "v1" for the core group.
            kind: "Deployment".
            verb: get, patch ...
            namespace: left out for a kind that has none.
            name: the object's.
        """
        if not _API_VERSION.match(api_version):  # it comes from an object, and becomes part of a path
            return None
        group, _, version = api_version.rpartition("/")
        found = self._kinds(api_version).get(kind)
        if found is None:
            return None
        resource, namespaced = found
        return Call(verb, resource, group, namespace if namespaced else "", name, version)

    def version(self, group: str) -> str:
        """Return "GROUP/VERSION" as the server prefers it, "" where it does not serve the group."""
        try:
            return text(self._api.read(f"/apis/{group}"), "preferredVersion", "groupVersion")
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return ""
            raise

    def _kinds(self, api_version: str) -> dict[str, tuple[str, bool]]:
        with self._guard:
            if api_version not in self._known:
                self._known[api_version] = self._read(api_version)
            return self._known[api_version]

    def _read(self, api_version: str) -> dict[str, tuple[str, bool]]:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            answer: dict[str, Any] = self._api.read(path)
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return {}
            raise
        found = {}
        for row in mappings(answer, "resources"):
            name, kind = text(row, "name"), text(row, "kind")
            if name and kind and "/" not in name:
                found[kind] = (name, row.get("namespaced") is True)
        return found
