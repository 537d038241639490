"""Ctrl-C once and twice, with real signals."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tune_nodes.fleet.stop import StopSwitch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_once_and_twice(number: signal.Signals) -> None:
    said: list[str] = []
    before = signal.getsignal(number)
    with StopSwitch(said.append) as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert (stop.requested, stop.aborted) == (True, False)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert stop.aborted
    assert len(said) == 2
    assert signal.getsignal(number) is before


def test_a_stop_ends_a_wait() -> None:
    stop = StopSwitch()
    stop.press()
    began = time.monotonic()
    stop.sleep(30)
    assert time.monotonic() - began < 5


def test_while_a_question_stands_a_signal_is_an_answer() -> None:
    with StopSwitch() as stop:
        with pytest.raises(KeyboardInterrupt), stop.asking():
            os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
