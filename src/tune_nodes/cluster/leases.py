"""Watching the nodes' Leases: a stopped or cut-off kubelet is seen here in seconds, while Ready stays true for 40."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import members
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.fleet.untrusted import one_line

SCHEMA = 1
#: Where every kubelet has a Lease of its Node's name.
NAMESPACE = "kube-node-lease"
#: Seconds one watch lasts: its regular end proves that the server still answers.
TURN = 1
#: Seconds beyond that after which a connection counts as dead.
SILENCE = 3.0
#: Seconds by which an event may be late and still count from when it came.
LAG = 0.5
#: Seconds between two tries while the server does not answer.
PAUSE = 1.0
#: Seconds between two writes of the file while events pour in.
WRITE = 0.25
#: Seconds that leaving may take.
LEAVE = 2.0


class Sightings:
    """When each Lease was last seen renewed; plain bookkeeping, with the clock handed in."""

    def __init__(self, names: Collection[str]) -> None:
        self._times: dict[str, str] = {}
        self.renewed = dict.fromkeys(sorted(names), 0.0)

    def see(self, item: Any, when: float) -> bool:
        """Take a Lease object in; True where it was renewed. The first sight of one is no renewal."""
        name, time_ = objects.name_of(item), objects.text(item, "spec", "renewTime", limit=60)
        if name not in self.renewed or not time_:
            return False
        before = self._times.get(name)
        self._times[name] = time_
        if before is None or before == time_:
            return False
        self.renewed[name] = when
        return True

    def forget(self, item: Any) -> None:
        """A Lease is gone; the next one of its name is a first sight."""
        self._times.pop(objects.name_of(item), None)

    def unseen(self) -> list[str]:
        """Return the names that no Lease was seen of."""
        return [name for name in self.renewed if name not in self._times]


class LeaseWatch:
    """Keeps a file with when each node's Lease was last seen renewed, until it is left.

    The file: ``{"schema": 1, "updated": S, "renewed": {NODE: S}, "error": ""}``. Seconds are ``time.monotonic()`` of
    this machine. ``updated`` moves at least every second while the API server answers; ``error`` is one line while it
    does not. A renewal counts from the moment at which it had surely not happened yet, 0.0: none was seen.

    Args:
        cluster: the cluster.
        path: the file; its directory must exist.
        names: of Node objects.

    Raises:
        ClusterError: on entering, where Leases cannot be read.
    """

    def __init__(self, cluster: Cluster, path: Path, names: Collection[str]) -> None:
        self._api = cluster.api
        self._path = path
        self._seen = Sightings(names)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="lease-watch", daemon=True)
        self._updated = 0.0
        self._written = 0.0
        self._version = ""
        self.missing: tuple[str, ...] = ()  # nodes that have no Lease

    def __enter__(self) -> LeaseWatch:
        self._list()
        self.missing = tuple(self._seen.unseen())
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(LEAVE)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except ClusterError as problem:
                if problem.code == NOT_FOUND and self._version:
                    self._version = ""  # too old: list again, at once
                    continue
                self._version = ""
                self._write(one_line(f"{problem.what}: {problem.why}" if problem.why else problem.what))
                self._stop.wait(PAUSE)

    def _list(self) -> None:
        """Read all Leases. One that was renewed since the last sight may have been so right after that."""
        since = self._updated
        version = ""
        for page in self._api.pages(Call("list", "leases", "coordination.k8s.io", NAMESPACE)):
            for item in members(page):
                self._seen.see(item, since)
            version = version or objects.text(page, "metadata", "resourceVersion")
        self._version = version
        self._updated = time.monotonic()

    def _watch(self) -> None:
        """Take in what happens during one turn. Events that piled up while nobody looked count from the last sight."""
        call = Call("watch", "leases", "coordination.k8s.io", NAMESPACE)
        started = self._updated
        for event in self._api.watch(call, self._version, TURN, TURN + SILENCE):
            if self._stop.is_set():
                return
            now = time.monotonic()
            self._take(event, now if now - started < TURN + LAG else started)
            started = self._updated = now
            if now - self._written >= WRITE:
                self._write()
        self._updated = time.monotonic()
        self._write()

    def _take(self, event: Mapping[str, Any], when: float) -> None:
        item = event.get("object")
        self._version = objects.text(item, "metadata", "resourceVersion") or self._version
        if event.get("type") == "DELETED":
            self._seen.forget(item)
        elif event.get("type") in ("ADDED", "MODIFIED"):
            self._seen.see(item, when)

    def _write(self, error: str = "") -> None:
        """Replace the file. It is for processes that live now: nothing is forced to the disk."""
        document = {"schema": SCHEMA, "updated": self._updated, "renewed": self._seen.renewed, "error": error}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with self._lock:
            if self._stop.is_set():
                return
            try:
                temporary.write_text(json.dumps(document), encoding="utf-8")
                temporary.replace(self._path)
            except OSError:
                # A file that is not brought up to date is taken for a server that does not answer.
                with contextlib.suppress(OSError):
                    temporary.unlink()
                return
        self._written = time.monotonic()
