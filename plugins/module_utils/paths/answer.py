# SPDX-License-Identifier: Apache-2.0
"""One request about paths in, one answer out: several paths at once, within one limit of time."""

from __future__ import annotations

import ipaddress
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..errors import NodeError
from ..host import Host
from .enter import Namespace
from .here import describe, find
from .measure import measure
from .packets import LEAST

#: Paths measured at once: enough to wait for many that do not answer, too few to fill a queue on the way.
_AT_ONCE = 12
_MOST_TARGETS = 4000
#: Seconds that a node measures at most: a request's limit less what it takes to get there.
_SECONDS, _MOST_SECONDS = 20.0, 24.0
_MOST_SIZE = 65535

Row = Dict[str, Any]


def answer(request: Mapping[str, Any], host: Host) -> Row:
    """Say what this end is, or measure paths from it.

    Args:
        request: ``targets`` (none: only ``self`` is told) and ``seconds``. A target: ``id``, ``family`` (4 or 6),
            ``address``, ``source`` (an address of this end, "" for the route's), ``size`` (None: the path's MTU),
            ``pod`` (uid of the pod here to measure from, "" for the node itself).
        host: the node.

    Returns:
        ``self`` (see here.describe) and ``measured`` (see measure.measure).

    Raises:
        NodeError: code ``usage``: a target that is none; else the kernel does not answer.
    """
    targets = request.get("targets")
    if not targets:
        return {"self": describe(host), "measured": []}
    if not isinstance(targets, list) or len(targets) > _MOST_TARGETS:
        raise NodeError("the paths to measure are no list of at most %d" % _MOST_TARGETS, code="usage")
    wanted = [_target(raw) for raw in targets]
    limit = request.get("seconds")
    seconds = float(limit) if isinstance(limit, (int, float)) and 0 < limit <= _MOST_SECONDS else _SECONDS
    return {"self": None, "measured": _all(wanted, host, time.monotonic() + seconds)}


def _target(raw: Any) -> Row:
    """Return a target that was checked. Raises NodeError(code="usage")."""
    if not isinstance(raw, dict):
        raise NodeError("a path to measure is no mapping", code="usage")
    found: Row = {name: str(raw.get(name) or "") for name in ("id", "address", "source", "pod")}
    try:
        found["family"] = ipaddress.ip_address(found["address"]).version
        same = not found["source"] or ipaddress.ip_address(found["source"]).version == found["family"]
    except ValueError as exc:
        raise NodeError("this is no address to measure the path to", str(exc), code="usage") from exc
    size = raw.get("size")
    whole = size is None or (isinstance(size, int) and LEAST[found["family"]] <= size <= _MOST_SIZE)
    if not same or not whole:
        raise NodeError("a path's size or source does not fit its address", repr(raw)[:200], code="usage")
    return dict(found, id=found["id"] or found["address"], size=size)


def _all(targets: Sequence[Row], host: Host, until: float) -> List[Row]:
    by_pod: Dict[str, List[Row]] = {}
    for target in targets:
        by_pod.setdefault(target["pod"], []).append(target)
    found: List[Row] = []
    for uid, rows in by_pod.items():
        if not uid:
            found += _measured(rows, None, until)
            continue
        try:
            with Namespace(find(uid, host), host) as namespace:
                found += _measured(rows, namespace.enter, until)
        except NodeError as exc:
            found += [{"id": row["id"], "trouble": str(exc), "packets": 0, "bytes": 0} for row in rows]
    return found


def _measured(rows: Sequence[Row], enter: Optional[Callable[[], None]], until: float) -> List[Row]:
    def one(row: Row) -> Row:
        if enter is not None:
            try:
                enter()
            except OSError as exc:
                return {"id": row["id"], "trouble": exc.strerror or str(exc), "packets": 0, "bytes": 0}
        return measure(row, until)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(one, rows))
