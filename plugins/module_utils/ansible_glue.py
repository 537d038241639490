# SPDX-License-Identifier: Apache-2.0
"""Between AnsibleModule and node.py: the one place where modules answer, succeed or fail."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from .family import Family
from .node import handle

#: Options that every module which changes a node has.
CHANGE_OPTIONS: Dict[str, Dict[str, Any]] = {
    "persist": {"type": "str", "choices": ["confirm", "auto"], "default": "confirm"},
    "window": {"type": "int", "default": 120},
    "transaction": {"type": "str"},
    "run": {"type": "str"},
}


def request(op: str, params: Mapping[str, Any], **fields: Any) -> Dict[str, Any]:
    """Build a request from a module's parameters."""
    found: Dict[str, Any] = {"schema": 1, "op": op}
    found.update({name: params[name] for name in ("persist", "window", "run") if params.get(name) is not None})
    if params.get("transaction"):
        found["tx"] = params["transaction"]
    found.update(fields)
    return found


def run_node_module(
    module: AnsibleModule,
    families: Sequence[Family],
    raw: Mapping[str, List[Dict[str, Any]]],
    returned: Sequence[str] = (),
) -> None:
    """Plan or apply a module's settings and exit.

    Args:
        module: as Ansible runs it.
        families: what this module plans.
        raw: family -> raw settings.
        returned: fields of the node's result that are returned besides the usual ones, where it has them.
    """
    layers = [dict(raw, profile="module", match=None)]
    op = "plan" if module.check_mode else "apply"
    result = handle(request(op, module.params, layers=layers), families)
    answer(module, result, **{name: result[name] for name in returned if name in result})


def answer(module: AnsibleModule, result: Mapping[str, Any], **more: Any) -> None:
    """Turn a node's result into exit_json or fail_json."""
    changes = list(result.get("changes") or [])
    moved = [c for c in changes if c["status"] in ("pending", "changed")]
    tx = result.get("tx") or {}
    found: Dict[str, Any] = {
        "changed": bool(moved),
        "changes": changes,
        "plan_hash": result.get("plan_hash", ""),
        "transaction": tx.get("id"),
        "state": tx.get("state"),
    }
    found.update(more)
    if module._diff:
        found["diff"] = [diff_of(c) for c in moved]
    for warning in result.get("warnings") or []:
        module.warn(warning)
    if result.get("ok"):
        module.exit_json(**found)
    error = result["error"]
    text = "%s%s%s" % (
        error["what"],
        ": " + error["why"] if error["why"] else "",
        " (next: %s)" % error["next"] if error["next"] else "",
    )
    module.fail_json(msg=text, error=error, **found)


def diff_of(change: Mapping[str, Any]) -> Dict[str, str]:
    """Return one change as Ansible's diff."""
    return {
        "before_header": change["key"],
        "after_header": change["key"],
        "before": "%s\n" % ("" if change["before"] is None else change["before"]),
        "after": "%s\n" % ("" if change["want"] is None else change["want"]),
    }
