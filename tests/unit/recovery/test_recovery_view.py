"""A node's pods in the API: their addresses, and which of them wait for a network rather than for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lease_server import Server, node, opened

from tune_nodes.recovery.view import View, read, waits_for_volume


def test_pods_in_the_api() -> None:
    def pod(phase: str, ips: list[str], **more: object) -> dict[str, object]:
        return {"metadata": {}, "spec": more, "status": {"phase": phase, "podIPs": [{"ip": ip} for ip in ips]}}

    items = [
        pod("Running", ["10.0.0.2", "FD00:0::2"]),
        pod("Succeeded", ["10.0.0.3"]),
        pod("Pending", []),
        pod("Pending", [], hostNetwork=True),
        pod("Running", ["nonsense"]),
        {},
    ]
    ips, waiting = read(items)
    assert (ips, len(waiting)) == (("10.0.0.2", "fd00::2"), 3)


def warned(when: str, reason: str, kind: str = "Warning") -> dict[str, Any]:
    return {"lastTimestamp": f"2026-11-24T10:{when}Z", "reason": reason, "type": kind}


NO_SECRET = warned("00:05", "FailedMount")
NO_NETWORK = warned("00:09", "FailedCreatePodSandBox")


@pytest.mark.parametrize(
    ("events", "volume"),
    [
        ([], False),
        ([NO_SECRET], True),
        ([NO_NETWORK], False),
        ([NO_SECRET, NO_NETWORK], False),
        ([NO_NETWORK, warned("00:11", "FailedMount")], True),
        ([NO_SECRET, warned("00:10", "Scheduled", "Normal")], True),
        ([{"type": "Warning", "eventTime": "2026-11-24T10:00:00Z", "reason": "FailedAttachVolume"}], True),
        ([{"type": "Warning"}], False),
    ],
)
def test_the_last_warning_says_what_a_pod_waits_for(events: list[dict[str, Any]], volume: bool) -> None:
    assert waits_for_volume(events) is volume


@given(st.lists(st.dictionaries(st.sampled_from(["type", "reason", "lastTimestamp"]), st.none() | st.text(max_size=9))))
def test_whatever_an_event_says(events: list[dict[str, Any]]) -> None:
    waits_for_volume(events)
    read(events)


class Kubelet(Server):
    """Has pods that wait, and their events by uid; None: they may not be listed."""

    waiting: list[str]
    events: dict[str, list[dict[str, Any]]] | None

    def answer(self, request: Any) -> None:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        if path == "/api/v1/pods":
            items = [{"metadata": {"uid": uid, "name": uid, "namespace": "shop"}} for uid in self.waiting]
            request.send(200, {"items": items})
        elif path == "/api/v1/namespaces/shop/events" and self.events is not None:
            request.send(
                200, {"items": self.events.get(query["fieldSelector"][0].removeprefix("involvedObject.uid="), [])}
            )
        else:
            request.refuse(403, "Forbidden", "may not list events")


@pytest.mark.parametrize(
    ("waiting", "events", "count"),
    [
        (["a", "b"], {"a": [NO_SECRET], "b": [NO_NETWORK]}, 1),
        (["a"], {"a": [NO_SECRET]}, 0),
        (["a", "b"], {}, 2),
        (["a", "b"], None, 2),
        ([f"p{number}" for number in range(30)], None, 30),
    ],
)
def test_a_pod_that_waits_for_a_volume_does_not_wait_for_a_network(
    tmp_path: Path, waiting: list[str], events: dict[str, list[dict[str, Any]]] | None, count: int
) -> None:
    server = Kubelet([node("w1")])
    server.waiting, server.events = waiting, events
    with opened(server, tmp_path) as cluster:
        assert View(cluster, {"w1": "w1"}).pods("w1").waiting == count
