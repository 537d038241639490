"""A renewal is one that was seen to happen; a server that is silent is said to be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_fixtures import load
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster import leases
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.leases import LeaseWatch, Sightings


def lease(name: str, renewed: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": renewed}, "spec": {"renewTime": renewed}}


def test_sightings() -> None:
    seen = Sightings(["a", "b"])
    assert not seen.see(lease("a", "1"), 10.0)  # the first sight
    assert not seen.see(lease("a", "1"), 11.0)
    assert not seen.see(lease("other", "2"), 11.0)
    assert not seen.see(lease("a", ""), 11.0)
    assert seen.see(lease("a", "2"), 12.0)
    assert seen.renewed == {"a": 12.0, "b": 0.0}
    assert seen.unseen() == ["b"]
    seen.forget(lease("a", "2"))
    assert not seen.see(lease("a", "3"), 13.0)
    assert seen.renewed["a"] == 12.0


def test_real_leases() -> None:
    seen = Sightings(["ex-worker", "ex-worker2", "ex-control-plane"])
    assert not any(seen.see(item, 1.0) for item in load("leases"))
    assert not seen.unseen()


class Leases:
    """A server whose Leases a test renews; ``broken`` answers instead where it is set."""

    def __init__(self, *names: str) -> None:
        self.version = 1
        self.times = dict.fromkeys(names, "1")
        self.broken: Callable[[Request], None] | None = None
        self.lists = 0

    def renew(self, name: str) -> None:
        self.version += 1
        self.times[name] = str(self.version)

    def __call__(self, request: Request) -> None:
        request.body()
        if "/leases" not in request.path:
            request.send(200, {"gitVersion": "v1"})
        elif self.broken is not None:
            self.broken(request)
        elif "watch=true" in request.path:
            self._watch(request)
        else:
            self.lists += 1
            items = [lease(name, renewed) for name, renewed in self.times.items()]
            request.send(200, {"metadata": {"resourceVersion": str(self.version)}, "items": items})

    def _watch(self, request: Request) -> None:
        known = int(request.path.partition("resourceVersion=")[2].partition("&")[0])
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        limit = time.monotonic() + 1
        while time.monotonic() < limit and self.broken is None:
            for name, renewed in self.times.items():
                if int(renewed) > known:
                    known = int(renewed)
                    self._chunk(request, json.dumps({"type": "MODIFIED", "object": lease(name, renewed)}) + "\n")
            time.sleep(0.02)
        self._chunk(request, "")

    @staticmethod
    def _chunk(request: Request, text: str) -> None:
        try:
            request.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
            request.wfile.flush()
        except OSError:
            request.close_connection = True


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def until(path: Path, holds: Callable[[Any], bool], seconds: float = 8) -> Any:
    """Wait until the file says something, and return it."""
    limit = time.monotonic() + seconds
    while not holds(found := content(path)):
        assert time.monotonic() < limit, found
        time.sleep(0.02)
    return found


@contextmanager
def watching(server: Leases, directory: Path) -> Iterator[LeaseWatch]:
    """Watch the Lease "a" of a server."""
    with (
        tiny_api(server) as url,
        Cluster.open(kubeconfig(directory, url), timeout=2) as cluster,
        LeaseWatch(cluster, directory / "leases.json", ["a"]) as watch,
    ):
        yield watch


def test_renewals_are_written_and_the_clock_goes_on(tmp_path: Path) -> None:
    server, path = Leases("a", "b"), tmp_path / "leases.json"
    with tiny_api(server) as url, Cluster.open(kubeconfig(tmp_path, url), timeout=2) as cluster:
        with LeaseWatch(cluster, path, ["a", "b", "none"]) as watch:
            assert watch.missing == ("none",)
            first = content(path)
            assert first["schema"] == 1
            assert first["renewed"] == {"a": 0.0, "b": 0.0, "none": 0.0}
            before = time.monotonic()
            server.renew("a")
            found = until(path, lambda c: c["renewed"]["a"] > 0)
            assert before - 0.1 < found["renewed"]["a"] < time.monotonic()
            assert found["renewed"]["b"] == 0.0
            moved = until(path, lambda c: c["updated"] > found["updated"] + 2)
            assert (moved["error"], server.lists) == ("", 1)
            started = time.monotonic()
        assert time.monotonic() - started < 2
    last = content(path)
    time.sleep(0.3)
    assert content(path) == last
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_server_that_falls_silent_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PAUSE", 0.1)
    server, path = Leases("a"), tmp_path / "leases.json"
    with watching(server, tmp_path):
        server.broken = lambda request: request.refuse(500, "InternalError", "etcdserver: no leader")
        said = until(path, lambda c: bool(c["error"]))
        assert "etcdserver: no leader" in said["error"]
        before = content(path)["updated"]
        server.renew("a")  # while nobody looks
        server.broken = None
        found = until(path, lambda c: c["error"] == "" and c["renewed"]["a"] > 0)
        # It may have happened at any time since the last look: that is what counts.
        assert found["renewed"]["a"] <= before < found["updated"]


def test_a_version_that_is_too_old_lists_again(tmp_path: Path) -> None:
    server, path = Leases("a"), tmp_path / "leases.json"

    def gone(request: Request) -> None:
        server.broken = None
        request.send(200, {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})

    with watching(server, tmp_path):
        server.broken = gone
        until(path, lambda c: server.lists == 2)
        server.renew("a")
        assert until(path, lambda c: c["renewed"]["a"] > 0)["error"] == ""


def test_leases_that_may_not_be_read_are_said_at_once(tmp_path: Path) -> None:
    server = Leases("a")
    server.broken = lambda request: request.refuse(403, "Forbidden", "no")
    with pytest.raises(ClusterError) as caught, watching(server, tmp_path):
        raise AssertionError("entered")
    assert caught.value.code == "forbidden"
    assert not (tmp_path / "leases.json").exists()
