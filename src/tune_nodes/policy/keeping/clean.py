"""An object as it can be made again, and how two of them differ (pure)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tune_nodes.cluster.objects import at, mappings

#: Of an object's metadata, what the server gives and nobody can ask for.
SERVER_GIVEN = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    }
)
#: Kept in the raw object alone: a reference to an owner that is gone gets the object collected, and a finalizer whose
#: controller is gone keeps it for ever. Whoever restores decides about both.
DECIDED_LATER = frozenset({"ownerReferences", "finalizers"})
#: Most places named of one difference.
SHOWN = 6


def clean(raw: Mapping[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    """Return an object as it is sent to be made again.

    Args:
        raw: as the server returned it; members of a list lack apiVersion and kind.
        api_version: "networking.k8s.io/v1".
        kind: "NetworkPolicy".
    """
    metadata = at(raw, "metadata")
    dropped = SERVER_GIVEN | DECIDED_LATER
    kept = {key: value for key, value in metadata.items() if key not in dropped} if isinstance(metadata, dict) else {}
    rest = {key: value for key, value in raw.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    found: dict[str, Any] = json.loads(json.dumps({"apiVersion": api_version, "kind": kind, "metadata": kept, **rest}))
    return found


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def finalizers(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return an object's finalizers."""
    found = at(raw, "metadata", "finalizers")
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def references(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return an object's ownerReferences."""
    return tuple(mappings(raw, "metadata", "ownerReferences"))


def is_terminating(raw: Mapping[str, Any]) -> bool:
    """Say whether an object is deleted and only waits for its finalizers."""
    return bool(at(raw, "metadata", "deletionTimestamp"))


def differing(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare two cleaned objects.

    Returns:
        The places where what they say differs (everything but metadata, and the labels: network sets are chosen by
        theirs), and the places where their annotations do.
    """
    heads = ("apiVersion", "kind", "metadata")
    left, right = ({key: value for key, value in one.items() if key not in heads} for one in (now, wanted))
    labels = _places(at(now, "metadata", "labels"), at(wanted, "metadata", "labels"), "labels")
    notes = _places(at(now, "metadata", "annotations"), at(wanted, "metadata", "annotations"), "annotations")
    return (*_places(left, right), *labels), tuple(notes)


def _places(now: Any, wanted: Any, path: str = "") -> Iterator[str]:
    now, wanted = now or None, wanted or None  # absent, {} and [] come back as each other from some servers
    if isinstance(now, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*now, *wanted}, key=str):
            yield from _below(now.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(now, list) and isinstance(wanted, list) and len(now) == len(wanted):
        for number, (left, right) in enumerate(zip(now, wanted, strict=True)):
            yield from _below(left, right, f"{path}[{number}]")
    elif now != wanted:
        yield path


def _below(now: Any, wanted: Any, path: str) -> Iterator[str]:
    """Compare what lies deeper: there {} is not the same as nothing. An empty rule allows all, no rule allows none."""
    if isinstance(now, Mapping | list) and isinstance(wanted, Mapping | list) and now and wanted:
        yield from _places(now, wanted, path)
    elif now != wanted:
        yield path


def shown(places: tuple[str, ...]) -> str:
    """Return places in a few words."""
    more = len(places) - SHOWN
    return ", ".join(places[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def merge_patch(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that makes one mapping of the other."""
    patch: dict[str, Any] = dict.fromkeys((key for key in now if key not in wanted), None)
    for key, value in wanted.items():
        held = now.get(key)
        if isinstance(value, Mapping) and isinstance(held, Mapping):
            if deeper := merge_patch(held, value):
                patch[key] = deeper
        elif key not in now or held != value:
            patch[key] = value
    return patch
