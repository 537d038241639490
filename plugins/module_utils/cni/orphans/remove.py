# SPDX-License-Identifier: Apache-2.0
"""Take artefacts away one by one, and bring them back. Whoever judged them: here they are only words to run.

Nothing goes before the words that bring it back are on disk. What counts is not what the programs say but a second
reading: what is still there has not gone, and what reads as it was is back.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ...errors import NodeError
from ...files import fsync_dir, read_bytes, write_error
from .. import command
from ..command import Run
from ..quarantine import Saved
from ..undo import put
from .backup import Backup
from .model import KINDS, Artefact, Step

TIMEOUT = 20.0  # seconds for one step
LIMIT = 300.0  # seconds for all of them; what is left then stays and is said

Key = Tuple[str, str]
#: Reads everything again: key -> artefact.
Again = Callable[[], Mapping[Key, Artefact]]


@dataclass
class Row:
    """What became of one artefact.

    Attributes:
        how: of a removal ``removed``, ``gone`` (it went by itself), ``kept`` (it is not what was judged, or the time
            was over), ``failed`` (it is still there). Of a restore ``restored``, ``there``, ``differs`` (somebody has
            made another of its name since), ``failed``.
        note: why, where there is something to say.
    """

    artefact: Artefact
    how: str
    note: str = ""


def remove(
    backup: Backup,
    artefacts: Sequence[Artefact],
    again: Again,
    run: Run = command.run,
    limit: float = LIMIT,
) -> List[Row]:
    """Take artefacts away.

    Args:
        backup: of this run; its directory is made here.
        artefacts: in any order; those that refer to others go first.
        again: reads the node anew, before (only what is as it was judged goes) and after.
        limit: seconds for all of it.

    Returns:
        A row for each artefact, in the order in which they went.

    Raises:
        NodeError: nothing was removed: the backup could not be written.
    """
    wanted = sorted(artefacts, key=lambda one: KINDS.index(one.kind))
    now = again()
    rows = [Row(one, _before(one, now.get(one.key))) for one in wanted]
    backup.create()
    for row in rows:
        if not row.how:
            _save(backup, row)
    backup.artefacts = [row.artefact for row in rows if not row.how]
    backup.seal()
    until = time.monotonic() + limit
    for row in rows:
        if row.how:
            row.note = row.note or ("it changed just now" if row.how == "kept" else "")
        elif time.monotonic() > until:
            row.how, row.note = "kept", "the time for a removal was over; run it again"
        else:
            backup.note(t="begin", kind=row.artefact.kind, name=row.artefact.name)
            row.note = _take(backup, row.artefact, run)
            backup.note(t="end", kind=row.artefact.kind, name=row.artefact.name, note=row.note)
    left = again()
    for row in rows:
        if not row.how:
            row.how = "failed" if row.artefact.key in left else "removed"
            row.note = (row.note or "it is still there") if row.how == "failed" else ""
    backup.note(t="done", removed=sum(row.how == "removed" for row in rows))
    return rows


def _before(judged: Artefact, now: Optional[Artefact]) -> str:
    if now is None:
        return "gone"
    return "kept" if judged.stuck or now.content != judged.content else ""


def _save(backup: Backup, row: Row) -> None:
    if row.artefact.kind == "file":
        saved = backup.save(row.artefact.path, "files" + row.artefact.path)
        if saved is None or "sha256 " + saved.sha256 not in row.artefact.content:
            row.how = "kept"
        else:
            backup.files[row.artefact.path] = saved


def _take(backup: Backup, artefact: Artefact, run: Run) -> str:
    """Take one artefact away; what its programs complained of, "" for nothing."""
    if artefact.kind == "file":
        return _unlink(backup.host.path(artefact.path), backup.files[artefact.path])
    said = [_done(step, run) for step in artefact.remove]
    return next((one for one in said if one), "")


def _unlink(path: str, saved: Saved) -> str:
    """Remove a file that is in the backup. The directory stays: the runtime watches it."""
    try:
        status = os.lstat(path)
        if status.st_mtime_ns != saved.mtime_ns:
            return "it changed just now"
        os.unlink(path)
        fsync_dir(os.path.dirname(path))
    except FileNotFoundError:
        return ""
    except OSError as exc:
        return str(write_error(path, exc))
    return ""


def _done(step: Step, run: Run) -> str:
    """Run a step; what it complained of, "" where it did its work or was done already."""
    try:
        if step.unless and run(list(step.unless), TIMEOUT).code == 0:
            return ""
        done = run(list(step.argv), TIMEOUT, step.data.encode("utf-8"))
        if done.code and step.otherwise:
            done = run(list(step.otherwise), TIMEOUT)
    except NodeError as exc:
        return str(exc)
    return "%s: %s" % (step.argv[0], done.said) if done.code else ""


def look_back(backup: Backup, again: Again) -> List[Row]:
    """Return what a restore would do with each artefact. Changes nothing.

    Args:
        backup: loaded.
    """
    now = again()
    rows = []
    for one in sorted(backup.artefacts, key=lambda one: -KINDS.index(one.kind)):
        there = now.get(one.key)
        if one.kind == "file":
            there = _file(backup, one)
        rows.append(Row(one, *_back(one, there)))
    return rows


def _file(backup: Backup, artefact: Artefact) -> Optional[Artefact]:
    """Return the artefact of whatever file lies at a path, whether or not a CNI's configuration is in it."""
    path = backup.host.path(artefact.path)
    if not os.path.lexists(path):
        return None
    same = backup.content(backup.files[artefact.path]) == read_bytes(path)
    return artefact if same else Artefact("file", artefact.name, "", ("another",))


def _back(saved: Artefact, now: Optional[Artefact]) -> Tuple[str, str]:
    if now is None:
        return "restored", ""
    if now.content == saved.content:
        return "there", ""
    if saved.kind == "chains" and set(now.content) < set(saved.content):
        return "restored", ""  # a removal was cut off in the middle of it
    return "differs", "it was made anew since, in another way"


def restore(backup: Backup, again: Again, run: Run = command.run) -> List[Row]:
    """Bring everything back that a run removed. It may be called again after anything that cut it off.

    Args:
        backup: loaded.

    Returns:
        A row for each artefact, in the order in which they came back: what others refer to first.
    """
    rows = look_back(backup, again)
    for row in rows:
        if row.how == "restored":
            row.note = _bring(backup, row.artefact, run)
    now = again()
    for row in rows:
        if row.how != "restored":
            continue
        there = _file(backup, row.artefact) if row.artefact.kind == "file" else now.get(row.artefact.key)
        if there is None or there.content != row.artefact.content:
            row.how, row.note = "failed", row.note or "it does not read as it was"
        else:
            row.note = ""
    backup.note(t="undo", restored=sum(row.how == "restored" for row in rows))
    return rows


def _bring(backup: Backup, artefact: Artefact, run: Run) -> str:
    if artefact.kind == "file":
        saved = backup.files[artefact.path]
        try:
            put(backup, saved)
        except NodeError as exc:
            return str(exc)
        with contextlib.suppress(OSError):
            fsync_dir(os.path.dirname(backup.host.path(saved.path)))
        return ""
    said = [_done(step, run) for step in artefact.restore]
    return next((one for one in said if one), "")


def counted(rows: Sequence[Row]) -> Dict[str, int]:
    """Return how many artefacts went which way."""
    found: Dict[str, int] = {}
    for row in rows:
        found[row.how] = found.get(row.how, 0) + 1
    return found
