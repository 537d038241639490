"""Many calls to one API server, never more at once than it takes, and none while it asks us to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from tune_nodes.cluster.errors import UNREACHABLE, ClusterError
from tune_nodes.cluster.refusals import Refused

#: Calls under way at once. A server without further settings takes 200 writes at once from all its clients.
WIDTH = 8
#: Seconds to wait after a 429 without Retry-After.
PAUSE = 1.0
#: Answers in a row that were not 429 before one call more is made at once.
GROW_AFTER = 20
#: Seconds for which one call is held up by 429 before that counts as a failure.
PATIENCE = 120.0
#: Seconds before a call is made again that the server or the way to it lost: a server that starts anew takes 3 to 20.
RETRIES = (0.2, 0.6, 1.5, 3.0, 5.0, 8.0)
_LOST = (500, 502, 503, 504)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Pace:
    """Runs calls side by side. After a 429 nothing is sent for as long as the server says, then half as much at once.

    Args:
        width: most calls at once.
        sleep: waits some seconds.
        retries: seconds before each further try where the server was lost.
    """

    def __init__(
        self,
        width: int = WIDTH,
        sleep: Callable[[float], None] = time.sleep,
        retries: Sequence[float] = RETRIES,
    ) -> None:
        self.most = width
        self.throttled = 0
        self.retries = retries
        self._sleep = sleep
        self._width = width
        self._active = 0
        self._smooth = 0
        self._resume = 0.0  # monotonic time before which nothing is sent
        self._turn = threading.Condition()

    @property
    def width(self) -> int:
        """How many calls may be under way just now."""
        return self._width

    def over(self, items: Collection[_In], work: Callable[[_In], _Out]) -> list[_Out]:
        """Do the work for each item, and return the results in the items' order.

        ``work`` may be done again for the same item after a lost answer or a 429: it must bear that. The first error
        that stays is raised; what has not begun by then is not begun.
        """
        if not items:
            return []
        with ThreadPoolExecutor(min(self.most, len(items))) as pool:
            futures = [pool.submit(self.call, work, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                for future in futures:
                    future.cancel()
        for future in futures:
            if not future.cancelled() and (problem := future.exception()) is not None:
                raise problem
        return [future.result() for future in futures]

    def call(self, work: Callable[[_In], _Out], item: _In) -> _Out:
        """Do the work for one item; again where that may help."""
        limit = time.monotonic() + PATIENCE
        retries = iter(self.retries)
        while True:
            self._enter()
            try:
                found = work(item)
                self._went_well()
                return found
            except ClusterError as problem:
                pause = self._held_up(problem, limit) or (next(retries, 0.0) if _lost(problem) else 0.0)
                if not pause:
                    raise
            finally:
                self._leave()
            self._sleep(pause)

    def _enter(self) -> None:
        with self._turn:
            while self._active >= self._width:
                self._turn.wait()
            self._active += 1
            left = self._resume - time.monotonic()
        if left > 0:
            self._sleep(left)

    def _leave(self) -> None:
        with self._turn:
            self._active -= 1
            self._turn.notify_all()

    def _went_well(self) -> None:
        with self._turn:
            self._smooth += 1
            if self._smooth >= GROW_AFTER and self._width < self.most:
                self._width, self._smooth = self._width + 1, 0

    def _held_up(self, problem: ClusterError, limit: float) -> float:
        """Return for how long everybody waits after this error, 0 where it is no 429 or too late."""
        if not (isinstance(problem, Refused) and problem.status == 429):
            return 0.0
        pause = problem.retry_after or PAUSE
        now = time.monotonic()
        with self._turn:
            self.throttled += 1
            if now >= self._resume:  # one halving for all answers of one moment
                self._width = max(1, self._width // 2)
            self._smooth = 0
            self._resume = max(self._resume, now + pause)
        return pause if now + pause < limit else 0.0


def _lost(problem: ClusterError) -> bool:
    if isinstance(problem, Refused):
        return problem.status != 429 and passing(problem)
    return problem.code == UNREACHABLE


def passing(problem: Refused) -> bool:
    """Say whether an answer is about the server's state, not about the object: the same call may do later.

    A server that has just started denies every right for a second, until it has read its roles. Rights are asked for
    before anything is begun, so that a right denied on the way is taken for that. Admission's 403 names no user.
    """
    denied = problem.status == 403 and 'User "' in problem.message and " cannot " in problem.message
    return denied or problem.status == 429 or problem.status in _LOST
