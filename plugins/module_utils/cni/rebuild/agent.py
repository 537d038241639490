# SPDX-License-Identifier: Apache-2.0
"""The CNI's agent holds still while its links and rules go; a new pod takes its place afterwards.

Its processes are stopped, not ended: whatever ends them, the kubelet or the DaemonSet's controller starts the agent
anew at once, and it would make things while they are taken away. Once all is gone they are ended, so that the kubelet
starts them anew even where nobody carries on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import List, Sequence

from ...host import Host, read_text


def processes(host: Host, uids: Sequence[str]) -> List[int]:
    """Return the processes of some pods, without those that only hold their sandboxes.

    The kubelet names a pod's cgroup by "pod" and its uid, with "-" or "_" in it.
    """
    marks = ["pod" + form for uid in uids if uid for form in (uid, uid.replace("-", "_"))]
    holders = set(host.processes.get("pause", []))
    found = []
    for name in os.listdir(host.path("proc")) if marks else ():
        if name.isdigit() and int(name) not in holders:
            groups = read_text(host.path("proc", name, "cgroup"), 1 << 16) or ""
            if any(mark in groups for mark in marks):
                found.append(int(name))
    return sorted(found)


def stop(host: Host, uids: Sequence[str]) -> None:
    """Stop the processes of some pods where they are."""
    _signal(processes(host, uids), signal.SIGSTOP)


def end(host: Host, uids: Sequence[str]) -> None:
    """End the processes of some pods at once: one that is stopped hears no request to end."""
    _signal(processes(host, uids), signal.SIGKILL)


def go_on(host: Host, uids: Sequence[str]) -> None:
    """Let the processes of some pods go on."""
    _signal(processes(host, uids), signal.SIGCONT)


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
