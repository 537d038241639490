"""The files of a backup: what stands in its manifest, and how they are written, read back and checked.

``raw.json`` holds the objects as the server returned them, ``cleaned.json`` a List of them as they are made again, in
the order in which that is safe (``kubectl create -f cleaned.json`` works where this program does not). ``SHA256SUMS``
is what ``sha256sum --check`` reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.policy.model import Kind

SCHEMA = 1
MANIFEST, RAW, CLEANED, SUMS = "manifest.json", "raw.json", "cleaned.json", "SHA256SUMS"
FILES = (MANIFEST, RAW, CLEANED)
MAX_BYTES = 512 << 20
_SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z]+\.json)")
_AGAIN = "tune-nodes policy backups"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KindRow(_Strict):
    """A kind that has objects in the backup. ``resource_version``: of the list that they were compared with."""

    group: str
    version: str
    resource: str
    kind: str
    namespaced: bool
    engine: str
    role: str
    resource_version: str

    @classmethod
    def of(cls, kind: Kind, version: str = "") -> Self:
        """Return a kind's row. ``version``: of the list."""
        return cls(**asdict(kind), resource_version=version)


class ObjectRow(_Strict):
    """One object, in the order of the two other files. ``kind``: its place among the kinds."""

    ref: str
    kind: int
    namespace: str
    name: str
    uid: str
    resource_version: str
    wave: str
    raw_sha256: str
    cleaned_sha256: str
    finalizers: list[str]
    owners: list[str]


class Manifest(_Strict):
    """What a backup holds, of which server, and when it was made (UTC)."""

    schema_number: int
    id: str
    made: str
    scope: str
    server: str
    server_version: str
    user: str
    kinds: list[KindRow]
    objects: list[ObjectRow]


def listed(items: list[Any]) -> dict[str, Any]:
    """Return objects as a List, which kubectl takes."""
    return {"apiVersion": "v1", "kind": "List", "items": items}


def text_of(value: Any) -> bytes:
    """Return a document's bytes."""
    return json.dumps(value, indent=1, ensure_ascii=True).encode() + b"\n"


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make a directory (0700) with these files (0600) and their sums: wholly, or not at all.

    Raises:
        UsageError: it cannot be written; nothing by that name is there then.
        TuneError: what was read back is not what was written.
    """
    half = directory.parent / f".{directory.name}.{secrets.token_hex(4)}"  # never taken for a backup
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    try:
        directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        half.mkdir(mode=0o700)
        for name, data in {**files, SUMS: sums.encode()}.items():
            _put(half / name, data)
        _sync(half)
        if read(half) != dict(files):
            raise TuneError(f"the backup in {half.parent} could not be read back", "its bytes are not those written")
        half.rename(directory)
        _sync(directory.parent)
    except OSError as problem:
        step = "free some space, or choose another directory"
        raise UsageError(f"the backup {directory} cannot be written", problem.strerror or "", step) from problem
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(half)


def _put(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(directory: Path) -> dict[str, bytes]:
    """Return a backup's files, each as its sum says. Raises UsageError for one that is missing, cut or changed."""
    sums = dict(_sums(_get(directory / SUMS, directory), directory))
    if set(sums) != set(FILES):
        raise damaged(directory, f"{SUMS} names {', '.join(sorted(sums)) or 'nothing'}")
    files = {}
    for name in FILES:
        files[name] = _get(directory / name, directory)
        if hashlib.sha256(files[name]).hexdigest() != sums[name]:
            raise damaged(directory, f"{name} is not what it was when the backup was made")
    return files


def _sums(data: bytes, directory: Path) -> list[tuple[str, str]]:
    lines = data.decode("utf-8", "replace").splitlines()
    found = [match for line in lines if (match := _SUM.fullmatch(line))]
    if len(found) != len(lines):
        raise damaged(directory, f"{SUMS} is not a list of sums")
    return [(match[2], match[1]) for match in found]


def _get(path: Path, directory: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as problem:
        raise UsageError(f"{directory} is no backup", f"{path.name}: {problem.strerror}", _AGAIN) from problem
    if len(data) > MAX_BYTES:
        raise damaged(directory, f"{path.name} is larger than {MAX_BYTES >> 20} MiB")
    return data


def items(files: Mapping[str, bytes], name: str, directory: Path) -> list[dict[str, Any]]:
    """Return the objects of one of the two lists."""
    try:
        value = json.loads(files[name])
    except (ValueError, RecursionError):
        raise damaged(directory, f"{name} is not JSON") from None
    found = value.get("items") if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise damaged(directory, f"{name} is not a list of objects")
    return found


def manifest(files: Mapping[str, bytes], directory: Path) -> Manifest:
    """Return the manifest. Raises UsageError for one that is damaged or of a later version."""
    try:
        found = Manifest.model_validate_json(files[MANIFEST])
    except ValidationError as problem:
        raise damaged(directory, f"{MANIFEST}: {problem.errors()[0]['msg']}") from problem
    if found.schema_number != SCHEMA:
        raise damaged(directory, f"{MANIFEST} has the schema number {found.schema_number}; this program reads {SCHEMA}")
    if any(not 0 <= row.kind < len(found.kinds) for row in found.objects):
        raise damaged(directory, f"{MANIFEST} refers to a kind that it does not have")
    return found


def damaged(directory: Path, why: str) -> UsageError:
    """Return the error for a backup that must not be used."""
    return UsageError(f"the backup {directory} is damaged", why, _AGAIN)
