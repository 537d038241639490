"""Whether the traffic really flows: a connection of the kind that was cut.

Judging says what policies mean; only a connection shows what the engine does. The source's node makes it, over ssh, in
the pod's network namespace; where no node can be asked, a probe pod in the source's place. Where neither is possible,
that is said: a verdict is no proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.errors import TuneError
from tune_nodes.policy.model import Pod
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.opening.reset import Done
from tune_nodes.policy.proving import nodeside, podside
from tune_nodes.policy.proving.podside import Stand
from tune_nodes.policy.proving.proof import Proof
from tune_nodes.policy.proving.sampling import ports, provable, samples

#: Connections that are tried.
MOST = 4


def prove(cluster: Cluster, done: Done, inventory: Sequence[str], image: str, explicit: bool) -> list[Proof]:
    """Make connections of the kind that was cut, and say what came of them.

    Args:
        cluster: where.
        done: what was done.
        inventory: names of inventories with the nodes; [] for none.
        image: of probe pods, "" for none.
        explicit: the flows were named, and stand for themselves.
    """
    plan = done.plan
    try:
        flows = provable(one.flow for one in plan.ladder.now) if explicit else []
        flows = (flows or list(samples(plan, ports(cluster, plan))))[:MOST]
    except ClusterError as problem:
        return [Proof(None, f"which services the scope has is not known: {problem.what}")]
    if not flows:
        return [Proof(None, "no pod of the scope serves a port that is known, so there is nothing to connect to")]
    if not (inventory or image):
        why = "no node can try it without an inventory (-i), and no probe pod without an image (--probe-image)"
        return [Proof(None, f"{flows[0]}: {why}")]
    tries = 1 if plan.agents else nodeside.TRIES  # who makes the rules does not run: nothing comes of waiting
    found = _by_nodes(cluster, inventory, flows, tries)
    left = [flow for flow, proof in zip(flows, found, strict=True) if not proof.made]
    stood = dict(zip(left, podside.tried(Stand(cluster, done, image), left), strict=True)) if image else {}
    pairs = zip(flows, found, strict=True)
    return [replace(stood.get(flow, proof), nodes=_nodes(flow)) for flow, proof in pairs]


def _nodes(flow: Flow) -> tuple[str, ...]:
    return tuple(dict.fromkeys(end.node for end in flow.ends if isinstance(end, Pod) and end.node))


def _by_nodes(cluster: Cluster, inventory: Sequence[str], flows: Sequence[Flow], tries: int) -> list[Proof]:
    if not inventory:
        return [Proof(None, f"{flow}: no inventory was given", made=False) for flow in flows]
    try:
        return nodeside.tried(cluster, inventory, flows, tries)
    except TuneError as problem:
        return [Proof(None, f"{flow}: {problem.what}: {problem.why}", made=False) for flow in flows]
