"""Processes of the lab: recognised by start time and network namespace, stopped through pidfds."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from tune_nodes.errors import TuneError
from tune_nodes.lab.model import Started

_PROC = Path("/proc")


def parse_start(stat: str) -> int | None:
    """Return the start time of a ``/proc/PID/stat`` line, None for a zombie, a dead process, or junk."""
    _, _, rest = stat.rpartition(")")  # the name before it may hold spaces and brackets
    fields = rest.split()
    if len(fields) < 20 or fields[0] in "ZXx" or not fields[19].isdigit():
        return None
    return int(fields[19])


def identify(pid: int) -> Started | None:
    """Return what tells this process from any other, None if it does not run."""
    try:
        start = parse_start((_PROC / str(pid) / "stat").read_text(errors="replace"))
    except OSError:
        return None
    return None if start is None else Started(pid=pid, start=start)


def alive(process: Started | None) -> bool:
    """Return whether this very process still runs."""
    return process is not None and identify(process.pid) == process


def netns_of(pid: int) -> int | None:
    """Return the inode of a process's network namespace, None where it has gone."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def members(namespaces: set[int]) -> list[int]:
    """Return the pids of all processes that live in one of these network namespaces."""
    found = []
    for entry in _PROC.iterdir():
        pid = int(entry.name) if entry.name.isdigit() else 0
        if pid and netns_of(pid) in namespaces and identify(pid):
            found.append(pid)
    return found


def signal_members(namespaces: set[int], number: signal.Signals, spare: Started) -> None:
    """Send a signal to all processes in these network namespaces but ``spare``."""
    for pid in members(namespaces):
        if pid != spare.pid:
            with ExitStack() as stack:
                fd = _open(pid, namespaces, stack)
                if fd is not None:
                    _send(fd, number)


def stop_members(namespaces: set[int], timeout: float = 10.0) -> int:
    """Kill all processes in these network namespaces, also those they start meanwhile.

    Returns how many were killed. Raises TuneError if some outlive ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    killed = 0
    while pids := members(namespaces):
        killed += _kill(pids, namespaces, deadline)
        if time.monotonic() > deadline:
            raise TuneError(f"processes of the lab do not end: {sorted(pids)}", "", "look at them with ps -fp PID")
    return killed


def _kill(pids: Iterable[int], namespaces: set[int], deadline: float) -> int:
    poll = select.poll()
    killed = 0
    with ExitStack() as stack:
        for pid in pids:
            fd = _open(pid, namespaces, stack)
            if fd is not None and _send(fd, signal.SIGKILL):
                killed += 1
                poll.register(fd, select.POLLIN)
        waiting = killed
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                waiting -= 1
    return killed


def _open(pid: int, namespaces: set[int], stack: ExitStack) -> int | None:
    """Return a pidfd, None where this pid no longer is a process of these namespaces."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, fd)
    # Looked at again now that the number cannot be given to another process unnoticed.
    return fd if netns_of(pid) in namespaces else None


def _send(fd: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    return True
