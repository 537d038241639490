# SPDX-License-Identifier: Apache-2.0
"""Transactions on disk.

``/var/lib/tune-nodes/tx/ID/`` holds one file whose *name* is the transaction's state and whose content is
its header. A step is a rename followed by an fsync of the directory: it is atomic and needs no free disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional

from ..errors import NodeError
from ..files import fsync_dir, make_dir, read_bytes, write_atomic
from ..host import Host, read_text

STATE_DIR = "/var/lib/tune-nodes"
ARMED, COMMITTED, DONE, REVERTING, REVERTED = "ARMED", "COMMITTED", "DONE", "REVERTING", "REVERTED"
STATES = (ARMED, COMMITTED, DONE, REVERTING, REVERTED)
TERMINAL = (DONE, REVERTED)
KEEP = 50  # finished transactions kept for history and rollback
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_STEPS = {(ARMED, COMMITTED), (COMMITTED, DONE), (ARMED, REVERTING), (REVERTING, REVERTED)}


def now() -> float:
    """Seconds since boot, sleep included: wall clock jumps do not move it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def check_id(tx_id: str) -> str:
    """Return a transaction id fit for a directory and a unit name. Raises NodeError(code="usage")."""
    if not _ID.match(tx_id):
        raise NodeError("%r is not a transaction id" % tx_id[:80], "letters, digits, _ and - only", code="usage")
    return tx_id


@dataclass
class Tx:
    """One transaction as it lies on disk."""

    id: str
    dir: str
    state: str
    header: Dict[str, Any] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        """CLOCK_BOOTTIME seconds at which an ARMED transaction reverts."""
        return float(self.header.get("deadline", 0.0))

    @property
    def terminal(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in TERMINAL

    def due(self, host: Host, at: Optional[float] = None) -> bool:
        """Whether ``resolve`` must finish it now, forward or back."""
        return not self.terminal and (self.state != ARMED or self.overdue(host, at))

    def overdue(self, host: Host, at: Optional[float] = None) -> bool:
        """Whether its time is over: whoever still works on it is hung, or was before the last boot."""
        return self.header.get("boot_id") != host.boot_id or (now() if at is None else at) >= self.deadline

    def path(self, *parts: str) -> str:
        """Return a path inside the transaction's directory."""
        return os.path.join(self.dir, *parts)

    def describe(self) -> Dict[str, Any]:
        """Return the transaction as it stands in a result."""
        return {
            "id": self.id,
            "state": self.state,
            "reverter": str(self.header.get("reverter", {}).get("kind", "")),
            "window": self.header.get("window"),
            "deadline_in": round(self.deadline - now(), 1) if self.state == ARMED else None,
        }


class Store:
    """The transactions of one node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.dir = host.path(STATE_DIR)
        self.tx_dir = os.path.join(self.dir, "tx")

    def exists(self) -> bool:
        """Whether this node ever held a transaction."""
        return os.path.isdir(self.tx_dir)

    def create_dirs(self) -> None:
        """Create the state directories (0700: journals name what an administrator changed). Raises NodeError."""
        make_dir(self.dir, 0o700)
        make_dir(self.tx_dir, 0o700)

    @contextlib.contextmanager
    def lock(self, wait: float = 10.0) -> Iterator[None]:
        """Hold the node's lock. Raises NodeError(code="busy") after ``wait`` seconds."""
        fd = self._open_lock()
        try:
            limit = time.monotonic() + wait
            while not _try_lock(fd):
                if time.monotonic() >= limit:
                    holder = self.lock_holder()
                    raise NodeError(
                        "another tune-nodes request is at work on this node",
                        "the lock is held by process %s" % holder if holder else "the lock is held",
                        "wait for it, or look at: tune-nodes history",
                        code="busy",
                        data={"pid": holder},
                    )
                time.sleep(0.05)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def lock_for_resolve(self) -> Iterator[None]:
        """Hold the lock even where a hung request of ours sits on it.

        Past a deadline the revert counts more than the request that overran it: that process is killed, and
        if it cannot die (stuck in the kernel) restoring goes on without the lock, which is safe because
        every restore is idempotent.
        """
        fd = self._open_lock()
        try:
            for attempt in range(2):
                limit = time.monotonic() + 5.0
                while not _try_lock(fd) and time.monotonic() < limit:
                    time.sleep(0.05)
                if _try_lock(fd):
                    break
                holder = self.lock_holder()
                if attempt == 0 and holder:
                    with contextlib.suppress(OSError):
                        os.kill(holder, signal.SIGKILL)
            yield
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        path = os.path.join(self.dir, "lock")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EROFS) and os.path.exists(path):
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            raise NodeError("cannot open %s" % path, exc.strerror or str(exc)) from exc

    def lock_holder(self) -> Optional[int]:
        """Return the pid holding the lock, as /proc/locks tells it."""
        try:
            inode = os.stat(os.path.join(self.dir, "lock")).st_ino
        except OSError:
            return None
        for line in (read_text(self.host.path("proc/locks")) or "").splitlines():
            words = line.split()
            if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                return int(words[4]) if words[4].isdigit() else None
        return None

    def list(self) -> List[Tx]:
        """Return every transaction, oldest first. Directories without a state were never armed and are skipped."""
        try:
            names = os.listdir(self.tx_dir)
        except OSError:
            return []
        found = [tx for tx in (self._load(name) for name in names if _ID.match(name)) if tx is not None]
        return sorted(found, key=lambda tx: (int(tx.header.get("seq", 0)), tx.id))

    def get(self, tx_id: str) -> Tx:
        """Return one transaction. Raises NodeError."""
        tx = self._load(check_id(tx_id))
        if tx is None:
            raise NodeError(
                "this node has no transaction %s" % tx_id, "", "list them: tune-nodes history", code="unknown"
            )
        return tx

    def unfinished(self) -> List[Tx]:
        """Return the transactions that are not in a final state."""
        return [tx for tx in self.list() if not tx.terminal]

    def _load(self, name: str) -> Optional[Tx]:
        # Without the lock a step may pass between two looks: what was not seen is then seen in the next round.
        return self._look(name) or self._look(name)

    def _look(self, name: str) -> Optional[Tx]:
        directory = os.path.join(self.tx_dir, name)
        # The furthest state wins should a crash of the file system ever show two names.
        for state in (DONE, REVERTED, REVERTING, COMMITTED, ARMED):
            raw = read_bytes(os.path.join(directory, state))
            if raw is None:
                continue
            try:
                header = json.loads(raw.decode("utf-8"))
            except (ValueError, UnicodeDecodeError):
                header = {}
            return Tx(name, directory, state, header if isinstance(header, dict) else {})
        return None

    def create(self, tx_id: str, header: Dict[str, Any]) -> Tx:
        """Make the directory of a new transaction; it has no state yet. Raises NodeError."""
        directory = os.path.join(self.tx_dir, check_id(tx_id))
        existing = self._load(tx_id)
        if existing is not None:
            raise NodeError(
                "this node already has a transaction %s" % tx_id,
                "it is %s" % existing.state,
                "use a new run id",
                code="usage",
            )
        shutil.rmtree(directory, ignore_errors=True)  # left by a request killed before it armed anything
        known = self.list()
        header = dict(header, seq=1 + max([int(tx.header.get("seq", 0)) for tx in known] or [0]))
        make_dir(directory, 0o700)
        return Tx(tx_id, directory, "", header)

    def save_header(self, tx: Tx) -> None:
        """Write the header under the state ARMED (first arming and every re-arming). Raises NodeError."""
        write_atomic(tx.path(ARMED), json.dumps(tx.header, sort_keys=True).encode("utf-8"), 0o600)
        tx.state = ARMED

    def step(self, tx: Tx, state: str) -> None:
        """Go to the next state: one rename, made durable."""
        if (tx.state, state) not in _STEPS:
            raise NodeError("transaction %s cannot go from %s to %s" % (tx.id, tx.state, state), code="failed")
        try:
            os.rename(tx.path(tx.state), tx.path(state))
            fsync_dir(tx.dir)
        except OSError as exc:
            raise NodeError("cannot record %s of transaction %s" % (state, tx.id), exc.strerror or str(exc)) from exc
        tx.state = state

    def prune(self) -> None:
        """Drop the oldest finished transactions beyond KEEP, and directories that were never armed."""
        finished = [tx for tx in self.list() if tx.terminal]
        for tx in finished[: max(0, len(finished) - KEEP)]:
            shutil.rmtree(tx.dir, ignore_errors=True)
        for name in os.listdir(self.tx_dir) if self.exists() else []:
            if self._load(name) is None:
                shutil.rmtree(os.path.join(self.tx_dir, name), ignore_errors=True)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
