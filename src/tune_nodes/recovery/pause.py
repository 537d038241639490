"""The switch in the cluster that stops recoveries: a ConfigMap that kubectl can make and delete too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.recovery.lock import NAMESPACE, make_namespace

#: While an object of this name is there, no recovery begins a node.
NAME = "recovery-paused"


@dataclass(frozen=True)
class Pause:
    """Who stopped recoveries, when and why; "" where it is not said."""

    reason: str = ""
    by: str = ""
    since: str = ""

    def __str__(self) -> str:
        parts = [f"since {self.since}" if self.since else "", f"by {self.by}" if self.by else ""]
        said = " ".join(part for part in parts if part)
        return f"{said}: {self.reason}" if said and self.reason else said or self.reason


def read(api: Api) -> Pause | None:
    """Return the pause, None where recoveries may go on. Raises ClusterError."""
    try:
        found = api.get(Call("get", "configmaps", namespace=NAMESPACE, name=NAME))
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return None
        raise
    return Pause(*(objects.text(found, "data", part) for part in ("reason", "by", "since")))


def pause(api: Api, reason: str, by: str) -> Pause | None:
    """Stop recoveries; return the pause that was there already, None for none. Raises ClusterError."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"reason": reason, "by": by, "since": now},
    }
    call = Call("create", "configmaps", namespace=NAMESPACE)
    try:
        try:
            api.post(call, body)
        except ClusterError as problem:
            if problem.code != NOT_FOUND:
                raise
            make_namespace(api)
            api.post(call, body)
    except ClusterError as problem:
        if problem.code != CONFLICT:
            raise
        return read(api) or Pause()
    return None


def resume(api: Api) -> Pause | None:
    """Let recoveries go on; return the pause that was there, None for none. Raises ClusterError."""
    there = read(api)
    try:
        api.delete(Call("delete", "configmaps", namespace=NAMESPACE, name=NAME))
    except ClusterError as problem:
        if problem.code != NOT_FOUND:
            raise
    return there
