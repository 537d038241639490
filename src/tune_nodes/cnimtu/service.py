"""One look at a cluster's MTUs and one change of them, as command line and Ansible module use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.match import match_nodes
from tune_nodes.cluster.model import NodeFacts
from tune_nodes.cnimtu import agents, change, read, stale
from tune_nodes.cnimtu import plan as planner
from tune_nodes.cnimtu.backup import Backup
from tune_nodes.cnimtu.model import CniPlan, NodeStack
from tune_nodes.cnimtu.stale import Workload
from tune_nodes.errors import TuneError

_VIRTUAL = "virtual-kubelet"
#: CNIs whose pods share a bridge on their node.
_BRIDGED = ("flannel", "kube-router")
_HELD_DOWN = "an old pod keeps the bridge of its node at its own MTU: until it goes, no pod there gets larger packets"


@dataclass(frozen=True)
class Look:
    """What a look found.

    Args:
        plan: of the settings in the API.
        workloads: those with pods on an old MTU.
        nodes: inventory name to Node object.
        managed: sentences on programs that may write a changed object back.
    """

    plan: CniPlan
    workloads: tuple[Workload, ...]
    nodes: Mapping[str, NodeFacts]
    managed: tuple[str, ...] = ()

    @property
    def stale(self) -> int:
        """Pods on an old MTU."""
        return sum(len(one.stale) for one in self.workloads)


def look(
    cluster: Cluster,
    stacks: Sequence[NodeStack],
    addresses: Mapping[str, str],
    sizes: Mapping[str, int],
    delete_emptydir: bool = False,
) -> Look:
    """Read what the API holds, and plan.

    Args:
        cluster: the cluster.
        stacks: of the nodes that answered.
        addresses: inventory name to the address that ssh uses, "" where unknown.
        sizes: uid to MTU of the pods that keep an old one.
        delete_emptydir: whether pods that keep data in an emptyDir may be restarted.

    Raises:
        ClusterError: it cannot be read.
    """
    known = cluster.nodes()
    matches, sentences = match_nodes({stack.node: addresses.get(stack.node, "") for stack in stacks}, known)
    seen = {match.node.name for match in matches.values()}
    unseen = [node.name for node in known.values() if node.name not in seen and _counts(node)]
    kinds = {stack.cni for stack in stacks}
    held = read.read(cluster.api, next(iter(kinds))) if len(kinds) == 1 else []
    found = planner.plan(stacks, held, unseen)
    if sentences and not found.refused:
        found = replace(found, restart=(), refused=sentences[0])
    workloads = tuple(stale.find(cluster.api, sizes, delete_emptydir))
    if found.cni in _BRIDGED and any(size < (found.pods or 0) for one in workloads for size in one.sizes):
        found = replace(found, notes=(*found.notes, _HELD_DOWN))
    return Look(found, workloads, {name: m.node for name, m in matches.items()}, tuple(change.others(found)))


def _counts(node: NodeFacts) -> bool:
    """Say whether a node that nobody looked at is in the way: one that works and has Linux's network."""
    return (
        node.ready and node.labels.get("kubernetes.io/os", "linux") == "linux" and node.labels.get("type") != _VIRTUAL
    )


@dataclass(frozen=True)
class Done:
    """What a change did: its backup (None: no object had to change), and the Nodes whose agent is new."""

    backup: Backup | None
    restarted: tuple[str, ...]


def carry_out(
    cluster: Cluster,
    found: Look,
    directory: Path,
    say: Callable[[str], None],
    cancelled: Callable[[], bool],
    limit: float = agents.LIMIT,
) -> Done:
    """Change what the plan says, then start the agents anew where it says so, one node at a time.

    Args:
        cluster: the cluster.
        found: a look; nothing happens where its plan refuses.
        directory: of the backup.
        say: is told of each step.
        cancelled: asked between two nodes.
        limit: seconds for each agent.

    Raises:
        TuneError: an object was changed meanwhile, or an agent did not come back.
    """
    if found.plan.refused:
        return Done(None, ())
    names = [found.nodes[name].name for name in found.plan.restart]
    roles = {node.name: node.roles for node in found.nodes.values()}
    # Looked for before anything is written: a change that no agent would read helps nobody.
    ready = agents.find(cluster.api, found.plan.cni, agents.in_order(names, roles)) if names else []
    made = change.carry_out(cluster.api, found.plan, directory)
    if made is not None:
        say(f"changed {', '.join(saved.held.ref for saved in made.saved)}; as it was: {made.path}")
    try:
        return Done(made, tuple(agents.restart(cluster.api, ready, say, cancelled, limit)))
    except TuneError as problem:
        if made is not None:
            problem.next = f"{problem.next}; to take it back: tune-nodes mtu cni --undo {made.path.parent}"
        raise


def take_back(
    cluster: Cluster, made: Backup, say: Callable[[str], None], cancelled: Callable[[], bool]
) -> tuple[list[str], list[str]]:
    """Undo a change, and start the agents anew that read it at their start.

    Returns:
        The objects that were put back, and the Nodes whose agent is new.

    Raises:
        TuneError: see :func:`change.undo`; or an agent did not come back.
    """
    done = change.undo(cluster.api, made)
    by_start = any(saved.held.kind == "ConfigMap" for saved in made.saved)
    if not (done and by_start and made.cni in planner.AT_START):
        return done, []
    nodes = cluster.nodes()
    names = [node.name for node in nodes.values() if _counts(node)]
    order = agents.in_order(names, {node.name: node.roles for node in nodes.values()})
    return done, agents.restart(cluster.api, agents.find(cluster.api, made.cni, order), say, cancelled)


def sizes_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return uid to MTU of the stale pods that nodes named."""
    return {str(row["uid"]): int(row["mtu"]) for row in rows if "uid" in row and "mtu" in row}
