"""Connections that prove a policy: what counts as an answer, and what does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import pod_connect
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host
from ansible_collections.tune.nodes.plugins.module_utils.pod_connect import Target, connect, parse
from hypothesis import given, settings
from hypothesis import strategies as st


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_answers_is_a_proof() -> None:
    with listening() as port:
        found = connect(f"node 127.0.0.1 {port} TCP", observe_host())
    assert (found["ok"], found["detail"]) == (True, "connected")


def test_a_refusal_is_none() -> None:
    with listening() as port:
        pass
    found = connect(f"node 127.0.0.1 {port} TCP", observe_host())
    assert not found["ok"]
    assert found["detail"].startswith("refused: ")


def test_silence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_connect, "WAIT", 0.3)
    with socket.socket() as full:  # its backlog is full: a SYN gets no answer, as from a policy that drops
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):
            found = connect(f"node 127.0.0.1 {address[1]} TCP", observe_host())
    assert (found["ok"], found["detail"]) == (False, "no answer within 0.3 s")


def test_a_pod_that_is_not_here_is_said() -> None:
    found = connect("00000000-0000-0000-0000-000000000000 127.0.0.1 80 TCP", observe_host())
    assert (found["ok"], found["ms"]) == (False, None)


def test_any_answer_of_a_name_server_counts() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        asked = []

        def answer() -> None:
            data, client = server.recvfrom(512)
            asked.append(data)
            server.sendto(data[:2] + b"\x81\x83" + data[4:], client)

        thread = threading.Thread(target=answer)
        thread.start()
        said = pod_connect._udp(Target("node", "127.0.0.1", server.getsockname()[1], "UDP"))
        thread.join(5)
    assert said == "answered"
    assert b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00" in asked[0]


@pytest.mark.parametrize(
    "text",
    ["", "node 127.0.0.1 80", "node localhost 80 TCP", "node 127.0.0.1 0 TCP", "node 127.0.0.1 80 ICMP",
     "../x 127.0.0.1 80 TCP", "node 127.0.0.1 80 UDP"],
)  # fmt: skip
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        parse(text)
    assert caught.value.code == "usage"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_targets_survive_junk(text: str) -> None:
    try:
        found = parse(text)
    except NodeError:
        return
    assert 0 < found.port < 65536
