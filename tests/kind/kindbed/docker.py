"""Docker: the daemon that runs already, or one of our own that goes with the last cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kindbed.cache import Cache
from kindbed.command import environment, find, run, say
from tune_nodes.errors import TuneError

RUN_DIR = Path("/run/tune-nodes-kind")
SOCKET = f"unix://{RUN_DIR}/docker.sock"
PID_FILE = RUN_DIR / "docker.pid"
_START_LIMIT = 60.0
_STOP_LIMIT = 60.0


class Docker:
    """The docker client, talking to one daemon.

    Attributes:
        host: the daemon's address, "" for the client's default.
    """

    def __init__(self, host: str = "") -> None:
        self.host = host
        self.program = find("docker", "docker.io")

    @property
    def env(self) -> dict[str, str]:
        """Return what makes docker, and kind, talk to this daemon."""
        return {"DOCKER_HOST": self.host} if self.host else {}

    def __call__(self, *argv: str, input: str | None = None, timeout: float = 120) -> str:
        """Run a docker command; its output. TuneError where it fails."""
        return run([self.program, *argv], input=input, timeout=timeout, env=self.env).stdout

    def try_(self, *argv: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a docker command that may fail."""
        return run([self.program, *argv], timeout=timeout, env=self.env, check=False)

    def answers(self) -> bool:
        """Return whether the daemon is there."""
        return self.try_("version", "--format", "{{.Server.Version}}", timeout=20).returncode == 0

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Return what the daemon knows of containers, [] for no names."""
        return list(json.loads(self("container", "inspect", *names))) if names else []

    def has_image(self, tag: str) -> bool:
        """Return whether an image is there."""
        return self.try_("image", "inspect", "--format", "{{.Id}}", tag).returncode == 0

    def import_root(self, root: Path, tag: str, changes: Sequence[str] = ()) -> None:
        """Make an image of one layer out of a directory."""
        options = [word for change in changes for word in ("--change", change)]
        tar = ["tar", "--directory", str(root), "--numeric-owner", "--create", "."]
        self._pipe(tar, ["import", *options, "-", tag])

    def save_into(self, images: Sequence[str], *argv: str) -> None:
        """Feed images, as ``docker save`` writes them, to another docker command."""
        self._pipe([self.program, "save", *images], list(argv))

    def _pipe(self, first: list[str], second: list[str], timeout: float = 600) -> None:
        env = environment(self.env)
        with subprocess.Popen(first, stdout=subprocess.PIPE, env=env) as source:
            try:
                done = subprocess.run(
                    [self.program, *second],
                    stdin=source.stdout,
                    capture_output=True,
                    text=True,
                    env=env,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise TuneError(f"docker {second[0]} did not end within {timeout:g} s") from error
            finally:
                source.kill()  # it has ended, or nobody reads it any more
        if done.returncode:
            raise TuneError(f"docker {second[0]} failed with {done.returncode}", done.stderr.strip()[-1000:])


def connect(cache: Cache, runtime: Callable[[], Path] | None) -> Docker | None:
    """Return the daemon to use.

    $DOCKER_HOST alone counts where it is set. Else our own where it runs (it has our clusters), the machine's where it
    runs, and at last our own, started now.

    Args:
        cache: our own daemon keeps its images and containers there.
        runtime: builds the OCI runtime for our own daemon; None: start none, and return None where none runs.
    """
    if runtime is None and shutil.which("docker", path=environment()["PATH"]) is None:
        return None
    if os.environ.get("DOCKER_HOST"):
        named = Docker()
        if not named.answers():
            raise TuneError(
                "the docker daemon of $DOCKER_HOST does not answer",
                os.environ["DOCKER_HOST"],
                "start it, or unset DOCKER_HOST",
            )
        return named
    own = Docker(SOCKET)
    for docker in (own, Docker()):
        if docker.answers():
            return docker
    if runtime is None:
        return None
    _start(own, cache, runtime())
    return own


def daemon_argv(dockerd: str, cache: Cache, runtime: Path) -> list[str]:
    """Return the command line of our own daemon.

    It leaves the machine's firewall and forwarding alone: the clusters need no way out, and get none.
    """
    return [
        dockerd,
        f"--host={SOCKET}",
        f"--data-root={cache.root / 'docker'}",
        f"--exec-root={RUN_DIR / 'exec'}",
        f"--pidfile={PID_FILE}",
        "--containerd-namespace=tune-nodes",
        "--containerd-plugins-namespace=tune-nodes-plugins",
        "--bridge=none",
        "--iptables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        f"--add-runtime=nores={runtime}",
        "--default-runtime=nores",
    ]


def _start(docker: Docker, cache: Cache, runtime: Path) -> None:
    say(f"no docker daemon runs: starting one of our own ({SOCKET})")
    argv = daemon_argv(find("dockerd", "docker.io"), cache, runtime)
    RUN_DIR.mkdir(mode=0o711, exist_ok=True)
    log = cache.root / "dockerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), start_new_session=True
        )
    limit = time.monotonic() + _START_LIMIT
    while not docker.answers():
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            last = " / ".join(log.read_text(errors="replace").splitlines()[-3:])
            raise TuneError("dockerd did not start", last, f"read {log}")
        time.sleep(0.2)


def own_pid(proc: Path = Path("/proc")) -> int | None:
    """Return the process id of our own daemon, None where it does not run. Never that of another process."""
    try:
        pid = int(PID_FILE.read_text())
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--pidfile={PID_FILE}".encode() in words else None


def stop_own(docker: Docker) -> None:
    """Stop our own daemon, unless something runs in it that is not ours."""
    pid = own_pid()
    if docker.host != SOCKET or pid is None:
        return
    if docker("ps", "--quiet").split():
        say("our docker daemon goes on: containers run in it that are not of a cluster of ours")
        return
    say("stopping our docker daemon")
    os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + _STOP_LIMIT
    while own_pid() == pid:
        if time.monotonic() > limit:
            raise TuneError("our docker daemon does not stop", f"process {pid}", f"kill -9 {pid}")
        time.sleep(0.2)
    for left in (RUN_DIR / "exec", RUN_DIR / "docker.sock", PID_FILE):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
