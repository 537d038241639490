"""What was well before a change must be well after it; what was not is not demanded."""

from __future__ import annotations

import pytest

from tune_nodes.cluster.health import refuse_reasons, unwell
from tune_nodes.cluster.match import Match
from tune_nodes.cluster.model import AgentFacts, NodeFacts

WELL = NodeFacts("w1", ready=True)
SICK = NodeFacts("w1", ready_reason="Unknown, NodeStatusUnknown: Kubelet stopped posting node status.")


def agent(app: str, ready: bool = True, why: str = "", node: str = "w1", pod: str = "p") -> AgentFacts:
    return AgentFacts("kube-system", pod, app, node, ready, why)


def test_refuse_reasons() -> None:
    assert refuse_reasons(Match(WELL, "name")) == ""
    assert refuse_reasons(Match(SICK, "name")) == (
        "the Node w1 is not ready: Unknown, NodeStatusUnknown: Kubelet stopped posting node status."
    )
    assert refuse_reasons(Match(NodeFacts("w1"), "name")) == "the Node w1 is not ready: no reason given"


PROXY, FLANNEL = agent("kube-proxy"), agent("kube-flannel-ds")


@pytest.mark.parametrize(
    ("before", "now", "agents_before", "agents_now", "said"),
    [
        (WELL, WELL, [PROXY], [agent("kube-proxy", pod="another")], ""),
        (WELL, None, [], [], "the Node w1 is gone"),
        (WELL, SICK, [], [], f"the Node w1 is not ready any more: {SICK.ready_reason}"),
        (SICK, SICK, [], [], ""),
        (WELL, WELL, [PROXY, FLANNEL], [PROXY], "not ready any more on the Node w1: kube-system/kube-flannel-ds "),
        (WELL, WELL, [FLANNEL], [agent("kube-flannel-ds", False, "CrashLoopBackOff")], "(CrashLoopBackOff)"),
        (WELL, WELL, [FLANNEL], [], "(its pod is gone)"),
        (WELL, WELL, [agent("kube-proxy", False, "Pending")], [], ""),
        (WELL, WELL, [agent("kube-proxy", node="w2")], [], ""),
        (WELL, WELL, [PROXY], [agent("kube-proxy", node="w2")], "kube-proxy"),
        (WELL, WELL, [agent(f"a{i}") for i in range(5)], [], "a2 (its pod is gone) and 2 more"),
        # A rolling update: the old pod is being deleted, the new one is ready.
        (WELL, WELL, [PROXY], [agent("kube-proxy", False, "being deleted"), agent("kube-proxy", pod="new")], ""),
    ],
)
def test_unwell(
    before: NodeFacts, now: NodeFacts | None, agents_before: list[AgentFacts], agents_now: list[AgentFacts], said: str
) -> None:
    found = unwell(before, now, agents_before, agents_now)
    assert said in found if said else found == ""
