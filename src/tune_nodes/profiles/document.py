"""YAML text to plain data with the line of every value, within bounds and without building objects.

Profiles and configuration files are written by people, so every complaint must name a line. Scalars follow
YAML 1.2's core schema: ``off`` is a word, and ``010`` is not eight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tune_nodes.errors import UsageError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_VALUES = 20_000

Location = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_ODD_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*_[0-9_]*|[0-9]{19,})\Z"
)
_FLOAT = re.compile(r"[-+]?([0-9]{1,17}\.[0-9]{1,17})\Z")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


class DocumentError(ValueError):
    """The text is not a document we take: ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass
class Document:
    """Plain data and where each part of it stands."""

    origin: str  # the file's name as shown to people
    data: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Return the line of a value, or of the nearest thing around it that has one."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def where(self, location: Location) -> str:
        """Return ``file:line`` of a value."""
        return f"{self.origin}:{self.line(location)}"


class _Builder:
    """Walk the parser's events, keeping count of depth and size; recursion is bounded by MAX_DEPTH."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._count = 0
        self.lines: dict[Location, int] = {}

    def document(self) -> Any:
        """Return the only document's data (None for an empty stream)."""
        data: Any = None
        seen = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise DocumentError(_line(event), "a second document begins here; one file holds one")
                seen = True
                data = self._value(next(self._events), ())
        return data

    def _value(self, event: yaml.Event, location: Location) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise DocumentError(_line(event), f"more than {MAX_VALUES} values")
        if len(location) > MAX_DEPTH:
            raise DocumentError(_line(event), f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise DocumentError(_line(event), "anchors and aliases (& and *) are not taken; write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise DocumentError(_line(event), "YAML tags (!...) are not taken")
        self.lines.setdefault(location, _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(location)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(location)
        if not isinstance(event, yaml.ScalarEvent):
            raise DocumentError(_line(event), "a value is missing here")
        return _scalar(event)

    def _mapping(self, location: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                raise DocumentError(_line(event), "a key must be a plain word")
            key = str(event.value)
            if key == "<<":
                raise DocumentError(_line(event), "merge keys (<<) are not taken; use extends")
            if key in found:
                first = self.lines[(*location, key)]
                raise DocumentError(_line(event), f"{key} stands here a second time; the first is on line {first}")
            self.lines[(*location, key)] = _line(event)
            found[key] = self._value(next(self._events), (*location, key))
        return found

    def _sequence(self, location: Location) -> list[Any]:
        found: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._value(event, (*location, len(found))))
        return found


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = str(event.value)
    if event.style is not None or event.tag == "!":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _ODD_NUMBER.match(text):
        raise DocumentError(_line(event), f"{text} is ambiguous as a number; write it in quotes or in plain decimal")
    if _FLOAT.match(text):
        return float(text)
    return text


def parse(text: str, origin: str) -> Document:
    """Parse YAML text whose top level is a mapping.

    Args:
        text: the file's content.
        origin: the file's name for messages.

    Raises:
        UsageError: not YAML, not a mapping, duplicate keys, anchors, tags, several documents, or beyond the
            bounds MAX_BYTES, MAX_DEPTH, MAX_VALUES; always with the line.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise UsageError(f"{origin} is too large", f"more than {MAX_BYTES // 1024} KiB")
    try:
        builder = _Builder(text)
        data = builder.document()
    except DocumentError as err:
        raise UsageError(f"{origin}:{err.line}: {err.message}", data={"file": origin, "line": err.line}) from err
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        line = int(mark.line) + 1 if mark else 1
        raise UsageError(
            f"{origin}:{line}: not valid YAML", str(err.problem or err.context), data={"file": origin, "line": line}
        ) from err
    except yaml.YAMLError as err:
        raise UsageError(f"{origin} is not valid YAML", str(err).splitlines()[0]) from err
    if data is None:
        raise UsageError(f"{origin} is empty", data={"file": origin, "line": 1})
    if not isinstance(data, dict):
        raise UsageError(f"{origin}:1: the top level must be a mapping of names to values")
    return Document(origin, data, builder.lines)


def load(path: Path, origin: str = "") -> Document:
    """Read and parse a file; see :func:`parse`. Raises UsageError also where it cannot be read."""
    origin = origin or str(path)
    try:
        with path.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as err:
        raise UsageError(f"cannot read {origin}", err.strerror or str(err)) from err
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{origin} is too large", f"more than {MAX_BYTES // 1024} KiB")
    try:
        return parse(raw.decode("utf-8"), origin)
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise UsageError(f"{origin}:{line}: not UTF-8 text") from err


def flatten(data: Mapping[str, Any], stop: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return ``{"a.b": value}`` of nested mappings; mappings named in ``stop`` stay whole."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and key not in stop:
            flat.update({f"{key}.{inner}": deep for inner, deep in flatten(value, stop).items()})
        else:
            flat[key] = value
    return flat
