"""What is sent for a delete, a dry run and an apply; and that a server which asks us to wait is heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster import api as wire
from tune_nodes.cluster.api import DRY_RUN, Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.refusals import MAX_RETRY_AFTER, Refused, seconds_of
from tune_nodes.policy.pace import Pace

POLICY = Call("delete", "networkpolicies", "networking.k8s.io", "shop", "deny", "v1")


class Server:
    """Answers each request with the next of some answers, the last one again and again; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.at: list[float] = []
        self.answers: list[Callable[[Request], None]] = [lambda request: request.send(200, {"kind": "Status"})]

    def answer(self, request: Request) -> None:
        self.at.append(time.monotonic())
        self.asked.append((request.command, request.path, request.body()))
        self.answers[min(len(self.asked), len(self.answers)) - 1](request)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[Api]:
    with tiny_api(server.answer) as address:
        made = Api(kubeconfig(tmp_path, address), timeout=5)
        yield made
        made.close()


def wait_please(seconds: str) -> Callable[[Request], None]:
    """Answer 429 with a Retry-After."""

    def answer(request: Request) -> None:
        request.send_response(429)
        request.send_header("Retry-After", seconds)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    return answer


@pytest.mark.parametrize(
    ("uid", "version", "preconditions"),
    [
        ("u1", "7", {"preconditions": {"uid": "u1", "resourceVersion": "7"}}),
        ("u1", "", {"preconditions": {"uid": "u1"}}),
        ("", "", {}),
    ],
)
def test_a_delete_names_the_very_object(
    server: Server, api: Api, uid: str, version: str, preconditions: dict[str, Any]
) -> None:
    api.delete(POLICY, uid, version)
    path = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/deny"
    assert server.asked == [("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **preconditions})]
    assert (api.sent["DELETE"], api.throttled) == (1, 0)


def test_a_dry_run_says_so(server: Server, api: Api) -> None:
    api.post(Call("create", "things", "example.com", "shop", version="v2"), {"a": 1}, DRY_RUN)
    assert server.asked == [("POST", "/apis/example.com/v2/namespaces/shop/things?dryRun=All", {"a": 1})]


def test_a_version_is_no_part_of_a_permission() -> None:
    assert str(POLICY) == "delete networkpolicies.networking.k8s.io deny in the namespace shop"


def test_a_read_waits_as_long_as_the_server_asks(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "RETRIES", (0.01, 0.01))
    server.answers.insert(0, wait_please("1"))
    assert api.read("/version") == {"kind": "Status"}
    assert server.at[1] - server.at[0] >= 1
    assert api.throttled == 1


def test_a_write_is_not_made_again_by_itself_but_says_when_it_may_be(server: Server, api: Api) -> None:
    server.answers = [wait_please("7")]
    with pytest.raises(Refused) as caught:
        api.delete(POLICY, "u1")
    assert (caught.value.status, caught.value.retry_after, len(server.asked)) == (429, 7.0, 1)


def test_many_writes_wait_together(server: Server, api: Api) -> None:
    server.answers.insert(0, wait_please("1"))
    pace = Pace(4)
    pace.over([str(number) for number in range(12)], lambda uid: api.delete(POLICY, uid))
    assert len(server.asked) == 13
    assert pace.throttled == api.throttled == 1
    late = [at for at in server.at if at - server.at[0] > 0.9]
    # What was on its way came before the time was over. Each by itself, all but one would have.
    assert len(late) > 6


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1),
        ("60", 60),
        ("99999999999999999999", MAX_RETRY_AFTER),
        (None, 0),
        ("", 0),
        ("-1", 0),
        ("1.5", 0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("\u0661", 0),
    ],
)
def test_retry_after(header: str | None, seconds: float) -> None:
    assert seconds_of(header) == seconds
