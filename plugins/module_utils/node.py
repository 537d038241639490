# SPDX-License-Identifier: Apache-2.0
"""One request in (JSON), one result out: what modules, the fleet and the reverter call."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Mapping, Optional, Sequence, Tuple

from .errors import NodeError
from .families import TUNING
from .family import Family
from .host import observe_host
from .model import SCHEMA
from .operations import OPERATIONS, Call, Result
from .transaction import session
from .transaction.watch import run_resolve, run_watch

_LISTS = ("layers", "probes", "before", "groups")
_TEXTS = ("run", "tx", "expect", "persist", "why")


def check_request(request: Mapping[str, Any]) -> None:
    """Refuse a request whose fields are not of the published schema's kinds. Raises NodeError(code="usage")."""
    wrong = [name for name in _LISTS if not isinstance(request.get(name) or [], list)]
    if wrong:
        raise NodeError("this request cannot be understood", "no list: " + ", ".join(wrong), code="usage")
    wrong = [name for name in _LISTS[:3] if any(not isinstance(row, dict) for row in request.get(name) or [])]
    wrong += [name for name in _TEXTS if not isinstance(request.get(name) or "", str)]
    if not isinstance(request.get("labels") or {}, dict):
        wrong.append("labels")
    if not isinstance(request.get("hold", False), bool):
        wrong.append("hold")
    if wrong:
        raise NodeError(
            "this request cannot be understood", "not of the wanted kind: " + ", ".join(wrong), code="usage"
        )


def handle(
    request: Mapping[str, Any],
    families: Sequence[Family] = TUNING,
    code: session.Code = None,
    root: str = "/",
) -> Result:
    """Answer one request. Never raises NodeError: an error is part of the result.

    Args:
        request: the fields of the published request schema.
        families: what may be planned; a revert always knows every tuning family.
        code: (hash, bytes) of the node code to install before anything is armed; None: built from this package.
        root: "/" except in tests.
    """
    try:
        if not isinstance(request, Mapping) or request.get("schema") != SCHEMA:
            raise NodeError("this request is not for this version", "wanted schema %d" % SCHEMA, code="usage")
        operation = OPERATIONS.get(str(request.get("op")))
        if operation is None:
            raise NodeError("unknown operation %r" % str(request.get("op"))[:40], code="usage")
        check_request(request)
        host = observe_host(root)
    except NodeError as exc:
        return {"schema": SCHEMA, "ok": False, "error": exc.to_dict(), "changes": [], "probes": [], "warnings": []}
    call = Call(request, families, host, code)
    try:
        return operation(call)
    except NodeError as exc:
        data = exc.to_dict()
        more = {key: data["data"].pop(key) for key in ("changes", "tx", "rows") if key in data["data"]}
        return dict(call.result(ok=False, error=data), **more)


def serve(data: bytes, code: session.Code) -> int:
    """Answer the JSON request in ``data`` on standard output. Returns the exit code 0."""
    try:
        request = json.loads(data.decode("utf-8"))
    except (ValueError, UnicodeDecodeError):
        request = None
    if os.geteuid() == 0:
        result = handle(request if isinstance(request, dict) else {}, TUNING, code)
    else:
        error = NodeError(
            "this needs root on the node",
            "the login user is not root and nothing made it so",
            "become: add -b (and -K for its password), or set ansible_become in the inventory",
            code="usage",
        )
        result = {"schema": SCHEMA, "ok": False, "error": error.to_dict(), "changes": [], "probes": [], "warnings": []}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    return 0


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the installed node code: ``resolve``, ``watch ID`` or ``boot``. Exits."""
    words: Tuple[str, ...] = tuple(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ("resolve",):
            sys.exit(run_resolve())
        if len(words) == 2 and words[0] == "watch":
            sys.exit(run_watch(words[1]))
        if words == ("boot",):
            from .boot import run_boot

            sys.exit(run_boot())
    except NodeError as exc:
        sys.exit(str(exc))
    sys.exit("usage: resolve | watch ID | boot")
