"""What must hold before the next wave: a table."""

from __future__ import annotations

import pytest

from tune_nodes.fleet.gate import judge
from tune_nodes.fleet.waves import Wave
from tune_nodes.runs.models import NodeInCluster, NodeRecord, Outcome


def records(*outcomes: Outcome, start: int = 1) -> list[NodeRecord]:
    return [NodeRecord(name=f"n{start + index}", outcome=outcome) for index, outcome in enumerate(outcomes)]


GOOD, BAD = Outcome.CHANGED, Outcome.REVERTED


@pytest.mark.parametrize(
    ("canary", "protected", "here", "earlier", "percent", "passed"),
    [
        (True, False, [GOOD], [], 5, True),
        (True, False, [Outcome.OK], [], 0, True),
        (True, False, [BAD], [], 100, False),
        (True, False, [Outcome.REFUSED], [], 100, False),
        (False, True, [BAD], [GOOD] * 99, 50, False),
        (False, False, [GOOD, BAD], [GOOD] * 98, 5, True),
        (False, False, [BAD], [GOOD] * 19, 5, False),  # 5 % reaches the limit of 5 %
        (False, False, [GOOD] * 10, [GOOD] * 90, 0, True),
        (False, False, [BAD], [GOOD] * 999, 0, False),
        (False, False, [GOOD], [BAD], 5, False),  # what failed earlier still counts
        (False, True, [GOOD], [BAD] + [GOOD] * 99, 5, True),
        (False, False, [Outcome.UNREACHABLE] * 2, [], 100, False),
    ],
)
def test_verdicts(
    canary: bool, protected: bool, here: list[Outcome], earlier: list[Outcome], percent: float, passed: bool
) -> None:
    now, before = records(*here), records(*earlier, start=1000)
    wave = Wave(tuple(node.name for node in now), canary=canary, protected=protected)
    verdict = judge(wave, now, [*before, *now], percent)
    assert verdict.passed is passed
    assert verdict.detail


def test_a_changed_node_that_its_cluster_finds_unwell_has_failed() -> None:
    now = records(Outcome.CHANGED, Outcome.CHANGED)
    now[0].cluster = NodeInCluster(name="n0", ready=False, unwell="the Node n0 is not ready any more")
    verdict = judge(Wave(("n0", "n1"), canary=True), now, now, 5)
    assert not verdict.passed
    assert f"{now[0].name} (the Node n0 is not ready any more)" in verdict.detail
    assert now[1].name not in verdict.detail


def test_the_detail_names_the_nodes() -> None:
    now = records(*[BAD] * 8)
    detail = judge(Wave(tuple(node.name for node in now), canary=True), now, now, 5).detail
    assert detail == "the canary failed: " + ", ".join(f"n{i} (reverted)" for i in range(1, 6)) + " and 3 more"
