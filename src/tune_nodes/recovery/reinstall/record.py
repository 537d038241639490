"""Records of a CNI on disk: written whole, read back, and checked by their sums each time they are read.

``cleaned.json`` is a List that ``kubectl apply --server-side -f`` takes where this program is not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping import document
from tune_nodes.policy.keeping.clean import digest
from tune_nodes.policy.keeping.document import CLEANED, MANIFEST, RAW
from tune_nodes.recovery.reinstall.parts import Key, Part
from tune_nodes.runs.store import RUN_ID, default_state_dir, new_run_id

SCHEMA = 1
NEXT = "tune-nodes recover records"
CLUSTER = "cluster"
#: Words for the newest.
LATEST = ("", "latest", "last")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectRow(_Strict):
    """One object, in the order of the two other files."""

    api_version: str
    kind: str
    namespace: str
    name: str
    raw_sha256: str
    cleaned_sha256: str


class ImageRow(_Strict):
    """An image by its name, and the digest that nodes ran it by; "" where that is not known."""

    image: str
    digest: str


class HelmRow(_Strict):
    """A Helm release that objects belong to, as their annotations and labels say; ``chart``: with its version."""

    name: str
    namespace: str
    chart: str


class Facts(_Strict):
    """What is known of a record beside its objects.

    ``source``: "cluster", or "files: " and their names; ``left``: a sentence for each thing that is not in it.
    """

    source: str
    server: str
    server_version: str
    cni: list[str]
    images: list[ImageRow]
    helm: list[HelmRow]
    left: list[str]


class Manifest(_Strict):
    """What a record holds, and when it was made (UTC)."""

    schema_number: int
    id: str
    made: str
    facts: Facts
    objects: list[ObjectRow]


@dataclass(frozen=True)
class Record:
    """A record as it lies on disk; its parts in the order in which they are made."""

    directory: Path
    manifest: Manifest
    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """The record's id."""
        return self.manifest.id

    @property
    def is_of_cluster(self) -> bool:
        """Whether it was read from a cluster, so that its objects hold every field, also those filled in."""
        return self.manifest.facts.source == CLUSTER

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record and prove it whole. Raises UsageError for one that is damaged, half written or not one."""
        try:
            files = document.read(path)
            raws, bodies = (document.items(files, name, path) for name in (RAW, CLEANED))
            manifest = Manifest.model_validate_json(files[MANIFEST])
        except UsageError as problem:
            raise UsageError(f"{one_line(str(path), 200)} is no whole record", problem.why, NEXT) from problem
        except ValidationError as problem:
            raise UsageError(f"{one_line(str(path), 200)} is no record", problem.errors()[0]["msg"], NEXT) from problem
        if manifest.schema_number != SCHEMA or not len(raws) == len(bodies) == len(manifest.objects):
            raise UsageError(f"{path} is no whole record", "its files do not belong together", NEXT)
        parts = []
        for row, raw, body in zip(manifest.objects, raws, bodies, strict=True):
            key = Key(row.api_version, row.kind, row.namespace, row.name)
            if (digest(raw), digest(body)) != (row.raw_sha256, row.cleaned_sha256):
                raise UsageError(f"the record {path} was changed", f"{key} is not what was recorded", NEXT)
            if _named(body) != key:
                raise UsageError(f"the record {path} was changed", f"its list says {key}, the object another", NEXT)
            parts.append(Part(key, body, raw))
        return cls(path, manifest, tuple(parts))


def _named(body: Mapping[str, Any]) -> Key:
    metadata = body.get("metadata")
    inside = metadata if isinstance(metadata, dict) else {}
    said = (body.get("apiVersion"), body.get("kind"), inside.get("namespace", ""), inside.get("name"))
    return Key(*(one if isinstance(one, str) else "" for one in said))


def home(state: Path | None = None) -> Path:
    """Return the directory that records are kept in."""
    return (state or default_state_dir()) / "cni-records"


def write(directory: Path, parts: Sequence[Part], facts: Facts) -> Record:
    """Write a record to ``directory/ID`` (0700, files 0600), and read it back.

    Raises:
        UsageError: the directory cannot be written.
        TuneError: what was read back is something else.
    """
    id = new_run_id()
    manifest = Manifest(
        schema_number=SCHEMA,
        id=id,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=facts,
        objects=[_row(part) for part in parts],
    )
    files = {
        MANIFEST: manifest.model_dump_json(indent=1).encode() + b"\n",
        RAW: document.text_of(document.listed([dict(one.raw) for one in parts])),
        CLEANED: document.text_of(document.listed([dict(one.body) for one in parts])),
    }
    document.write(directory / id, files)
    made = Record.load(directory / id)
    if [one.body for one in made.parts] != [one.body for one in parts]:
        raise TuneError(f"{made.directory} holds something else than was written", "", "do not rely on it")
    return made


def _row(part: Part) -> ObjectRow:
    fields: dict[str, Any] = vars(part.key)
    return ObjectRow(**fields, raw_sha256=digest(part.raw), cleaned_sha256=digest(part.body))


def kept(directory: Path) -> list[Path]:
    """Return the directories of the records that are kept here, the newest first."""
    return sorted((path for path in directory.glob("*") if RUN_ID.fullmatch(path.name)), reverse=True)


def chosen(directory: Path, reference: str, server: str) -> Record:
    """Return the record that a person means; ``latest`` is that of this cluster. Raises UsageError."""
    return newest_of(directory, server) if reference in LATEST else Record.load(find(directory, reference))


def newest_of(directory: Path, server: str) -> Record:
    """Return the newest record of a cluster: that of another one must not be taken by mistake.

    Raises:
        UsageError: there is none; the newest is damaged.
    """
    there = kept(directory)
    for path in there:
        found = Record.load(path)
        if found.manifest.facts.server == server:
            return found
    why = f"the {len(there)} records here are of other clusters, or of other addresses of it" if there else ""
    raise UsageError(f"there is no record of {one_line(server)}", why, f"{NEXT}; one that fits: by its id")


def find(directory: Path, reference: str, what: str = "record", next: str = NEXT) -> Path:
    """Return the directory that a person means: a path, an id, the start or end of one, or ``latest``.

    Raises:
        UsageError: none or several fit.
    """
    if "/" in reference or reference in (".", ".."):
        return Path(reference)
    names = [path.name for path in kept(directory)]
    if reference in LATEST and names:
        return directory / names[0]
    found = [name for name in names if name == reference] or [
        name for name in names if reference and (name.startswith(reference) or name.endswith(reference))
    ]
    if len(found) != 1:
        why = f"{len(found)} fit: {', '.join(found[:5])}" if found else ""
        raise UsageError(f"there is no {'single ' if found else ''}{what} {one_line(reference, 80)!r}", why, next)
    return directory / found[0]
