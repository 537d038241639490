"""Run a program of the machine: no shell, always a timeout, errors in the project's own words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tune_nodes.errors import TuneError

#: Where the system's tools are: a session started by cron or a container may have less.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def run(
    argv: Sequence[str], *, input: str | None = None, timeout: float = 30.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` in a clean environment and return what it printed.

    Args:
        argv: program and arguments.
        input: text for its stdin; without it stdin is empty.
        timeout: seconds after which it is killed.
        check: raise when it exits with another code than 0.

    Raises:
        TuneError: it is missing, took too long, or (with ``check``) failed.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError as error:
        raise TuneError(f"{argv[0]} is not installed", str(error), "tune-nodes doctor") from error
    except subprocess.TimeoutExpired as error:
        raise TuneError(f"{argv[0]} did not end within {timeout:g} s", " ".join(argv)) from error
    if check and done.returncode:
        raise TuneError(f"{argv[0]} failed with {done.returncode}", explain(done.stderr or done.stdout, argv))
    return done


def explain(output: str, argv: Sequence[str]) -> str:
    """Return the last lines a program said, or the command where it said nothing."""
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return " / ".join(lines[-3:])[:600] if lines else " ".join(argv)[:600]
