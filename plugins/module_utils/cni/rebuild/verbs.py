# SPDX-License-Identifier: Apache-2.0
"""The steps of a rebuild that are done on the node. Each may be done again: what is done already is left as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple

from ...errors import NodeError
from ...host import Host, observe_host
from ...model import SCHEMA, Change
from ...transaction.store import Store
from .. import command, cri, detect, leases
from ..command import Run
from ..model import Lease, Network
from . import agent, backup, fence, record, state, wipe
from .record import BEGUN, CLEARED, CLEARING, DONE, FENCED, OPEN, UNDONE, Record

Result = Dict[str, Any]
#: Seconds in which a runtime that watches its configurations notices a new one; it takes milliseconds.
NOTICE = 15.0
#: Seconds until the network is ready once the agent is.
READY = 60.0
LOOK = 0.3


@dataclass
class Asked:
    """What a request wants.

    Attributes:
        step: one of STEPS.
        run: the rebuild.
        host_pods: uids of the node's pods that use its own network.
        agents: uids of the CNI's agents, whose processes are stopped before anything is taken away.
    """

    step: str
    run: str = ""
    host_pods: FrozenSet[str] = frozenset()
    agents: FrozenSet[str] = frozenset()
    root: str = "/"
    sleep: Callable[[float], None] = time.sleep
    runner: Run = field(default=command.run)


@dataclass
class Work:
    """One step under way: what was seen, and what is said of it."""

    ask: Asked
    host: Host
    store: Store
    said: Dict[str, Any] = field(default_factory=dict)
    changes: List[Change] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)

    def record(self) -> Record:
        """Return the record of the rebuild. Raises NodeError(code="unknown") where it was not begun here."""
        found = record.load(self.host, self.ask.run)
        if found is None:
            why = "it was not begun, or its record is no longer kept"
            raise NodeError("this node has no rebuild %s" % self.ask.run, why, code="unknown")
        return found

    def came(self, found: Record, phase: str) -> None:
        """Note durably how far it has come."""
        before, found.phase = found.phase, phase
        record.save(self.host, found)
        if before != phase:
            self.changes.append(Change("cni_rebuild", "rebuild", before, phase, phase, "changed", "rebuild"))


def _status(work: Work) -> Optional[Record]:
    return record.load(work.host, work.ask.run) if work.ask.run else record.unfinished(work.host)


def _begin(work: Work) -> Record:
    """Check that this node's state can be rebuilt, keep a backup, and note that it was begun."""
    there = record.unfinished(work.host)
    if there is not None and there.run != work.ask.run:
        raise NodeError(
            "an earlier rebuild of this node is not finished", "run %s: %s" % (there.run, there.phase), code="busy"
        )
    found = there or record.load(work.host, work.ask.run)
    if found is not None and found.over:
        raise NodeError("rebuild %s of this node is over" % found.run, found.phase, code="usage")
    if found is None:
        cni = detect.observe(work.host, work.ask.runner)
        state.supported(cni.name)
        networks = _networks(cni.conf_dir, work.host)
        if not networks:
            raise NodeError("the CNI state of this node cannot be rebuilt", "%s names no network" % cni.file)
        fence.names_first(cni.conf_dir, work.host)
        found = Record(work.ask.run, BEGUN, cni.name, cni.file, cni.network, cni.conf_dir, boot_id=work.host.boot_id)
        found.program = fence.place(cni.bin_dirs, work.host)
        record.prune(work.host)
    if found.phase == BEGUN:
        work.said["backup"] = backup.take(work.host, found.run, found.conf_dir)
        work.came(found, BEGUN)
    return found


def _networks(conf_dir: str, host: Host) -> List[Network]:
    """Return the networks of the configuration that is meant: the first that is not the fence."""
    rows = [conf for conf in detect.confs(conf_dir, host) if not conf.path.endswith("/" + fence.CONF)]
    return leases.networks_of(rows[0], leases.read_env(host))[0] if rows else []


def _fence(work: Work) -> Record:
    found = work.record()
    if found.at_least(OPEN):
        return found
    found.fence = fence.CONF
    record.save(work.host, found)  # before it stands there, so that whoever comes later takes it away
    fence.put_up(found.conf, found.conf_dir, found.program, work.host)
    _noticed(work, True)
    if found.phase == BEGUN:
        work.came(found, FENCED)
    return found


def _noticed(work: Work, wanted: bool) -> None:
    """Wait until the runtime uses the fence, or no longer. Raises NodeError."""
    until = time.monotonic() + NOTICE
    while (now := fence.in_use(work.host, work.ask.runner)) is not wanted:
        if now is None:
            work.said["not_checked"] = "whether the runtime uses the placeholder: it does not say which plugins it uses"
            return
        if time.monotonic() >= until:
            raise NodeError(
                "the container runtime does not take the configuration that is there",
                "after %g s it still uses %s" % (NOTICE, "another" if wanted else "the placeholder"),
                "see its log: journalctl -u containerd",
                code="runtime",
            )
        work.ask.sleep(LOOK)


def _clear(work: Work) -> Record:
    found = work.record()
    if found.at_least(CLEARED):
        return found
    if not found.at_least(FENCED) or fence.in_use(work.host, work.ask.runner) is False:
        raise NodeError("nothing is taken away while new sandboxes may start", "the fence is not up", code="refused")
    sandboxes = cri.sandboxes(work.host, work.ask.runner)
    networks = _networks(found.conf_dir, work.host)
    held: List[Lease] = [one for network in networks for one in leases.read_leases(network, work.host)[0]]
    state.refuse_alive(sandboxes, held, work.ask.host_pods)
    found.agents = sorted({*found.agents, *work.ask.agents})
    work.came(found, CLEARING)
    agent.stop(work.host, found.agents)
    files = state.files(work.host, networks, found.cni, sandboxes)
    if len(files) > state.MOST:
        left = len(files) - state.MOST
        work.warnings.append("%d files of leases and attachments are left: rung 2 releases what is stale" % left)
    rows = wipe.take_away(work.host, found, files[: state.MOST], work.ask.runner)
    found.counts = state.counted(found.counts, (row.artefact.kind for row in rows if row.how == "removed"))
    work.said["removed"] = [wipe.shown(row) for row in rows][:200]
    work.changes += [wipe.change(row) for row in rows][:400]
    wipe.check(rows)
    work.came(found, CLEARED)
    agent.end(work.host, found.agents)
    return found


def _open(work: Work) -> Record:
    """Let sandboxes start again: the agent is ready, and what it writes is there."""
    found = work.record()
    fence.take_down(found.conf_dir, work.host)
    _noticed(work, False)
    fence.drop_program(found.program, work.host)
    _usable(work, found)
    if not found.at_least(OPEN):
        work.came(found, OPEN)
    return found


def _usable(work: Work, found: Record) -> None:
    """Wait until configuration, plugins, the agent's files and the runtime's network are there. Raises NodeError."""
    until = time.monotonic() + READY
    while True:
        cni = detect.observe(observe_host(work.ask.root), work.ask.runner)
        missing = [path for path in state.supported(found.cni).files if not _there(work.host, path)]
        lacks = [
            ("a configuration of %s in %s" % (found.cni, found.conf_dir), cni.name != found.cni),
            ("plugins: " + ", ".join(cni.missing), bool(cni.missing)),
            (", ".join(missing), bool(missing)),
            ("the runtime's word that its network is ready: %s" % cni.reason, cni.network_ready is False),
        ]
        wanting = [what for what, true in lacks if true]
        if not wanting:
            return
        if time.monotonic() >= until:
            why = "missing after %g s: %s" % (READY, "; ".join(wanting))
            raise NodeError(
                "the network did not come back", why, "look at the log of its agent on this node", code="not-ready"
            )
        work.ask.sleep(LOOK)


def _there(host: Host, path: str) -> bool:
    return bool(leases.read_file(host.path(path)))


def _finish(work: Work) -> Record:
    found = work.record()
    if found.phase == OPEN:
        work.came(found, DONE)
    elif not found.over:
        raise NodeError("the rebuild is not at its end", "it is %s" % found.phase, code="usage")
    return found


def _undo(work: Work) -> Record:
    """Bring back what was taken away, where nothing has taken its place, and let sandboxes start."""
    found = work.record()
    if found.phase == UNDONE:
        return found
    if found.at_least(CLEARING):
        rows = wipe.bring_back(work.host, found, work.ask.runner)
        work.said["restored"] = [wipe.shown(row) for row in rows][:200]
        work.changes += [wipe.change(row) for row in rows][:400]
        work.warnings += ["%s: %s" % (row.artefact.name, row.note) for row in rows if row.how == "failed"][:5]
    agent.go_on(work.host, found.agents)
    fence.take_down(found.conf_dir, work.host)
    _noticed(work, False)
    fence.drop_program(found.program, work.host)
    work.came(found, UNDONE)
    return found


_STEPS: Mapping[str, Callable[[Work], Optional[Record]]] = {
    "status": _status,
    "begin": _begin,
    "fence": _fence,
    "clear": _clear,
    "open": _open,
    "finish": _finish,
    "undo": _undo,
}
#: What can be asked for, in the order of a rebuild.
STEPS: Tuple[str, ...] = tuple(_STEPS)


def carry_out(ask: Asked) -> Result:
    """Do one step. Never raises NodeError: it stands in the result, with how far the rebuild has come."""
    host = observe_host(ask.root)
    store = Store(host)
    work = Work(ask, host, store)
    error: Optional[NodeError] = None
    found: Optional[Record] = None
    try:
        if ask.step == "status":
            found = _status(work)
        else:
            store.create_dirs()
            with store.lock():
                found = _STEPS[ask.step](work)
    except NodeError as exc:
        error, found = exc, _known(work)
    report = dict(work.said, record=found.to_dict() if found is not None else None)
    return {
        "schema": SCHEMA,
        "ok": error is None,
        "node": host.to_dict(),
        "identity": host.identity(),
        "changes": [change.to_dict() for change in work.changes],
        "warnings": work.warnings,
        "error": error.to_dict() if error is not None else None,
        "cni": {"rebuild": report},
    }


def _known(work: Work) -> Optional[Record]:
    """Return how far it has come after an error, None where that cannot be told."""
    try:
        return _status(work)
    except NodeError:
        return None
