"""Agents that do not run: named for the nodes that matter, and for no others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_world import JSON

from tune_nodes.policy.agents import said

CILIUM = {("kube-system", "cilium"): "cilium v1.20.2"}
END = ": rules stay there as they are, whatever policies say"


def pod(node: str, ready: str = "True", app: str = "cilium") -> dict[str, Any]:
    owner = {"kind": "DaemonSet", "name": app, "controller": True}
    return {
        "metadata": {"name": f"{app}-{node}", "namespace": "kube-system", "ownerReferences": [owner]},
        "spec": {"nodeName": node},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("agents", "pods", "sentences"),
    [
        (CILIUM, [pod("w1"), pod("w2")], []),
        (CILIUM, [pod("w1", "False"), pod("w2")], ["the agent cilium-w1 on w1 is not ready"]),
        (CILIUM, [pod("w1"), pod("w3", "False")], ["no agent of cilium v1.20.2 runs on w2"]),
        (CILIUM, [pod("w1"), pod("w2", "False"), pod("w2")], []),  # the old one ends, the new one is there
        (CILIUM, [pod("w1", app="kube-proxy"), pod("w1"), pod("w2")], []),
        ({**CILIUM, ("kube-system", "windows"): "cilium"}, [pod("w1"), pod("w2")], []),  # meant for other nodes
        ({}, [], []),
    ],
)
def test_agents_that_do_not_run(agents: dict[tuple[str, str], str], pods: list[Any], sentences: list[str]) -> None:
    assert said(agents, pods, {"w1", "w2"}) == [sentence + END for sentence in sentences]


@given(st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JSON), max_size=3))
def test_any_pod_is_read(pods: list[dict[str, Any]]) -> None:
    assert len(said(CILIUM, pods, {"w1"})) >= 1
