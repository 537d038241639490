# SPDX-License-Identifier: Apache-2.0
"""What the modules call: look, release, undo, take evidence. Each answers with a result and never raises NodeError."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..host import Host, observe_host
from ..model import SCHEMA, Change
from ..transaction import session
from ..transaction.store import Store, now
from . import addresses, catalogue, detect, evidence, faults, flannel, leases, reach, release, scan, undo
from .model import Lease, Network, Refusal, Scan, address_of
from .orphans import calls as orphans
from .orphans.plan import NOTHING, Facts, facts_of
from .plan import BETWEEN, GRACE, MAX_STALE, Limits, Plan, decide, ipam_refusals, judge, stale_of, summary
from .quarantine import Quarantine, runs

Result = Dict[str, Any]
MOST_ROWS = 400  # leases named in a report
MOST_STALE = 1000  # leases released at once: a result must stay small; the rest goes in the next run
_SPAN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)?\s*\Z")
_SIZES = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any, name: str) -> float:
    """Return a time span given as a number of seconds, or as 90s, 15m, 2h, 1d. Raises NodeError(code="usage")."""
    found = _SPAN.match(str(value))
    if not found:
        raise NodeError("%s cannot be %r" % (name, str(value)[:40]), "give seconds, or 90s, 15m, 2h", code="usage")
    return float(found.group(1)) * _SIZES[found.group(2)]


@dataclass
class Asked:
    """What a request wants.

    Attributes:
        run: its id, "" for one made here.
        facts: what the API server says of agents, and of where all nodes' pods are.
        cluster: what it says of this node and of its peers.
        pods: addresses of the node's pods in the API; None where nobody asked.
        first: an earlier scan, as :func:`look` returned it; {} to take both here.
        undo: the run whose leases are to come back, ``latest`` for the newest; "" to release.
    """

    run: str = ""
    limits: Limits = field(default_factory=Limits)
    pods: Optional[Sequence[str]] = None
    first: Mapping[str, Any] = field(default_factory=dict)
    undo: str = ""
    check: bool = False
    root: str = "/"
    facts: Facts = NOTHING
    cluster: faults.Cluster = faults.NOTHING


def asked(params: Mapping[str, Any], check: bool = False) -> Asked:
    """Return what a module's parameters ask for. Raises NodeError(code="usage")."""
    raw = params.get("pod_ips")
    pods = None
    if raw is not None:
        found = [address_of(text) for text in raw]
        if None in found:
            raise NodeError("pod_ips holds something that is no address", code="usage")
        pods = [str(address) for address in found]
    share = params.get("max_stale_percent")
    limits = Limits(
        seconds(params["grace"], "grace") if params.get("grace") is not None else GRACE,
        seconds(params["between"], "between") if params.get("between") is not None else BETWEEN,
        float(MAX_STALE if share is None else share),
    )
    return Asked(
        str(params.get("run") or ""),
        limits,
        pods,
        params.get("first") or {},
        str(params.get("undo") or ""),
        check,
        facts=facts_of(params),
        cluster=faults.cluster_of(params),
    )


@dataclass
class Seen:
    """One look at a node: what is in use, and a scan; or why there is none."""

    host: Host
    cni: detect.Cni
    networks: List[Network]
    scan: Optional[Scan]
    strange: Dict[str, List[str]]
    refusals: List[Refusal]
    capacities: Dict[str, Dict[str, Any]]


def _observe(ask: Asked) -> Seen:
    host = observe_host(ask.root)
    cni = detect.observe(host)
    conf = next(iter(detect.confs(cni.conf_dir, host)), None)
    networks: List[Network] = []
    others: List[str] = []
    if conf is not None:
        networks, others = leases.networks_of(conf, leases.read_env(host))
    where = {kind: one.ipam for one in catalogue.CATALOGUE for kind in (*one.types, one.name)}
    refusals = ipam_refusals(cni, networks, others, where)
    seen = Seen(host, cni, networks, None, {}, refusals, {})
    if networks:
        _scan(seen, ask)
    return seen


def _scan(seen: Seen, ask: Asked) -> None:
    try:
        seen.scan, seen.strange = scan.take(seen.networks, lambda: observe_host(ask.root), ask.pods)
        found = seen.scan.leases
    except NodeError as exc:
        seen.refusals.append(Refusal(exc.code, exc.what, exc.why, exc.next))
        found = _leases_alone(seen)
    for network in seen.networks:
        seen.capacities[network.name] = leases.capacity(network, [one for one in found if one.network == network.name])


def _leases_alone(seen: Seen) -> List[Lease]:
    """Return the leases where the rest of a scan failed: how full the range is can be told all the same."""
    found: List[Lease] = []
    for network in seen.networks:
        try:
            found += leases.read_leases(network, seen.host)[0]
        except NodeError:
            continue  # its refusal says it already
    return found


def _decide(seen: Seen, first: Optional[Scan], stale_before: Sequence[Lease], limits: Limits) -> Plan:
    plan = Plan() if seen.scan is None else decide(seen.networks, first, stale_before, seen.scan, limits)
    plan.refusals = [*seen.refusals, *plan.refusals]
    plan.stale = plan.stale[:MOST_STALE]
    return plan


def _change(lease: Lease, status: str, note: str = "", after: Optional[str] = None) -> Dict[str, Any]:
    held = "held by sandbox " + lease.id[:13]
    change = Change("cni_leases", "%s/%s" % (lease.network, lease.ip), held, None, after, status, "release", note=note)
    return change.to_dict()


def _result(seen_host: Host, **more: Any) -> Result:
    found: Result = {
        "schema": SCHEMA,
        "ok": True,
        "node": seen_host.to_dict(),
        "identity": seen_host.identity(),
        "changes": [],
        "warnings": [],
        "error": None,
    }
    found.update(more)
    return found


def unanswered(exc: NodeError) -> Result:
    """Return the result of a call that could not be answered."""
    return {"schema": SCHEMA, "ok": False, "node": {}, "changes": [], "warnings": [], "error": exc.to_dict(), "cni": {}}


def _report(seen: Seen, plan: Plan) -> Dict[str, Any]:
    shown = [row for row in plan.judged if row.verdict != "live"] + [r for r in plan.judged if r.verdict == "live"]
    found = seen.scan
    sandboxes = list(found.sandboxes.values()) if found else []
    return {
        "cni": seen.cni.to_dict(),
        "networks": summary(seen.networks, plan, seen.capacities),
        "sandboxes": {"all": len(sandboxes), "ready": sum(one.ready for one in sandboxes)} if found else None,
        "pods_asked": found is not None and found.pods is not None,
        "kubelet_pods": found.kubelet_pods if found else None,
        "leases": [dict(row.lease.to_dict(), verdict=row.verdict, why=row.why) for row in shown[:MOST_ROWS]],
        "not_leases": {name: names[:20] for name, names in seen.strange.items() if names},
        "refusals": [one.to_dict() for one in plan.refusals],
        "not_checked": plan.not_checked,
        "scan": _handed(found, plan) if found else {},
    }


def _handed(found: Scan, plan: Plan) -> Dict[str, Any]:
    """Return a scan as a later request gets it back."""
    return {
        "boot_id": found.boot_id,
        "taken": found.taken,
        "wall": found.wall,
        "stale": [lease.to_dict() for lease in stale_of(plan.judged)[:MOST_STALE]],
    }


def _taken_back(raw: Mapping[str, Any]) -> Tuple[Scan, List[Lease]]:
    """Return an earlier scan that a request brought back. Raises NodeError(code="usage") for what is none."""
    rows = raw.get("stale")
    found = (
        [Lease.from_dict(row) if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else None
    )
    taken, wall, boot_id = raw.get("taken"), raw.get("wall"), raw.get("boot_id")
    good = isinstance(taken, (int, float)) and isinstance(wall, (int, float)) and isinstance(boot_id, str)
    if not good or found is None or None in found:
        raise NodeError("the first scan is none", "it must be what cni_state returned as scan", code="usage")
    return Scan(str(boot_id), float(taken or 0), float(wall or 0)), [one for one in found if one is not None]


def look(ask: Asked, pings: bool = False) -> Result:
    """Say what the CNI in use is, how full its ranges are, and which leases are stale. Changes nothing."""
    try:
        seen = _observe(ask)
    except NodeError as exc:
        return unanswered(exc)
    plan = _decide(seen, None, (), ask.limits)
    report = _report(seen, plan)
    report.update(orphans.look(seen.host, ask.facts))
    report.update(_faults(seen, ask))
    if pings and seen.scan is not None:
        alive = reach.of_pods(seen.scan.leases, seen.scan.sandboxes, seen.scan.used)
        report["pings"] = reach.pings(alive)
    changes = [] if plan.refusals else [_change(lease, "pending") for lease in plan.stale]
    return _result(seen.host, cni=report, changes=changes)


def _faults(seen: Seen, ask: Asked) -> Dict[str, Any]:
    """Return the part of a report that names what is wrong, and what could not be looked at."""
    rows, agents = detect.confs(seen.cni.conf_dir, seen.host), ask.facts.agents
    wanted = faults.wants_flannel(seen.cni, rows, agents)
    own = ask.cluster.own
    made = flannel.observe(seen.host, vni=own.vni if own is not None else None) if wanted else None
    known = faults.Asked(seen.cni, rows, agents, set(seen.host.processes), ask.cluster, made)
    unread = list(made.unread) if made is not None else []
    if wanted and own is None:
        unread.append("Flannel's subnet, MAC and ways to other nodes: no cluster was asked")
    return {"faults": [one.to_dict() for one in faults.judge(known)], "faults_not_checked": unread[:20]}


def _first(ask: Asked) -> Tuple[Scan, List[Lease], Optional[Seen]]:
    if ask.first:
        earlier, stale = _taken_back(ask.first)
        return earlier, stale, None
    seen = _observe(ask)
    if seen.scan is None:
        return Scan("", 0.0, 0.0), [], seen
    return seen.scan, stale_of(judge(seen.scan, ask.limits.grace)), None


def drop(ask: Asked, sleep: Callable[[float], None] = time.sleep) -> Result:
    """Release the leases that two scans call stale, or say why not. ``ask.check``: say what would be, move nothing."""
    try:
        earlier, stale, failed = _first(ask)
        if failed is None:
            # A sandbox that is being made has a lease before the runtime names it: the pause is what tells the two.
            sleep(max(0.0, min(ask.limits.between, earlier.taken + ask.limits.between - now())))
        seen = failed or _observe(ask)
    except NodeError as exc:
        return unanswered(exc)
    plan = _decide(seen, earlier, stale, ask.limits)
    report = _report(seen, plan)
    if plan.refusals:
        error = refused(plan.refusals)
        return _result(seen.host, ok=False, cni=report, error=error.to_dict())
    if ask.check or not plan.stale:
        return _result(seen.host, cni=report, changes=[_change(lease, "pending") for lease in plan.stale])
    return _released(ask, seen, plan, report)


def refused(refusals: Sequence[Refusal]) -> NodeError:
    """Return the error of a node where nothing may be released."""
    first = refusals[0]
    more = "; and: " + "; ".join(one.what for one in refusals[1:4]) if len(refusals) > 1 else ""
    why = first.what + (" (%s)" % first.why if first.why else "") + more
    data = {"refusals": [one.to_dict() for one in refusals]}
    return NodeError("no lease was released", why, first.next, "refused", data)


def _released(ask: Asked, seen: Seen, plan: Plan, report: Dict[str, Any]) -> Result:
    store = Store(seen.host)
    try:
        quarantine = Quarantine(seen.host, ask.run or session.new_id("leases"))
        store.create_dirs()
        with store.lock():
            rows = release.release(quarantine, seen.networks, plan.stale, seen.cni.bin_dirs)
    except NodeError as exc:
        return _result(seen.host, ok=False, cni=report, error=exc.to_dict())
    status = {"del": "changed", "file": "changed", "gone": "ok", "kept": "failed"}
    words = {"del": "given back by CNI DEL", "file": "its file was moved", "gone": "somebody gave it back just now"}
    changes = [_change(row.lease, status[row.how], row.note or words.get(row.how, "")) for row in rows]
    report["released"] = dict(release.counted(rows))
    report["quarantine"] = quarantine.shown
    report["run"] = quarantine.run
    warnings = sorted({row.note for row in rows if row.how == "file" and row.note})[:5]
    return _result(seen.host, cni=report, changes=changes, warnings=warnings)


def bring_back(ask: Asked) -> Result:
    """Undo a release: bring its leases back where nobody has their addresses now."""
    try:
        host = observe_host(ask.root)
        found = runs(host)
        wanted = found[-1] if ask.undo == "latest" and found else ask.undo
        quarantine = Quarantine(host, wanted)
        quarantine.load()
        used = addresses.used(host)
        store = Store(host)
        if ask.check:
            rows = undo.plan(quarantine, used)
        else:
            store.create_dirs()
            with store.lock():
                rows = undo.undo(quarantine, used)
    except NodeError as exc:
        return unanswered(exc)
    done = "pending" if ask.check else "changed"
    status = {"restored": done, "there": "ok", "taken": "foreign", "failed": "failed"}
    changes = []
    for row in rows:
        lease = row.item.lease
        held = "held by sandbox " + lease.id[:13]
        key = "%s/%s" % (lease.network, lease.ip)
        after = held if row.how in ("restored", "there") and not ask.check else None
        before = held if row.how == "there" else None
        change = Change("cni_leases", key, before, held, after, status[row.how], "undo", note=row.note)
        changes.append(change.to_dict())
    counts = {how: sum(row.how == how for row in rows) for how in status}
    report = {"undone": counts, "run": quarantine.run, "quarantine": quarantine.shown}
    failed = [row for row in rows if row.how == "failed"]
    if failed:
        error = NodeError("%d leases could not be brought back" % len(failed), failed[0].note)
        return _result(host, ok=False, cni=report, changes=changes, error=error.to_dict())
    warnings = ["%s: %s" % (row.item.lease.ip, row.note) for row in undo.taken(rows)[:5]]
    return _result(host, cni=report, changes=changes, warnings=warnings)


def gather(ask: Asked) -> Result:
    """Take the evidence. Changes nothing but the archive's own directory."""
    try:
        host = observe_host(ask.root)
        found = evidence.take(host, detect.observe(host), ask.run or session.new_id("evidence"))
    except NodeError as exc:
        return unanswered(exc)
    return _result(host, cni={"evidence": found})
