"""Whether a node may be touched, and whether it is as well after a change as it was before (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from tune_nodes.cluster.match import Match
from tune_nodes.cluster.model import AgentFacts, NodeFacts

#: Agents named in one sentence.
SHOWN = 3


def refuse_reasons(match: Match) -> str:
    """Return why a node must not be changed now, "" where nothing speaks against it."""
    node = match.node
    return "" if node.ready else f"the Node {node.name} is not ready: {node.ready_reason or 'no reason given'}"


def unwell(
    before: NodeFacts,
    now: NodeFacts | None,
    agents_before: Sequence[AgentFacts],
    agents_now: Sequence[AgentFacts],
) -> str:
    """Return one sentence on what got worse, "" for nothing. Only what was well before is demanded.

    Args:
        before: the Node object before the change.
        now: as it is; None: it is gone.
        agents_before: pods of DaemonSets on this node (those of other nodes are ignored).
        agents_now: as they are; a pod that was replaced counts by its DaemonSet.
    """
    if now is None:
        return f"the Node {before.name} is gone"
    if before.ready and not now.ready:
        return f"the Node {before.name} is not ready any more: {now.ready_reason or 'no reason given'}"
    well = {(agent.namespace, agent.app) for agent in agents_before if agent.ready and agent.node == before.name}
    here = [agent for agent in agents_now if agent.node == before.name]
    still = {(agent.namespace, agent.app) for agent in here if agent.ready}
    lost = sorted(well - still)
    if not lost:
        return ""
    why = {(agent.namespace, agent.app): agent.why for agent in here}
    parts = [f"{namespace}/{app} ({why.get((namespace, app), 'its pod is gone')})" for namespace, app in lost]
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return f"not ready any more on the Node {before.name}: {', '.join(parts[:SHOWN])}{more}"
