# SPDX-License-Identifier: Apache-2.0
"""tune.nodes.confirm: confirm a transaction over a truly new connection."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.confirmation import Confirmation, blank
from ..plugin_utils.link import Link, LinkError


class ActionModule(ActionBase):
    """Reconnect, probe, confirm."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Confirm the transaction of this task's host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "transaction": {"type": "str", "required": True},
                "probes": {"type": "list", "elements": "dict", "default": []},
            }
        )
        tx_id = arguments["transaction"]
        if not tx_id or self._task.check_mode:
            return dict(result, changed=False, state=None, probes=[])
        link = Link(self, task_vars or {})
        link.renew()
        try:
            status = link.send({"schema": 1, "op": "status", "tx": tx_id}, 60.0)
        except LinkError as exc:
            # The node is given its whole window: it may come back, or it reverts by itself.
            status = {"ok": True, "tx": {"id": tx_id, "state": "ARMED", "window": 120.0, "deadline_in": 120.0}}
            result["warnings"] = [str(exc)]
        found = self._confirm(link, status, arguments)
        tx = found["tx"] or {}
        # The values were changed by the modules; what a confirm changes is what is kept over a reboot.
        result.update(changed=bool(found.get("files")), state=tx.get("state"), probes=found["probes_after"])
        if found["outcome"] != "changed":
            error = found["error"] or {}
            result.update(failed=True, error=error)
            result["msg"] = ": ".join(part for part in (error.get("what"), error.get("why")) if part)
        return result

    def _confirm(self, link: Link, status: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        tx = status.get("tx")
        if not status.get("ok") or not tx:
            error = status.get("error") or {
                "what": f"this node has no transaction {arguments['transaction']}",
                "why": "it was never begun here, or nothing was changed in it",
            }
            return blank("failed", error=error)
        # Probes asked for here have no run of their own before the change: all of them must pass.
        before = [
            {"id": f"{p['kind']}:{p['target']}", "kind": p["kind"], "ok": True}
            for p in arguments["probes"]
            if p.get("target") and p.get("kind")
        ]
        request = {"probes": arguments["probes"], "window": tx.get("window") or 120.0}
        return Confirmation(link, request).confirm_only(tx, before)
