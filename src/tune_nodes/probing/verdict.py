"""What the measurements from both ends say of each direction of each path (pure).

An echo's reply is as large as its request, so a lost echo says nothing of the direction. Each end has two more probes
that do (plugins/module_utils/paths/wire.py); where one end could not be asked, the other's are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.probing.ends import End, Measured, PodEnd
from tune_nodes.probing.pairs import Key, address
from tune_nodes.runs.models import PathRecord

ANSWERED, SILENT, TOO_LARGE = "answered", "silent", "too-large"
Measures = Mapping[Key, Measured]


def carried(key: Key, measures: Measures) -> bool | None:
    """Say whether what the sender sends arrives; None where nobody can tell."""
    ours, theirs = measures.get(key), measures.get(reverse(key))
    size = ours.size if ours is not None else None
    if ours is not None:
        if ANSWERED in (ours.exact, ours.forth):
            return True
        if ours.forth == SILENT or ours.exact == TOO_LARGE:
            return False
    if theirs is not None and theirs.size is not None:
        size = theirs.size if size is None else size
        # The large reply to the other end's small request took this direction.
        if ANSWERED in (theirs.back, theirs.exact) and theirs.size >= size:
            return True
        if theirs.back == SILENT and theirs.size <= size:
            return False
    return None


def reverse(key: Key) -> Key:
    """Return the path's other direction."""
    source, to, layer, family = key
    return to, source, layer, family


def records(wanted: Sequence[Key], measures: Measures, ends: Mapping[str, End], sized: bool) -> list[PathRecord]:
    """Return a record for each direction of each path.

    Args:
        wanted: the paths, in their order.
        measures: what was measured.
        ends: the nodes as ends of paths.
        sized: a size was asked for: that the path carries more is then no news.
    """
    return [_record(key, measures, ends, sized) for key in wanted]


def _record(key: Key, measures: Measures, ends: Mapping[str, End], sized: bool) -> PathRecord:
    source, to, layer, family = key
    ours, theirs = measures.get(key), measures.get(reverse(key))
    seen = ours if ours is not None and ours.small else theirs
    arrives = carried(key, measures)
    exact = _exact(arrives, ours, theirs)
    return PathRecord.model_validate(
        {
            "from": source,
            "to": to,
            "layer": layer,
            "family": family,
            "size": seen.size if seen is not None and exact else None,
            "exact": exact,
            "above": _above(ours),
            "passes": seen.passes if seen is not None else None,
            "direction": _direction(exact, arrives, carried(reverse(key), measures)),
            "from_end": _end(ends.get(source), layer),
            "to_end": _end(ends.get(to), layer),
            "address": address(ends.get(to), layer, family),
            "ms": ours.ms if ours is not None else None,
            "note": _note(ours, exact, sized),
        }
    )


def _exact(arrives: bool | None, ours: Measured | None, theirs: Measured | None) -> str:
    if arrives is not None:
        return "pass" if arrives else "fail"
    if ours is None or not ours.small or ours.small == "failed":
        return ""  # the sender was not asked, or could not send, and the other end cannot tell
    return "fail" if ours.exact or ours.small == SILENT else ""


def _direction(exact: str, arrives: bool | None, back: bool | None) -> str:
    if exact != "fail":
        return ""
    if arrives is None or back is None:
        return "unknown"
    return "forward" if back else "both"


def _above(ours: Measured | None) -> str:
    if ours is None or not ours.above:
        return ""
    return "pass" if ours.above == ANSWERED else "fail"


def _end(end: End | None, layer: str) -> str:
    pod: PodEnd | None = end.pod if end is not None and layer == "pod" else None
    if pod is None:
        return ""
    return f"bridge {pod.name}" if pod.bridge else pod.name or pod.uid


def _note(ours: Measured | None, exact: str, sized: bool) -> str:
    if ours is None:
        return "the sender could not be asked"
    if ours.trouble:
        return one_line(ours.trouble, 200)
    if ours.told and exact == "pass":
        return f"a router tells a path MTU of {ours.told}"
    if ours.above == ANSWERED and not sized:
        return f"the path carries more than the {ours.size} that its sender uses"
    if exact == "pass" and ours.small == SILENT:
        return "seen from the other end: this one's echoes are not answered"
    return ""
