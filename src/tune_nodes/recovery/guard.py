"""What keeps recoveries apart: a lock on this machine, slots in the cluster, and the order in which nodes come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.recovery.slots import REFUSED, Slots
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

LOCK = "recover.lock"
#: Roles of nodes that come last, and of which one at a time is recovered.
PROTECTED = frozenset({"control-plane", "etcd"})


@contextlib.contextmanager
def alone(state_dir: Path, run: str, wait: float, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of recoveries.

    Args:
        state_dir: where it lies.
        run: written into it, so that the next one can name it.
        wait: seconds to wait for another run that holds it; 0: not at all.
        stopped: asked while waiting.

    Raises:
        TuneError: another run holds it.
        UsageError: the state directory cannot be written.
    """
    path = state_dir / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise UsageError(f"cannot write {path}", problem.strerror or "", "choose another --state-dir") from problem
    try:
        until = time.monotonic() + wait
        while not _locked(descriptor):
            if time.monotonic() >= until or stopped():
                holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
                raise TuneError(
                    "another recovery is at work",
                    f"run {holder} holds {path}" if holder.isprintable() and holder else f"{path} is held",
                    "wait for it, or give --wait SECONDS",
                )
            time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, run.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_order(names: Sequence[str], roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes in the order they are worked on, one after the other: control-plane and etcd nodes last."""
    return sorted(names, key=lambda name: bool(PROTECTED & set(roles.get(name, ()))))


class Held(Protocol):
    """The right to work on one node."""

    @property
    def lost(self) -> bool:
        """Whether it may be another's by now."""

    def check(self) -> None:
        """Raise TuneError (code lock-lost) where it may be another's by now: to be asked before each step."""


class Guards(Protocol):
    """What gives the right to work on a node."""

    def slot(self, name: str, protected: bool = False) -> AbstractContextManager[Held]:
        """Hold the right to work on a node.

        Args:
            name: the node, as the inventory calls it.
            protected: the node says of itself that it is of the control plane.

        Raises:
            TuneError: not now; see :func:`refused`.
        """


class NoSlot:
    """The right to work on a node where there is no cluster: the lock on this machine is all there is."""

    lost = False

    def check(self) -> None:
        """Never raise."""


class NoGuards:
    """Without a cluster nobody else is asked."""

    def slot(self, name: str, protected: bool = False) -> AbstractContextManager[Held]:
        """Give the right."""
        return contextlib.nullcontext(NoSlot())


class ClusterGuards:
    """Slots in the cluster.

    Args:
        slots: in the API server.
        node_of: returns the name of a node's Node object.
    """

    def __init__(self, slots: Slots, node_of: Callable[[str], str]) -> None:
        self._slots = slots
        self._node_of = node_of

    def slot(self, name: str, protected: bool = False) -> AbstractContextManager[Held]:
        """Hold a slot for a node's Node object. Raises TuneError, ClusterError."""
        return self._slots.held(self._node_of(name), protected)


def refused(record: NodeRecord, problem: TuneError) -> NodeRecord:
    """Return the record of a node whose slot could not be had, or was lost.

    Args:
        record: the node's, as the look left it.
        problem: what :meth:`Guards.slot` or :meth:`Held.check` raised. Refused is what was not begun; else failed.
    """
    code = str(problem.data.get("code", ""))
    error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code=code or "cluster")
    outcome = Outcome.REFUSED if code in REFUSED else Outcome.FAILED
    return record.model_copy(update={"outcome": outcome, "error": error})
