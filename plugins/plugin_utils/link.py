# SPDX-License-Identifier: Apache-2.0
"""Sending a request to a node over Ansible's own connection, or over a truly new one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils import bundle
from .starter import Starter

#: Runs on the node before anything else, so it must load on any Python 3. The code comes on standard input
#: and is imported from memory: a plan writes nothing on a node.
BOOTSTRAP = (
    "import sys,os\n"
    "b=sys.stdin.buffer\n"
    "if sys.version_info<(3,8):\n"
    ' print(\'{"schema":1,"python":"%d.%d"}\'%sys.version_info[:2]);sys.exit(0)\n'
    "h=b.readline().split();n=int(h[1]);z=b.read(n);d=b.read()\n"
    "class F:\n"
    " create_module=staticmethod(lambda s:None)\n"
    " exec_module=staticmethod(lambda m:exec(C[m.__name__][1],m.__dict__))\n"
    " @staticmethod\n"
    " def find_spec(n,p=None,t=None):\n"
    "  return I.spec_from_loader(n,F,is_package=C[n][0]) if n in C else None\n"
    # What an earlier change left compiled, if root alone could have written it and it is whole.
    "try:\n"
    " import hashlib,marshal,_frozen_importlib as I\n"
    ' p="/var/lib/tune-nodes/code/%s.%s.bin"%(h[0].decode(),sys.implementation.cache_tag)\n'
    ' with open(p,"rb") as g:s=os.fstat(g.fileno());c=g.read()\n'
    " if s.st_uid or s.st_mode&18 or hashlib.sha256(c[32:]).digest()!=c[:32]:raise ValueError\n"
    " C=marshal.loads(c[32:]);sys.meta_path.insert(0,F)\n"
    "except Exception:\n"
    ' f=os.memfd_create("tune-nodes");v=memoryview(z)\n'
    " while v:v=v[os.write(f,v):]\n"
    ' sys.path.insert(0,"/proc/self/fd/%d"%f)\n'
    "from tune_nodes_node.node import serve\n"
    "sys.exit(serve(d,(h[0].decode(),z)))\n"
)
#: A dead connection is noticed within 15 s, one of ControlPersist's included.
KEEPALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
NEW_CONNECTION = "-o ControlMaster=no -o ControlPath=none"
MAX_OUTPUT = 8 << 20
#: What ssh says when it never got as far as a session: nothing can have run on the node.
_NEVER_CONNECTED = (
    "connection refused",
    "no route to host",
    "connection timed out",
    "could not resolve hostname",
    "host key verification failed",
    "permission denied",
    "network is unreachable",
    "name or service not known",
    "invalid/incorrect password",
    "too many authentication failures",
    "kex_exchange_identification",
    "timed out during banner exchange",
)
#: The other end accepted, and said nothing more before there was a session.
_NO_SESSION = re.compile(r"connection to \S+ port \d+ timed out")


class _TimeLimit(BaseException):
    """Rings through connection plugins, which retry on every Exception."""


class LinkError(Exception):
    """A request got no answer.

    Args:
        what: one sentence.
        why: the transport's own words, bounded.
        kind: "unreachable" (nothing ran on the node), "lost" (something may have run) or "failed".
    """

    def __init__(self, what: str, why: str = "", kind: str = "failed", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.kind = kind
        self.next = next

    def to_dict(self) -> dict[str, Any]:
        """Return the error as it stands in a result."""
        code = "unreachable" if self.kind != "failed" else "failed"
        return {"what": self.what, "why": self.why, "next": self.next, "code": code, "data": {}}


def interpreter_of(task_vars: Mapping[str, Any]) -> str:
    """Return the node's Python: ``ansible_python_interpreter`` where it is a path, else /usr/bin/python3."""
    named = str(task_vars.get("ansible_python_interpreter") or "")
    return named if named.startswith("/") else "/usr/bin/python3"


def parse_answer(text: str) -> dict[str, Any] | None:
    """Return the result in a node's output: the last line that is one. A login banner is passed over."""
    for line in reversed(text[-MAX_OUTPUT:].splitlines()):
        start = line.find('{"schema"')
        if start < 0:
            continue
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line[start:])
            if isinstance(found, dict):
                return found
    return None


def explain_no_answer(rc: int, out: str, err: str, python: str) -> LinkError:
    """Turn a command that printed no result into what / why / next (pure)."""
    said = " ".join((err or out).split())[-400:]
    if rc == 127 or "no such file" in said.lower() or "not found" in said.lower():
        return LinkError(
            f"there is no Python at {python} on this node",
            said,
            next="install python3 (3.8 or later), or set ansible_python_interpreter",
        )
    if rc in (255, -1):
        return LinkError("the connection was lost", said, "lost")
    return LinkError("the node code failed", said or f"exit code {rc}", next="run again with -vvv")


class Link:
    """One node, as one task sees it."""

    def __init__(self, action: ActionBase, task_vars: Mapping[str, Any]) -> None:
        self.action = action
        self.python = interpreter_of(task_vars)
        self.name = str(task_vars.get("inventory_hostname", ""))
        self.fresh = False
        self._starter = Starter()
        self._code = bundle.build()
        if action._connection.transport == "ssh":
            given = str(action._connection.get_option("ssh_args") or "")
            if "serveralive" not in given.lower():
                action._connection.set_option("ssh_args", f"{given} {KEEPALIVE}".strip())

    def renew(self) -> None:
        """Make every later request use a connection of its own: no shared socket, so a truly new one."""
        if self.fresh:
            return
        connection = self.action._connection
        if connection.transport == "ssh":
            # First given wins in ssh, so this goes before whatever the user has set.
            connection.set_option("ssh_args", f"{NEW_CONNECTION} {connection.get_option('ssh_args') or ''}".strip())
        elif hasattr(connection, "reset"):
            with contextlib.suppress(AnsibleError):
                connection.reset()
        self.fresh = True

    def send(self, request: Mapping[str, Any], limit: float) -> dict[str, Any]:
        """Send one request and return the node's result.

        Args:
            limit: seconds after which the request is given up.

        Raises:
            LinkError: no result came back.
            SystemExit: nobody waits for one any more.
        """
        self._starter.check()
        name, code = self._code
        data = b"%s %d\n" % (name.encode(), len(code)) + code + json.dumps(request).encode()
        command = f"{shlex.quote(self.python)} -I -S -c {shlex.quote(BOOTSTRAP)}"
        try:
            with _limited(limit):
                done = self.action._low_level_execute_command(command, sudoable=True, in_data=data)
        except _TimeLimit:
            _end_children()
            raise LinkError("the node did not answer in time", f"no result within {limit:.0f} s", "lost") from None
        except AnsibleConnectionFailure as exc:
            raise connection_error(str(exc)) from exc
        except AnsibleError as exc:
            raise LinkError("the node could not be asked", _bounded(str(exc))) from exc
        return self._result(done)

    def _result(self, done: Mapping[str, Any]) -> dict[str, Any]:
        found = parse_answer(str(done.get("stdout", "")))
        if found is None:
            raise explain_no_answer(
                int(done.get("rc") or 0), str(done.get("stdout", "")), str(done.get("stderr", "")), self.python
            )
        if "python" in found:
            raise LinkError(
                f"Python {found['python']} on this node is too old",
                "3.8 or later is needed",
                next="install a newer python3, or set ansible_python_interpreter",
            )
        return found


def _bounded(text: str) -> str:
    return " ".join(text.split())[:400]


def connection_error(text: str) -> LinkError:
    """Turn what a connection plugin said of a connection into what / why / next (pure)."""
    lowered = text.lower()
    never = any(words in lowered for words in _NEVER_CONNECTED) or _NO_SESSION.search(lowered) is not None
    if "host key verification failed" in lowered:
        return LinkError(
            "the node's host key is not the known one",
            _bounded(text),
            "unreachable",
            "find out why it changed before anything else; then update known_hosts",
        )
    return LinkError(
        "the node cannot be reached" if never else "the connection was lost",
        _bounded(text),
        "unreachable" if never else "lost",
    )


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def ring(_signal: int, _frame: Any) -> None:
        raise _TimeLimit

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _end_children() -> None:
    """End the ssh clients that a given-up request left behind (children of this worker only)."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(OSError, ValueError):
        for pid in listing.read_text().split():
            os.kill(int(pid), signal.SIGTERM)
