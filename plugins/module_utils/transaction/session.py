# SPDX-License-Identifier: Apache-2.0
"""A transaction's life on the node: begin, write, confirm, abort, roll back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .. import bundle, persist
from ..errors import NodeError
from ..family import Family
from ..host import Host
from ..model import Change
from . import reverter
from .commit import check_time, commit
from .connection import connection_of, is_same
from .journal import Journal, read_changes
from .restore import Row, family_of, outcome, revert
from .store import ARMED, COMMITTED, DONE, REVERTED, REVERTING, Store, Tx, now

MIN_WINDOW, MAX_WINDOW, DEFAULT_WINDOW = 20.0, 3600.0, 120.0
Code = Optional[Tuple[str, bytes]]


def new_id(prefix: str) -> str:
    """Return a transaction id of its own for a request that brings no run id."""
    return "%s-%d-%s" % (prefix, int(time.time()), os.urandom(3).hex())


def check_window(window: Any) -> float:
    """Return the confirm window in seconds. Raises NodeError(code="usage")."""
    try:
        seconds = float(window)
    except (TypeError, ValueError):
        seconds = -1.0
    if not MIN_WINDOW <= seconds <= MAX_WINDOW:
        raise NodeError(
            "window %r is not usable" % (window,),
            "it must lie between %.0f and %.0f seconds" % (MIN_WINDOW, MAX_WINDOW),
            code="usage",
        )
    return seconds


def refuse_if_busy(store: Store, mine: str = "") -> None:
    """Refuse while a transaction of another run is in flight. Raises NodeError(code="busy")."""
    for tx in store.unfinished():
        if tx.id != mine:
            left = max(0.0, tx.deadline - now())
            raise NodeError(
                "run %s is at work on this node" % (tx.header.get("run") or tx.id),
                "its transaction is %s and reverts in %.0f s unless confirmed" % (tx.state, left),
                "wait for it, then run again",
                code="busy",
                data={"transaction": tx.id},
            )


def begin(store: Store, tx_id: str, run: str, window: float, host: Host, code: Code, **header: Any) -> Tx:
    """Create a transaction and arm its revert; nothing has been written yet. Call under the lock."""
    refuse_if_busy(store)
    store.create_dirs()
    store.prune()
    installed = bundle.install(host, code)
    bundle.prune(host, (installed, *(str(tx.header.get("code", "")) for tx in store.list())))
    tx = store.create(
        tx_id,
        dict(
            header,
            schema=1,
            run=run,
            boot_id=host.boot_id,
            window=window,
            deadline=now() + window,
            created=time.time(),
            code=installed,
            python=host.python or "/usr/bin/python3",
            connection=connection_of(host),
        ),
    )
    _arm(store, tx, host)
    return tx


def _arm(store: Store, tx: Tx, host: Host) -> None:
    """Record the deadline, then start the reverter: a kill between the two leaves nothing written."""
    store.save_header(tx)
    tx.header["reverter"] = reverter.arm(tx, host)
    store.save_header(tx)


def rearm(store: Store, tx: Tx, host: Host) -> None:
    """Give a joined transaction its whole window again: the new timer first, then the old one stopped."""
    if tx.state != ARMED or tx.due(host):
        raise NodeError(
            "transaction %s cannot be joined" % tx.id,
            "it is %s" % (tx.state if tx.state != ARMED else "past its deadline"),
            "begin a new one",
            code="reverted" if tx.state in (REVERTING, REVERTED) else "expired",
        )
    old = dict(tx.header.get("reverter", {}))
    tx.header["deadline"] = now() + float(tx.header["window"])
    tx.header["connection"] = connection_of(host)
    store.save_header(tx)
    if old.get("kind") == reverter.SYSTEMD or not reverter.alive(tx.header, host):
        tx.header["reverter"] = reverter.arm(tx, host)
        store.save_header(tx)
        reverter.disarm(old)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise NodeError(code="timeout") in the main thread after ``seconds``."""

    def ring(_signal: int, _frame: Any) -> None:
        raise NodeError(
            "the change took longer than a quarter of its window",
            "the limit is %.0f s" % seconds,
            "look for a slow device or a loaded node, or give a longer --window",
            code="timeout",
        )

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def write_changes(
    store: Store, tx: Tx, changes: List[Change], families: Sequence[Family], host: Host, limit: float
) -> None:
    """Write every pending change and read it back; on any failure put the whole transaction back.

    Sets each change's ``status`` and ``after``. Raises NodeError after the revert, with code "reverted" and
    the original error in ``data``.
    """
    whole = False
    try:
        with time_limit(limit):
            # Whatever is to be kept is recorded with the rest, right or not.
            first = Journal(tx.dir).join(changes)
            for offset, change in enumerate(changes):
                if change.status == "pending":
                    _write_one(Journal(tx.dir), first + offset, change, families, host)
        whole = True
    except NodeError as exc:
        cause = exc
    finally:
        rows: List[Row] = []
        if not whole:
            rows = revert(store, tx, families, host, "a change failed")
    if not whole:
        mark_reverted(changes, rows)
        raise NodeError(cause.what, cause.why, cause.next, "reverted", {"cause": cause.code, "rows": rows})


def _write_one(journal: Journal, index: int, change: Change, families: Sequence[Family], host: Host) -> None:
    family = family_of(change.family, families)
    journal.intent(index)
    try:
        family.write(change.key, str(change.want), host)
        change.after = family.read(change.key, host)
    except NodeError as exc:
        change.status, change.note = "failed", str(exc)
        raise
    journal.done(index, change.after)
    if change.after != change.want:
        change.status = "failed"
        change.note = "the kernel holds %s after %s was written" % (change.after, change.want)
        raise NodeError(
            "%s did not take" % change.key, change.note, "take it out of the profile or ask for what it takes"
        )
    change.status = "changed"


def mark_reverted(changes: Sequence[Change], rows: Sequence[Row]) -> None:
    """Carry the outcome of a revert over to the changes it concerns."""
    by_key = {(row["family"], row["key"]): row for row in rows}
    for change in changes:
        row = by_key.get((change.family, change.key))
        if row is not None and change.status != "failed":
            change.status = "foreign" if row["status"] == "foreign" else "reverted"
            change.note = row["note"] or change.note


def check_confirmable(tx: Tx, host: Host) -> None:
    """Refuse to confirm what is gone, late, or asked for through the changed connection. Raises NodeError."""
    if tx.state in (REVERTING, REVERTED):
        raise NodeError(
            "transaction %s was reverted" % tx.id, str(outcome(tx).get("why", "")), "run again", code="reverted"
        )
    if tx.header.get("boot_id") != host.boot_id:
        raise NodeError("transaction %s is of another boot" % tx.id, "the node was rebooted", code="reverted")
    if is_same(tx.header.get("connection"), connection_of(host)):
        raise NodeError(
            "a confirm must come over a new connection",
            "this one is the ssh connection the change was made through, so it proves nothing",
            "connect anew (ControlMaster=no, ControlPath=none), then confirm",
            code="same-connection",
        )
    check_time(tx)


def check_values(tx: Tx, families: Sequence[Family], host: Host) -> None:
    """See that the node still holds what was written. Raises NodeError naming what changed since."""
    moved = []
    for entry in Journal(tx.dir).entries():
        if entry.finished:
            held = family_of(entry.change.family, families).read(entry.change.key, host)
            if held != entry.after:
                moved.append("%s: wrote %s, holds %s" % (entry.change.key, entry.after, held))
    if moved:
        raise NodeError(
            "%d values changed since they were written" % len(moved),
            "; ".join(moved),
            "find the program that writes them (tune-nodes show RUN), or name it as their owner",
            code="moved",
        )


def confirm(store: Store, tx: Tx, families: Sequence[Family], host: Host, local: bool = False) -> List[Change]:
    """Confirm a transaction. Call under the lock; confirming a DONE one again is no error.

    Args:
        local: ``persist: auto``: the module confirms its own work after local verification.

    Returns:
        The files that were changed.
    """
    if tx.state == DONE:
        return []
    if not local:
        check_confirmable(tx, host)
    check_values(tx, families, host)
    entries = Journal(tx.dir).entries()
    files = persist.plan(persist.load(host), host) if not entries else []
    if not entries and not files and not tx.header.get("undoes"):
        # Nothing was changed in it: leave no trace.
        reverter.disarm(tx.header.get("reverter", {}))
        store.step(tx, COMMITTED)
        store.step(tx, DONE)
        shutil.rmtree(tx.dir, ignore_errors=True)
        return []
    return commit(store, tx, host)


def undo_changes(store: Store, tx: Tx, families: Sequence[Family], host: Host) -> Tuple[List[Change], List[Change]]:
    """Plan the rollback of a DONE transaction.

    Returns:
        (changes that put values back: status pending, ok or foreign; the transaction's changes that were kept
        over reboots and are no more).

    Raises:
        NodeError: not DONE, rolled back already, or a newer transaction changed the same things.
    """
    if tx.state != DONE:
        raise NodeError(
            "transaction %s cannot be rolled back" % tx.id,
            "it is %s" % tx.state,
            "only confirmed transactions can",
            code="reverted" if tx.state == REVERTED else "usage",
        )
    done = [t for t in store.list() if t.state == DONE]
    undone = {str(t.header["undoes"]) for t in done if t.header.get("undoes")}
    if tx.id in undone:
        raise NodeError("transaction %s was rolled back already" % tx.id, code="superseded", data={"undone": tx.id})
    changes = read_changes(tx.dir)
    _refuse_beneath(tx, changes, [t for t in done if t.id not in undone and not t.header.get("undoes")])
    back = []
    for change in reversed(changes):
        if change.after is not None:
            back.append(_undo_one(change, family_of(change.family, families), host))
    return back, [c for c in changes if c.persist is not None]


def _refuse_beneath(tx: Tx, changes: Sequence[Change], done: Sequence[Tx]) -> None:
    touched = _keys(changes)
    for newer in done:
        if int(newer.header.get("seq", 0)) <= int(tx.header.get("seq", 0)):
            continue
        both = sorted(touched & _keys(read_changes(newer.dir)))
        if both:
            raise NodeError(
                "transaction %s lies beneath %s" % (tx.id, newer.id),
                "the newer one changed %s too" % ", ".join(both[:5]),
                "roll back %s first" % newer.id,
                code="superseded",
                data={"newer": newer.id, "keys": both},
            )


def _keys(changes: Sequence[Change]) -> Set[str]:
    return {c.key for c in changes if c.after is not None}


def _undo_one(change: Change, family: Family, host: Host) -> Change:
    current = family.read(change.key, host)
    back = Change(
        family=change.family,
        key=change.key,
        before=current,
        want=change.before,
        requested="rollback",
        reason="the value before the run that is rolled back",
        source="snapshot of the run",
        scope=change.scope,
        disruptive=change.disruptive,
        identity=change.identity,
    )
    if current == change.before:
        back.status = "ok"
    elif current != change.after or change.before is None:
        back.status, back.want = "foreign", current
        back.note = "holds %s, the run wrote %s: somebody changed it since, so it is left" % (current, change.after)
    return back


def describe(tx: Tx) -> Dict[str, Any]:
    """Return a transaction for the status of a node."""
    found = tx.describe()
    found.update(run=tx.header.get("run", ""), created=tx.header.get("created"), undoes=tx.header.get("undoes"))
    if tx.state == REVERTED:
        found.update(why=outcome(tx).get("why", ""), rows=outcome(tx).get("rows", []))
    return found
