# SPDX-License-Identifier: Apache-2.0
"""What a transaction did, line by line.

A line is written before a value is (``intent``) and after it was read back (``done``). The lines need no
fsync: whatever loses the page cache also loses the runtime values they speak of.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional

from ..files import read_bytes, write_error
from ..model import Change

JOURNAL = "journal.jsonl"


@dataclass
class Entry:
    """One change of a transaction, and how far it got."""

    change: Change
    begun: bool = False
    after: Optional[str] = None  # what the node held right after the write
    finished: bool = False


class Journal:
    """The journal of one transaction's directory."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, JOURNAL)

    def _append(self, lines: Iterable[Dict[str, Any]], durable: bool = False) -> None:
        data = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode("utf-8")
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                # A torn line of a killed writer must not swallow the next one.
                if os.fstat(fd).st_size and not self._ends_with_newline():
                    data = b"\n" + data
                while data:
                    data = data[os.write(fd, data) :]
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise write_error(self.path, exc) from exc

    def _ends_with_newline(self) -> bool:
        with open(self.path, "rb") as handle:
            handle.seek(-1, os.SEEK_END)
            return handle.read(1) == b"\n"

    def join(self, changes: List[Change]) -> int:
        """Record the snapshot of one module's changes, durable. Returns the index of the first."""
        first = len(self.entries())
        self._append([{"t": "join", "changes": [c.to_dict() for c in changes]}], durable=True)
        return first

    def intent(self, index: int) -> None:
        """Record that change ``index`` is about to be written."""
        self._append([{"t": "intent", "i": index}])

    def done(self, index: int, after: Optional[str]) -> None:
        """Record what the node holds after the write of change ``index``."""
        self._append([{"t": "done", "i": index, "after": after}])

    def entries(self) -> List[Entry]:
        """Return every change in the order it was planned; junk and torn lines are skipped."""
        found: List[Entry] = []
        for raw in (read_bytes(self.path) or b"").splitlines():
            try:
                line = json.loads(raw.decode("utf-8"))
            except (ValueError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(line, dict):
                _take(line, found)
        return found


def _take(line: Dict[str, Any], found: List[Entry]) -> None:
    if line.get("t") == "join":
        # All or none: the indexes of later lines count every change.
        with contextlib.suppress(TypeError, AttributeError, KeyError):
            found.extend([Entry(Change.from_dict(raw)) for raw in line["changes"]])
        return
    index = line.get("i")
    if not isinstance(index, int) or not 0 <= index < len(found):
        return
    if line.get("t") == "intent":
        found[index].begun = True
    elif line.get("t") == "done":
        found[index].begun = found[index].finished = True
        after = line.get("after")
        found[index].after = after if isinstance(after, str) else None


def read_changes(directory: str) -> List[Change]:
    """Return a finished transaction's changes with ``after`` as it was read back."""
    changes = []
    for entry in Journal(directory).entries():
        if entry.finished:
            entry.change.after = entry.after
        changes.append(entry.change)
    return changes
