# SPDX-License-Identifier: Apache-2.0
"""What the modules share: their options, and how a result is returned to plays and to the command line."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ..errors import NodeError
from .calls import Asked, Result, asked, unanswered

#: Options of every module that scans a node.
LOOK_OPTIONS: Dict[str, Dict[str, Any]] = {
    "grace": {"type": "str", "default": "15m"},
    "max_stale_percent": {"type": "float", "default": 90.0},
    "pod_ips": {"type": "list", "elements": "str"},
}


def result_of(params: Mapping[str, Any], check: bool, work: Callable[[Asked], Result]) -> Result:
    """Return the result of a call for a module's parameters; wrong parameters are a result too."""
    try:
        ask = asked(params, check)
    except NodeError as exc:
        return unanswered(exc)
    return work(ask)


def outcome_of(result: Mapping[str, Any]) -> str:
    """Return how the node came out, in the words of a run's record."""
    if not result.get("ok"):
        code = (result.get("error") or {}).get("code")
        return "refused" if code in ("refused", "busy", "usage", "unknown", "unsupported") else "failed"
    statuses = {change["status"] for change in result.get("changes") or []}
    if "failed" in statuses:
        return "failed"
    return "changed" if "changed" in statuses else "pending" if "pending" in statuses else "ok"


def fields_of(result: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a module returns beside changes and error: ``cni`` for plays, ``tune_nodes`` for the command line."""
    report = dict(result.get("cni") or {})
    ours = {
        "outcome": outcome_of(result),
        "host": dict(result.get("node") or {}, cni=report),
        "identity": result.get("identity") or {},
        "changes": result.get("changes") or [],
        "error": result.get("error"),
        "warnings": result.get("warnings") or [],
    }
    return {"cni": report, "tune_nodes": ours}
