"""Runs on a node, past its network: ``node_watch.py cut|hold RUN_LIMIT``.

Waits for the first value that a run writes, then drops all ssh. ``hold`` ends there. ``cut`` waits, with ssh still cut
off, until the node has put itself back, and lets ssh through again. Prints what it saw as JSON; times are
CLOCK_MONOTONIC in seconds, as systemd's own time stamps are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VALUE = Path("/proc/sys/net/core/somaxconn")
READY = Path("/run/node-watch-ready")
TRANSACTIONS = Path("/var/lib/tune-nodes/tx")
TABLE = ("inet", "node_watch")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def value() -> str:
    return VALUE.read_text().strip()


def wait(condition: Callable[[], Any], seconds: float, pause: float) -> float:
    """Wait until it holds. Returns when it was last seen not to."""
    limit = time.monotonic() + seconds
    last = time.monotonic()
    while True:
        asked = time.monotonic()
        if condition():
            return last
        last = asked
        if last > limit:
            raise SystemExit(f"it did not happen in {seconds:g} s")
        time.sleep(pause)


def timer() -> dict[str, str]:
    """Return the armed revert timer as systemd describes it."""
    (line,) = run("systemctl", "list-units", "--plain", "--no-legend", "tune-nodes-revert-*.timer").splitlines()
    names = "Id,Unit,AccuracyUSec,ActiveState,ActiveEnterTimestampMonotonic,NextElapseUSecMonotonic"
    shown = run("systemctl", "show", "--property=" + names, line.split()[0])
    return dict(row.partition("=")[::2] for row in shown.splitlines())


def cut() -> None:
    run("nft", "add", "table", *TABLE)
    run("nft", "add", "chain", *TABLE, "input", "{ type filter hook input priority -300; }")
    run("nft", "add", "rule", *TABLE, "input", "tcp", "dport", "22", "drop")


def states() -> dict[str, str]:
    """Return transaction -> state, as the directories show it."""
    return {path.parent.name: path.name for path in TRANSACTIONS.glob("*/[A-Z]*")}


def journal(unit: str) -> str:
    """Return what a unit wrote to the journal."""
    return run("journalctl", "--no-pager", "--output=cat", "--unit=" + unit)


def main(mode: str, limit: float) -> dict[str, Any]:
    os.nice(-19)  # it must be awake in the few milliseconds between the timer and the first write
    old = value()
    READY.touch()
    seen: dict[str, Any] = {"old": old, "last_old": wait(lambda: value() != old, 90.0, 0.001), "new": value()}
    cut()
    try:
        seen["timer"] = timer()
        seen["states"] = states()
        if mode == "cut":
            seen["back"] = wait(lambda: value() == old and "ARMED" not in states().values(), limit, 0.05)
            wait(lambda: "REVERTING" not in states().values(), 5.0, 0.05)
            seen["states_back"] = states()
            # The reverter says so after it has done it, and journald writes it down a moment later.
            wait(lambda: "REVERTED" in journal(seen["timer"]["Unit"]), 20.0, 0.2)
            seen["journal"] = journal(seen["timer"]["Unit"])
    finally:
        if mode == "cut":
            run("nft", "delete", "table", *TABLE)
    return seen


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
