"""Many policies against a real API server: backed up, deleted, restored in order, and what dies half-way."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusterworks import wait_for
from policybed import (
    DENY,
    DNS,
    PREFIX,
    WEB,
    Halting,
    backed_up,
    deleted,
    green,
    make,
    namespaces,
    network_policy,
    noted,
)

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import restore
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.order import wave
from tune_nodes.policy.pace import Pace

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind

#: Policies of the large test; the figures in docs/policy-backup.md are of 2000.
MANY = int(os.environ.get("TUNE_NODES_POLICIES", "300"))
EACH = 10  # in a namespace


@dataclass(frozen=True)
class Fleet:
    """Policies in many namespaces, and their backup."""

    spaces: list[str]
    backup: Backup
    uids: dict[str, str]

    def now(self, cluster: Cluster) -> dict[str, str]:
        """Return the uids of those that are there, by ref; each once."""
        found = [(one.ref, one.uid) for one in backups.everywhere(cluster.api, self.backup.policies)]
        mine = [pair for pair in found if pair[0] in self.uids]
        assert len(mine) == len(dict(mine))
        return dict(mine)


@pytest.fixture(scope="module")
def fleet(either_cluster: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Cluster.open(either_cluster.kubeconfig) as cluster:
        names = [f"{PREFIX}-{os.getpid()}-{number}" for number in range(MANY // EACH)]

        def fill(name: str) -> None:
            specs = [DENY, DNS, *[{**WEB, "podSelector": {"matchLabels": {"app": f"a{n}"}}} for n in range(EACH - 2)]]
            make(cluster, *[network_policy(name, f"p{n}", spec, labels={"n": str(n)}) for n, spec in enumerate(specs)])

        with namespaces(cluster, names):
            Pace().over(names, fill)
            backup = backed_up(cluster, tmp_path_factory.mktemp("backups"), *names)
            assert len(backup.policies) == MANY
            yield Fleet(names, backup, {one.ref: one.uid for one in backup.policies})


@pytest.mark.timeout(600)
def test_many_are_backed_up_deleted_and_restored_in_order(fleet: Fleet, cluster: Cluster, tmp_path: Path) -> None:
    started, calls = time.monotonic(), cluster.api.sent.total()

    def figures(what: str) -> None:
        nonlocal started, calls
        spent, made = time.monotonic() - started, cluster.api.sent.total() - calls
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{what}: {spent:.1f} s, {made} calls, {cluster.api.throttled} answers 429, {memory} MiB at most")
        started, calls = time.monotonic(), cluster.api.sent.total()

    backup = backed_up(cluster, tmp_path, *fleet.spaces)
    figures(f"backup of {MANY} policies in {len(fleet.spaces)} namespaces, read back")
    assert backups.rehearse(cluster, backup) == []
    figures("rehearsal")
    assert deleted(cluster, backup).counts == {"deleted": MANY}
    figures("delete")
    assert fleet.now(cluster) == {}
    seen: list[set[str]] = []

    def probe() -> str:
        now = fleet.now(cluster)
        seen.append({str(wave(one)) for one in backup.policies if one.ref in now})
        return ""

    found = restore.restore(cluster, backup, probe=probe)
    figures("restore")
    assert (found.ok, found.counts, found.equal, found.stopped) == (True, {"made": MANY}, MANY, "")
    assert [len(waves) for waves in seen] == [1, 2, 3]  # after each wave, nothing of a later one is there
    assert cluster.api.throttled == 0
    uids = fleet.now(cluster)
    again = restore.restore(cluster, backup, probe=probe)
    figures("restore of what is there")
    assert (again.ok, again.counts, len(seen)) == (True, {"there": MANY}, 3)
    assert fleet.now(cluster) == uids


CONTROLLER = """
import sys
from pathlib import Path
from tune_nodes import collection
collection.activate()
what, kubeconfig, directory, most, tests = sys.argv[1:]
sys.path.insert(0, tests)
from policybed import Halting, noted
from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import delete, restore
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal
backup = Backup.load(Path(directory))
event = {"delete": "deleted", "restore": "restored"}[what]
before = noted(backup, event)
pace = Halting(lambda: noted(backup, event) - before > int(most))
with Cluster.open(Path(kubeconfig)) as cluster:
    if what == "delete":
        with Journal(backup.directory) as journal:
            delete.delete(cluster, backup, list(backup.by_ref), journal=journal, pace=pace)
    else:
        restore.restore(cluster, backup, probe=None, pace=pace)
"""


def killed_after(either_cluster: Bed, backup: Backup, what: str, event: str, most: int) -> None:
    """Run a controller and kill it when its journal has so many lines; it stops by itself somewhat later."""
    before = noted(backup, event)
    tests = str(Path(__file__).parent)
    words = [sys.executable, "-c", CONTROLLER, what, str(either_cluster.kubeconfig), str(backup.directory)]
    words += [str(2 * most), tests]
    with subprocess.Popen(words) as process:
        wait_for(f"{most} {event}", lambda: noted(backup, event) - before >= most or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def control_plane(either_cluster: Bed) -> str:
    return next(name for name in either_cluster.nodes if name.endswith("control-plane"))


class Work:
    """Something done in a thread; ``problem``: what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.problem: ClusterError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except ClusterError as problem:
            self.problem = problem


def ready(either_cluster: Bed) -> bool:
    """Say whether the server answers, and has read its roles."""
    try:
        with Cluster.open(either_cluster.kubeconfig, timeout=2) as cluster:
            cluster.api.get(Call("get", "namespaces", name="kube-system"))
            return True
    except ClusterError:
        return False


@pytest.mark.timeout(600)
def test_what_dies_half_way_is_finished_by_the_next_run(fleet: Fleet, either_cluster: Bed, cluster: Cluster) -> None:
    half, directory = len(fleet.spaces) // 2, fleet.backup.directory.parent
    going, coming = (backed_up(cluster, directory, *some) for some in (fleet.spaces[:half], fleet.spaces[half:]))
    some = min(len(going.policies), len(coming.policies)) // 4

    def now(backup: Backup) -> dict[str, str]:
        refs = {one.ref for one in backup.policies}
        return {ref: uid for ref, uid in fleet.now(cluster).items() if ref in refs}

    # The controller is killed in the middle of a delete.
    killed_after(either_cluster, coming, "delete", "deleted", some)
    assert some < len(now(coming)) < len(coming.policies)
    found = deleted(cluster, coming)
    assert found.left == ()
    assert found.counts["gone"] >= some
    assert now(coming) == {}

    # The server is killed in the middle of a delete and of a restore, which go on side by side.
    before = noted(coming, "restored")
    progress = (lambda: noted(going, "deleted")), (lambda: noted(coming, "restored") - before)
    # Here nobody waits for the server; and neither is to end before the other has begun, or the server has died.
    paces = [Halting(lambda far=far: far() > 2 * some, retries=(0.1,)) for far in progress]
    one = Work(lambda: deleted(cluster, going, pace=paces[0]))
    other = Work(lambda: restore.restore(cluster, coming, probe=green, pace=paces[1]))
    wait_for("both are under way", lambda: min(far() for far in progress) > some)
    either_cluster.exec(control_plane(either_cluster), "pkill", "-KILL", "-x", "kube-apiserver")
    for pace, work in zip(paces, (one, other), strict=True):
        pace.go.set()
        work.thread.join(60)
        assert work.problem is not None
        assert work.problem.code in ("unreachable", "server", "forbidden")
    # A kubelet that has seen this container die before waits minutes; a new one does not.
    either_cluster.exec(control_plane(either_cluster), "systemctl", "restart", "kubelet")
    wait_for("the server is back", lambda: ready(either_cluster), 120)
    first = now(coming)
    assert some < len(first) < len(coming.policies)
    found = deleted(cluster, going)
    assert (found.left, now(going)) == ((), {})
    end = restore.restore(cluster, coming, probe=green)
    assert (end.ok, end.equal) == (True, len(coming.policies))
    assert end.counts == {"there": len(first), "made": len(coming.policies) - len(first)}
    assert now(coming).items() >= first.items(), "what a dead run made is neither lost nor made twice"

    # The controller is killed in the middle of a restore.
    killed_after(either_cluster, going, "restore", "restored", some)
    first = now(going)
    assert some <= len(first) < len(going.policies)
    assert restore.restore(cluster, going, probe=green).counts["there"] == len(first)
    assert now(going).items() >= first.items()
    assert set(fleet.now(cluster)) == set(fleet.uids)
    either_cluster.wait_ready()  # what lost its lease meanwhile starts anew
