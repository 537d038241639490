"""Server-side apply that does not take our own earlier writes, by another verb, for somebody else's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.objects import MANAGER
from tune_nodes.cluster.refusals import Refused
from tune_nodes.fleet.untrusted import one_line

_HOLDER = re.compile(r'conflict with "([^"]{1,200})"')
_CONFLICT = "FieldManagerConflict"


def holders(problem: Refused) -> tuple[str, ...]:
    """Return who else holds the fields that an apply was refused for; () where it was refused for something else."""
    if _CONFLICT not in problem.reasons:
        return ()
    found = dict.fromkeys(match[1] for reason in problem.reasons if (match := _HOLDER.search(reason)))
    return tuple(one_line(name, 100) for name in found) or ("another manager",)


def applied(api: Api, call: Call, body: Mapping[str, Any], force: bool = False, dry: bool = False) -> dict[str, Any]:
    """Apply an object, and return it as it is then.

    Args:
        api: the server.
        call: what; with a name.
        body: the fields that shall be so.
        force: also take fields that others hold at other values.
        dry: nothing is kept.

    Raises:
        ClusterError: it was refused; see :func:`holders`.
    """
    try:
        return api.apply(call, body, force=force, dry=dry)
    except Refused as problem:
        if set(holders(problem)) != {MANAGER}:
            raise
        return api.apply(call, body, force=True, dry=dry)
