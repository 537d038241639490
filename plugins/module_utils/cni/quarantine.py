# SPDX-License-Identifier: Apache-2.0
"""Where released leases are kept: /var/lib/tune-nodes/quarantine/RUN, root only, outside of every plugin's tree.

``manifest.json`` names every file with its SHA-256, and is durable, with the copies, before the first lease goes.
``journal.jsonl`` has a line before and after each. Whatever kills the program, the copies are all there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ..errors import NodeError
from ..files import fsync_dir, make_dir, read_bytes, write_atomic, write_error
from ..host import Host
from ..transaction.store import check_id
from .leases import read_file
from .model import Lease

DIRECTORY = "/var/lib/tune-nodes/quarantine"
MANIFEST, JOURNAL = "manifest.json", "journal.jsonl"
KEEP = 20
SCHEMA = 1


@dataclass(frozen=True)
class Saved:
    """A file as it was: where it lay, its copy, and what is needed to put it back as it was."""

    path: str
    file: str
    sha256: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int


@dataclass
class Item:
    """A lease in quarantine, and what else of its sandbox was saved (the cached attachment)."""

    lease: Lease
    saved: Saved
    extras: List[Saved] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "lease": asdict(self.lease),
            "saved": asdict(self.saved),
            "extras": [asdict(one) for one in self.extras],
        }


class Quarantine:
    """One run's quarantine on one node.

    Attributes:
        directory, manifest: where quarantines lie, and the name of the list in each.
        keep: how many older ones stay when one is made.
        noun, absent: what it is called, and (what, why) where this node has none of a run.
    """

    directory, manifest, keep = DIRECTORY, MANIFEST, KEEP
    noun = "quarantine"
    absent = (
        "this node has no leases of run %s in quarantine",
        "nothing was released in it, or the quarantine is no longer kept",
    )

    def __init__(self, host: Host, run: str) -> None:
        self.host = host
        self.run = check_id(run)
        self.dir = host.path(self.directory, self.run)
        self.items: List[Item] = []

    @property
    def shown(self) -> str:
        """Where it is, as a person on the node types it."""
        return os.path.join(self.directory, self.run)

    def create(self) -> None:
        """Make its directory. Raises NodeError: it is there already, or cannot be made."""
        make_dir(self.host.path("/var/lib/tune-nodes"), 0o700)
        make_dir(os.path.dirname(self.dir), 0o700)
        for name in runs(self.host, self.directory)[: -self.keep]:
            shutil.rmtree(self.host.path(self.directory, name), ignore_errors=True)
        if os.path.exists(self.dir):
            what = "this node already has a %s %s" % (self.noun, self.run)
            raise NodeError(what, "", "use a new run id", code="usage")
        make_dir(self.dir, 0o700)

    def save(self, path: str, name: str) -> Optional[Saved]:
        """Copy a file into the quarantine, durable; None where it is gone. Raises NodeError."""
        read = read_file(self.host.path(path))
        if read is None:
            return None
        status = read[1]
        data = read_bytes(self.host.path(path)) if status.st_size > len(read[0]) else read[0]
        if data is None or len(data) != status.st_size:
            return None
        copy = os.path.join(self.dir, name)
        if not os.path.isdir(os.path.dirname(copy)):
            make_dir(os.path.dirname(copy), 0o700)
        try:
            fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise write_error(copy, exc) from exc
        return Saved(
            path,
            name,
            hashlib.sha256(data).hexdigest(),
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_atime_ns,
        )

    def seal(self) -> None:
        """Make copies and manifest durable: only now may anything go. Raises NodeError."""
        for top, _dirs, _files in os.walk(self.dir):
            fsync_dir(top)
        document = {
            "schema": SCHEMA,
            "run": self.run,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "boot_id": self.host.boot_id,
            **self.listed(),
        }
        write_atomic(os.path.join(self.dir, self.manifest), json.dumps(document, indent=1).encode("utf-8"), 0o600)

    def listed(self) -> Dict[str, Any]:
        """Return what the manifest lists, as a JSON-able mapping."""
        return {"items": [item.to_dict() for item in self.items]}

    def take(self, document: Mapping[str, Any]) -> None:
        """Take what a manifest lists. Raises ValueError, KeyError, TypeError, AttributeError for junk."""
        self.items = [_item(raw) for raw in document["items"]]

    def note(self, **line: Any) -> None:
        """Append a line to the journal; the page cache outlives this process, and the copies outlive a power cut."""
        data = (json.dumps(line, sort_keys=True) + "\n").encode("utf-8")
        path = os.path.join(self.dir, JOURNAL)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as exc:
            raise write_error(path, exc) from exc

    def load(self) -> None:
        """Read the manifest.

        Raises:
            NodeError: code ``unknown``: this node has none of this run; ``failed``: it is not whole.
        """
        data = read_bytes(os.path.join(self.dir, self.manifest), 64 << 20)
        if data is None:
            what, why = self.absent
            raise NodeError(what % self.run, why, "see: tune-nodes history --verb recover", code="unknown")
        try:
            self.take(json.loads(data.decode("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise NodeError("the manifest of run %s is not whole" % self.run, str(exc)[:200]) from exc

    def content(self, saved: Saved) -> bytes:
        """Return a saved file's content. Raises NodeError where it is not what the manifest says."""
        data = read_bytes(os.path.join(self.dir, saved.file))
        if data is None or hashlib.sha256(data).hexdigest() != saved.sha256:
            raise NodeError("a file in quarantine is not what it was", "%s/%s" % (self.shown, saved.file))
        return data


def _item(raw: Mapping[str, Any]) -> Item:
    lease = Lease.from_dict(raw["lease"])
    if lease is None:
        raise ValueError("an entry is no lease")
    return Item(lease, Saved(**raw["saved"]), [Saved(**one) for one in raw["extras"]])


def runs(host: Host, directory: str = DIRECTORY) -> List[str]:
    """Return the runs of which something is kept in a directory, oldest first."""
    base = host.path(directory)
    try:
        names = [name for name in os.listdir(base) if os.path.isdir(os.path.join(base, name))]
    except OSError:
        return []
    return sorted(names, key=lambda name: os.stat(os.path.join(base, name)).st_mtime_ns)
