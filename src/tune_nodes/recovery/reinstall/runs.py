"""What a reinstall has done so far, by its journal: so that a second one finishes it, or undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_nodes.cluster.objects import mappings, text, texts
from tune_nodes.errors import UsageError
from tune_nodes.policy.keeping import journal
from tune_nodes.recovery.reinstall.parts import Key
from tune_nodes.recovery.reinstall.record import LATEST, find, kept
from tune_nodes.runs.store import default_state_dir

NEXT = "tune-nodes recover reinstall --check"


@dataclass
class Progress:
    """One direction of a run: there, or back.

    Args:
        rolling: DaemonSet to mode and to the pods that were there, node to uid.
        nodes: those that are done.
        rolled: DaemonSets that are done.
        ended: whether all is done.
    """

    rolling: dict[Key, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)
    rolled: set[Key] = field(default_factory=set)
    ended: bool = False


@dataclass
class Run:
    """One reinstall as its journal tells it.

    Args:
        directory: of the backup that it made, and its journal.
        record: the id of what is put back.
        server: of which cluster.
        roll: the DaemonSets that it was to start anew.
        absent: the objects that were not there before.
        wrote: object to the sum of it as it was after the last write, "" where that was not noted any more.
        there: what was done.
        back: what was undone.
        undoing: whether an undo was begun.
    """

    directory: Path
    record: str
    server: str
    roll: tuple[Key, ...] = ()
    absent: frozenset[Key] = frozenset()
    wrote: dict[Key, str] = field(default_factory=dict)
    there: Progress = field(default_factory=Progress)
    back: Progress = field(default_factory=Progress)
    undoing: bool = False

    @property
    def id(self) -> str:
        """The run's id."""
        return self.directory.name


def home(state: Path | None = None) -> Path:
    """Return the directory that reinstalls keep their backups and journals in."""
    return (state or default_state_dir()) / "cni-reinstalls"


def row_of(key: Key) -> dict[str, str]:
    """Return an object's name as it stands in a journal."""
    return {"api_version": key.api_version, "kind": key.kind, "namespace": key.namespace, "name": key.name}


def _key(row: Any) -> Key:
    return Key(*(text(row, name, limit=400) for name in ("api_version", "kind", "namespace", "name")))


def load(directory: Path) -> Run | None:
    """Return a run by its journal; None where it never began to write."""
    events = journal.read(directory)
    first = next((one for one in events if one.get("event") == "begin"), None)
    if first is None:
        return None
    run = Run(
        directory,
        text(first, "record", limit=80),
        text(first, "server", limit=300),
        tuple(_key(row) for row in mappings(first, "roll")),
        frozenset(_key(row) for row in mappings(first, "absent")),
    )
    for one in events:
        _take(run, one)
    return run


def _take(run: Run, one: Mapping[str, Any]) -> None:
    event, part = str(one.get("event", "")), run.back if one.get("undo") is True else run.there
    key = _key(one.get("object"))
    if event == "writing":
        run.wrote[key] = ""
    elif event == "wrote":
        run.wrote[key] = text(one, "sha256", limit=64)
    elif event == "rolling":
        part.rolling[key] = (text(one, "mode", limit=20), texts(one, "pods"))
    elif event == "node":
        part.nodes.add(text(one, "node"))
    elif event == "rolled":
        part.rolled.add(key)
    elif event == "done":
        part.ended = True
    elif event == "undo":
        run.undoing = True


def begin_fields(record: str, server: str, roll: Sequence[Key], absent: Sequence[Key]) -> dict[str, Any]:
    """Return the fields of a journal's first line."""
    return {
        "record": record,
        "server": server,
        "roll": [row_of(key) for key in roll],
        "absent": [row_of(key) for key in absent],
    }


def known(directory: Path) -> Iterator[Run]:
    """Yield the runs that began to write, the newest first."""
    for path in kept(directory):
        run = load(path)
        if run is not None:
            yield run


def unfinished(directory: Path, server: str) -> Run | None:
    """Return the newest run on this cluster, if it ended half-way; None where all is done or undone."""
    run = next((one for one in known(directory) if one.server == server), None)
    if run is None or run.back.ended or (run.there.ended and not run.undoing):
        return None
    return run


def named(directory: Path, reference: str) -> Run:
    """Return the run that a person means. Raises UsageError."""
    if reference in LATEST:  # a directory may be there of a run that ended before it wrote
        run = next(known(directory), None)
        if run is None:
            raise UsageError("there is no reinstall to take back", "", NEXT)
        return run
    path = find(directory, reference, "reinstall", NEXT)
    run = load(path)
    if run is None:
        raise UsageError(f"{path} is no reinstall", "it wrote nothing, or its journal is gone", NEXT)
    return run
