"""Text as it may stand in a report: cleaned, clipped, with links only where a link is safe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tune_nodes.fleet import untrusted

#: Longest text that is shown in a table cell as it is; longer text is folded.
CELL = 140
#: Longest text that is kept at all; the run's JSON has the rest.
KEEP = 4000

_URL = re.compile(r"https?://[^\s<>\"'`{}|\\^]+", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"([0-9]{1,18})")


def clean(text: str) -> str:
    """Return text without terminal codes, controls and marks that reorder what a reader sees."""
    return text if text.isprintable() else untrusted.clean(text, 1 << 20)


def plain(value: object, limit: int = CELL) -> str:
    """Return any value as one clean line of at most ``limit`` characters."""
    text = str(value)
    line = " ".join(clean(text[: limit * 8]).split())
    if len(line) <= limit and len(text) <= limit * 8:
        return line
    return line[: limit - 1] + "\u2026"


@dataclass(frozen=True)
class Clipped:
    """A long text: its beginning, as much as is kept, and how long it was."""

    short: str
    full: str
    length: int

    @property
    def folded(self) -> bool:
        """True where ``short`` is not the whole text."""
        return self.short != self.full

    @property
    def cut(self) -> bool:
        """True where even ``full`` is not the whole text."""
        return self.length > len(self.full)


def clip(value: object, limit: int = CELL) -> Clipped:
    """Fold a text that is longer than ``limit`` characters or has several lines."""
    text = clean(str(value)[: KEEP * 4]).strip("\n")
    full = text[:KEEP]
    length = max(len(str(value)), len(text)) if len(text) > KEEP else len(full)
    if len(full) <= limit and "\n" not in full:
        return Clipped(full, full, length)
    return Clipped(plain(full, limit), full, length)


@dataclass(frozen=True)
class Piece:
    """A part of a source: text, or a link where ``href`` is set."""

    text: str
    href: str = ""


def pieces(source: str) -> list[Piece]:
    """Split a source into text and http(s) links; nothing else ever becomes a link."""
    source = plain(source, 1000)
    found: list[Piece] = []
    at = 0
    for match in _URL.finditer(source):
        url = match.group().rstrip(".,;:)]")
        if not _is_web(url):
            continue
        if match.start() > at:
            found.append(Piece(source[at : match.start()]))
        found.append(Piece(_short_url(url), url))
        at = match.start() + len(url)
    if at < len(source):
        found.append(Piece(source[at:]))
    return found


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme.lower() in ("http", "https") and bool(parts.hostname)


def _short_url(url: str) -> str:
    shown = url.split("://", 1)[1].removeprefix("www.").rstrip("/")
    return shown if len(shown) <= 46 else shown[:20] + "\u2026" + shown[-25:]


def seconds(value: float | None) -> str:
    """Return a duration for people: "340 ms", "2.1 s", "4 min 05 s", "2 h 03 min"; "" for None."""
    if value is None or value != value or value < 0:
        return ""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(when: datetime | None) -> str:
    """Return a time in UTC to the second, "" for None; a time without zone is taken as UTC."""
    return utc(when).strftime("%Y-%m-%d %H:%M:%S UTC") if when else ""


def utc(when: datetime) -> datetime:
    """Return the same moment in UTC, so that any two can be subtracted."""
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 node", "5,000 nodes"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which node-9 comes before node-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _DIGITS.split(name) if part]
