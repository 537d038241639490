# SPDX-License-Identifier: Apache-2.0
"""Through which connection a request came: the sshd process that serves it.

Every session multiplexed over one TCP connection is a child of one sshd process, so that process tells a
truly new connection from a reused one.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from ..host import Host, read_text
from .reverter import start_time, stat_fields

_SSHD = ("sshd", "sshd-session", "dropbear")


def connection_of(host: Host, pid: Optional[int] = None) -> Dict[str, Any]:
    """Return ``{"kind": "sshd", "pid": N, "start": TICKS}`` of the nearest sshd above a process.

    ``{"kind": "other"}`` where none is found: a local or container connection, which no network change cuts.
    """
    current = os.getpid() if pid is None else pid
    for _ in range(64):
        comm = (read_text(host.path("proc", str(current), "comm"), 64) or "").strip()
        if comm in _SSHD:
            start = start_time(current, host)
            if start is not None:
                return {"kind": "sshd", "pid": current, "start": start}
        fields = stat_fields(current, host)
        if not fields or len(fields) < 2 or not fields[1].isdigit() or int(fields[1]) <= 1:
            break
        current = int(fields[1])
    return {"kind": "other"}


def is_same(recorded: Any, mine: Dict[str, Any]) -> bool:
    """Whether a confirm comes through the very connection that made the change."""
    return isinstance(recorded, dict) and mine.get("kind") == "sshd" and recorded == mine
