# SPDX-License-Identifier: Apache-2.0
"""Putting a node back, and finishing whatever an earlier request left unfinished."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, List, Sequence

from .. import persist
from ..errors import NodeError
from ..family import Family
from ..files import read_bytes, write_atomic
from ..host import Host
from ..kept import apply_settings
from . import reverter
from .commit import clean_leftovers, roll_forward
from .journal import Entry, Journal
from .store import ARMED, COMMITTED, REVERTED, REVERTING, Store, Tx

OUTCOME = "outcome.json"
Row = Dict[str, Any]


def family_of(name: str, families: Sequence[Family]) -> Family:
    """Return the family of that name. Raises NodeError where this code does not carry it."""
    for family in families:
        if family.name == name:
            return family
    raise NodeError("this version knows no settings of the family %r" % name, code="usage")


def revert(store: Store, tx: Tx, families: Sequence[Family], host: Host, why: str) -> List[Row]:
    """Restore what a transaction wrote, then record it: restoring needs no free disk.

    Args:
        why: said in the outcome ("not confirmed in time", "probe failed: ...").

    Returns:
        One ``{"family", "key", "status": "reverted" | "foreign" | "gone", "note"}`` for each change written.

    Raises:
        NodeError: some value could not be restored; the transaction stays REVERTING, to be tried again. Or it is past
            its commit point: nothing was touched.
    """
    if tx.state not in (ARMED, REVERTING):
        raise NodeError("transaction %s cannot be reverted" % tx.id, "it is %s" % tx.state, code="usage")
    if tx.state == ARMED:
        store.step(tx, REVERTING)
    rows: List[Row] = []
    # After a reboot no runtime value is ours any more.
    if tx.header.get("boot_id") == host.boot_id:
        rows = [_restore(entry, families, host) for entry in reversed(Journal(tx.dir).entries()) if entry.begun]
    clean_leftovers(tx, host)
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        raise NodeError(
            "%d values could not be put back" % len(failed),
            "; ".join("%s: %s" % (row["key"], row["note"]) for row in failed),
            "tune-nodes tries again by itself; see journalctl or the node's own logs",
            code="restore-failed",
            data={"rows": rows},
        )
    with contextlib.suppress(NodeError):  # a full disk must not keep a node from being recorded as reverted
        write_atomic(tx.path(OUTCOME), json.dumps({"why": why, "rows": rows}).encode("utf-8"), 0o600)
    store.step(tx, REVERTED)
    reverter.disarm(tx.header.get("reverter", {}))
    return rows


def _restore(entry: Entry, families: Sequence[Family], host: Host) -> Row:
    change = entry.change
    row: Row = {"family": change.family, "key": change.key, "status": "reverted", "note": ""}
    try:
        family = family_of(change.family, families)
        current = family.read(change.key, host)
        if current == change.before:
            return row
        if entry.finished and current not in (entry.after, change.want):
            return dict(row, status="foreign", note="holds %s, which is not what we wrote" % current)
        if change.before is None:
            return dict(row, status="gone", note="it did not exist before")
        family.write(change.key, change.before, host)
        held = family.read(change.key, host)
        if held != change.before:
            return dict(row, status="failed", note="holds %s after writing %s" % (held, change.before))
    except NodeError as exc:
        return dict(row, status="gone" if exc.code == "gone" else "failed", note=str(exc))
    return row


def resolve(store: Store, families: Sequence[Family], host: Host) -> List[Dict[str, Any]]:
    """Finish every transaction that is due, or that has lost its reverter: COMMITTED goes forward, the rest back.

    Call under the lock.

    Returns:
        One ``{"id", "state", "rows"}`` for each transaction finished now.

    Raises:
        NodeError: one of them could not be finished; the others were.
    """
    finished, errors = [], []
    for tx in store.unfinished():
        if not tx.due(host) and not reverter.lost(tx, host):
            continue
        try:
            rows: List[Row] = []
            if tx.state == COMMITTED:
                roll_forward(store, tx, host)
                rows = _catch_up(tx, families, host)
            else:
                rows = revert(store, tx, families, host, _why(tx, host))
            finished.append({"id": tx.id, "state": tx.state, "rows": rows})
        except NodeError as exc:
            errors.append(exc)
    if errors:
        raise errors[0]
    return finished


def _catch_up(tx: Tx, families: Sequence[Family], host: Host) -> List[Row]:
    """Apply what is kept where a boot came between the commit point and now: it took the values away."""
    if tx.header.get("boot_id") == host.boot_id:
        return []
    changes = apply_settings(persist.load(host), families, host)
    return [{"family": c.family, "key": c.key, "status": c.status, "note": c.note} for c in changes]


def _why(tx: Tx, host: Host) -> str:
    if tx.header.get("boot_id") != host.boot_id:
        return "the node was rebooted"
    if not tx.due(host):
        return "its revert timer was gone: the node was restarted, or somebody stopped it"
    return "not confirmed in time"


def outcome(tx: Tx) -> Dict[str, Any]:
    """Return why a transaction was reverted and what came of each change: ``{"why", "rows"}``."""
    try:
        found = json.loads((read_bytes(tx.path(OUTCOME)) or b"{}").decode("utf-8"))
    except (ValueError, UnicodeDecodeError):
        found = {}
    return found if isinstance(found, dict) else {}
