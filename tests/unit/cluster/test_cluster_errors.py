"""Whatever a server does, the message says what, why and next, comes in time, and holds no secret."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_api import TOKEN, Request, kubeconfig, tiny_api

from tune_nodes.cluster import api as wire
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError

NODES = Call("list", "nodes")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "RETRIES", (0.01, 0.01))


def problem_with(path: Path, ask: Callable[[Cluster], object], timeout: float = 2) -> ClusterError:
    with pytest.raises(ClusterError) as caught, Cluster.open(path, timeout=timeout) as cluster:
        ask(cluster)
    said = f"{caught.value} {caught.value.data} {caught.value.__cause__}"
    assert TOKEN not in said
    return caught.value


def serving(answer: Callable[[Request], None], tmp_path: Path, user: Any = None) -> ClusterError:
    with tiny_api(answer) as server:
        return problem_with(kubeconfig(tmp_path, server, user), lambda cluster: cluster.nodes())


FORBIDDEN = (
    'nodes is forbidden: User "system:serviceaccount:shop:x" cannot list resource "nodes" in API group "" '
    "at the cluster scope"
)


def test_a_refused_token(tmp_path: Path) -> None:
    error = serving(lambda r: r.refuse(401, "Unauthorized", "Unauthorized"), tmp_path)
    assert error.code == "unauthorized"
    assert error.what == "the token of the context tiny was refused"
    assert "expired or was revoked" in error.why
    assert "tune-nodes doctor --cluster" in error.next


def test_no_credentials_at_all(tmp_path: Path) -> None:
    error = serving(lambda r: r.refuse(401, "Unauthorized", "Unauthorized"), tmp_path, user={})
    assert "has no credentials" in error.what


def only_version(rest: Callable[[Request], None]) -> Callable[[Request], None]:
    """Answer the first questions well, the rest as given."""

    def answer(request: Request) -> None:
        if request.path == "/version":
            request.send(200, {"gitVersion": "v1.34.4"})
        elif request.path.endswith("selfsubjectreviews"):
            request.body()
            request.refuse(404, "NotFound", "no such thing on an old server")
        else:
            rest(request)

    return answer


def test_forbidden_names_who_and_what(tmp_path: Path) -> None:
    error = serving(only_version(lambda r: r.refuse(403, "Forbidden", FORBIDDEN)), tmp_path)
    assert (error.code, error.what) == ("forbidden", "system:serviceaccount:shop:x may not list nodes")
    assert error.why == FORBIDDEN


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (500, {"kind": "Status", "message": "etcdserver: request timed out"}, "server", "500: etcdserver: request"),
        (503, b"<html>no healthy upstream</html>", "server", "is not a working API server"),
        (200, b"<html>please log in</html>", "server", "its answer is not JSON"),
        (200, b"[1, 2]", "server", "its answer is not an object"),
        (200, b"[" * 100_000, "server", "its answer is not JSON"),
        (302, b"", "server", "it answered 302"),
        (404, {"kind": "Status", "message": 7}, "not-found", "it answered 404"),
        (409, {"kind": "Status", "message": "modified", "details": {"causes": "junk"}}, "conflict", "modified"),
        (418, {"kind": "Status", "message": "\x1b[31mred"}, "server", "418: red"),
    ],
)
def test_other_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, body: Any, code: str, said: str
) -> None:
    error = serving(only_version(lambda r: r.send(status, body)), tmp_path)
    assert error.code == code
    assert said in str(error)


def test_a_passing_error_is_not_one(tmp_path: Path) -> None:
    """A server that is being rolled: one 503, one closed connection, then the answer."""
    seen: list[str] = []

    def rest(request: Request) -> None:
        seen.append(request.path)
        if len(seen) == 1:
            request.refuse(503, "ServiceUnavailable", "apiserver not ready")
        elif len(seen) == 2:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            request.send(200, {"items": []})

    with tiny_api(only_version(rest)) as server, Cluster.open(kubeconfig(tmp_path, server)) as cluster:
        assert cluster.nodes() == {}
    assert len(seen) == 3


def test_a_patch_is_never_sent_twice(tmp_path: Path) -> None:
    patches: list[Any] = []

    def rest(request: Request) -> None:
        if request.command == "PATCH":
            patches.append(request.body())
            request.refuse(503, "ServiceUnavailable", "apiserver not ready")
        else:
            request.send(200, {"metadata": {"name": "n", "resourceVersion": "7"}})

    with tiny_api(only_version(rest)) as server:
        error = problem_with(kubeconfig(tmp_path, server), lambda cluster: cluster.cordon("n", "run-1"))
    assert error.code == "server"
    assert [patch["metadata"]["resourceVersion"] for patch in patches] == ["7"]


def test_a_slow_server(tmp_path: Path) -> None:
    started = time.monotonic()
    with tiny_api(lambda r: time.sleep(3)) as server:
        error = problem_with(kubeconfig(tmp_path, server), lambda cluster: None, timeout=0.5)
    assert (error.code, error.why) == ("unreachable", "nothing came within 0.5 s")
    assert time.monotonic() - started < 6


def test_a_drip_of_bytes_is_cut_off(tmp_path: Path) -> None:
    def drip(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            return

    started = time.monotonic()
    with tiny_api(drip) as server:
        error = problem_with(kubeconfig(tmp_path, server), lambda cluster: None, timeout=0.2)
    assert error.code == "unreachable"
    assert time.monotonic() - started < 4


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_listens(tmp_path: Path) -> None:
    error = problem_with(kubeconfig(tmp_path, f"https://127.0.0.1:{free_port()}"), lambda cluster: None)
    assert error.code == "unreachable"
    assert "cannot be reached" in error.what
    assert error.why == "connection refused"


def test_no_such_name(tmp_path: Path) -> None:
    error = problem_with(kubeconfig(tmp_path, "https://nowhere.invalid:6443"), lambda cluster: None)
    assert (error.code, error.why) == ("unreachable", "DNS has no address for it")


def test_tls_where_the_server_speaks_none(tmp_path: Path) -> None:
    with tiny_api(lambda r: r.send(200, {})) as server:
        secure = server.replace("http:", "https:")
        error = problem_with(kubeconfig(tmp_path, secure), lambda cluster: None)
    assert "no TLS with the API server" in error.what


@pytest.mark.parametrize(
    ("proxy", "code", "said"),
    [
        ("http://127.0.0.1:1", "unreachable", "the proxy to https://192.0.2.1 does not work: connection refused"),
        (f"gopher://user:{TOKEN}@h", "bad-kubeconfig", "the proxy to the API server cannot be used"),
        (7, "bad-kubeconfig", "has a proxy-url that is no text"),
    ],
)
def test_a_proxy_that_is_none(tmp_path: Path, proxy: Any, code: str, said: str) -> None:
    path = kubeconfig(tmp_path, "https://192.0.2.1", cluster={"proxy-url": proxy})
    error = problem_with(path, lambda cluster: None)
    assert error.code == code
    assert said in str(error)


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    stolen: list[str] = []
    with tiny_api(lambda r: stolen.append(str(r.headers["Authorization"]))) as thief:

        def answer(request: Request) -> None:
            request.send_response(307)
            request.send_header("Location", f"{thief}/version")
            request.send_header("Content-Length", "0")
            request.end_headers()

        error = serving(answer, tmp_path)
    assert error.code == "server"
    assert not stolen


def test_pages_are_all_read_and_a_stale_list_is_begun_anew(tmp_path: Path) -> None:
    asked: list[str] = []

    def rest(request: Request) -> None:
        asked.append(request.path)
        step = len(asked)
        if step == 2:
            request.refuse(410, "Expired", "The provided continue parameter is too old")
            return
        items = [{"metadata": {"name": f"n{step}"}}, "junk", {"metadata": {"name": "BAD NAME"}}]
        request.send(200, {"metadata": {"continue": "token/+=" if step in (1, 3) else ""}, "items": items})

    with tiny_api(only_version(rest)) as server, Cluster.open(kubeconfig(tmp_path, server)) as cluster:
        assert set(cluster.nodes()) == {"n1", "n3", "n4"}
    first, more = "/api/v1/nodes?limit=500", "/api/v1/nodes?limit=500&continue=token%2F%2B%3D"
    assert asked == [first, more, first, more]


def test_a_list_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PAGES", 5)
    error = serving(only_version(lambda r: r.send(200, {"metadata": {"continue": "again"}, "items": []})), tmp_path)
    assert "more than 5 pages" in error.why


def test_an_answer_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 1 << 20)
    error = serving(only_version(lambda r: r.send(200, json.dumps("x" * (3 << 20)).encode())), tmp_path)
    assert "larger than 1 MiB" in error.why


def test_odd_names_stay_within_their_part_of_the_path() -> None:
    call = Call("create", "pods/eviction", namespace="a/../b", name="?x#y")
    assert call.path == "/api/v1/namespaces/a%2F..%2Fb/pods/%3Fx%23y/eviction"
