# SPDX-License-Identifier: Apache-2.0
"""Bring released leases back, byte for byte, where nobody has the address meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from typing import List, Mapping, Sequence

from ..errors import NodeError
from ..files import fsync_dir, write_error
from ..host import Host
from .leases import read_file
from .quarantine import Item, Quarantine, Saved
from .release import locked

#: Made beside its target under the lock, so that a lease appears whole or not at all; a killed undo may leave one.
TEMPORARY = ".tune-nodes-undo"


@dataclass
class Restored:
    """What became of one lease: ``restored``, ``there`` (it never went, or is back already), ``taken``, ``failed``."""

    item: Item
    how: str
    note: str = ""


def plan(quarantine: Quarantine, used: Mapping[str, str]) -> List[Restored]:
    """Return what an undo would do with each lease. Changes nothing.

    Args:
        used: canonical address -> who has it now.
    """
    return [_look(quarantine.host, item, used) for item in quarantine.items]


def _look(host: Host, item: Item, used: Mapping[str, str]) -> Restored:
    lease = item.lease
    try:
        read = read_file(host.path(item.saved.path))
    except NodeError as exc:
        return Restored(item, "failed", str(exc))
    if read is not None:
        same = hashlib.sha256(read[0]).hexdigest() == item.saved.sha256
        return Restored(item, "there") if same else Restored(item, "taken", "it was given to another sandbox since")
    if lease.ip in used:
        return Restored(item, "taken", "%s has the address" % used[lease.ip])
    return Restored(item, "restored")


def undo(quarantine: Quarantine, used: Mapping[str, str]) -> List[Restored]:
    """Bring a run's leases back. It may be called again after anything that cut it off.

    Raises:
        NodeError: a directory cannot be written, or somebody else holds host-local's lock.
    """
    rows: List[Restored] = []
    host = quarantine.host
    for directory in sorted({os.path.dirname(item.saved.path) for item in quarantine.items}):
        items = [item for item in quarantine.items if os.path.dirname(item.saved.path) == directory]
        place = host.path(directory)
        if not os.path.isdir(place):
            rows += [Restored(item, "failed", "%s is no longer there" % directory) for item in items]
            continue
        with locked(place):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(place, TEMPORARY))
            rows += [_bring(quarantine, item, used) for item in items]
            fsync_dir(place)
    quarantine.note(t="undo", restored=sum(row.how == "restored" for row in rows))
    return rows


def _bring(quarantine: Quarantine, item: Item, used: Mapping[str, str]) -> Restored:
    row = _look(quarantine.host, item, used)
    if row.how == "taken" or row.how == "failed":
        return row
    try:
        for extra in item.extras:
            put(quarantine, extra)
        if row.how == "restored":
            put(quarantine, item.saved)
    except NodeError as exc:
        return Restored(item, "failed", str(exc))
    return row


def put(quarantine: Quarantine, saved: Saved) -> None:
    """Make a file as it was; nothing where one of its name is there. Raises NodeError."""
    target = quarantine.host.path(saved.path)
    data = quarantine.content(saved)
    temporary = os.path.join(os.path.dirname(target), TEMPORARY)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fchown(fd, saved.uid, saved.gid)
            os.fchmod(fd, saved.mode)
            os.utime(fd, ns=(saved.atime_ns, saved.mtime_ns))
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, target)
        os.unlink(temporary)
    except OSError as exc:
        raise write_error(target, exc) from exc


def taken(rows: Sequence[Restored]) -> List[Restored]:
    """Return the leases that stay as they are because somebody has their address now."""
    return [row for row in rows if row.how == "taken"]
