# SPDX-License-Identifier: Apache-2.0
"""What the modules call: name the orphans, remove them, bring them back. Never raises NodeError."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ...errors import NodeError
from ...host import Host, observe_host
from ...model import SCHEMA, Change
from ...transaction import session
from ...transaction.store import Store
from .. import command, cri, detect, leases
from ..command import Run
from ..model import Sandbox
from . import backup, path, plan, read, remove, routes
from .model import Artefact

Result = Dict[str, Any]
MOST_ROWS = 100  # orphans named in a report
SUFFIX = "-orphans"  # after a run's id: each rung keeps its own backup


@dataclass
class Asked:
    """What a request wants.

    Attributes:
        run: its id, "" for one made here.
        only: ids of the orphans that may go, as an earlier look named them; None: all.
        undo: the run whose orphans are to come back, ``latest`` for the newest; "" to remove.
    """

    run: str = ""
    facts: plan.Facts = plan.NOTHING
    only: Optional[Sequence[str]] = None
    undo: str = ""
    check: bool = False
    root: str = "/"


def asked(params: Mapping[str, Any], check: bool = False) -> Asked:
    """Return what a module's parameters ask for."""
    only = params.get("only")
    ids = None if only is None else [str(one) for one in only]
    return Asked(str(params.get("run") or ""), plan.facts_of(params), ids, str(params.get("undo") or ""), check)


def judged(host: Host, facts: plan.Facts, run: Run = command.run) -> Tuple[plan.Plan, str]:
    """Return the plan for a node as it is now, and the directory of its configurations.

    Raises:
        NodeError: ``ip`` cannot be run.
    """
    info, _way = cri.info(host, run)
    node = read.read(host, info.conf_dir, run)
    sandboxes: Optional[Mapping[str, Sandbox]] = None
    try:
        sandboxes = cri.sandboxes(host, run)
    except NodeError as exc:
        node.unread.append(str(exc))
    # What was read is older than these: a pod that starts meanwhile is seen, and what it uses is left.
    later = observe_host(host.root)
    used = read.used(later, node, sandboxes or {})
    env = leases.read_env(host)
    networks = [env[name] for name in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK") if env.get(name)]
    way = path.observe(host, node.links, run)
    confs = detect.confs(info.conf_dir, host)
    subnets = [env[name] for name in ("FLANNEL_SUBNET",) if env.get(name)]
    return plan.judge(plan.Asked(node, confs, used, sandboxes, facts, way, networks, subnets)), info.conf_dir


def _again(host: Host, conf_dir: str, run: Run) -> Mapping[Tuple[str, str], Artefact]:
    """Return everything there is now by its key; routes of whoever made them, too."""
    node = read.read(observe_host(host.root), conf_dir, run)
    found = {one.key: one for one in map(routes.route, node.routes)}
    found.update({one.key: one for one in node.artefacts})
    return found


def report(found: plan.Plan) -> Dict[str, Any]:
    """Return the orphans as they stand in a node's report."""
    return {
        "orphans": [one.to_dict() for one in found.orphans[:MOST_ROWS]],
        "orphans_more": max(0, len(found.orphans) - MOST_ROWS),
        "orphans_not_checked": [sentence[:300] for sentence in found.not_checked[:20]],
        "orphans_refusals": [one.to_dict() for one in found.refusals],
    }


def look(host: Host, facts: plan.Facts, run: Run = command.run) -> Dict[str, Any]:
    """Return the part of a node's report that names its orphans. Changes nothing; raises nothing."""
    try:
        found, _conf_dir = judged(host, facts, run)
    except NodeError as exc:
        return {"orphans": [], "orphans_more": 0, "orphans_not_checked": [str(exc)[:300]], "orphans_refusals": []}
    return report(found)


def _change(artefact: Artefact, status: str, done: bool, action: str, note: str = "") -> Dict[str, Any]:
    key = "%s/%s" % (artefact.kind, artefact.name)
    there = "of %s" % (artefact.owner or "a pod that is gone")
    gone = action == "remove"
    before, want = (there, None) if gone else (None, there)
    after = want if done else before if status == "failed" else None
    return Change("cni_orphans", key[:300], before, want, after, status, action, note=note[:300]).to_dict()


def _result(host: Host, cni: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], **more: Any) -> Result:
    base: Result = {"schema": SCHEMA, "ok": True, "node": host.to_dict(), "identity": host.identity()}
    return {**base, "cni": dict(cni), "changes": list(changes), "warnings": [], "error": None, **more}


def _unanswered(exc: NodeError) -> Result:
    return {"schema": SCHEMA, "ok": False, "node": {}, "changes": [], "warnings": [], "error": exc.to_dict(), "cni": {}}


def drop(ask: Asked, run: Run = command.run) -> Result:
    """Remove the orphans, or say why not. ``ask.check``: say what would go, remove nothing."""
    try:
        host = observe_host(ask.root)
        found, conf_dir = judged(host, ask.facts, run)
    except NodeError as exc:
        return _unanswered(exc)
    told = report(found)
    if found.refusals:
        first = found.refusals[0]
        data = {"refusals": [one.to_dict() for one in found.refusals]}
        error = NodeError("no orphan was removed", "%s: %s" % (first.what, first.why), first.next, "refused", data)
        return _result(host, told, [], ok=False, error=error.to_dict())
    going = [one for one in found.removable if ask.only is None or one.id in ask.only]
    stays = [one for one in found.orphans if one.refused]
    warnings = ["%s %s stays: %s" % (one.artefact.kind, one.artefact.name, one.refused) for one in stays[:5]]
    if ask.check or not going:
        pending = [_change(one, "pending", False, "remove") for one in going[:MOST_ROWS]]
        return _result(host, told, pending, warnings=warnings)
    store = Store(host)
    try:
        kept = backup.Backup(host, ask.run + SUFFIX if ask.run else session.new_id("orphans"))
        store.create_dirs()
        with store.lock():
            rows = remove.remove(kept, going, lambda: _again(host, conf_dir, run), run)
    except NodeError as exc:
        return _result(host, told, [], ok=False, error=exc.to_dict())
    status = {"removed": "changed", "gone": "ok", "kept": "failed", "failed": "failed"}
    changes = [_change(row.artefact, status[row.how], row.how == "removed", "remove", row.note) for row in rows]
    told.update({"orphans_removed": remove.counted(rows), "backup": kept.shown, "backup_run": kept.run})
    return _result(host, told, changes[:MOST_ROWS], warnings=warnings)


def bring_back(ask: Asked, run: Run = command.run) -> Result:
    """Bring back what a run removed, where nobody has made another of its name since."""
    try:
        host = observe_host(ask.root)
        kept = backup.kept(host, ask.undo if ask.undo == "latest" else _name(host, ask.undo))
        conf_dir = cri.info(host, run)[0].conf_dir
        store = Store(host)
        if ask.check:
            rows = remove.look_back(kept, lambda: _again(host, conf_dir, run))
        else:
            store.create_dirs()
            with store.lock():
                rows = remove.restore(kept, lambda: _again(host, conf_dir, run), run)
    except NodeError as exc:
        return _unanswered(exc)
    status = {
        "restored": "pending" if ask.check else "changed",
        "there": "ok",
        "differs": "foreign",
        "failed": "failed",
    }
    back = ("restored", "there")
    changes = [
        _change(row.artefact, status[row.how], row.how in back and not ask.check, "undo", row.note) for row in rows
    ]
    counts = {how: sum(row.how == how for row in rows) for how in status}
    told = {"orphans_undone": counts, "backup": kept.shown, "backup_run": kept.run}
    failed = [row for row in rows if row.how == "failed"]
    if failed:
        what = "%d things could not be brought back" % len(failed)
        error = NodeError(what, "%s: %s" % (failed[0].artefact.name, failed[0].note))
        return _result(host, told, changes[:MOST_ROWS], ok=False, error=error.to_dict())
    warnings = ["%s: %s" % (row.artefact.name, row.note) for row in rows if row.how == "differs"][:5]
    return _result(host, told, changes[:MOST_ROWS], warnings=warnings)


def _name(host: Host, run: str) -> str:
    """Return the backup's name: that of the rung, or as it stands where a play has named it so."""
    return run + SUFFIX if run + SUFFIX in backup.names(host) else run
