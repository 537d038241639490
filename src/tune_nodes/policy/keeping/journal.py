"""What was begun and what was done, on disk before it counts: so that a second run finishes what a dead one began."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from tune_nodes.errors import TuneError, UsageError

NAME = "journal.jsonl"
LOCK = "lock"
MAX_BYTES = 64 << 20


def read(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a backup's journal, oldest first; one that was cut off is left out."""
    try:
        with (directory / NAME).open("rb") as handle:
            raw = handle.read(MAX_BYTES)
    except OSError:
        return []
    found = []
    for line in raw.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


class Journal:
    """The journal of one backup, held by one process at a time; safe to use from several threads.

    Raises:
        TuneError: another process deletes or restores by this backup just now.
        UsageError: the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._guard = threading.Lock()
        flags = os.O_CREAT | os.O_CLOEXEC
        try:
            self._lock = os.open(directory / LOCK, os.O_RDWR | flags, 0o600)
        except OSError as problem:
            raise _unusable(directory, problem) from problem
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file = os.open(directory / NAME, os.O_RDWR | os.O_APPEND | flags, 0o600)
            self._heal()
        except BlockingIOError:
            os.close(self._lock)
            raise TuneError(
                f"another delete or restore by the backup {directory.name} is under way",
                "two at once would undo each other",
                "wait until it has ended",
            ) from None
        except OSError as problem:
            os.close(self._lock)
            raise _unusable(directory, problem) from problem

    def _heal(self) -> None:
        """End a line that a power cut left half written."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the lock."""
        for descriptor in (self._file, self._lock):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def note(self, event: str, **fields: Any) -> None:
        """Append a line and wait until the disk has it. Raises UsageError where it does not take it."""
        row = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        try:
            with self._guard:
                os.write(self._file, line)
                os.fsync(self._file)
        except OSError as problem:
            raise _unusable(self.directory, problem) from problem


def _unusable(directory: Path, problem: OSError) -> UsageError:
    return UsageError(
        f"the journal in {directory} cannot be written", problem.strerror or "", "free some space, or copy the backup"
    )
