"""A worker whose ansible-playbook is gone sends nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.plugin_utils.starter import Starter

COLLECTIONS = Path(__file__).resolve().parents[3] / ".ansible" / "collections"
#: Starts a process as Ansible does a worker, in a session of its own, and waits for it; prints its pid.
PARENT = """\
import os, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.tune.nodes.plugins.plugin_utils.starter import Starter
child = os.fork()
if not child:
    os.setsid()
    Starter()
    print(os.getpid(), flush=True)
    time.sleep(60)
os.waitpid(child, 0)
"""


def test_nothing_ends_while_the_starter_lives() -> None:
    Starter().check()


def test_no_request_is_sent_once_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    starter = Starter()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(SystemExit):
        starter.check()


def test_killed_it_takes_its_worker_along() -> None:
    command = [sys.executable, "-c", PARENT, str(COLLECTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path("/proc", parent.stdout.readline().strip())
        assert worker.exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait(30)
    limit = time.monotonic() + 30
    while worker.exists():
        assert time.monotonic() < limit, "the worker lives on"
        time.sleep(0.05)
