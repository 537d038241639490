# SPDX-License-Identifier: Apache-2.0
"""Where removed things are kept: /var/lib/tune-nodes/removed/NAME, root only.

``artefacts.json`` has each thing word for word with the steps that bring it back, and is durable, with the copies of
files, before the first one goes. ``journal.jsonl`` has a line before and after each.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict
from typing import Any, Dict, List, Mapping

from ...errors import NodeError
from ...files import fsync_dir, make_dir, read_bytes, write_atomic
from ...host import Host
from ..quarantine import Quarantine, Saved
from .model import Artefact

DIRECTORY = "/var/lib/tune-nodes/removed"
MANIFEST = "artefacts.json"
KEEP = 20
SCHEMA = 1


class Backup(Quarantine):
    """What one run removed on one node."""

    def __init__(self, host: Host, run: str) -> None:
        super().__init__(host, run)
        self.dir = host.path(DIRECTORY, self.run)
        self.artefacts: List[Artefact] = []
        self.files: Dict[str, Saved] = {}

    @property
    def shown(self) -> str:
        """Where it is, as a person on the node types it."""
        return os.path.join(DIRECTORY, self.run)

    def create(self) -> None:
        """Make its directory. Raises NodeError: it is there already, or cannot be made."""
        make_dir(self.host.path("/var/lib/tune-nodes"), 0o700)
        make_dir(os.path.dirname(self.dir), 0o700)
        for name in names(self.host)[: -(KEEP - 1)]:
            shutil.rmtree(self.host.path(DIRECTORY, name), ignore_errors=True)
        if os.path.exists(self.dir):
            raise NodeError("this node already has a backup %s" % self.run, "", "use a new run id", code="usage")
        make_dir(self.dir, 0o700)

    def seal(self) -> None:
        """Make copies and manifest durable: only now may anything go. Raises NodeError."""
        for top, _dirs, _files in os.walk(self.dir):
            fsync_dir(top)
        document = {
            "schema": SCHEMA,
            "run": self.run,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "boot_id": self.host.boot_id,
            "artefacts": [one.to_dict() for one in self.artefacts],
            "files": {path: asdict(saved) for path, saved in self.files.items()},
        }
        write_atomic(os.path.join(self.dir, MANIFEST), json.dumps(document, indent=1).encode("utf-8"), 0o600)

    def load(self) -> None:
        """Read the manifest.

        Raises:
            NodeError: code ``unknown``: this node has none of this run; ``failed``: it is not whole.
        """
        data = read_bytes(os.path.join(self.dir, MANIFEST), 64 << 20)
        if data is None:
            raise NodeError(
                "this node has nothing that run %s removed" % self.run,
                "nothing was removed in it, or its backup is no longer kept",
                "see: tune-nodes history --verb recover",
                code="unknown",
            )
        try:
            document = json.loads(data.decode("utf-8"))
            self.artefacts = [Artefact.from_dict(raw) for raw in document["artefacts"]]
            self.files = {path: _saved(raw) for path, raw in document["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise NodeError("the manifest of run %s is not whole" % self.run, str(exc)[:200]) from exc


def _saved(raw: Mapping[str, Any]) -> Saved:
    return Saved(**raw)


def names(host: Host) -> List[str]:
    """Return the backups that are kept here, oldest first."""
    base = host.path(DIRECTORY)
    try:
        found = [name for name in os.listdir(base) if os.path.isdir(os.path.join(base, name))]
    except OSError:
        return []
    return sorted(found, key=lambda name: os.stat(os.path.join(base, name)).st_mtime_ns)


def kept(host: Host, run: str) -> Backup:
    """Return the backup of a run, loaded; ``latest`` is the newest. Raises NodeError (code ``unknown``)."""
    found = names(host)
    backup = Backup(host, found[-1] if run == "latest" and found else run)
    backup.load()
    return backup
