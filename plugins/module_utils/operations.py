# SPDX-License-Identifier: Apache-2.0
"""What a node can be asked: one function for each operation of the request schema."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from . import match, persist, podmtu, pods, probe
from .errors import NodeError
from .families import TUNING
from .family import Family
from .host import Host
from .model import SCHEMA, Change, plan_hash
from .mtu.model import grows
from .transaction import session
from .transaction.commit import kept_before
from .transaction.restore import family_of, resolve, revert
from .transaction.store import COMMITTED, DONE, REVERTED, Store, Tx, now

Result = Dict[str, Any]
#: How long a confirm waits for probes to come back: a port may need to learn its link anew.
SETTLE = 20.0
#: The same for a kubelet alone, which learns nothing: it runs or it does not.
SETTLE_KUBELET = 8.0


@dataclass
class Planned:
    """A node's plan, and what it rests on."""

    changes: List[Change] = field(default_factory=list)
    files: List[Change] = field(default_factory=list)
    why: List[str] = field(default_factory=list)
    catalogue: str = ""
    #: Of the first of two rounds: the whole change, which is what was reviewed.
    whole: List[Change] = field(default_factory=list)

    def all(self) -> List[Change]:
        """Return every change, files last."""
        return self.changes + self.files

    def pending(self) -> List[Change]:
        """Return the changes still to be made."""
        return [c for c in self.all() if c.status == "pending"]

    def hash(self, host: Host) -> str:
        """Return the plan's hash."""
        return plan_hash(host.machine_id, self.catalogue, self.whole or self.all())


@dataclass
class Call:
    """One request being answered."""

    request: Mapping[str, Any]
    families: Sequence[Family]
    host: Host
    code: session.Code
    started: float = field(default_factory=time.monotonic)
    timings: Dict[str, float] = field(default_factory=dict)
    warnings: List[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The node's transactions."""
        return Store(self.host)

    def text(self, name: str) -> str:
        """Return a text field of the request, "" where it is absent."""
        value = self.request.get(name)
        return "" if value is None else str(value)

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        """Run one step and note how long it took, in seconds."""
        begun = time.monotonic()
        try:
            return work()
        finally:
            self.timings[step] = round(self.timings.get(step, 0.0) + time.monotonic() - begun, 4)

    def result(self, planned: Optional[Planned] = None, tx: Optional[Tx] = None, **more: Any) -> Result:
        """Return the result of this request."""
        found: Result = {
            "schema": SCHEMA,
            "op": self.text("op"),
            "ok": True,
            "node": self.host.to_dict(),
            "identity": self.host.identity(),
            "changes": [c.to_dict() for c in planned.all()] if planned else [],
            "plan_hash": planned.hash(self.host) if planned else "",
            "layers": planned.why if planned else [],
            "probes": [],
            "tx": tx.describe() if tx else None,
            "warnings": self.warnings,
            "error": None,
            "timings": dict(self.timings, total=round(time.monotonic() - self.started, 4)),
        }
        found.update(more)
        return found


def make_plan(call: Call) -> Planned:
    """Observe, then decide. Raises NodeError."""
    facts = match.facts(
        call.host, call.request.get("labels"), call.request.get("groups"), match.link_speed(call.host.root)
    )
    settings, why = match.select(call.request.get("layers") or [], facts)
    planned = Planned(why=why)
    for name, raw in settings.items():
        if not raw:
            continue
        family = family_of(name, call.families)
        parsed = family.parse(raw)
        observation = family.observe(parsed, call.host)
        if call.request.get("hold"):
            planned.whole.extend(family.plan(parsed, observation))
            parsed = list(family.first_round(parsed))
        planned.changes.extend(family.plan(parsed, observation))
        planned.catalogue += "%s=%s;" % (name, family.catalogue_version)
    kept = persist.load(call.host)
    if planned.whole:
        planned.whole.extend(persist.plan(persist.merge(kept, planned.whole), call.host))
    planned.files = persist.plan(persist.merge(kept, planned.changes), call.host)
    return planned


def finish_due(call: Call) -> None:
    """Finish what an earlier request left unfinished; writes nothing where nothing is due."""
    store = call.store
    due = [tx for tx in store.unfinished() if tx.due(call.host)]
    if not due:
        return
    hung = any(tx.overdue(call.host) for tx in due)
    with store.lock_for_resolve() if hung else store.lock():
        for row in resolve(store, TUNING, call.host):
            call.warnings.append("transaction %s was unfinished; it is %s now" % (row["id"], row["state"]))


def op_plan(call: Call) -> Result:
    """Plan without changing anything. A probe list in the request is run too."""
    finish_due(call)
    planned = call.timed("plan", lambda: make_plan(call))
    probes = call.timed("probe", lambda: probe.run_probes(call.request.get("probes") or [], call.host))
    wishes = pods.wishes_of(planned.changes)
    short = call.timed("pods", lambda: pods.short_of(wishes, call.host, call.warnings))
    stale = call.timed("pods", lambda: podmtu.stale(planned.changes, call.host, call.warnings))
    return call.result(planned, probes=probes, pods=short, stale_pods=stale, transactions=_open(call))


def _open(call: Call) -> List[Dict[str, Any]]:
    return [session.describe(tx) for tx in call.store.unfinished()]


def _check_expected(call: Call, planned: Planned) -> None:
    expected = call.text("expect")
    if expected and expected != planned.hash(call.host):
        raise NodeError(
            "this node is not as it was when the plan was made",
            "its plan would be another one now",
            "make a new plan: tune-nodes plan",
            code="drifted",
            data={"changes": [c.to_dict() for c in planned.all()], "plan_hash": planned.hash(call.host)},
        )


def op_apply(call: Call) -> Result:
    """Plan, arm, write, verify. Leaves the transaction ARMED (or confirms it: ``persist: auto``)."""
    window = session.check_window(call.request.get("window") or session.DEFAULT_WINDOW)
    finish_due(call)
    probes = call.timed("probe", lambda: probe.run_probes(call.request.get("probes") or [], call.host))
    planned = call.timed("plan", lambda: make_plan(call))
    _check_expected(call, planned)
    joined = call.text("tx")
    if not planned.pending() and not joined:
        session.refuse_if_busy(call.store)
        return call.result(planned, probes=probes)
    _refuse_into_black_hole(planned, probes)
    persist.check_writable(planned.files, call.host)  # a node that cannot keep it is not even touched
    store = call.store
    store.create_dirs()
    with store.lock():
        planned = call.timed("plan", lambda: make_plan(call))  # nobody writes beneath the lock
        _check_expected(call, planned)
        persist.check_writable(planned.files, call.host)
        tx = call.timed("arm", lambda: _arm(call, store, window))
        if planned.pending():
            call.timed("write", lambda: _write(call, store, tx, planned, window))
        if call.text("persist") == "auto" and not joined:
            files = call.timed("confirm", lambda: session.confirm(store, tx, TUNING, call.host, local=True))
            planned.files = files or planned.files
    return call.result(planned, tx, probes=probes)


def _refuse_into_black_hole(planned: Planned, probes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse larger packets where those of today's size are lost already: no later probe would tell. Raises NodeError.

    A probe that fails beforehand is not asked for afterwards.
    """
    hidden = probe.swallowed(probes) if grows(planned.changes) else []
    if hidden:
        raise NodeError(
            "packets of the full size are lost between this node and %s" % ", ".join(hidden),
            "small ones arrive, those of the path's MTU do not: a hop swallows them, so a larger MTU cannot be proved",
            "find the hop (tune-nodes probe), mend it, then run again",
            code="unsupported",
        )


def _arm(call: Call, store: Store, window: float) -> Tx:
    joined = call.text("tx")
    if joined:
        tx = store.get(joined)
        session.rearm(store, tx, call.host)
        return tx
    tx_id = call.text("run") or session.new_id("local")
    return session.begin(store, tx_id, call.text("run") or tx_id, window, call.host, call.code)


def _write(call: Call, store: Store, tx: Tx, planned: Planned, window: float) -> None:
    limit = max(1.0, window / 4 - (time.monotonic() - call.started))
    try:
        session.write_changes(store, tx, planned.changes, call.families, call.host, limit)
    except NodeError as exc:
        exc.data["changes"] = [c.to_dict() for c in planned.all()]
        exc.data["tx"] = tx.describe()
        raise


def op_begin(call: Call) -> Result:
    """Arm a transaction that modules join by its id."""
    window = session.check_window(call.request.get("window") or session.DEFAULT_WINDOW)
    finish_due(call)
    store = call.store
    store.create_dirs()
    with store.lock():
        tx = _arm(call, store, window)
    return call.result(tx=tx)


def op_confirm(call: Call) -> Result:
    """Probe, then pass the commit point. Where a probe that passed before is lost, revert at once."""
    store = call.store
    tx = store.get(call.text("tx"))
    if tx.state == COMMITTED:
        with store.lock():
            tx = _settled(call, store, tx.id)
    if tx.state == DONE:
        return call.result(tx=tx, files=[])
    session.check_confirmable(tx, call.host)
    probes = call.timed("probe", lambda: _probe_until(call, tx))
    missing = probe.lost(call.request.get("before") or [], probes)
    with store.lock():
        tx = _settled(call, store, tx.id)
        if tx.state == DONE:  # by an earlier confirm, whose answer was lost
            return call.result(tx=tx, probes=probes, files=[])
        if missing:
            why = "probe lost: " + "; ".join("%s (%s)" % (p["id"], _detail(p, probes)) for p in missing)
            return _abort(call, store, tx, why, probes)
        files = call.timed("confirm", lambda: session.confirm(store, tx, TUNING, call.host))
    return call.result(tx=tx, probes=probes, files=[c.to_dict() for c in files])


def _settled(call: Call, store: Store, tx_id: str) -> Tx:
    """Return a transaction, past its commit point a finished one: from there it goes forward only. Call under the lock.

    Its confirm may have been cut off in between, and whoever asks now may not know.
    """
    tx = store.get(tx_id)
    if tx.state == COMMITTED:
        resolve(store, TUNING, call.host)
        tx = store.get(tx_id)
    return tx


def _detail(before: Mapping[str, Any], probes: Sequence[Mapping[str, Any]]) -> str:
    return next((str(p.get("detail")) for p in probes if p["id"] == before["id"]), "gone")


def _probe_until(call: Call, tx: Tx) -> List[Dict[str, Any]]:
    """Run the probes until all that passed before pass again, or the time to settle is over."""
    before = call.request.get("before") or []
    begun = now()
    while True:
        probes = probe.run_probes(call.request.get("probes") or [], call.host)
        lost = probe.lost(before, probes)
        settle = SETTLE if any(p.get("kind") != "kubelet" for p in lost) else SETTLE_KUBELET
        if not lost or now() >= min(begun + settle, tx.deadline - 20.0):
            return probes
        time.sleep(0.5)


def _abort(call: Call, store: Store, tx: Tx, why: str, probes: Sequence[Mapping[str, Any]] = ()) -> Result:
    rows = call.timed("revert", lambda: revert(store, tx, TUNING, call.host, why))
    return call.result(tx=tx, ok=False, probes=list(probes), rows=rows, error=_reverted_error(tx, why).to_dict())


def _reverted_error(tx: Tx, why: str) -> NodeError:
    run = tx.header.get("run") or tx.id
    return NodeError("the change was put back", why, "see: tune-nodes show %s" % run, "reverted")


def op_revert(call: Call) -> Result:
    """Put an unconfirmed transaction back now, without waiting for its window."""
    store = call.store
    with store.lock():
        tx = _settled(call, store, call.text("tx"))
        if tx.state in (DONE, REVERTED):
            return call.result(tx=tx, rows=[])
        rows = revert(store, tx, TUNING, call.host, call.text("why") or "asked for")
    return call.result(tx=tx, rows=rows)


def op_rollback(call: Call) -> Result:
    """Undo a confirmed transaction in a new one, which must be confirmed like any change.

    ``"check": true`` plans only.
    """
    window = session.check_window(call.request.get("window") or session.DEFAULT_WINDOW)
    finish_due(call)
    store = call.store
    undone = store.get(call.text("tx"))
    probes = probe.run_probes(call.request.get("probes") or [], call.host)
    changes, kept = session.undo_changes(store, undone, TUNING, call.host)
    settings = persist.undo(persist.load(call.host), kept_before(undone), kept)
    planned = Planned(changes, persist.plan(settings, call.host), ["rollback of " + undone.id])
    if call.request.get("check"):
        return call.result(planned, probes=probes)
    _check_expected(call, planned)
    with store.lock():
        persist.check_writable(planned.files, call.host)
        run = call.text("run") or session.new_id("rollback")
        tx = session.begin(
            store, run, run, window, call.host, call.code, undoes=undone.id, undone=[c.to_dict() for c in kept]
        )
        call.timed("write", lambda: _write(call, store, tx, planned, window))
        if call.text("persist") == "auto":
            planned.files = session.confirm(store, tx, TUNING, call.host, local=True) or planned.files
    return call.result(planned, tx, probes=probes)


def op_status(call: Call) -> Result:
    """Say where this node's transactions stand."""
    finish_due(call)
    wanted = call.text("tx")
    found = call.store.list()
    one = next((tx for tx in found if tx.id == wanted), None)
    return call.result(
        tx=one,
        transactions=[session.describe(tx) for tx in found[-20:]],
        settings=persist.load(call.host),
        known=one is not None or not wanted,
    )


def op_observe(call: Call) -> Result:
    """Say what this node is and holds: the facts, without a wish."""
    observations = {family.name: family.observe([], call.host) for family in call.families}
    kept = persist.load(call.host)
    wishes = pods.wishes_kept(kept.get("sysctl", {}), call.host)
    short = call.timed("pods", lambda: pods.short_of(wishes, call.host, call.warnings))
    return call.result(observations=observations, settings=kept, pods=short, transactions=_open(call))


def op_probe(call: Call) -> Result:
    """Run probes and nothing else; ``paths``: also say what paths from here carry, or what connections pods have."""
    probes = probe.run_probes(call.request.get("probes") or [], call.host)
    wanted = call.request.get("paths")
    if not isinstance(wanted, Mapping):
        return call.result(probes=probes)
    watched = wanted.get("flows")
    if isinstance(watched, Mapping):
        from .flows import watch  # as the next

        return call.result(probes=probes, paths={"flows": call.timed("flows", lambda: watch(watched, call.host))})
    from .paths.answer import answer  # seldom needed, and dear to load on every start

    found = call.timed("paths", lambda: answer(wanted, call.host))
    return call.result(probes=probes, paths=found)


OPERATIONS: Dict[str, Callable[[Call], Result]] = {
    "plan": op_plan,
    "apply": op_apply,
    "begin": op_begin,
    "confirm": op_confirm,
    "revert": op_revert,
    "rollback": op_rollback,
    "status": op_status,
    "observe": op_observe,
    "probe": op_probe,
}
