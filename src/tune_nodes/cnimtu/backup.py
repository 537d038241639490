"""Objects as they were before they were changed: one file for each change, checked by its hash when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cnimtu.model import Held
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.runs.atomic import write_atomic

SCHEMA = 1
NAME = "backup.json"


@dataclass(frozen=True)
class Saved:
    """One object before its change, and the merge patch that changed it."""

    held: Held
    patch: Mapping[str, Any]

    @property
    def undo(self) -> dict[str, Any]:
        """The merge patch that takes the change back, and nothing else."""
        return inverse(self.patch, self.held.raw)


@dataclass(frozen=True)
class Backup:
    """What one change had saved: of which server, which CNI, and the objects."""

    path: Path
    server: str
    cni: str
    saved: tuple[Saved, ...]


def leaves(patch: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and value of each field that a merge patch sets, None for one that it takes away."""
    for key, value in patch.items():
        if isinstance(value, Mapping):
            for path, inner in leaves(value):
                yield (key, *path), inner
        else:
            yield (key,), value


def inverse(patch: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that gives every field of ``patch`` the value it has in ``raw``."""
    return {
        key: inverse(value, inner if isinstance(inner := raw.get(key), Mapping) else {})
        if isinstance(value, Mapping)
        else raw.get(key)
        for key, value in patch.items()
    }


def digest(raw: Mapping[str, Any]) -> str:
    """Return the hash of an object as it was read."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def write(directory: Path, server: str, cni: str, saved: Sequence[Saved]) -> Backup:
    """Store objects, and read them back. The file is for its owner only: a ConfigMap may hold WireGuard's key.

    Raises:
        TuneError: it cannot be written, or does not read as it was written; nothing was changed.
    """
    path = directory / NAME
    document = {
        "schema": SCHEMA,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": server,
        "cni": cni,
        "objects": [
            {
                "call": {name: getattr(one.held.call, name) for name in _CALL},
                "kind": one.held.kind,
                "object": one.held.raw,
                "sha256": digest(one.held.raw),
                "patch": one.patch,
            }
            for one in saved
        ],
    }
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, json.dumps(document, indent=1) + "\n")
    except OSError as problem:
        raise TuneError(
            f"the backup {path} cannot be written", problem.strerror or str(problem), "nothing was changed"
        ) from problem
    return load(path)


_CALL = ("verb", "resource", "group", "namespace", "name", "version")


def load(path: Path) -> Backup:
    """Read a backup. Raises UsageError where it is none, or is not what was written."""
    file = path / NAME if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        saved = tuple(
            Saved(Held(Call(**{name: row["call"][name] for name in _CALL}), row["kind"], row["object"]), row["patch"])
            for row in document["objects"]
        )
        whole = document["schema"] == SCHEMA and all(
            digest(row["object"]) == row["sha256"] for row in document["objects"]
        )
        found = Backup(file, str(document["server"]), str(document["cni"]), saved)
    except OSError as problem:
        raise UsageError(f"the backup {file} cannot be read", problem.strerror or str(problem)) from problem
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise UsageError(f"{file} is not a backup of the CNI's MTU", type(problem).__name__) from problem
    if not whole:
        raise UsageError(f"the backup {file} was changed", "an object in it is not the one that was saved")
    return found
