"""What the shell completes beyond options: names of inventories, profiles and runs."""

from __future__ import annotations

import os
from pathlib import Path

from tune_nodes.errors import TuneError
from tune_nodes.fleet.inventory import known_inventories
from tune_nodes.profiles import load
from tune_nodes.runs.store import RunStore, default_state_dir


def _starting(words: list[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def inventories(incomplete: str) -> list[str]:
    """Return the inventories below ./inventories."""
    return _starting(known_inventories(), incomplete)


def profiles(incomplete: str) -> list[str]:
    """Return the names of the profiles that are found from here."""
    try:
        return _starting(sorted({found.name for found in load.available()}), incomplete)
    except TuneError:
        return []


def runs(incomplete: str) -> list[str]:
    """Return run ids, newest first, and ``latest``."""
    root = Path(os.environ.get("TUNE_NODES_STATE_DIR") or default_state_dir())
    if not (root / "index.sqlite3").exists():
        return []
    try:
        return _starting(["latest", *(run.id for run in RunStore(root).history(50))], incomplete)
    except TuneError:
        return []
