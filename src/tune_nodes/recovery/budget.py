"""How many nodes may be recovered at once, and when a person has to be asked first (pure).

The rules are those of medik8s' NodeHealthCheck (minHealthy, one control-plane node at a time, storms) and of kured (one
lock that all share), with numbers that a command line can give.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: Seconds that the storm guard looks back.
HOUR = 3600.0
#: Names in one sentence.
_SHOWN = 4

PAUSED, SAME_NODE, CONTROL_PLANE, OVER_BUDGET, STORM = "paused", "same-node", "control-plane", "over-budget", "storm"


@dataclass(frozen=True)
class Budget:
    """What a recovery may take.

    Args:
        max_nodes: nodes that are under recovery or not ready at once, the next one counted.
        max_percent: the same as a share of the cluster's nodes; one node is always allowed.
        max_per_hour: different nodes that may be recovered within an hour.
        max_unhealthy: percent of the cluster's nodes; where more are not ready the cause is not a node.
            NodeHealthCheck's minHealthy is 51 %.
    """

    max_nodes: int = 3
    max_percent: float = 10
    max_per_hour: int = 10
    max_unhealthy: float = 49

    def at_once(self, nodes: int) -> int:
        """Return how many of a cluster's nodes may be away at once, at least one."""
        share = int(nodes * self.max_percent / 100 + 1e-9)
        return max(1, min(self.max_nodes, share))


@dataclass(frozen=True)
class Held:
    """A node that a recovery is working on now."""

    node: str
    holder: str
    protected: bool = False


@dataclass(frozen=True)
class Nodes:
    """A cluster's nodes.

    Args:
        ready: name to whether the Node is ready.
        protected: those of the control plane.
    """

    ready: Mapping[str, bool]
    protected: Collection[str] = ()

    @property
    def down(self) -> set[str]:
        """Those that are not ready."""
        return {name for name, ready in self.ready.items() if not ready}


@dataclass(frozen=True)
class Refusal:
    """Why a node must not be recovered now. ``passing``: it is over when another recovery ends."""

    code: str
    what: str
    why: str
    next: str
    passing: bool = False


def refusal(
    node: str, held: Collection[Held], nodes: Nodes, recovered: Mapping[str, float], budget: Budget, now: float
) -> Refusal | None:
    """Return why a node must not be recovered now, None where nothing speaks against it.

    Args:
        node: the Node's name.
        held: what other recoveries work on.
        nodes: all of the cluster's.
        recovered: name to when a recovery of it last began, in seconds of the epoch.
        budget: what is allowed.
        now: seconds of the epoch.
    """
    return (
        same_node(node, held)
        or _storm(node, nodes, recovered, budget, now)
        or _control_plane(node, held, nodes)
        or _over(node, held, nodes, budget)
    )


def same_node(node: str, held: Collection[Held]) -> Refusal | None:
    """Return the refusal where somebody else works on a node; see :func:`refusal`."""
    same = next((one for one in held if one.node == node), None)
    if same is None:
        return None
    why = f"{same.holder} is working on it"
    return Refusal(SAME_NODE, f"the Node {node} is under recovery already", why, _WAIT, passing=True)


_WAIT = "wait for it, or give --wait SECONDS"


def _storm(node: str, nodes: Nodes, recovered: Mapping[str, float], budget: Budget, now: float) -> Refusal | None:
    down = nodes.down - {node}
    share = 100 * len(down | ({node} & nodes.down)) / max(1, len(nodes.ready))
    if down and share > budget.max_unhealthy:
        return Refusal(
            STORM,
            f"{share:.0f} % of the cluster's nodes are not ready: {_names(down | ({node} & nodes.down))}",
            f"more than {budget.max_unhealthy:g} %: the cause is hardly one node's state",
            "look at what they share (API server, network, CNI's configuration); --max-unhealthy PERCENT allows it",
        )
    recent = {name for name, when in recovered.items() if now - when < HOUR and name != node}
    if len(recent) + 1 > budget.max_per_hour:
        return Refusal(
            STORM,
            f"{len(recent)} nodes were recovered within the last hour: {_names(recent)}",
            f"more than {budget.max_per_hour} an hour are not the nodes' own trouble",
            "find the cause first; --max-per-hour NUMBER allows more",
        )
    return None


def _control_plane(node: str, held: Collection[Held], nodes: Nodes) -> Refusal | None:
    if node not in nodes.protected:
        return None
    busy = {one.node for one in held if one.protected}
    if busy:
        why = f"{_names(busy)} is under recovery, and of the control plane only one node at a time"
        return Refusal(CONTROL_PLANE, f"the control-plane Node {node} has to wait", why, _WAIT, passing=True)
    down = set(nodes.protected) & (nodes.down - {node})
    if down:
        return Refusal(
            CONTROL_PLANE,
            f"the control-plane Node {node} has to wait",
            f"{_names(down)} of the control plane is not ready, and etcd needs most of its members",
            f"recover {sorted(down)[0]} first",
        )
    return None


def _over(node: str, held: Collection[Held], nodes: Nodes, budget: Budget) -> Refusal | None:
    busy, down = {one.node for one in held} - {node}, nodes.down - {node}
    away, most = busy | down, budget.at_once(len(nodes.ready))
    if len(away) < most:
        return None
    parts = [f"under recovery: {_names(busy)}"] if busy else []
    parts += [f"not ready: {_names(down - busy)}"] if down - busy else []
    return Refusal(
        OVER_BUDGET,
        f"the Node {node} is beyond the budget of {most} of {len(nodes.ready)} nodes",
        "; ".join(parts),
        f"{_WAIT}; or --max-nodes {len(away) + 1} --max-percent {_percent(len(away) + 1, len(nodes.ready))}",
        passing=bool(busy),
    )


def _percent(part: int, whole: int) -> int:
    """Return the least whole percentage that allows so many."""
    return min(100, -(-100 * part // max(1, whole)))


def _names(names: Collection[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
