"""One call to an API server: its path, and the words for it. The same words name the permission it needs."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

#: Version of each group that is used; all of them are stable since Kubernetes 1.22 or longer.
VERSIONS = {
    "": "v1",
    "apps": "v1",
    "authentication.k8s.io": "v1",
    "authorization.k8s.io": "v1",
    "coordination.k8s.io": "v1",
}


@dataclass(frozen=True)
class Call:
    """A verb of the API on a resource.

    Args:
        verb: get, list, watch, create, patch, delete.
        resource: "nodes", "pods/eviction".
        group: "" for the core group, "apps" ...
        namespace: "" for all of them, or where there are none.
        name: of the object, for get, patch and sub-resources.
        version: of the group; "" for the one in :data:`VERSIONS`.
    """

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""
    version: str = ""

    @property
    def path(self) -> str:
        """The path of the URL, without the query."""
        kind, _, sub = self.resource.partition("/")
        version = self.version or VERSIONS[self.group]
        parts = ["apis", self.group, version] if self.group else ["api", version]
        parts += ["namespaces", self.namespace] if self.namespace else []
        parts += [part for part in (kind, self.name, sub) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {resource}{f' {self.name}' if self.name else ''}{where}"
