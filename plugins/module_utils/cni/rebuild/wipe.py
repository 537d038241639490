# SPDX-License-Identifier: Apache-2.0
"""Take the configured CNI's artefacts away, each kept word for word before it goes, and bring them back."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ...errors import NodeError
from ...files import read_bytes
from ...host import Host
from ...model import Change
from ..command import Run
from ..orphans import path as ways
from ..orphans import read, remove
from ..orphans.backup import Backup
from ..orphans.model import Artefact
from . import record
from .record import Record
from .state import KINDS

_MOST = 4 << 20  # bytes of one file
Key = Tuple[str, str]


def pick(artefacts: Iterable[Artefact], cni: str) -> List[Artefact]:
    """Return what a CNI made of what was read (pure); what cannot be taken away and brought back is left."""
    return [one for one in artefacts if one.owner == cni and one.kind in KINDS and not one.stuck]


def files(host: Host, paths: Sequence[str], cni: str) -> List[Artefact]:
    """Return files as artefacts; one that is gone is left out."""
    found = []
    for path in paths:
        data = read_bytes(host.path(path), _MOST)
        if data is not None:
            digest = hashlib.sha256(data).hexdigest()
            found.append(Artefact("file", path, cni, ("sha256 " + digest,), path=path))
    return found


def take_away(host: Host, found: Record, paths: Sequence[str], run: Run) -> List[remove.Row]:
    """Take a CNI's artefacts and these files away.

    Raises:
        NodeError: code ``path``: our own connection goes through one of its links; nothing was taken away.
    """
    node = read.read(host, found.conf_dir, run)
    if node.unread:
        raise NodeError("what the CNI made cannot all be read", "; ".join(node.unread[:3]), code="refused")
    artefacts = pick(node.artefacts, found.cni)
    way = ways.observe(host, node.links, run)
    held = [(one.name, way.holds_link(one.name)) for one in artefacts if one.kind == "link"]
    reasons = ["%s: %s" % (name, why) for name, why in held if why]
    if reasons:
        raise NodeError("nothing was taken away", "; ".join(reasons), "reach the node another way", code="path")
    found.kept.append("%s-rebuild%s" % (found.run, "-%d" % (len(found.kept) + 1) if found.kept else ""))
    record.save(host, found)

    def again() -> Mapping[Key, Artefact]:
        there = [*pick(read.read(host, found.conf_dir, run).artefacts, found.cni), *files(host, paths, found.cni)]
        return {one.key: one for one in there}

    return remove.remove(Backup(host, found.kept[-1]), [*artefacts, *files(host, paths, found.cni)], again, run)


def bring_back(host: Host, found: Record, run: Run) -> List[remove.Row]:
    """Bring back what was taken away, the last first, where nothing has taken its place. Raises NodeError."""

    def again() -> Mapping[Key, Artefact]:
        return {one.key: one for one in read.read(host, found.conf_dir, run).artefacts}

    rows: List[remove.Row] = []
    for name in reversed(found.kept):
        backup = Backup(host, name)
        try:
            backup.load()
        except NodeError as exc:
            if exc.code != "unknown":
                raise
            continue  # it was killed before the first thing went
        rows += remove.restore(backup, again, run)
    return rows


def check(rows: Sequence[remove.Row]) -> None:
    """Make sure that all of it went. Raises NodeError."""
    left = [row for row in rows if row.how not in ("removed", "gone")]
    if left:
        names = ", ".join("%s %s (%s)" % (row.artefact.kind, row.artefact.name[:60], row.note) for row in left[:4])
        raise NodeError("some of the CNI's state is still there", names, "run it again", code="left")


def shown(row: remove.Row) -> Dict[str, Any]:
    """Return a row of the report."""
    return {"kind": row.artefact.kind, "name": row.artefact.name[:200], "how": row.how, "note": row.note[:300]}


def change(row: remove.Row) -> Change:
    """Return what became of an artefact as a change."""
    status = {"removed": "changed", "restored": "changed", "gone": "ok", "there": "ok", "differs": "foreign"}
    key = "%s/%s" % (row.artefact.kind, row.artefact.name[:200])
    back = row.how in ("restored", "there", "differs")
    before = None if row.how in ("gone", "restored") else "there"
    after = "there" if back or row.how in ("kept", "failed") else None
    wanted = "there" if back else None
    return Change("cni_rebuild", key, before, wanted, after, status.get(row.how, "failed"), "rebuild", note=row.note)
