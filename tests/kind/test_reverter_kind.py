"""The systemd reverter where nodes are cut off or restarted in the middle of a run of the command line, over real ssh.

What happens on the node is watched from inside it, past its network (``node_watch.py``).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from kindbed.cluster import Cluster

from commandline import PROGRAM, Done, env_of, finished

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
WATCH = (HERE / "node_watch.py").read_text()
WINDOW = 25
#: The revert timer's accuracy, a Python that starts on a busy machine, and the values.
LATE = 6.0
_WHY = {"reason": "a test", "source": "https://docs.kernel.org/networking/ip-sysctl.html"}
SOMAXCONN = {"net.core.somaxconn": {"value": 20000, "class": "floor", **_WHY}}
FIN_TIMEOUT = {"net.ipv4.tcp_fin_timeout": {"value": 31, "class": "exact", **_WHY}}
QUEUES = [{"interfaces": ["eth0"], "channels": {"rx": 2, "tx": 2}, **_WHY}]
#: What a run changes, read by programs of the node's own; and files. A restart alone writes some of /etc anew.
VALUES = "sysctl net.core.somaxconn net.ipv4.tcp_fin_timeout; ethtool -l eth0; "
ALL_OF_ETC = VALUES + "find /etc -type f -printf '%p %s %m %T@\\n' -o -type l -printf '%p %l\\n' | sort"
KEPT = VALUES + "find /etc/sysctl.d /etc/systemd -printf '%p %m %l\\n' | sort; cat /etc/sysctl.d/*; ls /etc | grep tune"


class Run:
    """The command line with a directory of its own, against one node."""

    def __init__(self, directory: Path, cluster: Cluster, node: str) -> None:
        self.directory, self.cluster, self.node = directory, cluster, node
        self.directory.mkdir()

    def __call__(self, *words: str) -> Done:
        """Run a verb that reaches the node, without its cluster: a kubelet must not decide what is seen here."""
        verb, *rest = words
        inventory = ["-i", str(self.cluster.hosts), "--limit", self.node, "--cluster", "off", "--yes"]
        return finished([*PROGRAM, verb, *inventory, *rest], env_of(self.directory), cwd=self.directory)

    def apply(self, window: int = WINDOW, **settings: Any) -> Done:
        """Apply settings of a profile of their own."""
        profile = self.directory / f"{'-'.join(settings)}.yml"
        probes = {"gateway": True, "kubelet": False, "api": False}
        profile.write_text(yaml.safe_dump({"description": "A test", "probes": probes, **settings}))
        return self("apply", "-p", str(profile), "--window", str(window))


class Watched:
    """A node with a watcher in it."""

    def __init__(self, cluster: Cluster, node: str, mode: str, pool: ThreadPoolExecutor) -> None:
        cluster.exec(node, "rm", "-f", "/run/node-watch-ready")
        argv = ("python3", "-", mode, str(WINDOW + LATE))
        self._seen: Future[str] = pool.submit(cluster.exec, node, *argv, input=WATCH, timeout=150)
        limit = time.monotonic() + 30
        while "ready" not in cluster.exec(node, "find", "/run", "-maxdepth", "1", "-name", "node-watch-ready"):
            assert time.monotonic() < limit and not self._seen.done(), "the watcher does not watch"
            time.sleep(0.1)

    def seen(self) -> Mapping[str, Any]:
        """Return what the watcher saw, once it has ended."""
        found: dict[str, Any] = json.loads(self._seen.result(timeout=160))
        return found


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def node(either_cluster: Cluster) -> str:
    return next(name for name in sorted(either_cluster.nodes) if name.endswith("-worker"))


@pytest.fixture
def run(tmp_path: Path, either_cluster: Cluster, node: str) -> Run:
    return Run(tmp_path / "run", either_cluster, node)


@contextlib.contextmanager
def tuned_before(run: Run) -> Iterator[None]:
    """A node on which an earlier run left its boot unit; rolled back at the end."""
    first = run.apply(window=60, sysctl=FIN_TIMEOUT)
    assert first.returncode == 0, first.stdout + first.stderr
    try:
        yield
    finally:
        undone = run("rollback", "--window", "60")
    assert undone.returncode == 0, undone.stdout + undone.stderr


def by_the_boot_unit(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """Return what the boot unit put back since the node's last start, as its journal says."""
    lines = cluster.exec(node, "journalctl", "--no-pager", "-o", "cat", "-u", "tune-nodes-boot.service").splitlines()
    reports = [json.loads(line) for line in lines if line.startswith("{")]
    return [row for report in reports for row in report["resolved"]]


def read(cluster: Cluster, node: str, script: str = KEPT) -> str:
    return cluster.exec(node, "sh", "-c", script + "; true")


def armed_before_the_write(seen: Mapping[str, Any]) -> None:
    """Check that the timer was active at a moment when the value was still the old one."""
    timer = seen["timer"]
    assert timer["ActiveState"] == "active"
    assert timer["AccuracyUSec"] == "1s"
    assert int(timer["ActiveEnterTimestampMonotonic"]) / 1e6 <= seen["last_old"]
    assert list(seen["states"].values()).count("ARMED") == 1


def test_a_node_that_is_cut_off_puts_itself_back(
    either_cluster: Cluster, node: str, run: Run, pool: ThreadPoolExecutor
) -> None:
    before = read(either_cluster, node, ALL_OF_ETC)
    watched = Watched(either_cluster, node, "cut", pool)
    done = run.apply(sysctl={**SOMAXCONN, **FIN_TIMEOUT}, nic_queues=QUEUES)
    seen = watched.seen()

    armed_before_the_write(seen)
    elapsed = seen["back"] - int(seen["timer"]["ActiveEnterTimestampMonotonic"]) / 1e6
    assert WINDOW - 1 < elapsed < WINDOW + LATE, "by its timer, while nobody could reach it"
    assert "ARMED" not in seen["states_back"].values()
    assert '"state": "REVERTED"' in seen["journal"], seen["journal"]

    assert done.returncode == 3, done.stdout + done.stderr
    assert node in done.stdout + done.stderr
    assert read(either_cluster, node, ALL_OF_ETC) == before
    assert "tune-nodes-revert" not in either_cluster.exec(node, "systemctl", "list-units", "--all", "--no-pager")


@pytest.mark.parametrize("kept", [False, True], ids=["never-tuned-before", "tuned-before"])
def test_a_node_restarted_in_the_middle_of_a_run(
    either_cluster: Cluster, node: str, run: Run, pool: ThreadPoolExecutor, kept: bool
) -> None:
    """A container keeps its files and the machine's boot id; its timers and its network's values are gone.

    Where an earlier run left the boot unit, that puts the transaction back at once; else the run's own next question,
    or the next run's, does it when the window is over.
    """
    untouched = read(either_cluster, node)
    with tuned_before(run) if kept else contextlib.nullcontext():
        before = read(either_cluster, node)
        watched = Watched(either_cluster, node, "hold", pool)
        applying = pool.submit(run.apply, sysctl=SOMAXCONN, nic_queues=QUEUES)
        seen = watched.seen()
        armed_before_the_write(seen)
        boot_id = either_cluster.exec(node, "cat", "/proc/sys/kernel/random/boot_id")
        either_cluster.restart(node)
        assert either_cluster.exec(node, "cat", "/proc/sys/kernel/random/boot_id") == boot_id, "it is the machine's"
        done = applying.result(timeout=200)

        assert done.returncode == 3, done.stdout + done.stderr
        assert node in done.stdout + done.stderr
        assert read(either_cluster, node) == before
        assert "ARMED" not in either_cluster.exec(node, "sh", "-c", "ls /var/lib/tune-nodes/tx/*")
        if kept:
            (tx,) = (tx for tx, state in seen["states"].items() if state == "ARMED")
            assert by_the_boot_unit(either_cluster, node) == [{"id": tx, "state": "REVERTED"}]
    assert read(either_cluster, node) == untouched


def test_a_timer_that_is_lost_is_made_good_by_the_boot_unit(
    either_cluster: Cluster, node: str, run: Run, pool: ThreadPoolExecutor
) -> None:
    with tuned_before(run):
        before = read(either_cluster, node)
        watched = Watched(either_cluster, node, "hold", pool)
        applying = pool.submit(run.apply, sysctl=SOMAXCONN)
        timer = watched.seen()["timer"]["Id"]
        try:
            either_cluster.exec(node, "systemctl", "start", "tune-nodes-boot.service")
            assert "20000" in either_cluster.exec(node, "sysctl", "net.core.somaxconn"), (
                "left alone while its timer lives"
            )
            either_cluster.exec(node, "systemctl", "stop", timer)
            either_cluster.exec(node, "systemctl", "start", "tune-nodes-boot.service")
            assert read(either_cluster, node) == before, "put back before its window ended"
        finally:
            either_cluster.exec(node, "nft", "delete", "table", "inet", "node_watch")
        done = applying.result(timeout=200)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "its revert timer was gone" in done.stdout + done.stderr
