"""Whether a connection is let through, and by which rule (pure)."""

from __future__ import annotations

from dataclasses import replace

from tune_nodes.policy.judging import admin, calico, cilium, engines, kubernetes
from tune_nodes.policy.judging.addresses import touches
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, Decision, Step, Traffic, Verdict
from tune_nodes.policy.model import STAGED, Cidr, Peer, Pod, Snapshot

#: What no list of policies shows.
ELSEWHERE = (
    "what a service mesh refuses (its sidecars, AuthorizationPolicy), and requests above the connection (L7)",
    "firewalls on the nodes, and security groups and routes of the cloud",
    "whether the nodes' agents already do what the API holds; connections that stand are not cut or opened by it",
)


def judge(snapshot: Snapshot, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> Verdict:
    """Return whether a new connection is let through, by the rules of whoever enforces policies in the cluster.

    Args:
        snapshot: of the cluster.
        source: where it comes from.
        target: where it goes to; a pod's own address, not a Service's.
        port: of the target.
        protocol: "TCP", "UDP" or "SCTP".
    """
    traffic = Traffic(snapshot, resolve(snapshot, source), resolve(snapshot, target), port, protocol.upper())
    not_judged = (*snapshot.not_judged, *_about(traffic), *ELSEWHERE)
    if isinstance(traffic.source, Pod) and isinstance(traffic.target, Pod) and _one(traffic.source, traffic.target):
        egress, ingress = (Decision(way, True, None, "both ends are in one pod") for way in (EGRESS, INGRESS))
    else:
        egress, ingress = decide(traffic, EGRESS), decide(traffic, INGRESS)
    both = (egress.allowed, ingress.allowed)
    allowed = False if False in both else None if None in both else True
    return Verdict(allowed, egress, ingress, not_judged)


def _one(source: Pod, target: Pod) -> bool:
    return source.ref == target.ref


def resolve(snapshot: Snapshot, peer: Peer) -> Peer:
    """Return the pod that an address belongs to, anything else as it is."""
    if isinstance(peer, Cidr) and peer.network.num_addresses == 1:
        return snapshot.pod_at(str(peer.network.network_address)) or peer
    return peer


def decide(traffic: Traffic, direction: str) -> Decision:
    """Return what whoever enforces does with one direction."""
    engine = traffic.snapshot.engine
    if engine == "cilium":
        decision = cilium.decide(traffic, direction)
    elif engine == "calico":
        decision = calico.decide(traffic, direction)
    elif engine:
        decision = _ordinary(traffic, direction)
    else:
        decision = _nobody(traffic, direction)
    return replace(decision, steps=(*decision.steps, *_unenforced(traffic, direction)))


def _ordinary(traffic: Traffic, direction: str) -> Decision:
    """Return the decision of an engine that does what Kubernetes says of NetworkPolicy, and no more."""
    pod = traffic.subject(direction)
    if not isinstance(pod, Pod):
        return Decision(direction, True, None, "policies of pods do not select addresses")
    if pod.host_network:
        return Decision(direction, True, None, f"{pod} has its node's network, which policies for pods do not select")
    found = kubernetes.decide(traffic, direction)
    inner = found or Decision(direction, True, None, f"no policy selects the pod for {direction}")
    if direction == INGRESS and traffic.from_own_node():
        rule = "a node may always reach its own pods"
        return Decision(direction, True, None, rule, inner.steps)
    if traffic.snapshot.engine in engines.RANKS:
        return admin.around(traffic, direction, inner, decided=found is not None)
    return inner


def _nobody(traffic: Traffic, direction: str) -> Decision:
    """Return the decision where nobody enforces: the policies are listed all the same."""
    found = kubernetes.decide(traffic, direction)
    steps = (
        tuple(Step(one.policy, f"would count if it were enforced: {one.text}") for one in found.steps) if found else ()
    )
    return Decision(direction, True, None, "nobody enforces network policies in this cluster", steps)


def _unenforced(traffic: Traffic, direction: str) -> list[Step]:
    """Return policies of kinds that whoever enforces does not know, or only logs."""
    pod, snapshot = traffic.subject(direction), traffic.snapshot
    if not isinstance(pod, Pod):
        return []
    who = snapshot.engine or "nobody"
    foreign = [kind for kind in ("calico", "cilium") if kind != snapshot.engine]
    rows = [policy for kind in foreign for place in ("", pod.namespace) for policy in snapshot.of(kind, place)]
    if not knows_ranks(snapshot):
        rows += [one.policy for tier in admin.TIERS for one in admin.ranked(traffic, direction, tier)]
    steps = [Step(policy, f"has no effect: {who} enforces nothing of this kind") for policy in rows]
    staged = [policy for place in ("", pod.namespace) for policy in snapshot.of("calico", place, STAGED)]
    return steps + [Step(policy, "has no effect: it is staged, which is only logged") for policy in staged]


def knows_ranks(snapshot: Snapshot) -> bool:
    """Say whether whoever enforces knows AdminNetworkPolicy or ClusterNetworkPolicy."""
    if snapshot.engine == "cilium":
        return snapshot.settings.get(cilium.CLUSTER_POLICIES) == "true"
    return snapshot.engine == "calico" or snapshot.engine in engines.RANKS


def _about(traffic: Traffic) -> list[str]:
    """Return what is not known of the ends themselves."""
    found = []
    target = traffic.target
    hosts = [one for one in traffic.snapshot.of("cilium") if "nodeSelector" in one.spec]
    if hosts and traffic.snapshot.engine == "cilium":
        found.append(f"Cilium's host policies, such as {hosts[0].ref}")
    if isinstance(target, Cidr) and not touches(target, traffic.snapshot.node_addresses):
        found.append(f"if {target} is a Service's, policies see the pod behind it instead: ask for that pod")
    for end in (traffic.source, traffic.target):
        if isinstance(end, Pod) and end.phase not in ("Running", ""):
            found.append(f"{end} is {end.phase}: whether it answers is another question")
    return found


__all__ = ["Decision", "Step", "Verdict", "decide", "judge", "resolve"]
