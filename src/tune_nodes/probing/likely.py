"""Which layer most likely eats a path's large packets, from what was measured and the nodes' layers (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.probing.ends import End, Layers
from tune_nodes.runs.models import PathFault, PathRecord

PLAN = "tune-nodes plan -t mtu shows the right MTU of each layer, and why"
HOP = "ask for the MTU of every hop between them: switch ports, VPN, the cloud's network; then probe again"
FILTER = "let ICMP through between them (echo, and what tells the path MTU), then probe again"


@dataclass(frozen=True)
class Cause:
    """A layer: a stable word, why, and what to do next."""

    likely: str
    why: str
    next: str = PLAN


@dataclass(frozen=True)
class Case:
    """A failed path with what is known around it.

    Args:
        path: the path.
        size: bytes that are sent.
        sides: name and layers of the sender, then of the receiver.
        node_path: of a path between pods: the nodes' own, None where it was not measured.
    """

    path: PathRecord
    size: int
    sides: tuple[tuple[str, Layers], tuple[str, Layers]]
    node_path: PathRecord | None = None


def likely(path: PathRecord, node_path: PathRecord | None, ends: Mapping[str, End]) -> Cause:
    """Return what most likely eats a failed path's packets.

    Args:
        path: the failed path.
        node_path: of a path between pods: the nodes' own path in that direction, where it was measured.
        ends: the nodes as ends of paths.
    """
    if path.passes is None:
        return _filtered(path)
    sender, receiver = (ends[name].layers if name in ends else Layers() for name in (path.from_, path.to))
    case = Case(path, path.size or 0, ((path.from_, sender), (path.to, receiver)), node_path)
    rules = _POD_RULES if path.layer == "pod" else (_node_mtu,)
    return next((cause for rule in rules for cause in rule(case)), _unseen(path))


def _filtered(path: PathRecord) -> Cause:
    """Return the cause where nothing is answered. One pod stands for its node: what isolates it is no path's fault."""
    pods = [(end, name) for end, name in ((path.to_end, path.to), (path.from_end, path.from_)) if is_pod(end)]
    if path.layer != "pod" or not pods:
        return Cause("filtered", "nothing of any size is answered: a firewall drops ICMP, or there is no route", FILTER)
    stand = " and ".join(f"{one_line(end, 80)} for {name}" for end, name in pods)
    why = f"nothing of any size is answered; one pod stands for all of a node's, here {stand}"
    isolated = "a NetworkPolicy that isolates it drops ICMP, and then nothing is wrong; or a firewall does"
    step = f"tune-nodes policy explain NAMESPACE/{one_line(pods[0][0], 80)}; if that isolates it, probe with --no-pods"
    return Cause("filtered", f"{why}: {isolated}, or there is no route", step)


def is_pod(end: str) -> bool:
    """Say whether an end of a path between pods is a pod, not the bridge that stands in where none runs."""
    return bool(end) and not end.startswith("bridge ")


def _unseen(path: PathRecord) -> Cause:
    if path.layer == "node":
        why = f"a hop between them drops packets above {path.passes} bytes and tells nobody"
        return Cause("underlay-hop", why, HOP)
    why = "every MTU that can be seen on both nodes fits, and the nodes' own path carries what it sends"
    return Cause("unknown", why, HOP)


def _node_mtu(case: Case) -> Iterator[Cause]:
    for name, layers in case.sides:
        for link in layers.underlay[:1]:
            if link.mtu < case.size:
                why = f"{name}: {link.name} ({link.mtu}) is below the {case.size} bytes that are sent"
                yield Cause("own-mtu", why)


def _tunnel_above(case: Case) -> Iterator[Cause]:
    for name, layers in case.sides:
        for fault in layers.faults:
            if fault.word == "tunnel-above-underlay":
                yield Cause("tunnel-above-underlay", f"{name}: {one_line(fault.text, 200)}")


def _hop_below(case: Case) -> Iterator[Cause]:
    under = case.node_path
    if under is None or not under.failed:
        return
    wrapped = case.size + max((tunnel.overhead or 0 for tunnel in case.sides[0][1].tunnels), default=0)
    if (under.passes or 0) < wrapped:
        carries = "nothing" if under.passes is None else f"{under.passes} bytes"
        why = f"the nodes' own path has the hole: it carries {carries}, and these packets are {wrapped} on it"
        yield Cause("underlay-hop", why, HOP)


def _bridge_below(case: Case) -> Iterator[Cause]:
    for name, layers in reversed(case.sides):  # what the receiver's bridge cannot take is lost there
        for bridge in layers.bridges:
            if bridge.mtu < case.size:
                why = f"{name}: bridge {bridge.name} ({bridge.mtu}) is below the pods' {case.size}"
                yield Cause("bridge-below", why)


def _pod_above(case: Case) -> Iterator[Cause]:
    for name, layers in case.sides[:1] if case.path.direction == "forward" else case.sides:
        for tunnel in layers.tunnels:
            if tunnel.mtu < case.size:
                yield Cause("pod-above-tunnel", f"{name}: the pods' {case.size} is above {tunnel.name} ({tunnel.mtu})")


def _pod_mtu(case: Case) -> Iterator[Cause]:
    for name, layers in reversed(case.sides):
        if layers.pods and min(layers.pods) < case.size:
            why = f"{name}: its pods have {min(layers.pods)}, and {case.size} bytes are sent to them"
            yield Cause("own-mtu", why)


#: In the order of the layers: what is wrong further out explains what is lost further in.
_POD_RULES = (_tunnel_above, _hop_below, _bridge_below, _pod_above, _pod_mtu)


def faults(paths: Sequence[PathRecord], ends: Mapping[str, End], unreachable: Iterable[str] = ()) -> list[PathFault]:
    """Return a fault for each failed path; both directions of one are one fault where both fail alike.

    Args:
        paths: all paths.
        ends: the nodes as ends of paths.
        unreachable: nodes that could not be asked: that they do not answer at all is no path's fault.
    """
    by_key = {(p.from_, p.to, p.layer, p.family): p for p in paths}
    silent = set(unreachable)
    found: list[PathFault] = []
    for path in paths:
        if not path.failed or (path.passes is None and silent & {path.from_, path.to}):
            continue
        other = by_key.get((path.to, path.from_, path.layer, path.family))
        twin = other is not None and other.failed and path.direction == other.direction
        if twin and path.from_ > path.to:
            continue
        family = next((f for f in (path.family, 4, 6) if (path.from_, path.to, "node", f) in by_key), 0)
        node_path = by_key.get((path.from_, path.to, "node", family)) if path.layer == "pod" else None
        found.append(_fault(path, likely(path, node_path, ends)))
    return found


def _fault(path: PathRecord, cause: Cause) -> PathFault:
    return PathFault.model_validate(
        {
            "from": path.from_,
            "to": path.to,
            "layer": path.layer,
            "family": path.family,
            "direction": path.direction,
            "size": path.size,
            "passes": path.passes,
            "text": sentence(path),
            "likely": cause.likely,
            "why": cause.why,
            "next": cause.next,
        }
    )


def sentence(path: PathRecord) -> str:
    """Return what is wrong with a path in one sentence."""
    arrow = "->" if path.direction == "forward" else "<->"
    what = f"{path.from_} {arrow} {path.to} ({'pods, ' if path.layer == 'pod' else ''}IPv{path.family})"
    if path.passes is None:
        return f"{what}: no echo comes back"
    which = "; in which direction cannot be told" if path.direction == "unknown" else ""
    return f"{what}: {path.size} bytes vanish, {path.passes} pass{which}"


def common_node(paths: Sequence[PathRecord], found: Sequence[PathFault]) -> str:
    """Return the one node that all faults touch and none of whose measured paths is whole, "" where there is none."""
    if len(found) < 2:
        return ""
    names = set.intersection(*({fault.from_, fault.to} for fault in found))
    if len(names) != 1:
        return ""
    (name,) = names
    bad = {frozenset((fault.from_, fault.to)) for fault in found}
    every = {frozenset((p.from_, p.to)) for p in paths if name in (p.from_, p.to) and p.exact}
    return name if every <= bad else ""
