# SPDX-License-Identifier: Apache-2.0
"""tune.nodes.tune: one node's whole change in one task, so that no neighbour can make it wait or revert."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils.confirmation import Confirmation, ask
from ..plugin_utils.lease import Lease
from ..plugin_utils.link import Link

CHANGING = ("apply", "rollback")
ASKING = ("plan", "status", "observe", "probe")
_FIELDS = ("layers", "probes", "labels", "groups", "window", "run", "tx", "expect", "check")


def build_request(operation: str, arguments: dict[str, Any], node: str, check: bool) -> dict[str, Any]:
    """Return the request for one node (pure but for reading ``request_file``).

    Raises:
        AnsibleActionFail: an unknown operation, or a request file that is none.
    """
    request: dict[str, Any] = {"schema": 1, "op": operation}
    if arguments.get("request_file"):
        document = _read(str(arguments["request_file"]))
        request["op"] = document.get("operation", operation)
        request.update(document.get("common") or {})
        nodes = document.get("nodes")
        if not isinstance(nodes, dict) or node not in nodes:
            raise AnsibleActionFail(
                f"the request file {arguments['request_file']} does not name {node}: nothing is done"
            )
        request.update(nodes[node] or {})
    else:
        layer = {"profile": "task", "match": None}
        layer.update({name: arguments[name] for name in ("sysctl", "nic_queues", "mtu") if arguments.get(name)})
        request["layers"] = [layer]
        request.update({name: arguments[name] for name in _FIELDS if arguments.get(name) is not None})
    if request["op"] not in CHANGING + ASKING:
        raise AnsibleActionFail(f"unknown operation {request['op']!r}: known are {', '.join(CHANGING + ASKING)}")
    if check and request["op"] == "apply":
        request["op"] = "plan"
    if check and request["op"] == "rollback":
        request["check"] = True
    return request


def _read(path: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise AnsibleActionFail(f"the request file {path} cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise AnsibleActionFail(f"the request file {path} holds no request")
    return document


class ActionModule(ActionBase):
    """Plan, or apply and confirm, on one node."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the operation for this task's host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        node = str(variables.get("inventory_hostname", ""))
        arguments = dict(self._task.args)
        operation = str(arguments.get("operation", "apply"))
        request = build_request(operation, arguments, node, bool(self._task.check_mode))
        spec = request.pop("lease", None)  # for this machine only: the node has no use for it
        lease = Lease(spec, time) if isinstance(spec, dict) else None
        link = Link(self, variables)
        planning = request["op"] in ASKING or request.get("check")
        found = ask(link, request) if planning else Confirmation(link, request, lease=lease).run()
        result["tune_nodes"] = found
        result["changed"] = found["outcome"] in ("changed", "pending")
        if self._task.diff:
            result["diff"] = [_diff(c) for c in found["changes"] if c["status"] in ("pending", "changed")]
        error = found["error"] or {}
        if found["outcome"] == "unreachable":
            result.update(unreachable=True)
        if found["outcome"] in ("failed", "reverted", "refused"):
            result.update(failed=True)
        if error:
            result["msg"] = ": ".join(part for part in (error.get("what"), error.get("why")) if part)
        return result


def _diff(change: dict[str, Any]) -> dict[str, str]:
    return {
        "before_header": change["key"],
        "after_header": change["key"],
        "before": f"{change['before'] or ''}\n",
        "after": f"{change['want'] or ''}\n",
    }
