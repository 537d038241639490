# SPDX-License-Identifier: Apache-2.0
"""Apply, reconnect, probe, confirm: one node's change from its first write to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from .lease import Lease, Wait
from .link import LinkError

#: Seconds before the deadline in which the node commits nothing any more (transaction/commit.py: MARGIN).
MARGIN = 15.0
#: How long after its deadline a node is waited for: the reverter, and the link coming back.
GRACE = 30.0
#: Seconds before the margin that a wait for the Lease leaves for the confirm itself.
CONFIRM = 5.0
REQUEST_LIMIT = 30.0
SLOW_LINK = 20.0
_REFUSED = ("drifted", "busy", "unsupported", "superseded", "usage", "not-persistable", "unknown")

Result = dict[str, Any]


class Node(Protocol):
    """What is needed of a link to a node."""

    def renew(self) -> None:
        """Use new connections from now on."""

    def send(self, request: Mapping[str, Any], limit: float) -> Result:
        """Send a request; raises LinkError."""


def blank(outcome: str, **fields: Any) -> Result:
    """Return a node's part of a run with every field there."""
    found: Result = {
        "outcome": outcome,
        "host": {},
        "identity": {},
        "plan_hash": "",
        "changes": [],
        "probes_before": [],
        "probes_after": [],
        "tx": None,
        "error": None,
        "warnings": [],
        "timings": {},
        "layers": [],
        "pods": [],
        "stale_pods": [],
    }
    found.update(fields)
    return found


def from_result(outcome: str, result: Mapping[str, Any], **fields: Any) -> Result:
    """Return a node's part of a run from its result."""
    return blank(
        outcome,
        host=result.get("node") or {},
        identity=result.get("identity") or {},
        plan_hash=result.get("plan_hash") or "",
        changes=result.get("changes") or [],
        probes_before=result.get("probes") or [],
        tx=result.get("tx"),
        error=result.get("error"),
        warnings=result.get("warnings") or [],
        timings=dict(result.get("timings") or {}),
        layers=result.get("layers") or [],
        pods=result.get("pods") or [],
        stale_pods=result.get("stale_pods") or [],
        **fields,
    )


def ask(node: Node, request: Mapping[str, Any]) -> Result:
    """Send a request that changes nothing (plan, status, observe, probe) and say how the node stands."""
    try:
        result = _send_again_if_lost(node, request)
    except LinkError as exc:
        return blank("failed" if exc.kind == "failed" else "unreachable", error=exc.to_dict())
    if not result.get("ok"):
        return from_result(_outcome_of_error(result), result)
    pending = any(c["status"] == "pending" for c in result.get("changes") or [])
    extra = {
        key: result[key] for key in ("transactions", "settings", "observations", "known", "paths") if key in result
    }
    return from_result("pending" if pending else "ok", result, **extra)


def _send_again_if_lost(node: Node, request: Mapping[str, Any]) -> Result:
    """Send a harmless request; a shared connection that died unnoticed gets a second try on a new one."""
    try:
        return node.send(request, REQUEST_LIMIT)
    except LinkError as exc:
        if exc.kind != "lost":
            raise
    node.renew()
    return node.send(request, REQUEST_LIMIT)


def _outcome_of_error(result: Mapping[str, Any]) -> str:
    code = (result.get("error") or {}).get("code")
    if code == "reverted":
        return "reverted"
    return "refused" if code in _REFUSED else "failed"


class Confirmation:
    """The way of one change on one node."""

    def __init__(self, node: Node, request: Mapping[str, Any], clock: Any = time, lease: Lease | None = None) -> None:
        self.node = node
        self.lease = lease
        self.request = request
        self.clock = clock
        self.window = float(request.get("window") or 120)
        self.started = clock.monotonic()
        self.deadline = self.started + self.window  # by this controller's clock; the node has its own

    def run(self) -> Result:
        """Apply (or roll back), then confirm over a new connection. Never raises LinkError."""
        try:
            # The node itself allows a quarter of the window; the rest is for slow links.
            result = self.node.send(self.request, self.window / 4 + SLOW_LINK)
        except LinkError as exc:
            self.node.renew()
            return self._after_lost_apply(exc)
        self.node.renew()
        if not result.get("ok"):
            return self._failed_apply(result)
        tx = result.get("tx")
        if not tx or tx["state"] != "ARMED":
            changed = any(c["status"] == "changed" for c in result["changes"])
            return from_result("changed" if changed else "ok", result)
        answered = self.clock.monotonic()
        self.deadline = answered + float(tx["deadline_in"])
        found = from_result("failed", result)
        if self.lease is None:
            return self._confirm(found, result, str(tx["id"]))
        return self._after_lease(self.lease, found, result, answered)

    def _after_lease(self, lease: Lease, found: Result, applied: Mapping[str, Any], answered: float) -> Result:
        """Confirm once the node's Lease was renewed after the change; else have the change put back."""
        tx_id = str(applied["tx"]["id"])
        waited: Wait = lease.wait(answered, self.deadline - MARGIN - CONFIRM)
        found["timings"]["lease"] = round(self.clock.monotonic() - answered, 3)
        found = self._confirm(found, applied, tx_id) if waited.ok else self._revert(found, tx_id, waited.why)
        found["probes_after"] = [*found["probes_after"], waited.probe(lease.name)]
        return found

    def confirm_only(self, tx: Mapping[str, Any], before: list[dict[str, Any]]) -> Result:
        """Confirm a transaction that modules filled. Never raises LinkError.

        Args:
            tx: as it stands in a result.
            before: probes that must pass.
        """
        self.deadline = self.clock.monotonic() + float(tx.get("deadline_in") or 0.0)
        if tx["state"] == "DONE":
            return blank("changed", tx=dict(tx))
        if tx["state"] != "ARMED":
            return blank("reverted", tx=dict(tx), error=_error("the change was put back", "not confirmed in time", ""))
        return self._confirm(blank("failed"), {"probes": before}, str(tx["id"]))

    def _failed_apply(self, result: Mapping[str, Any]) -> Result:
        found = from_result(_outcome_of_error(result), result)
        if found["outcome"] == "reverted":
            self._probe_again(found)
        return found

    def _confirm(self, found: Result, applied: Mapping[str, Any], tx_id: str) -> Result:
        """Confirm until it holds, is refused, or the time for it is over."""
        request = {
            "schema": 1,
            "op": "confirm",
            "tx": tx_id,
            "run": self.request.get("run"),
            "probes": self.request.get("probes") or [],
            "before": applied.get("probes") or [],
        }
        begun, pause, problem = self.clock.monotonic(), 0.5, ""
        while self.deadline - self.clock.monotonic() > MARGIN:
            try:
                limit = min(REQUEST_LIMIT, self.deadline - self.clock.monotonic() - MARGIN / 2)
                result = self.node.send(request, limit)
            except LinkError as exc:
                problem = f"{exc.what}: {exc.why}" if exc.why else exc.what
                self.clock.sleep(min(pause, max(0.0, self.deadline - self.clock.monotonic() - MARGIN)))
                pause = min(5.0, pause * 2)
                continue
            found["timings"]["confirm"] = round(self.clock.monotonic() - begun, 3)
            return self._confirmed(found, result, tx_id)
        return self._wait_reverted(found, tx_id, f"no confirmation over a new connection: {problem}")

    def _confirmed(self, found: Result, result: Mapping[str, Any], tx_id: str) -> Result:
        found["probes_after"] = [_ssh_probe(True), *(result.get("probes") or [])]
        found["tx"] = result.get("tx") or found["tx"]
        found["warnings"].extend(result.get("warnings") or [])
        if result.get("ok"):
            _settle_files(found, "changed")
            found["outcome"] = "changed"
            found["error"] = None
            found["files"] = result.get("files") or []
            return found
        found["error"] = result.get("error")
        if (result.get("error") or {}).get("code") == "reverted":
            return self._reverted(found, result.get("rows") or [])
        return self._revert(found, tx_id, str((result.get("error") or {}).get("what", "the confirm was refused")))

    def _revert(self, found: Result, tx_id: str, why: str) -> Result:
        """Ask the node to put itself back now; its reverter does it anyway if this does not arrive."""
        try:
            result = self.node.send({"schema": 1, "op": "revert", "tx": tx_id, "why": why}, REQUEST_LIMIT)
        except LinkError:
            return self._wait_reverted(found, tx_id, why)
        if not result.get("ok"):
            return self._wait_reverted(found, tx_id, why)
        found["tx"] = result.get("tx")
        if (found["tx"] or {}).get("state") == "DONE":  # an earlier confirm arrived after all
            _settle_files(found, "changed")
            return dict(found, outcome="changed", error=None)
        return self._reverted(found, result.get("rows") or [], why)

    def _wait_reverted(self, found: Result, tx_id: str, why: str) -> Result:
        """Wait for the node's own reverter, and see that the node is back."""
        limit = max(self.deadline, self.clock.monotonic()) + GRACE
        status: Mapping[str, Any] = {"schema": 1, "op": "status", "tx": tx_id}
        problem = ""
        while self.clock.monotonic() < limit:
            try:
                result = self.node.send(status, REQUEST_LIMIT / 2)
            except LinkError as exc:
                problem = exc.why or exc.what
                self.clock.sleep(2.0)
                continue
            done = self._by_status(found, result, why)
            if done is not None:
                return done
            self.clock.sleep(1.0)
        error = {
            "what": "the node did not come back within its window",
            "why": problem or why,
            "next": "its own reverter puts it back if it lives; reach it by its console",
            "code": "unconfirmed",
            "data": {},
        }
        found["probes_after"] = [_ssh_probe(False, problem)]
        return dict(found, outcome="unreachable", error=error)

    def _by_status(self, found: Result, result: Mapping[str, Any], why: str) -> Result | None:
        """Return how the node came out, None while its transaction is still open."""
        found["host"] = found["host"] or result.get("node") or {}
        found["identity"] = found["identity"] or result.get("identity") or {}
        tx = result.get("tx")
        if tx is None:
            if not result.get("ok"):
                return None
            return dict(found, outcome="failed", error=_error("nothing was changed on this node", why, "run again"))
        found["tx"] = tx
        if tx["state"] == "DONE":
            _settle_files(found, "changed")
            return dict(found, outcome="changed", error=None)
        if tx["state"] != "REVERTED":
            return None
        rows = next((t.get("rows") for t in result.get("transactions") or [] if t.get("id") == tx["id"]), None)
        return self._reverted(found, rows or [], why)

    def _after_lost_apply(self, exc: LinkError) -> Result:
        """The apply's answer is missing: find out what the node made of it."""
        if exc.kind != "lost":
            return blank("failed" if exc.kind == "failed" else "unreachable", error=exc.to_dict())
        tx_id = str(self.request.get("run") or "")
        found = blank("failed", error=exc.to_dict())
        try:
            result = self.node.send({"schema": 1, "op": "status", "tx": tx_id}, REQUEST_LIMIT / 2)
        except LinkError:
            return self._wait_reverted(found, tx_id, exc.what)
        done = self._by_status(found, result, exc.what)
        return done if done is not None else self._revert(found, tx_id, exc.what)

    def _reverted(self, found: Result, rows: Any, why: str = "") -> Result:
        by_key = {(row.get("family"), row.get("key")): row for row in rows if isinstance(row, dict)}
        for change in found["changes"]:
            if change["status"] == "changed":
                row = by_key.get((change["family"], change["key"]), {})
                change["status"] = "foreign" if row.get("status") == "foreign" else "reverted"
                change["note"] = row.get("note") or change["note"]
        _settle_files(found, "reverted")
        found["outcome"] = "reverted"
        found["tx"] = dict(found["tx"] or {}, state="REVERTED", deadline_in=None) if found["tx"] else None
        if why or not found["error"]:
            found["error"] = _error("the change was put back", why, "look at the probes, then run again", "reverted")
        self._probe_again(found)
        return found

    def _probe_again(self, found: Result) -> None:
        """Probe a reverted node once more: being put back is proved too."""
        request = {"schema": 1, "op": "probe", "probes": self.request.get("probes") or []}
        try:
            result = self.node.send(request, REQUEST_LIMIT)
        except LinkError as exc:
            found["probes_after"] = [_ssh_probe(False, exc.why or exc.what)]
            return
        found["probes_after"] = [_ssh_probe(True), *(result.get("probes") or [])]


def _ssh_probe(ok: bool, detail: str = "") -> dict[str, Any]:
    text = "a new connection" if ok else detail or "no new connection"
    return {"id": "ssh", "kind": "ssh", "target": "", "ok": ok, "detail": text, "ms": None}


def _settle_files(found: Result, status: str) -> None:
    for change in found["changes"]:
        if change["family"] == "files" and change["status"] == "pending":
            change["status"] = status
            change["after"] = change["want"] if status == "changed" else change["before"]


def _error(what: str, why: str, following: str, code: str = "failed") -> dict[str, Any]:
    return {"what": what, "why": why, "next": following, "code": code, "data": {}}
