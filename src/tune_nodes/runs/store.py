"""Where runs are kept: ``runs/<id>/run.json`` for each, an event journal beside it, and an SQLite index over all.

``run.json`` is rewritten atomically after each wave; ``events.jsonl`` gets a line the moment a node answers. A run
holds a lock on its directory's ``lock`` file for as long as its process lives, so a run that was killed is told from
one that is still going on by trying that lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import NodeRecord, Outcome, RunRecord

RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
#: Bytes that must be free before a run may start: more than the largest run.json of a thousand nodes.
ROOM = 16 << 20

_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, verb TEXT NOT NULL, profile TEXT NOT NULL, inventory TEXT NOT NULL,
    started TEXT NOT NULL, finished TEXT, exit_code INTEGER, outcomes TEXT NOT NULL, stopped TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
    name TEXT NOT NULL, machine_id TEXT NOT NULL, run TEXT NOT NULL, since TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (name, machine_id)
);
"""


def new_run_id(now: datetime | None = None) -> str:
    """Return a run id: UTC time and six random hex digits."""
    return f"{(now or datetime.now(UTC)):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def default_state_dir() -> Path:
    """Return the directory used where neither option nor TUNE_NODES_STATE_DIR names one."""
    return platformdirs.user_state_path("tune-nodes")


@dataclass(frozen=True)
class Summary:
    """One line of the history."""

    id: str
    verb: str
    profile: str
    inventory: list[str]
    started: datetime
    finished: datetime | None
    exit_code: int | None
    outcomes: dict[str, int]
    stopped: str
    state: str  # running | finished | interrupted


@dataclass(frozen=True)
class Quarantined:
    """A node that reverted, left out of runs until it is cleared."""

    name: str
    machine_id: str
    run: str
    since: datetime
    reason: str

    def covers(self, name: str, machine_id: str) -> bool:
        """Say whether this entry is about that node; the machine's identity counts where both sides know it."""
        if self.machine_id and machine_id:
            return self.machine_id == machine_id
        return self.name == name


def _summary(row: sqlite3.Row, state: str) -> Summary:
    return Summary(
        id=row["id"],
        verb=row["verb"],
        profile=row["profile"],
        inventory=json.loads(row["inventory"]),
        started=datetime.fromisoformat(row["started"]),
        finished=datetime.fromisoformat(row["finished"]) if row["finished"] else None,
        exit_code=row["exit_code"],
        outcomes=json.loads(row["outcomes"]),
        stopped=row["stopped"],
        state=state,
    )


class RunStore:
    """The state directory. Made with :meth:`open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.index = root / "index.sqlite3"

    @classmethod
    def open(cls, root: Path | None = None) -> RunStore:
        """Open (and make) the state directory.

        Raises:
            UsageError: it cannot be made, read or written.
        """
        store = cls(root or default_state_dir())
        try:
            store.runs.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = not store.index.exists()
            with store._database() as database:
                database.executescript(_TABLES)
            if fresh:
                store._reindex()
        except OSError as problem:
            raise _unusable(store.root, problem) from problem
        return store

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Open the index for one transaction. Raises UsageError where that is not possible."""
        try:
            database = sqlite3.connect(self.index, timeout=10)
            try:
                database.row_factory = sqlite3.Row
                database.execute("PRAGMA journal_mode=WAL")
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.Error as problem:
            raise _unusable(self.root, problem) from problem

    def _reindex(self) -> None:
        for path in sorted(self.runs.glob("*/run.json")):
            with contextlib.suppress(TuneError):
                self._put(self._read(path))

    def check_room(self) -> None:
        """Prove that a run can be recorded. Raises UsageError; nothing was touched."""
        try:
            stat = os.statvfs(self.root)
            free = stat.f_bavail * stat.f_frsize
            if free < ROOM:
                raise OSError(errno.ENOSPC, f"{free >> 20} MiB free, {ROOM >> 20} MiB needed")
            write_atomic(self.root / ".writable", "")
            (self.root / ".writable").unlink()
        except OSError as problem:
            raise _unusable(self.root, problem) from problem

    def begin(self, record: RunRecord) -> RunHandle:
        """Record a new run and hold its lock. Raises UsageError: nothing was touched."""
        self.check_room()
        directory = self.runs / record.id
        try:
            directory.mkdir(mode=0o700)
            handle = RunHandle(self, record, directory)
        except OSError as problem:
            raise _unusable(self.root, problem) from problem
        handle.save()
        return handle

    def _put(self, record: RunRecord) -> None:
        outcomes = {str(o): n for o in Outcome if (n := record.count(o))}
        row = (
            record.id,
            record.verb,
            record.profile,
            json.dumps(record.inventory),
            record.started.isoformat(),
            record.finished.isoformat() if record.finished else None,
            record.exit_code,
            json.dumps(outcomes),
            record.stopped,
        )
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?,?)", row)

    # -- reading -----------------------------------------------------------------------------------------------

    def state(self, run_id: str, finished: bool) -> str:
        """Return ``finished``, ``running``, or ``interrupted`` (its process is gone)."""
        if finished:
            return "finished"
        try:
            descriptor = os.open(self.runs / run_id / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return "interrupted"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        finally:
            os.close(descriptor)
        return "interrupted"

    def over(self, run_id: str) -> bool:
        """Say whether a run of this store has ended, in whatever way; False for a run that is not known here."""
        known = RUN_ID.fullmatch(run_id) is not None and (self.runs / run_id).is_dir()
        return known and self.state(run_id, finished=False) != "running"

    def history(self, limit: int = 20, verb: str = "") -> list[Summary]:
        """Return the newest runs first."""
        query = "SELECT * FROM runs WHERE ? IN ('', verb) ORDER BY started DESC, id DESC LIMIT ?"
        with self._database() as database:
            rows = database.execute(query, (verb, limit)).fetchall()
        return [_summary(row, self.state(row["id"], row["finished"] is not None)) for row in rows]

    def resolve(self, reference: str, verb: str = "") -> str:
        """Return the id a person means: an id, the start or end of one, or ``latest``.

        A transaction's id counts too: nodes know that of a run's second round as RUN-2.

        Raises:
            UsageError: none or several fit.
        """
        runs = self.history(limit=-1, verb=verb)
        kind = f"{verb} run" if verb else "run"
        if reference in ("", "latest", "last"):
            if not runs:
                raise UsageError(f"there is no {kind} yet in {self.root}", next="tune-nodes history")
            return runs[0].id
        found = [run.id for run in runs if reference in (run.id, f"{run.id}-2")]
        found = found or [run.id for run in runs if run.id.startswith(reference) or run.id.endswith(reference)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{reference!r} fits {len(found)} runs", ", ".join(found[:5]), "give more of the id")
        raise UsageError(f"there is no {kind} {reference[:80]!r} in {self.root}", next="tune-nodes history")

    def load(self, run_id: str) -> RunRecord:
        """Return a run; of an interrupted one also what its journal knows beyond run.json.

        Raises:
            UsageError: no such run, or its file is damaged.
        """
        if not RUN_ID.fullmatch(run_id):
            raise UsageError(f"{run_id[:80]!r} is not a run id", next="tune-nodes history")
        record = self._read(self.runs / run_id / "run.json")
        if record.finished is None:
            for node in self._journalled(run_id):
                record.nodes[node.name] = node
        return record

    def _read(self, path: Path) -> RunRecord:
        try:
            return RunRecord.model_validate_json(path.read_bytes())
        except OSError as problem:
            raise UsageError(f"cannot read {path}", problem.strerror or "", "tune-nodes history") from problem
        except ValidationError as problem:
            why = f"{problem.error_count()} errors, first: {problem.errors()[0]['msg']}"
            raise UsageError(f"{path} is damaged or of another version", why, "tune-nodes history") from problem

    def _journalled(self, run_id: str) -> Iterator[NodeRecord]:
        try:
            text = (self.runs / run_id / "events.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be cut off
                raw = json.loads(line)
                if raw["event"] == "node":
                    yield NodeRecord.model_validate(raw["record"])

    # -- quarantine --------------------------------------------------------------------------------------------

    def quarantined(self) -> list[Quarantined]:
        """Return the quarantined nodes by name."""
        with self._database() as database:
            rows = database.execute("SELECT * FROM quarantine ORDER BY name").fetchall()
        return [
            Quarantined(r["name"], r["machine_id"], r["run"], datetime.fromisoformat(r["since"]), r["reason"])
            for r in rows
        ]

    def quarantine(self, name: str, machine_id: str, run: str, reason: str) -> None:
        """Leave a node out of later runs."""
        row = (name, machine_id, run, datetime.now(UTC).isoformat(), reason)
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO quarantine VALUES (?,?,?,?,?)", row)

    def clear_quarantine(self, names: list[str]) -> list[str]:
        """Let nodes take part again (all where none is named); return their names."""
        with self._database() as database:
            rows = database.execute("SELECT DISTINCT name FROM quarantine ORDER BY name").fetchall()
            held = [row["name"] for row in rows]
            cleared = [name for name in held if not names or name in names]
            database.executemany("DELETE FROM quarantine WHERE name = ?", [(name,) for name in cleared])
        return cleared


class RunHandle:
    """A run in progress: its record, its lock, its journal."""

    def __init__(self, store: RunStore, record: RunRecord, directory: Path) -> None:
        self.store = store
        self.record = record
        self.directory = directory
        flags = os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(directory / "lock", os.O_RDWR | flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._journal = os.open(directory / "events.jsonl", os.O_WRONLY | os.O_APPEND | flags, 0o600)

    def save(self) -> None:
        """Write the record. Raises UsageError where the state directory cannot take it."""
        text = self.record.model_dump_json(by_alias=True, indent=1)
        try:
            write_atomic(self.directory / "run.json", text + "\n")
        except OSError as problem:
            raise _unusable(self.store.root, problem) from problem
        self.store._put(self.record)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to the journal, in one write."""
        row = {"at": datetime.now(UTC).isoformat(), "event": kind, **fields}
        try:
            os.write(self._journal, json.dumps(row, separators=(",", ":")).encode() + b"\n")
        except OSError as problem:
            raise _unusable(self.store.root, problem) from problem

    def node(self, record: NodeRecord) -> None:
        """Take a node's record into the run and journal it."""
        self.record.nodes[record.name] = record
        self.event("node", record=record.model_dump(mode="json"))

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self.record.finished = datetime.now(UTC)
        self.record.exit_code = exit_code
        self.event("finished", exit_code=exit_code)
        self.save()
        self.close()

    def close(self) -> None:
        """Let go of lock and journal; a run that was not finished then counts as interrupted."""
        for descriptor in (self._lock, self._journal):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _unusable(root: Path, problem: Exception) -> UsageError:
    number = getattr(problem, "errno", None)
    text = str(problem)
    why = getattr(problem, "strerror", None) or text
    step = "choose another with --state-dir or TUNE_NODES_STATE_DIR"
    if number == errno.ENOSPC or "full" in text:
        step = f"free some space on the file system of {root}, or {step}"
    return UsageError(f"the state directory {root} cannot be used", why, step)
