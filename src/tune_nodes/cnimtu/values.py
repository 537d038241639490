"""MTUs as CNIs write them, and the parts of merge patches that change them (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LARGEST = 65535


def size(value: Any) -> int | None:
    """Return bytes of a number or of digits; None for 0, "" and anything else: the CNI works it out by itself."""
    if isinstance(value, str) and value.isascii() and value.strip().isdecimal() and len(value) < 12:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= LARGEST else None


def document(text: Any) -> dict[str, Any]:
    """Return a JSON object of a text, {} for anything else."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def key_of(mapping: Mapping[str, Any], name: str) -> str:
    """Return how a mapping writes a key whose case does not matter, "" where it is not there (Go reads JSON so)."""
    return next((key for key in mapping if isinstance(key, str) and key.lower() == name.lower()), "")


def with_size(mapping: Mapping[str, Any], name: str, value: int | None) -> dict[str, Any]:
    """Return a copy with a key set, under the name it has there, or taken out."""
    key = key_of(mapping, name)
    kept = {own: item for own, item in mapping.items() if value is not None or own != key}
    return kept if value is None else {**kept, key or name: value}


def rendered(found: Mapping[str, Any]) -> str:
    """Return a JSON object as CNIs' manifests write it."""
    return json.dumps(found, indent=2) + "\n"


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return two merge patches as one; where both speak of a field, the second counts."""
    both = {key for key in one if isinstance(one[key], Mapping) and isinstance(other.get(key), Mapping)}
    return {**one, **other, **{key: merged(one[key], other[key]) for key in both}}
