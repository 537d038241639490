"""The traffic in question: connections between named pods, or all that goes into and out of a scope's pods (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Cidr, Peer, Pod, Policy, Snapshot
from tune_nodes.policy.opening.allows import is_dns
from tune_nodes.policy.opening.scope import Scope

if TYPE_CHECKING:
    from tune_nodes.policy.judging.verdict import Decision, Verdict

#: Judges one connection, as :func:`tune_nodes.policy.judging.verdict.judge` does.
Judge = Callable[[Snapshot, Peer, Peer, int, str], "Verdict"]

BOTH = ("egress", "ingress")
DNS = 53
#: A port that no rule names: it is let through only where all are.
ANY_PORT = 65535
#: An address outside, of a range kept for documentation (RFC 5737).
OUTSIDE = Cidr("192.0.2.1/32")
#: Kinds of pods of a scope that are judged: pods alike but for their names are judged once.
MOST = 60


@dataclass(frozen=True)
class Flow:
    """One connection. ``sides``: whose decision counts: that on leaving the source, on entering the target, or both."""

    source: Peer
    target: Peer
    port: int
    protocol: str = "TCP"
    sides: tuple[str, ...] = BOTH

    def __str__(self) -> str:
        ends = [end.ref if isinstance(end, Pod) else "outside" if end == OUTSIDE else end.text for end in self.ends]
        port = "any port" if self.port == ANY_PORT else f"{self.port}/{self.protocol}"
        return f"{ends[0]} -> {ends[1]} {port}"

    @property
    def ends(self) -> tuple[Peer, Peer]:
        """Source and target."""
        return self.source, self.target


@dataclass(frozen=True)
class Judged:
    """A flow, whether it is let through (None: that cannot be judged), by which policy that was decided, and how."""

    flow: Flow
    allowed: bool | None
    decider: Policy | None
    rule: str
    seen: tuple[Policy, ...] = ()


def judged(judge: Judge, snapshot: Snapshot, flow: Flow) -> Judged:
    """Judge a flow by the sides of it that count."""
    verdict = judge(snapshot, flow.source, flow.target, flow.port, flow.protocol)
    decisions: list[Decision] = [verdict.egress if side == "egress" else verdict.ingress for side in flow.sides]
    seen = tuple(step.policy for decision in decisions for step in decision.steps)
    first = next((one for one in decisions if one.allowed is False), None)
    first = first or next((one for one in decisions if one.allowed is None), decisions[0])
    return Judged(flow, first.allowed, first.decided_by, first.rule, seen)


def peer(text: str, snapshot: Snapshot, namespace: str) -> Peer:
    """Return what ``--from`` or ``--to`` names: NAMESPACE/POD, POD in the scope's namespace, or addresses.

    Raises:
        UsageError: there is no such pod, and it is no address.
    """
    try:
        return Cidr(str(ipaddress.ip_network(text, strict=False)))
    except ValueError:
        of, _, name = text.rpartition("/")
    found = next((pod for pod in snapshot.pods if pod.name == name and pod.namespace == (of or namespace)), None)
    if found is None:
        why = "no pod of that name was seen" if of or namespace else "give it as NAMESPACE/POD"
        raise UsageError(f"{one_line(text)!r} is neither a pod nor an address", why, "kubectl get pods -A")
    return found


def wide(snapshot: Snapshot, scope: Scope) -> list[Flow]:
    """Return flows that stand for all that goes into and out of a scope's pods."""
    mine = _kinds(scope.pods(snapshot))[:MOST]
    alive = [pod for pod in snapshot.pods if not pod.host_network and pod.phase == "Running"]
    servers = [pod for pod in alive if is_dns(pod)][:1]
    return [flow for pod in mine for flow in _around(pod, alive, servers)]


def _kinds(pods: Iterable[Pod]) -> list[Pod]:
    """Return one pod of each kind: those of one namespace and the same labels are alike to every policy."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Pod] = {}
    for pod in sorted(pods, key=lambda one: one.ref):
        found.setdefault((pod.namespace, tuple(sorted(pod.labels.items()))), pod)
    return list(found.values())


def _around(pod: Pod, alive: Sequence[Pod], servers: Iterable[Pod]) -> Iterator[Flow]:
    near = next((one for one in alive if one.namespace == pod.namespace and one.ref != pod.ref), None)
    far = next((one for one in alive if one.namespace != pod.namespace and not is_dns(one)), None)
    others: list[Peer] = [one for one in (near, far) if one is not None]
    for other in (*others, OUTSIDE):
        for port in (*_ports(pod), ANY_PORT):
            yield Flow(other, pod, port, sides=("ingress",))
        yield Flow(pod, other, ANY_PORT, sides=("egress",))
    for server in servers:
        yield Flow(pod, server, DNS, "UDP", ("egress",))


def _ports(pod: Pod) -> list[int]:
    return sorted({port.number for port in pod.ports if port.protocol == "TCP"})[:4]


def question(snapshot: Snapshot, scope: Scope, source: Peer | None, target: Peer | None, port: int) -> list[Flow]:
    """Return the flows that shall be let through: those that the options name, else :func:`wide`."""
    if source is None and target is None:
        flows = wide(snapshot, scope)
        return [Flow(f.source, f.target, port, "TCP", f.sides) for f in flows] if port else flows
    mine: list[Peer] = list(_kinds(scope.pods(snapshot))[:MOST])
    pairs = [(a, b) for a in ([source] if source else mine) for b in ([target] if target else mine) if a != b]
    return [
        Flow(a, b, number, "UDP" if number == DNS and isinstance(b, Pod) and is_dns(b) else "TCP")
        for a, b in pairs
        for number in ([port] if port else (_ports(b) if isinstance(b, Pod) else []) or [ANY_PORT])
    ]
