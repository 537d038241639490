"""An evidence archive as it came from a node: read with limits, never unpacked. Nothing in it is trusted."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tune_nodes.fleet.untrusted import clean, one_line

#: Bytes of all members, and of one that are shown; members.
ALL, SHOWN, MEMBERS = 64 << 20, 24 << 10, 2000
_PREFIX = "evidence/"
_INDEX = "index.json"
#: Heading and the beginnings of names, in the order of the page.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Links, addresses, routes", ("ip-", "ip6-", "bridge", "tc-", "files/proc/net")),
    ("Packet filters", ("nft", "iptables", "ip6tables", "ipset", "bpftool", "conntrack")),
    ("Pods and containers", ("crictl", "ctr")),
    ("CNI: configurations, leases, plugins", ("files/", "listing")),
    ("Logs", ("kubelet", "containerd", "k3s", "kernel", "agents/")),
)
_REST = "Other"


@dataclass(frozen=True)
class Entry:
    """One file of the archive. ``text``: its beginning; ``more``: there is more of it."""

    name: str
    asked: str
    size: str
    text: str = ""
    more: bool = False


@dataclass(frozen=True)
class Group:
    """Entries of one subject."""

    title: str
    rows: tuple[Entry, ...]


@dataclass(frozen=True)
class Archive:
    """What an archive holds. ``missing``: name and why; ``trouble``: why it could not be read to its end."""

    name: str
    sha256: str
    groups: tuple[Group, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    trouble: str = ""


def read(path: Path) -> Archive:
    """Read an archive. Raises OSError where the file itself cannot be read; what is broken in it stands in trouble."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    texts: dict[str, tuple[str, bool]] = {}
    index: Mapping[str, Any] = {}
    trouble = ""
    try:
        for name, data, size in _members(path):
            if name == _INDEX:
                index = _json(data)
            else:
                texts[name] = (clean(data[:SHOWN].decode("utf-8", "replace"), SHOWN), size > SHOWN)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as problem:
        trouble = one_line(str(problem), 150) or "it is broken"
    rows = index.get("files")
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    about = {_text(row, "name"): row for row in known[:MEMBERS]}
    missing = tuple((name, _text(row, "missing")) for name, row in about.items() if name and "missing" in row)
    entries = [_entry(name, text, more, about.get(name, {})) for name, (text, more) in sorted(texts.items())]
    return Archive(path.name, digest, tuple(_grouped(entries)), missing, trouble)


def _members(path: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield name, beginning and size of the plain files. The index is read whole."""
    total = 0
    with tarfile.open(path, "r|gz") as tar:  # a stream: nothing is sought, so nothing is read twice
        for number, member in enumerate(tar):
            total += member.size
            if number >= MEMBERS or total > ALL:
                raise ValueError("it holds more than evidence does")
            stream: IO[bytes] | None = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                continue
            name = one_line(member.name, 300).removeprefix(_PREFIX)
            yield name, stream.read(4 << 20 if name == _INDEX else SHOWN + 4), member.size


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(row: Mapping[str, Any], key: str) -> str:
    found = row.get(key)
    return one_line(found, 300) if isinstance(found, str) else ""


def _entry(name: str, text: str, more: bool, row: Mapping[str, Any]) -> Entry:
    code, size, cut = row.get("code"), row.get("bytes"), row.get("cut")
    asked = _text(row, "command") or _text(row, "directory")
    if isinstance(code, int) and code:
        asked += f" (ended with {code}: {_text(row, 'said')})"
    shown = _size(size) if isinstance(size, int) else ""
    if isinstance(cut, int) and cut:
        shown += f", {_size(cut)} cut off"
    return Entry(name, asked, shown, text if text.strip() else "", more)


def _size(count: int) -> str:
    return f"{count} bytes" if count < 10_000 else f"{count / 1024:,.0f} KiB"


def _grouped(entries: list[Entry]) -> Iterator[Group]:
    left = list(entries)
    for title, heads in _GROUPS:
        mine = tuple(entry for entry in left if entry.name.startswith(heads))
        left = [entry for entry in left if entry not in mine]
        if mine:
            yield Group(title, mine)
    if left:
        yield Group(_REST, tuple(left))
