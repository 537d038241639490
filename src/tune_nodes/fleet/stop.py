"""How a person stops a run: once to stop safely, twice to stop now."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSwitch:
    """Counts Ctrl-C, SIGTERM and SIGHUP while it is entered as a context.

    Once: ``requested``; the wave in flight is finished, no other starts. Twice: ``aborted``; the call in flight is
    cancelled and the nodes undo by themselves what was not confirmed.

    Args:
        on_signal: called with what happens now, for the terminal.
    """

    def __init__(self, on_signal: Callable[[str], None] | None = None) -> None:
        self.count = 0
        self._on_signal = on_signal
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """A stop was asked for."""
        return self.count > 0

    @property
    def aborted(self) -> bool:
        """It was asked for a second time."""
        return self.count > 1

    def press(self, *_: object) -> None:
        """Count one more request to stop."""
        self.count += 1
        if self._on_signal is not None:
            if self.count == 1:
                self._on_signal("stopping: the wave in flight is finished first; once more stops now")
            elif self.count == 2:
                self._on_signal("stopping now: nodes undo by themselves what was not confirmed")

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.press()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before if callable(before) or isinstance(before, signal.Handlers) else signal.SIG_DFL)
        self._before.clear()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While a question stands, each of the signals is an answer: it raises KeyboardInterrupt."""
        before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def sleep(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Wait, but not longer than until a stop is requested (or ``until`` says so)."""
        done = until or (lambda: self.requested)
        deadline = time.monotonic() + seconds
        while not done() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
