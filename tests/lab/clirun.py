"""The command line as people run it: a process of its own, with or without a terminal, and its own state directory.

Nobody's configuration is read: ours and Ansible's lie in the test's directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import yaml
from nodecall import call

from commandline import PROGRAM, Done, env_of, finished
from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode, tree
from tune_nodes.runs.models import RunRecord
from tune_nodes.runs.store import RunStore, Summary

RUN_DIR = "var/lib/tune-nodes"
#: What a fresh node holds of everything that PROFILE changes, and what PROFILE makes of it.
OLD = {
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_fin_timeout": "60",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
}
NEW = {
    "net.core.somaxconn": "16384",
    "net.ipv4.tcp_fin_timeout": "30",
    "net.ipv4.tcp_wmem": "4096 65536 16777216",
}
_WHY = {"reason": "a test", "source": "https://docs.kernel.org/networking/ip-sysctl.html"}
PROFILE: dict[str, Any] = {
    "description": "Three sysctls for tests",
    "sysctl": {
        "net.core.somaxconn": {"value": 16384, "class": "floor", **_WHY},
        "net.ipv4.tcp_fin_timeout": {"value": 30, "class": "exact", **_WHY},
        "net.ipv4.tcp_wmem": {"value": "4096 65536 16777216", "class": "floor", **_WHY},
    },
}
#: All nodes in one wave, whatever becomes of some.
AT_ONCE = ("--canary", "0", "--serial", "100%", "--fail-percent", "100")


class Cli:
    """The command line with a directory of its own.

    Args:
        directory: for state, configuration and profiles.
        inventory: given with ``-i`` to the commands that talk to nodes.
    """

    def __init__(self, directory: Path, *inventory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.inventory = [str(path) for path in inventory]
        directory.mkdir(exist_ok=True)

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of the command."""
        return env_of(self.directory, self.state.name, **more)

    def argv(self, *words: str) -> list[str]:
        """Return the command line; ``-i`` is added to the verbs that reach nodes."""
        reaching = words and words[0] in ("plan", "apply", "verify", "drift", "probe", "rollback", "doctor")
        sources = [word for source in self.inventory for word in ("-i", source)] if reaching else []
        return [*PROGRAM, *words[:1], *sources, *words[1:]]

    def __call__(self, *words: str, timeout: float = 240, **env: str) -> Done:
        """Run a command without a terminal and wait for it."""
        return finished(self.argv(*words), self.env(**env), timeout, self.directory)

    def apply(self, *words: str, window: int = 60, **env: str) -> Done:
        """Apply PROFILE without asking."""
        return self("apply", "-p", self.profile(), "--window", str(window), "--yes", *words, **env)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command as the leader of a session of its own, its output thrown away."""
        return subprocess.Popen(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.env(),
            cwd=self.directory,
            start_new_session=True,
        )

    def terminal(self, *words: str, columns: int = 80, **env: str) -> Any:
        """Start a command on a terminal; returns pexpect's spawn."""
        argv = self.argv(*words)
        return pexpect.spawn(
            argv[0],
            argv[1:],
            env=self.env(TERM="xterm", **env),
            cwd=str(self.directory),
            dimensions=(24, columns),
            timeout=120,
            encoding="utf-8",
            codec_errors="replace",
        )

    def profile(self, document: Mapping[str, Any] = PROFILE, name: str = "test") -> str:
        """Write a profile and return its path."""
        path = self.directory / f"{name}.yml"
        path.write_text(yaml.safe_dump(dict(document), sort_keys=False))
        return str(path)

    @property
    def store(self) -> RunStore:
        """The runs it recorded."""
        return RunStore.open(self.state)

    def record(self) -> RunRecord:
        """Return the newest run."""
        return self.store.load(self.store.resolve("latest"))

    def newest(self) -> Summary:
        """Return the newest run as the history shows it."""
        return self.store.history(1)[0]

    def outcomes(self) -> dict[str, str]:
        """Return node -> outcome of the newest run."""
        return {name: str(node.outcome) for name, node in self.record().nodes.items()}


def for_lab(directory: Path, lab: Lab) -> Cli:
    """Return the command line with a lab's inventory."""
    assert lab.state.inventory is not None
    return Cli(directory / "cli", lab.state.inventory)


def held(node: LabNode) -> dict[str, str]:
    """Return what a node holds of PROFILE's keys, read by another program than ours."""
    return {key: node.read_sysctl(key) for key in OLD}


def traces(node: LabNode) -> dict[str, str]:
    """Return all that tells whether anything was written on a node, times included."""
    return {**node.etc(), **{f"//{path}": line for path, line in tree(node.root / RUN_DIR).items()}}


def armed(node: LabNode) -> Callable[[], bool]:
    """Return a cheap condition: some transaction is armed on the node."""
    root = node.root / RUN_DIR / "tx"
    return lambda: any(root.glob("*/ARMED"))


def wait_for(condition: Callable[[], Any], seconds: float) -> None:
    """Wait until it holds. Fails after ``seconds``."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.2)


def transactions(node: LabNode) -> dict[str, str]:
    """Ask the node itself: transaction -> state. The request also settles what it finds."""
    result = call(node, "status")
    assert result["ok"], result["error"]
    return {row["id"]: row["state"] for row in result["transactions"]}


def undone_after(node: LabNode) -> float:
    """Return how many seconds after its beginning the node's only transaction was put back, by the node's clock."""
    (row,) = call(node, "status")["transactions"]
    assert row["state"] == "REVERTED", row
    return float((node.root / RUN_DIR / "tx" / row["id"] / "REVERTED").stat().st_ctime - row["created"])


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a command started by ``Cli.start`` with everything it started, sessions of their own included."""
    for pid in [process.pid, *descendants(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def descendants(pid: int) -> Sequence[int]:
    """Return a process's children, their children and so on. ansible-playbook is in a session of its own."""
    found: list[int] = []
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def assert_clear(done: Done, code: int, *words: str) -> None:
    """Check exit code and message: the words are there, no traceback is, and no colours where nobody asked."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    said = " ".join((done.stderr + done.stdout).split())  # long names fold a sentence elsewhere
    for word in words:
        assert " ".join(word.split()) in said, (word, done.stderr, done.stdout)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "\x1b" not in done.stderr + done.stdout
