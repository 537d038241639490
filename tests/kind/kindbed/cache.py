"""The cache: what was built lies in a directory named by all that it was made from, complete or not there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from kindbed.command import say

_UNFINISHED = ".building-"


def cache_root(env: dict[str, str] | None = None) -> Path:
    """Return $TUNE_NODES_TEST_CACHE, or tune-nodes-test in the user's cache directory."""
    values = dict(os.environ) if env is None else env
    if named := values.get("TUNE_NODES_TEST_CACHE"):
        return Path(named)
    base = values.get("XDG_CACHE_HOME") or str(Path(values.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "tune-nodes-test"


def key(*parts: str | bytes | Path) -> str:
    """Return 16 hex digits for what an artefact is made from: texts, and files or directories by content."""
    digest = hashlib.sha256()
    for part in parts:
        for name, content in _contents(part):
            for field in (name.encode(), content):
                digest.update(len(field).to_bytes(8, "big") + field)
    return digest.hexdigest()[:16]


def _contents(part: str | bytes | Path) -> Iterator[tuple[str, bytes]]:
    if isinstance(part, bytes):
        yield "", part
    elif isinstance(part, str):
        yield "", part.encode()
    elif part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(part)), path.read_bytes()
    else:
        yield part.name, part.read_bytes()


class Cache:
    """Artefacts below one directory.

    Attributes:
        root: the directory; made on first use.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_root()) / "kind"
        self._building: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)

    def path(self, name: str, key: str) -> Path:
        """Return where an artefact lies once it is built."""
        return self.root / f"{name}-{key}"

    def artefact(self, name: str, key: str, what: str, build: Callable[[Path], None]) -> Path:
        """Return an artefact's directory, built now where it is absent.

        Args:
            name: of the artefact.
            key: of all that it is made from.
            what: for the progress line.
            build: fills an empty directory. It becomes the artefact only when this returns.
        """
        path = self.path(name, key)
        with self._building[path]:  # another thread may be at it
            if not path.is_dir():
                self._build(name, path, what, build)
        return path

    def _build(self, name: str, path: Path, what: str, build: Callable[[Path], None]) -> None:
        say(f"building {what}")
        self.root.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{name}-", dir=self.root))
        try:
            build(fresh)
            fresh.rename(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # it became the artefact, or the next lock() removes what is left

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time build, bring up or take down. What a killed one left half made is removed."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another process is building or bringing up a cluster: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            for left in self.root.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left, ignore_errors=True)  # a compiler of the killed one may still be writing
            yield
