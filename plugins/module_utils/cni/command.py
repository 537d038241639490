# SPDX-License-Identifier: Apache-2.0
"""Other programs, each with a time limit and a bounded answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Sequence

from ..errors import NodeError

#: Where programs lie beyond a login's PATH.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/var/lib/rancher/rke2/bin:/snap/bin"
LIMIT = 32 << 20  # bytes kept of an answer


@dataclass(frozen=True)
class Done:
    """What a program left behind."""

    code: int
    out: bytes
    err: str

    @property
    def said(self) -> str:
        """Why it failed, in its own words and in one line."""
        text = self.err or self.out.decode("utf-8", "replace")
        return " ".join(text.split())[-300:] or "exit code %d" % self.code


Run = Callable[..., Done]


def find(program: str) -> str:
    """Return a program's path, "" where there is none."""
    return shutil.which(program, path=PATH) or ""


def run(argv: Sequence[str], timeout: float = 10.0, data: bytes = b"", env: Optional[Mapping[str, str]] = None) -> Done:
    """Run a program to its end.

    Args:
        argv: program and arguments; no shell is involved.
        timeout: seconds.
        data: for its standard input.
        env: its whole environment; None: a small one.

    Raises:
        NodeError: it is not there (code ``missing``), cannot be run, or did not end in time (code ``timeout``).
    """
    surroundings = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"} if env is None else dict(env)
    name = os.path.basename(argv[0])
    try:
        done = subprocess.run(
            list(argv), input=data, capture_output=True, timeout=timeout, check=False, env=surroundings, cwd="/"
        )
    except FileNotFoundError as exc:
        raise NodeError("there is no program %s" % name, code="missing") from exc
    except subprocess.TimeoutExpired as exc:
        raise NodeError("%s did not answer in %g seconds" % (name, timeout), code="timeout") from exc
    except OSError as exc:
        raise NodeError("%s cannot be run" % name, exc.strerror or str(exc)) from exc
    return Done(done.returncode, done.stdout[:LIMIT], done.stderr.decode("utf-8", "replace")[:4096])
