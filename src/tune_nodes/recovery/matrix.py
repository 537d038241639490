"""The verification matrix: what a node's pods reach, before a recovery and after it, by packets.

A pod of ours on the node, a second one beside it, a third that a policy of ours closes, one on a healthy peer. Names
and services are also tried without the node: what fails there too is not its fault. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.probing.ends import Measured, measured
from tune_nodes.recovery.probepods import ProbePod
from tune_nodes.recovery.services import BESIDE, CLOSED, PEER, POD, Service, Try
from tune_nodes.recovery.state import report_of, rows, text
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.models import NodeRecord

#: Seconds that a node measures paths at most.
SECONDS = 15.0
_ANSWERED, _SILENT = "answered", "silent"


@dataclass(frozen=True)
class Check:
    """One cell of the matrix.

    Args:
        what: the row.
        ok: None where it was not, or could not be, measured.
        said: in words.
        kept: it counts only where it was so before: nobody can tell whether it ever was, otherwise.
    """

    what: str
    ok: bool | None
    said: str
    kept: bool = False


@dataclass(frozen=True)
class Ends:
    """What is measured between.

    Args:
        node: the node, as the inventory calls it.
        peer: a healthy one; "" where there is none.
        pods: by role.
        addresses: the node's own, by family.
        services: to connect to.
    """

    node: str
    peer: str
    pods: Mapping[str, ProbePod]
    addresses: Mapping[int, str] = field(default_factory=dict)
    services: Sequence[Service] = ()

    def ip(self, role: str, family: int) -> str:
        """Return an end's address, "" where it has none."""
        return self.pods[role].ips.get(family, "") if role in self.pods else ""


@dataclass(frozen=True)
class _Path:
    """Whose packets go where; ``source`` and ``target`` are roles, "" for the node itself."""

    asked: str
    source: str
    target: str
    what: str


_PATHS = (
    _Path("node", POD, BESIDE, "pod to pod on the node"),
    _Path("node", POD, PEER, "pod to pod on {peer}"),
    _Path("peer", PEER, POD, "pod on {peer} to pod"),
    _Path("node", "", POD, "node to pod"),
    _Path("node", POD, "", "pod to node"),
)
_CLOSED = _Path("node", POD, CLOSED, "a denied flow stays denied")


def requests(ends: Ends) -> dict[str, dict[str, Any]]:
    """Return what the nodes are asked to send, by inventory name."""
    found: dict[str, dict[str, Any]] = {}
    for asked, role in ((ends.node, POD), (ends.peer, PEER)):
        if not asked or role not in ends.pods:
            continue
        side = "node" if role == POD else "peer"
        targets = [target for path in (*_PATHS, _CLOSED) if path.asked == side for target in _targets(path, ends)]
        pod = ends.pods[role]
        tries = [one for service in ends.services for one in (service.here, service.there) if one.role == role]
        probes = [{"kind": "pod", "target": one.probe(pod.uid)} for one in tries if pod.ips]
        request: dict[str, Any] = {"probes": probes}
        if targets:  # without any, a node would only say what it is
            request["paths"] = {"targets": targets, "seconds": SECONDS}
        found[asked] = request
    return found


def _targets(path: _Path, ends: Ends) -> Iterable[dict[str, Any]]:
    for family in (4, 6):
        source = ends.ip(path.source, family) if path.source else ends.addresses.get(family, "")
        target = ends.ip(path.target, family) if path.target else ends.addresses.get(family, "")
        if source and target:
            uid = ends.pods[path.source].uid if path.source else ""
            yield {"id": _ident(path, family), "address": target, "pod": uid, "size": None}


def _ident(path: _Path, family: int) -> str:
    return f"{path.source or 'node'}>{path.target or 'node'}|{family}"


def checks(ends: Ends, records: Mapping[str, NodeRecord]) -> list[Check]:
    """Return what came of the requests, in a fixed order."""
    found = [_network(ends)]
    paths: dict[tuple[str, str], Measured] = {}
    for side, name in (("node", ends.node), ("peer", ends.peer)):
        if name in records:
            paths |= {(side, one.id): one for one in measured(records[name].paths)}
    for path in _PATHS:
        if (path.asked == "peer" or PEER in (path.source, path.target)) and not ends.peer:
            continue
        what = path.what.format(peer=ends.peer)
        for family in (4, 6):
            if any(True for target in _targets(path, ends) if target["id"] == _ident(path, family)):
                named = what if family == 4 else f"{what} (IPv6)"
                found.append(_of_path(named, paths.get((path.asked, _ident(path, family)))))
        if not any(True for _ in _targets(path, ends)):
            found.append(Check(what, None, "an end has no address"))
    found += [_of_service(ends, one, records) for one in ends.services]
    return found + ([_of_closed(ends, paths)] if CLOSED in ends.pods else [])


def _network(ends: Ends) -> Check:
    what = "a new pod gets a network"
    bad = next((pod for role, pod in ends.pods.items() if role != PEER and not pod.ips), None)
    if bad is not None:
        return Check(what, False, bad.why or "no address")
    return Check(what, True, f"within {max(pod.seconds for pod in ends.pods.values()):.1f} s")


def _of_path(what: str, one: Measured | None) -> Check:
    if one is None:
        return Check(what, None, "the node did not say")
    if one.small != _ANSWERED:
        return Check(what, False, one.trouble or "no answer")
    if one.exact == _ANSWERED:
        return Check(what, True, f"{one.size} bytes, DF")
    passes = f"only {one.passes} of {one.size} bytes pass" if one.passes else f"not with {one.size} bytes"
    return Check(what, False if one.exact else None, passes)


def _of_service(ends: Ends, service: Service, records: Mapping[str, NodeRecord]) -> Check:
    here = _answer(ends, service.here, records)
    if here is None:
        return Check(service.what, None, "not tried: the pod has no network")
    ok, said = here
    there = _answer(ends, service.there, records)
    if not ok and there is not None and not there[0]:
        return Check(service.what, None, f"{said}; without {ends.node} neither")
    return Check(service.what, ok, said)


def _answer(ends: Ends, one: Try, records: Mapping[str, NodeRecord]) -> tuple[bool, str] | None:
    record = records.get(ends.peer if one.role == PEER else ends.node)
    if record is None or one.role not in ends.pods:
        return None
    target = one.probe(ends.pods[one.role].uid)
    probes = [*record.probes_before, *record.probes_after]
    return next(((found.ok, found.detail) for found in probes if found.target == target), None)


def _of_closed(ends: Ends, paths: Mapping[tuple[str, str], Measured]) -> Check:
    """Return whether the closed pod's policy is enforced: nothing answers from there, and nothing else is wrong."""
    what, pod = _CLOSED.what, ends.pods[CLOSED]
    if pod.open:
        return Check(what, None, f"no policy of ours closes the pod: {pod.open}", kept=True)
    found = [paths.get((_CLOSED.asked, target["id"])) for target in _targets(_CLOSED, ends)]
    if not found or None in found:
        return Check(what, None, "an end has no address" if not found else "the node did not say", kept=True)
    seen = [one for one in found if one is not None]
    if any(one.small == _ANSWERED for one in seen):
        return Check(what, False, "it is answered: policies are not enforced", kept=True)
    if all(one.small == _SILENT for one in seen):
        return Check(what, True, "no answer", kept=True)
    return Check(what, None, next(one.trouble or one.small for one in seen if one.small != _SILENT), kept=True)


def opened(before: Sequence[Check], now: Sequence[Check]) -> bool:
    """Return whether what was denied before passes now."""
    was = {check.what for check in before if check.kept and check.ok}
    return any(check.kept and check.ok is False and check.what in was for check in now)


def given_back(pods: Iterable[ProbePod], left: Sequence[str], look: NodeRecord | None) -> Check:
    """Return whether the pods' addresses are free again after they were deleted.

    Args:
        pods: those of the node.
        left: names of pods that did not go.
        look: the node's report afterwards.
    """
    what = "deleted pods give their addresses back"
    mine = [pod for pod in pods if pod.ips]
    stuck = [pod.name for pod in mine if pod.name in left]
    if stuck:
        return Check(what, False, f"{len(stuck)} of {len(mine)} pods are still there: their network is not taken down")
    report = report_of(look) if look is not None else {}
    if not mine or not rows(report, "networks"):
        return Check(what, None, "no pod had one" if not mine else "the node keeps no leases")
    held = {text(row, "ip", 60) for row in rows(report, "leases")}
    kept = sorted(address for pod in mine for address in pod.ips.values() if address in held)
    if kept:
        return Check(what, False, f"still held: {', '.join(kept)}")
    return Check(what, True, f"{len(mine)} of {len(mine)}")


def compared(before: Sequence[Check], after: Sequence[Check]) -> list[Row]:
    """Return the rows of the table. What cannot be told says nothing about how the recovery went."""
    earlier = {check.what: check for check in before}
    found = []
    for check in after:
        first = earlier.get(check.what)
        counts = not check.kept or (first is not None and first.ok is True)
        found.append(Row(check.what, _said(first), _said(check), check.ok if counts else None))
    return found


def _said(check: Check | None) -> str:
    if check is None:
        return "not measured"
    return check.said if check.ok is None else f"{'yes' if check.ok else 'no'}: {check.said}"
