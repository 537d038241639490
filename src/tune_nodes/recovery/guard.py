"""One recovery at a time from this machine, and in which order its nodes come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tune_nodes.errors import TuneError, UsageError

LOCK = "recover.lock"
_PROTECTED = frozenset({"control-plane", "etcd"})


@contextlib.contextmanager
def alone(state_dir: Path, run: str, wait: float, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of recoveries.

    Args:
        state_dir: where it lies.
        run: written into it, so that the next one can name it.
        wait: seconds to wait for another run that holds it; 0: not at all.
        stopped: asked while waiting.

    Raises:
        TuneError: another run holds it.
        UsageError: the state directory cannot be written.
    """
    path = state_dir / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise UsageError(f"cannot write {path}", problem.strerror or "", "choose another --state-dir") from problem
    try:
        until = time.monotonic() + wait
        while not _locked(descriptor):
            if time.monotonic() >= until or stopped():
                holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
                raise TuneError(
                    "another recovery is at work",
                    f"run {holder} holds {path}" if holder.isprintable() and holder else f"{path} is held",
                    "wait for it, or give --wait SECONDS",
                )
            time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, run.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_order(names: Sequence[str], roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes in the order they are worked on, one after the other: control-plane and etcd nodes last."""
    return sorted(names, key=lambda name: bool(_PROTECTED & set(roles.get(name, ()))))
