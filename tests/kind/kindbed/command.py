"""Run programs: no shell, always a timeout, errors in the project's own words; say what takes long."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tune_nodes.errors import TuneError

#: Debian's docker and runc before others of the same name: /usr/local/bin/docker may be a client without a daemon.
SYSTEM_PATH = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:/usr/local/sbin"
_BEGAN = time.monotonic()
_running: set[subprocess.Popen[str]] = set()


def say(text: str) -> None:
    """Print a line of progress on stderr, with the seconds since the start."""
    print(f"kindbed {time.monotonic() - _BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for programs: this process's, the system's programs first."""
    return {**os.environ, "PATH": f"{SYSTEM_PATH}:{os.environ.get('PATH', '')}", "LC_ALL": "C.UTF-8", **(extra or {})}


def find(program: str, package: str = "") -> str:
    """Return a program's path; TuneError where it is missing."""
    path = shutil.which(program, path=environment()["PATH"])
    if path is None:
        raise TuneError(
            f"{program} is not installed",
            f"the Debian package {package} has it" if package else "",
            "scripts/bootstrap test",
        )
    return path


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it printed.

    It is a process group of its own and is ended as a whole, also when this process is interrupted: a compiler left
    behind would go on writing.

    Args:
        argv: program and arguments.
        timeout: seconds.
        input: its stdin; empty without.
        env: beside this process's environment.
        cwd: where it runs.
        check: raise where it fails.

    Raises:
        TuneError: it is missing, took too long, or (with ``check``) failed.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment(env),
            cwd=cwd,
            process_group=0,
        )
    except OSError as error:
        raise TuneError(f"{argv[0]} cannot be run", str(error), "scripts/bootstrap test") from error
    _running.add(process)
    try:
        out, err = process.communicate(input or "", timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise TuneError(f"{_short(argv)} did not end within {timeout:g} s", _last(str(error.stderr or ""))) from error
    except BaseException:
        _end(process)
        raise
    finally:
        _running.discard(process)
    if check and process.returncode:
        raise TuneError(f"{_short(argv)} failed with {process.returncode}", _last(err or out))
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do other work in a thread meanwhile, and wait for it at the end. Where this is interrupted, that is ended too."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            yield
            done.result()
        except BaseException:
            for process in tuple(_running):
                with contextlib.suppress(ProcessLookupError):
                    _kill(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    _kill(process)
    process.communicate(timeout=30)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a program with its children, which are its process group."""
    os.killpg(process.pid, signal.SIGKILL)


def _short(argv: Sequence[str]) -> str:
    return " ".join([Path(argv[0]).name, *argv[1:3]])


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " / ".join(lines[-5:])[-1500:]
