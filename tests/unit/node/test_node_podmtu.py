"""Pods that keep another MTU than new ones get: who is asked, and what becomes of those that do not answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import podmtu, pods
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host, observe_host
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.pods import Pod

PLAN = [Change("sysctl", "net.core.somaxconn", "1", "2"), Change("mtu", "pods/mtu", "1250", "1450")]
PODS = [Pod(number, number, number, f"uid-{number}") for number in (1, 2, 3)]


@pytest.fixture
def host() -> Host:
    return observe_host("/")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[int, Any]], list[str]]:
    """Let pods answer by their process: a mapping, or an error."""

    def give(by_pid: Mapping[int, Any]) -> list[str]:
        asked: list[str] = []

        def within(pod: Pod, work: Any, host: Host, limit: float) -> Any:
            asked.append(pod.uid)
            said = by_pid[pod.pid]
            if isinstance(said, NodeError):
                raise said
            return said

        monkeypatch.setattr(pods, "own", lambda host: PODS)
        monkeypatch.setattr(pods, "has_kubelet", lambda host: True)
        monkeypatch.setattr(pods, "within", within)
        return asked

    return give


def test_only_those_with_another_one(answers: Callable[[Mapping[int, Any]], list[str]], host: Host) -> None:
    warnings: list[str] = []
    answers({1: {"name": "a", "mtu": 1450}, 2: {"name": "b", "mtu": 1250}, 3: {"name": "c", "mtu": None}})
    assert podmtu.stale(PLAN, host, warnings) == [{"uid": "uid-2", "name": "b", "mtu": 1250}]
    assert warnings == []


def test_nobody_is_asked_without_a_wish(answers: Callable[[Mapping[int, Any]], list[str]], host: Host) -> None:
    asked = answers({})
    assert podmtu.stale(PLAN[:1], host, []) == []
    assert podmtu.stale([Change("mtu", "pods/mtu", None, None)], host, []) == []
    assert asked == []


def test_those_that_do_not_answer(answers: Callable[[Mapping[int, Any]], list[str]], host: Host) -> None:
    warnings: list[str] = []
    gone, hung = NodeError("gone", code="gone"), NodeError("the pod's network cannot be entered", "no answer")
    answers({1: gone, 2: hung, 3: {"name": "c", "mtu": 1250}})
    assert [row["uid"] for row in podmtu.stale(PLAN, host, warnings)] == ["uid-3"]
    assert warnings == ["not every pod's MTU is known: the pod's network cannot be entered: no answer"]
    warnings.clear()
    asked = answers({})
    assert podmtu.stale(PLAN, host, warnings, limit=0) == []
    assert asked == [] and warnings == ["not every pod's MTU is known: no time was left for the rest"]


def test_the_namespace_one_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podmtu, "INTERFACE", "lo")
    assert podmtu._look()["mtu"] == 65536
    monkeypatch.setattr(podmtu, "INTERFACE", "no-such-link")
    assert podmtu._look()["mtu"] is None


def test_where_no_kubelet_runs_nobody_is_asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "has_kubelet", lambda host: False)
    assert podmtu.stale(PLAN, host, []) == []
