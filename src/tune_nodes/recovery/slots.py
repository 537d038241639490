"""A slot for one node: asked for by the rules of the budget, renewed while the work lasts, and given back."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.recovery import budget as rules
from tune_nodes.recovery import lock, pause
from tune_nodes.recovery.budget import Budget, Nodes, Refusal

#: Seconds between two renewals, and since the last one that worked after which a slot counts as lost. Others take it
#: after :data:`lock.DURATION`.
RENEW, DEADLINE = 10.0, 40.0
#: Seconds between two looks while waiting; every look lists the cluster's nodes.
LOOK = 2.0
#: How often a slot is asked for again where two runs were in each other's way.
TRIES = 4
LOST = "lock-lost"
#: Codes of errors that mean: this node was not begun.
REFUSED = frozenset({rules.PAUSED, rules.SAME_NODE, rules.CONTROL_PLANE, rules.OVER_BUDGET, rules.STORM})
_AGAIN = "try again"
_PROTECTED = frozenset({"control-plane", "master", "etcd"})


def origin_of(state_dir: Path, path: Path = Path("/etc/machine-id")) -> str:
    """Return what names a state directory of this machine: a copy of it elsewhere has another name."""
    try:
        machine = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = ""
    status = state_dir.stat()
    parts = (machine, socket.gethostname(), str(state_dir.resolve()), str(status.st_dev), str(status.st_ino))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _boottime() -> float:
    """Return seconds that also pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Slot:
    """A slot that is held: renewed by a thread until it is left.

    Args:
        leases: the wire.
        lease: as it was written.
        renewed: when that was sent, by ``clock``.
        clock: seconds that also pass while the machine sleeps.
    """

    def __init__(
        self, leases: lock.Leases, lease: lock.Lease, renewed: float, clock: Callable[[], float] = _boottime
    ) -> None:
        self._leases = leases
        self._lease = lease
        self._renewed = renewed
        self._clock = clock
        self._gone = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renewing, daemon=True, name="slot")

    @property
    def lost(self) -> bool:
        """Whether somebody else may be at work on the node by now, or soon."""
        return bool(self._gone) or self._clock() - self._renewed > DEADLINE

    def check(self) -> None:
        """Raise TuneError (code lock-lost) where the slot is not ours any more."""
        if not self.lost:
            return
        silent = f"it could not be renewed for {self._clock() - self._renewed:.0f} s"
        raise TuneError(
            f"the slot {self._lease.name} of this recovery is lost",
            self._gone or silent,
            "when the API server answers again: the same command; it goes on where this one stopped",
            data={"code": LOST},
        )

    def renew(self) -> None:
        """Renew once. Raises ClusterError; what is not ours any more is noted."""
        sent = self._clock()
        written = self._leases.renew(self._lease)
        if written is None:
            self._gone = "another took it over, or it was deleted"
        else:
            self._lease, self._renewed = written, sent

    def _renewing(self) -> None:
        while not self._gone and not self._done.wait(RENEW):
            with contextlib.suppress(ClusterError):  # tried again; what lasts is seen by ``lost``
                self.renew()

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def leave(self) -> None:
        """Stop renewing and give the slot back; where that fails it runs out by itself."""
        self._done.set()
        self._thread.join()
        if not self._gone:
            with contextlib.suppress(ClusterError):
                self._leases.release(self._lease)


class Slots:
    """Slots in one cluster for one run.

    Args:
        cluster: the API server.
        budget: what is allowed.
        run: the run's id.
        origin: see :func:`origin_of`; the caller holds that directory's lock.
        wait: seconds to wait for what passes by itself.
        stopped: asked while waiting.
        note: told what is waited for.
        undo: what was done is taken back: only who works on the same node is in the way, neither budget nor pause.
    """

    def __init__(
        self,
        cluster: Cluster,
        budget: Budget,
        run: str,
        origin: str,
        wait: float,
        stopped: Callable[[], bool],
        note: Callable[[str], None],
        undo: bool = False,
    ) -> None:
        self._undo = undo
        self._cluster = cluster
        self._budget = budget
        self._wait = wait
        self._stopped = stopped
        self._note = note
        self._leases = lock.Leases(cluster.api, f"{socket.gethostname()[:100]}_{run}", origin)
        self._seen = lock.Sightings(origin)
        self._watch = 0.0  # seconds for which what looks dead is watched, though nobody asked to wait

    @contextlib.contextmanager
    def held(self, node: str, protected: bool = False) -> Iterator[Slot]:
        """Hold a slot for a Node.

        Args:
            node: the Node's name.
            protected: it is of the control plane, whatever its labels say.

        Raises:
            TuneError: code one of :data:`REFUSED`: the node must not be recovered now.
            ClusterError: the API server cannot tell, or may not be asked; then nothing begins.
        """
        slot = self._acquire(node, protected)
        slot.start()
        try:
            yield slot
        finally:
            slot.leave()

    def _acquire(self, node: str, protected: bool) -> Slot:
        started = time.monotonic()
        tries, said = TRIES, ""
        while True:
            found = self._try(node, protected)
            if isinstance(found, Slot):
                return found
            if found is None and (tries := tries - 1):
                time.sleep(random.uniform(0.05, 0.5))  # two that back off must not meet again
                continue
            no = found or Refusal(rules.OVER_BUDGET, f"no slot for {node} could be had", "others were quicker", _AGAIN)
            until = started + max(self._wait, self._watch)
            if not no.passing or time.monotonic() >= until or self._stopped():
                raise TuneError(no.what, no.why, no.next, data={"code": no.code})
            if said != no.why:
                said = no.why
                self._note(f"waiting for up to {until - time.monotonic():.0f} s: {no.what}: {no.why}")
            time.sleep(LOOK)

    def _try(self, node: str, protected: bool) -> Slot | Refusal | None:
        """Try once for a slot; None where another run was in the way for a moment."""
        off = self._paused()
        if off is not None:
            return off
        nodes = self._nodes()
        leases, busy = self._look()
        no = self._refusal(node, protected, leases, busy, nodes)
        if no is not None:
            return no
        most = len(busy) + 1 if self._undo else self._budget.at_once(len(nodes.ready))
        free = lock.free_slot(leases, busy, most)
        if free is None:
            return None
        sent = _boottime()
        mine = self._leases.take(free, node, protected or node in nodes.protected)
        if mine is None:
            return None
        kept = False
        try:
            # Another may have taken a slot since, by a budget of its own: whoever sees the other backs off.
            leases, busy = self._look()
            if self._refusal(node, protected, leases, busy, nodes) is None and self._paused() is None:
                recorded = self._leases.renew(mine, recovered=not self._undo)
                kept = recorded is not None
                return None if recorded is None else Slot(self._leases, recorded, sent)
        finally:
            if not kept:
                self._leases.release(mine)
        return None

    def _paused(self) -> Refusal | None:
        found = None if self._undo else pause.read(self._cluster.api)
        if found is None:
            return None
        return Refusal(rules.PAUSED, "recoveries are paused", str(found), "tune-nodes recover resume")

    def _nodes(self) -> Nodes:
        found = self._cluster.nodes()
        protected = {name for name, node in found.items() if _PROTECTED & set(node.roles)}
        return Nodes({name: node.ready for name, node in found.items()}, protected)

    def _look(self) -> tuple[list[lock.Lease], list[lock.Lease]]:
        """Return all slots, and those that others have."""
        leases = self._leases.read()
        busy = [lease for lease in leases if self._seen.live(lease)]
        now = datetime.now(UTC)
        self._watch = max([lease.duration + 2 * LOOK for lease in busy if lock.abandoned(lease, now)], default=0)
        return leases, busy

    def _refusal(
        self, node: str, protected: bool, leases: list[lock.Lease], busy: list[lock.Lease], nodes: Nodes
    ) -> Refusal | None:
        if self._undo:
            return rules.same_node(node, lock.held(busy))
        recovered: dict[str, float] = {}
        for lease in leases:
            for name, when in lease.recovered.items():
                recovered[name] = max(when, recovered.get(name, 0))
        if protected:
            nodes = Nodes(nodes.ready, {*nodes.protected, node})
        return rules.refusal(node, lock.held(busy), nodes, recovered, self._budget, time.time())
