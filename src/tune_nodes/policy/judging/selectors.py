"""Label selectors of Kubernetes, as policies of every kind use them (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tune_nodes.policy.judging.matching import YES, Match, all_of, said, unknown

#: What a key's values are among labels: () where it is not there, several where its source does not count.
Values = Callable[[str], tuple[str, ...]]
_UNREADABLE = unknown("a label selector in it cannot be read")
_PARTS = frozenset({"matchLabels", "matchExpressions"})


def plain(labels: Mapping[str, str]) -> Values:
    """Return how a key is looked up in ordinary labels."""
    return lambda key: (labels[key],) if key in labels else ()


def selects(selector: Any, labels: Mapping[str, str]) -> Match:
    """Return whether a selector selects something with these labels; an empty one selects everything."""
    return matches(selector, plain(labels))


def matches(selector: Any, values: Values) -> Match:
    """Return whether a selector holds.

    Args:
        selector: {"matchLabels": ..., "matchExpressions": ...}; None counts as empty, what is no selector is unknown.
        values: looks up a key.
    """
    if selector is None:
        return YES
    if not isinstance(selector, Mapping) or not set(selector) <= _PARTS:
        return _UNREADABLE
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(labels, Mapping) or not isinstance(expressions, list):
        return _UNREADABLE
    wanted = [_label(key, value, values) for key, value in labels.items()]
    return all_of([*wanted, *(_expression(one, values) for one in expressions)])


def keys_of(selector: Any) -> set[str]:
    """Return the keys that a selector names."""
    if not isinstance(selector, Mapping):
        return set()
    labels, expressions = selector.get("matchLabels"), selector.get("matchExpressions")
    found = set(labels) if isinstance(labels, Mapping) else set()
    rows = expressions if isinstance(expressions, list) else []
    found |= {row["key"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("key"), str)}
    return {key for key in found if isinstance(key, str)}


def _label(key: Any, value: Any, values: Values) -> Match:
    if not isinstance(key, str) or not isinstance(value, str):
        return _UNREADABLE
    return said(value in values(key))


def _expression(row: Any, values: Values) -> Match:
    if not isinstance(row, Mapping) or not isinstance(row.get("key"), str):
        return _UNREADABLE
    found, wanted = values(row["key"]), row.get("values") or []
    if not isinstance(wanted, list):
        return _UNREADABLE
    match row.get("operator"):
        case "Exists":
            return said(bool(found))
        case "DoesNotExist":
            return said(not found)
        case "In":
            return said(any(one in wanted for one in found))
        case "NotIn":
            return said(not any(one in wanted for one in found))
    return _UNREADABLE
