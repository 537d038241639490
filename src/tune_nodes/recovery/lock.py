"""Slots of recoveries as Leases in the API server, so that runs from several machines know of each other.

One Lease a slot, in a namespace of ours: there an account needs no right on the Leases by which Kubernetes' own
programs elect their leaders. Every write names the version that was read. A holder that died is known by its Lease
having stayed the same for the Lease's whole duration on OUR clock: no clock of another machine is believed, as in
client-go (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.recovery.budget import HOUR, Held

NAMESPACE = "tune-nodes"
GROUP = "coordination.k8s.io"
#: A slot's Lease is this and its number.
PREFIX = "recovery-"
#: Seconds without a change after which a Lease is nobody's; a stretch of failed renewals must fit in.
DURATION = 60
#: More than this is not believed of a Lease that somebody wrote.
LONGEST = 600
#: Nodes remembered in one Lease for the storm guard.
REMEMBERED = 200

NODE, PROTECTED, ORIGIN, RECOVERED = (f"tune-nodes/{word}" for word in ("node", "control-plane", "origin", "recovered"))


@dataclass(frozen=True)
class Lease:
    """One slot as it was read.

    Args:
        name: of the object.
        version: its resourceVersion, "" for one that does not exist yet.
        holder: who has it, "" for nobody.
        origin: which controller's state directory, hashed.
        node: the Node that is worked on.
        protected: whether that is one of the control plane.
        renewed: the renewal's time as it was written; only ever compared with itself.
        duration: seconds.
        recovered: Node to seconds of the epoch: recoveries that began in this slot within the last hour.
    """

    name: str
    version: str = ""
    holder: str = ""
    origin: str = ""
    node: str = ""
    protected: bool = False
    renewed: str = ""
    duration: float = DURATION
    transitions: int = 0
    recovered: Mapping[str, float] = field(default_factory=dict)


def lease_of(item: Mapping[str, Any]) -> Lease | None:
    """Return a slot's Lease, None for any other object (pure)."""
    name = objects.name_of(item)
    if not (name.startswith(PREFIX) and name.removeprefix(PREFIX).isdecimal()):
        return None
    duration = objects.at(item, "spec", "leaseDurationSeconds")
    transitions = objects.at(item, "spec", "leaseTransitions")
    return Lease(
        name=name,
        version=objects.text(item, "metadata", "resourceVersion"),
        holder=objects.text(item, "spec", "holderIdentity"),
        origin=objects.text(item, "metadata", "annotations", ORIGIN),
        node=objects.text(item, "metadata", "annotations", NODE),
        protected=objects.text(item, "metadata", "annotations", PROTECTED) == "true",
        renewed=objects.text(item, "spec", "renewTime"),
        duration=min(max(1, duration), LONGEST) if isinstance(duration, int) else DURATION,
        transitions=transitions if isinstance(transitions, int) else 0,
        recovered=recovered_of(objects.at(item, "metadata", "annotations", RECOVERED)),
    )


def recovered_of(text: Any) -> dict[str, float]:
    """Return when which nodes were recovered, from an annotation; what is not understood is left out (pure)."""
    try:
        rows = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    found = {}
    for name, when in list(rows.items())[:REMEMBERED] if isinstance(rows, dict) else ():
        if isinstance(when, int | float) and not isinstance(when, bool) and 0 <= when < 1e11:
            found[name] = float(when)
    return found


def remembered(before: Mapping[str, float], node: str, now: float) -> dict[str, float]:
    """Return what a Lease remembers with one recovery more: an hour's, the newest, bounded (pure)."""
    kept = {name: when for name, when in before.items() if now - when < HOUR}
    newest = sorted({**kept, node: now}.items(), key=lambda row: row[1])[-REMEMBERED:]
    return dict(newest)


class Sightings:
    """Since when each Lease has been seen as it is, on our own clock.

    Args:
        origin: of this controller. It holds the lock of its state directory, so another holder of the same origin is
            dead already.
        clock: seconds that never go back.
    """

    def __init__(self, origin: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._origin = origin
        self._clock = clock
        self._seen: dict[str, tuple[tuple[str, str, int], float]] = {}

    def live(self, lease: Lease) -> bool:
        """See a Lease, and say whether somebody has it."""
        if not lease.holder or lease.origin == self._origin:
            return False
        state, now = (lease.holder, lease.renewed, lease.transitions), self._clock()
        known, since = self._seen.get(lease.name, (None, now))
        if known != state:
            since = now
        self._seen[lease.name] = (state, since)
        return now - since < lease.duration


def abandoned(lease: Lease, now: datetime) -> bool:
    """Say whether a holder seems to be dead by the times it wrote. Only good for deciding to watch it (pure)."""
    try:
        renewed = datetime.fromisoformat(lease.renewed)
    except ValueError:
        return True
    if renewed.tzinfo is None:
        return True
    return (now - renewed).total_seconds() > lease.duration


def held(leases: Iterable[Lease]) -> list[Held]:
    """Return what is worked on (pure)."""
    return [Held(lease.node, lease.holder, lease.protected) for lease in leases]


def free_slot(leases: Iterable[Lease], busy: Iterable[Lease], most: int) -> Lease | None:
    """Return the lowest slot below ``most`` that nobody has; it may not exist yet (pure)."""
    known = {lease.name: lease for lease in leases}
    taken = {lease.name for lease in busy}
    names = (f"{PREFIX}{number}" for number in range(most))
    return next((known.get(name, Lease(name)) for name in names if name not in taken), None)


class Leases:
    """The Leases of the slots, in the API server. Every method raises ClusterError.

    Args:
        api: the connection.
        holder: who we are: "HOST_RUN".
        origin: see :class:`Sightings`.
    """

    def __init__(self, api: Api, holder: str, origin: str) -> None:
        self._api = api
        self.holder = holder
        self._origin = origin

    def read(self) -> list[Lease]:
        """Return every slot there is."""
        items = self._api.items(Call("list", "leases", GROUP, NAMESPACE))
        return [lease for lease in map(lease_of, items) if lease is not None]

    def take(self, lease: Lease, node: str, protected: bool) -> Lease | None:
        """Write ourselves into a slot; None where somebody else was quicker."""
        ours = replace(
            lease, holder=self.holder, origin=self._origin, node=node, protected=protected, duration=DURATION
        )
        times = {"acquireTime": _now(), "leaseTransitions": lease.transitions + 1}
        return self._write(ours, times) if lease.version else self._create(ours, times)

    def renew(self, lease: Lease, recovered: bool = False) -> Lease | None:
        """Renew a slot of ours; None where it is not ours any more.

        Args:
            lease: as it was last written.
            recovered: remember its node for the storm guard.
        """
        for _ in range(3):
            if recovered:
                lease = replace(lease, recovered=remembered(lease.recovered, lease.node, time.time()))
            written = self._write(lease, {})
            if written is not None:
                return written
            now = self._get(lease.name)
            if now is None or now.holder != self.holder:
                return None
            lease = now  # somebody wrote a label or an annotation
        return None

    def release(self, lease: Lease) -> None:
        """Give a slot of ours back; one that is not ours any more is left."""
        for _ in range(3):
            if self._write(replace(lease, holder="", origin="", node="", protected=False), {}) is not None:
                return
            now = self._get(lease.name)
            if now is None or now.holder != self.holder:
                return
            lease = now

    def _get(self, name: str) -> Lease | None:
        try:
            return lease_of(self._api.get(Call("get", "leases", GROUP, NAMESPACE, name)))
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return None
            raise

    def _write(self, lease: Lease, more: Mapping[str, Any]) -> Lease | None:
        body = _body(lease, more)
        body["metadata"]["resourceVersion"] = lease.version
        try:
            return lease_of(self._api.patch(Call("patch", "leases", GROUP, NAMESPACE, lease.name), body))
        except ClusterError as problem:
            if problem.code in (CONFLICT, NOT_FOUND):
                return None
            raise

    def _create(self, lease: Lease, more: Mapping[str, Any]) -> Lease | None:
        body = {"apiVersion": f"{GROUP}/v1", "kind": "Lease", **_body(lease, more)}
        notes = body["metadata"]["annotations"]
        body["metadata"]["annotations"] = {key: value for key, value in notes.items() if value is not None}
        call = Call("create", "leases", GROUP, NAMESPACE)
        try:
            try:
                return lease_of(self._api.post(call, body))
            except ClusterError as problem:
                if problem.code != NOT_FOUND:
                    raise
            make_namespace(self._api)
            return lease_of(self._api.post(call, body))
        except ClusterError as problem:
            if problem.code == CONFLICT:
                return None
            raise


def make_namespace(api: Api) -> None:
    """Make our namespace where it is not there. Raises ClusterError."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    try:
        api.post(Call("create", "namespaces"), body)
    except ClusterError as problem:
        if problem.code != CONFLICT:
            raise


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _body(lease: Lease, more: Mapping[str, Any]) -> dict[str, Any]:
    annotations = {
        NODE: lease.node or None,
        PROTECTED: "true" if lease.protected else None,
        ORIGIN: lease.origin or None,
        RECOVERED: json.dumps({name: int(when) for name, when in lease.recovered.items()}),
    }
    spec = {
        "holderIdentity": lease.holder or None,
        "leaseDurationSeconds": int(lease.duration),
        "renewTime": _now(),
        **more,
    }
    return {"metadata": {"name": lease.name, "annotations": annotations}, "spec": spec}
