"""How many calls are made at once, and what a refusal does to that."""

from __future__ import annotations

import threading
import time

import pytest

from tune_nodes.cluster.errors import FORBIDDEN, NOT_FOUND, SERVER, UNREACHABLE, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.policy import pace as pacing
from tune_nodes.policy.pace import Pace, passing

DENIED = 'networkpolicies.networking.k8s.io is forbidden: User "x" cannot delete resource "networkpolicies"'


def refused(status: int, message: str = "", retry_after: float = 0) -> Refused:
    problem = Refused(ClusterError(FORBIDDEN if status == 403 else SERVER, "no"), status, message)
    problem.retry_after = retry_after
    return problem


class Waits:
    """Notes how long somebody would have slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_results_keep_their_order_and_no_more_than_some_run_at_once() -> None:
    guard, running, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with guard:
            running -= 1
        return number * 2

    assert Pace(5).over(range(60), work) == [number * 2 for number in range(60)]
    assert 1 < most <= 5


def test_a_429_holds_everybody_up_and_halves_the_width() -> None:
    waits, first = Waits(), iter([refused(429, retry_after=3)])
    pace = Pace(8, waits)

    def work(number: int) -> int:
        for problem in first:
            raise problem
        return number

    assert pace.over([1], work) == [1]
    assert (pace.width, pace.throttled) == (4, 1)
    assert waits.seconds[0] == 3
    assert 2 < waits.seconds[1] <= 3, "the next call waits for the rest of it"
    for number in range(pacing.GROW_AFTER * 6):
        pace.call(work, number)
    assert pace.width == 8, "it grows again, but no further than it was"


def test_without_end_is_not_waited() -> None:
    waits = Waits()
    with pytest.raises(Refused):
        Pace(2, waits).call(lambda _: (_ for _ in ()).throw(refused(429, retry_after=pacing.PATIENCE + 1)), 1)
    assert waits.seconds == []


@pytest.mark.parametrize(
    ("problem", "tries"),
    [
        (ClusterError(UNREACHABLE, "lost"), 4),
        (refused(503), 4),
        (refused(403, DENIED), 4),
        (refused(403, 'p is forbidden: exceeded quota: "q"'), 1),
        (refused(422, "invalid"), 1),
        (ClusterError(NOT_FOUND, "gone"), 1),
    ],
)
def test_what_may_be_over_in_a_moment_is_tried_again(problem: ClusterError, tries: int) -> None:
    tried = 0

    def work(_: int) -> None:
        nonlocal tried
        tried += 1
        raise problem

    with pytest.raises(ClusterError) as caught:
        Pace(2, Waits(), retries=(1, 2, 3)).over([1], work)
    assert caught.value is problem
    assert tried == tries


def test_after_a_failure_nothing_more_is_begun() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ClusterError(NOT_FOUND, "gone")
        time.sleep(0.001)

    with pytest.raises(ClusterError, match="gone"):
        Pace(2).over(range(5000), work)
    assert len(begun) < 4000


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (403, DENIED, True),
        (403, "x is forbidden: no", False),
        (429, "", True),
        (502, "", True),
        (500, "", True),
        (404, "", False),
    ],
)
def test_passing(status: int, message: str, expected: bool) -> None:
    assert passing(refused(status, message)) is expected
