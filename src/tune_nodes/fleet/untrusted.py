"""Text and data that come from a node: no escape sequences, no control characters, no megabytes."""

from __future__ import annotations

import re
from typing import Any

#: Longest text kept of one string, in characters.
TEXT_LIMIT = 4000
#: Most members kept of one list or mapping.
ITEM_LIMIT = 4000
#: Deepest nesting kept.
DEPTH_LIMIT = 12

# OSC, DCS, SOS, PM, APC strings up to their terminator (or the text's end); CSI sequences; other two-byte escapes.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0 and C1 controls except tab and newline, and the marks that reorder what a reader sees.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return text that is safe to show and to store.

    Args:
        text: anything.
        limit: most characters kept; what was cut is said at the end.
    """
    cut = len(text) - limit
    # Escapes are removed from what is kept only: a megabyte costs nothing.
    kept = _ESCAPES.sub("", text[:limit].replace("\r\n", "\n"))
    kept = _SURROGATES.sub("\ufffd", _CONTROLS.sub("", kept))
    return f"{kept} ... ({cut} more characters)" if cut > 0 else kept


def one_line(text: str, limit: int = 200) -> str:
    """Return cleaned text as a single line, shortened with an ellipsis."""
    words = " ".join(clean(text, limit * 4).split())
    return words if len(words) <= limit else words[: limit - 1] + "\u2026"


def bounded(value: Any, depth: int = DEPTH_LIMIT) -> Any:
    """Return a JSON-able copy of a value with every text cleaned and every size bounded."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth <= 0:
        return clean(str(value), 200)
    if isinstance(value, dict):
        rows = list(value.items())[:ITEM_LIMIT]
        return {clean(str(key), 500): bounded(item, depth - 1) for key, item in rows}
    if isinstance(value, list | tuple):
        return [bounded(item, depth - 1) for item in list(value)[:ITEM_LIMIT]]
    return clean(str(value))
