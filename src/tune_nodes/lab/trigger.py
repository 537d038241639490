"""Do something at the very moment a condition first holds, as a fault in the middle of a change needs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tune_nodes.errors import TuneError


@dataclass
class Once:
    """Whether the action ran, and the error that ended the watch."""

    fired: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


@contextmanager
def once(condition: Callable[[], bool], action: Callable[[], object], *, timeout: float = 60.0) -> Iterator[Once]:
    """Watch ``condition`` from another thread while the block runs; the first time it holds, call ``action``.

    Args:
        condition: looked at every 2 ms, so it must be cheap: a file that exists, say.
        action: called once, in the watching thread.
        timeout: seconds after which the watch ends.

    Raises:
        TuneError: the block ended, or the time passed, before the condition held, or the action failed. An error of
            the block itself is not hidden.
    """
    state, ended = Once(), threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + timeout
        try:
            while not ended.is_set() and time.monotonic() < deadline:
                if condition():
                    action()
                    state.fired.set()
                    return
                ended.wait(0.002)
        except (TuneError, OSError, ValueError, KeyError) as error:
            state.error = error

    thread = threading.Thread(target=watch, name="lab-trigger", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        ended.set()
        thread.join(timeout)
    if state.error is not None:
        raise TuneError("the triggered action failed", str(state.error)) from state.error
    if not state.fired.is_set():
        raise TuneError("the condition never held", f"watched for at most {timeout:g} s")
