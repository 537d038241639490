# SPDX-License-Identifier: Apache-2.0
"""A worker lives no longer than the ansible-playbook that started it.

Ansible gives each worker a session of its own. When ansible-playbook is killed (a second Ctrl-C, a call that hangs),
its workers go on, and would confirm what a person was just told that the nodes undo.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Starter:
    """The process that started this one."""

    def __init__(self) -> None:
        self.pid = os.getppid()
        if sys.platform == "linux":
            # At once, in the middle of a request too: ssh then sends no more of it.
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def check(self) -> None:
        """End this process where it is gone: nobody waits for the answer to another request. Raises SystemExit."""
        if os.getppid() != self.pid:
            raise SystemExit("what started this request is gone")
