# SPDX-License-Identifier: Apache-2.0
"""From ARMED to DONE: stage, the commit point, install, disarm."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from .. import bundle, persist
from ..errors import NodeError
from ..files import fsync_dir, make_dir, read_bytes, remove, temporary_name, write_atomic
from ..host import Host
from ..model import Change
from . import reverter
from .journal import Journal
from .store import COMMITTED, DONE, Store, Tx, now

MARGIN = 15.0  # seconds before the deadline in which nothing may commit any more
_MANIFEST = "staged/manifest.json"
_BEFORE = "staged/kept-before.json"


def check_time(tx: Tx) -> None:
    """Refuse a commit that could race with the revert. Raises NodeError(code="expired")."""
    left = tx.deadline - now()
    if left < MARGIN:
        raise NodeError(
            "transaction %s cannot be confirmed any more" % tx.id,
            "%.0f s are left before it reverts, %.0f are needed" % (max(0.0, left), MARGIN),
            "let it revert, then run again with a longer --window",
            code="expired",
        )


def settings_after(tx: Tx, kept: persist.Settings, host: Host) -> persist.Settings:
    """Return the settings to keep once the transaction is confirmed, given those kept now."""
    changes = [entry.change for entry in Journal(tx.dir).entries()]
    undoes = tx.header.get("undoes")
    if undoes:
        before, undone = kept_before(Store(host).get(str(undoes))), tx.header.get("undone") or []
        return persist.undo(kept, before, [Change.from_dict(c) for c in undone])
    return persist.merge(kept, changes)


def commit(store: Store, tx: Tx, host: Host) -> List[Change]:
    """Stage the files, pass the commit point, install, disarm.

    Returns:
        The files that were changed.

    Raises:
        NodeError: before the commit point nothing is confirmed and the revert stays armed; after it the next
            ``resolve`` finishes the work.
    """
    check_time(tx)
    kept = persist.load(host)
    settings = settings_after(tx, kept, host)
    changes = persist.plan(settings, host)
    wanted = persist.render(settings, host)
    _stage(tx, kept, {change.key: wanted[change.key] for change in changes})
    check_time(tx)
    store.step(tx, COMMITTED)
    roll_forward(store, tx, host)
    for change in changes:
        change.status, change.after = "changed", change.want
    return changes


def _stage(tx: Tx, kept: persist.Settings, wanted: Dict[str, persist.Wanted]) -> None:
    make_dir(tx.path("staged"), 0o700)
    manifest = []
    for number, (path, want) in enumerate(persist.in_order(wanted)):
        name = None
        if want.content is not None:
            name = "file-%d" % number
            write_atomic(tx.path("staged", name), want.content, 0o600)
        manifest.append({"path": path, "file": name, "link": want.link, "mode": want.mode})
    write_atomic(tx.path(_BEFORE), json.dumps(kept, sort_keys=True).encode("utf-8"), 0o600)
    write_atomic(tx.path(_MANIFEST), json.dumps(manifest, sort_keys=True).encode("utf-8"), 0o600)


def _manifest(tx: Tx) -> List[Dict[str, Any]]:
    raw = read_bytes(tx.path(_MANIFEST))
    try:
        rows = json.loads((raw or b"").decode("utf-8"))
    except (ValueError, UnicodeDecodeError) as exc:
        raise NodeError("the files of transaction %s cannot be read" % tx.id, "its manifest is damaged") from exc
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def roll_forward(store: Store, tx: Tx, host: Host) -> None:
    """Install what was staged, disarm, DONE. Idempotent: runs again after a kill at any point."""
    _point_boot_at(str(tx.header.get("code", "")), host, tx.id)  # first: the boot unit cannot run without
    for row in _manifest(tx):
        content: Optional[bytes] = None
        if row.get("file"):
            content = read_bytes(tx.path("staged", str(row["file"])))
            if content is None:
                raise NodeError("a staged file of transaction %s is gone" % tx.id)
        want = persist.Wanted(content, row.get("link"), int(row.get("mode") or 0o644))
        persist.put(host.path(str(row["path"])), want, tx.id)
        remove(temporary_name(host.path(str(row["path"])), tx.id))
    reverter.disarm(tx.header.get("reverter", {}))
    store.step(tx, DONE)


def _point_boot_at(code: str, host: Host, token: str) -> None:
    if host.init == "systemd" and code:
        persist.put(host.path(bundle.BOOT_LINK), persist.Wanted(link=code), token)


def clean_leftovers(tx: Tx, host: Host) -> None:
    """Remove the temporary files that a killed install of this transaction may have left beside its targets."""
    if not os.path.exists(tx.path(_MANIFEST)):
        return
    for row in _manifest(tx):
        path = temporary_name(host.path(str(row.get("path", ""))), tx.id)
        if remove(path):
            fsync_dir(os.path.dirname(path))


def kept_before(tx: Tx) -> persist.Settings:
    """Return the settings this node kept before a transaction was committed."""
    raw = read_bytes(tx.path(_BEFORE))
    try:
        found = json.loads((raw or b"{}").decode("utf-8"))
    except (ValueError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
