# SPDX-License-Identifier: Apache-2.0
"""Where removed things are kept: /var/lib/tune-nodes/removed/NAME, root only.

``artefacts.json`` has each thing word for word with the steps that bring it back, and is durable, with the copies of
files, before the first one goes. ``journal.jsonl`` has a line before and after each.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, Mapping

from ...host import Host
from .. import quarantine
from ..quarantine import Quarantine, Saved
from .model import Artefact

DIRECTORY = "/var/lib/tune-nodes/removed"
KEEP = 20


class Backup(Quarantine):
    """What one run removed on one node."""

    directory, manifest, keep = DIRECTORY, "artefacts.json", KEEP - 1  # and the new one
    noun = "backup"
    absent = (
        "this node has nothing that run %s removed",
        "nothing was removed in it, or its backup is no longer kept",
    )

    def __init__(self, host: Host, run: str) -> None:
        super().__init__(host, run)
        self.artefacts: List[Artefact] = []
        self.files: Dict[str, Saved] = {}

    def listed(self) -> Dict[str, Any]:
        """Return what the manifest lists, as a JSON-able mapping."""
        return {
            "artefacts": [one.to_dict() for one in self.artefacts],
            "files": {path: asdict(saved) for path, saved in self.files.items()},
        }

    def take(self, document: Mapping[str, Any]) -> None:
        """Take what a manifest lists. Raises ValueError, KeyError, TypeError, AttributeError for junk."""
        self.artefacts = [Artefact.from_dict(raw) for raw in document["artefacts"]]
        self.files = {path: Saved(**raw) for path, raw in document["files"].items()}


def names(host: Host) -> List[str]:
    """Return the backups that are kept here, oldest first."""
    return quarantine.runs(host, DIRECTORY)


def kept(host: Host, run: str) -> Backup:
    """Return the backup of a run, loaded; ``latest`` is the newest. Raises NodeError (code ``unknown``)."""
    found = names(host)
    backup = Backup(host, found[-1] if run == "latest" and found else run)
    backup.load()
    return backup
