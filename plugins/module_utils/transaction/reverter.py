# SPDX-License-Identifier: Apache-2.0
"""What reverts a node when nobody comes back: a systemd timer, or a process of its own session."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from typing import Any, Callable, Dict, List, Optional

from ..errors import NodeError
from ..host import Host, read_text
from .store import ARMED, Tx, now

SYSTEMD, PROCESS = "systemd", "process"
_TIMEOUT = 10.0
_UNIT = "tune-nodes-revert-%s-%d"


def python_command(header: Dict[str, Any], *words: str) -> List[str]:
    """Return the argument list that runs the installed node code: isolated, no site, no environment."""
    return [str(header["python"]), "-I", "-S", str(header["code"]), *words]


def arm(tx: Tx, host: Host) -> Dict[str, Any]:
    """Start the reverter of an ARMED transaction and see that it runs.

    Returns:
        The handle kept in the header: ``{"kind": "systemd", "unit", "generation"}`` or
        ``{"kind": "process", "pid", "start"}``.

    Raises:
        NodeError: no reverter, so nothing may be written.
    """
    if host.init == SYSTEMD:
        return _arm_systemd(tx)
    return _arm_process(tx, host)


def _arm_systemd(tx: Tx) -> Dict[str, Any]:
    generation = int(tx.header.get("reverter", {}).get("generation", 0)) + 1
    unit = _UNIT % (tx.id, generation)
    # Rounded up: a timer that fires before the deadline finds nothing due, and does not fire again.
    seconds = max(1.0, tx.deadline - now()) + 0.1
    _run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=" + unit,
            "--description=Undo tune-nodes transaction %s unless it is confirmed" % tx.id,
            "--on-active=%.1fs" % seconds,
            "--timer-property=AccuracySec=1s",
            "--property=Restart=on-failure",
            "--property=RestartSec=5s",
            "--property=StartLimitIntervalSec=0",
            *python_command(tx.header, "resolve"),
        ]
    )
    if not _timer_active(unit):
        raise NodeError(
            "the revert timer %s did not start" % unit,
            "systemd accepted it but does not show it as active",
            "look at: systemctl status %s.timer" % unit,
        )
    return {"kind": SYSTEMD, "unit": unit, "generation": generation}


def _arm_process(tx: Tx, host: Host) -> Dict[str, Any]:
    # Two forks and a session of its own: neither the end of this request nor a hang-up of its ssh session
    # reaches it. It carries all its code in memory and reads the deadline from the transaction, so it needs no
    # file to start from, and re-arming needs no second process.
    from .watch import run_watch  # loaded before the fork: afterwards its archive may be gone

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_reverter(tx.id, host.root, writer, run_watch)
    os.close(writer)
    os.waitpid(child, 0)
    try:
        pid = _wait_ready(reader)
    finally:
        os.close(reader)
    start = start_time(pid, host) if pid else None
    if start is None:
        raise NodeError("the reverter process did not start", "", "nothing was changed; look at the node's memory")
    return {"kind": PROCESS, "pid": pid, "start": start}


def _wait_ready(reader: int) -> Optional[int]:
    """Return the reverter's pid once it stands alone and has said so, None if it never does."""
    readable, _, _ = select.select([reader], [], [], _TIMEOUT)
    said = os.read(reader, 64).strip() if readable else b""
    return int(said) if said.isdigit() else None


def _become_reverter(tx_id: str, root: str, writer: int, watch: Callable[[str, str], int]) -> None:
    """In the first child: make the second one, which is the reverter. Never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        # The lock among them: it must not be held for the whole window.
        os.closerange(3, writer)
        os.closerange(writer + 1, 4096)
        os.write(writer, b"%d" % os.getpid())
        os.close(writer)
        watch(tx_id, root)
    finally:
        os._exit(0)


def alive(header: Dict[str, Any], host: Host) -> bool:
    """Whether the reverter named in a header is still there to do its work."""
    handle = header.get("reverter", {})
    if handle.get("kind") == SYSTEMD:
        return _timer_active(str(handle.get("unit", "")))
    pid = handle.get("pid")
    return isinstance(pid, int) and handle.get("start") is not None and start_time(pid, host) == handle["start"]


def lost(tx: Tx, host: Host) -> bool:
    """Whether nothing will revert an ARMED transaction any more, though its window has not ended.

    A node that is a container was restarted (the boot id is the machine's), systemd restarted everything
    (soft-reboot), somebody stopped the timer, or the process was killed.
    """
    return tx.state == ARMED and bool(tx.header.get("reverter")) and not alive(tx.header, host)


def disarm(handle: Dict[str, Any]) -> None:
    """Stop a timer. A process needs no stopping: it leaves when the transaction is finished."""
    if handle.get("kind") == SYSTEMD and handle.get("unit"):
        # A timer that already ran is no error: resolve is idempotent and finds nothing to do.
        with contextlib.suppress(NodeError):
            _run(["systemctl", "stop", "%s.timer" % handle["unit"]])


def start_time(pid: int, host: Host) -> Optional[int]:
    """Return a process's start time in clock ticks since boot (proc(5), stat field 22), None if it is gone."""
    fields = stat_fields(pid, host)
    return int(fields[19]) if fields and len(fields) > 19 and fields[19].isdigit() else None


def stat_fields(pid: int, host: Host) -> Optional[List[str]]:
    """Return /proc/PID/stat from field 3 (state) on; the command in field 2 may hold anything."""
    text = read_text(host.path("proc", str(pid), "stat"))
    if not text or ")" not in text:
        return None
    fields = text.rpartition(")")[2].split()
    return None if not fields or fields[0] == "Z" else fields


def _timer_active(unit: str) -> bool:
    if not unit:
        return False
    try:
        _run(["systemctl", "is-active", "--quiet", unit + ".timer"])
    except NodeError:
        return False
    return True


def _run(command: List[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NodeError("%s failed" % command[0], str(exc)) from exc
    if done.returncode:
        why = done.stdout.decode("utf-8", "replace").strip()[-500:]
        raise NodeError("%s failed" % command[0], why or "exit code %d" % done.returncode)
