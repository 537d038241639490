"""Starting a CNI's agents anew, one node at a time; the next only when the one before is ready again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tune_nodes.cluster import cni, drain, objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.drain import Pod
from tune_nodes.errors import TuneError

#: Seconds for one node's agent to be ready again.
LIMIT = 180.0
LOOK = 0.5
#: The names that a cluster's DaemonSets give a CNI, by what nodes call it.
_NAMES = {"flannel": ("flannel", "canal"), "calico": ("calico", "canal")}


@dataclass(frozen=True)
class Agent:
    """The pod of a CNI's DaemonSet on a node."""

    node: str
    app: str
    pod: Pod


def find(api: Api, name: str, nodes: Sequence[str]) -> list[Agent]:
    """Return a CNI's agents on these Nodes, in their order.

    Raises:
        TuneError: a node has none: it runs inside another program (k3s), or not at all.
    """
    wanted = _NAMES.get(name, (name,))
    apps = {
        key
        for key, label in cni.of_daemonsets(api.items(Call("list", "daemonsets", "apps"))).items()
        if label.partition(" ")[0] in wanted
    }
    found: dict[str, Agent] = {}
    for namespace in sorted({namespace for namespace, _ in apps}):
        for item in api.items(Call("list", "pods", namespace=namespace)):
            app, node = objects.daemonset_of(item), objects.text(item, "spec", "nodeName")
            uid = objects.text(item, "metadata", "uid")
            if (namespace, app) in apps and node and uid and not objects.text(item, "metadata", "deletionTimestamp"):
                found[node] = Agent(node, app, Pod(uid, namespace, objects.name_of(item)))
    missing = [node for node in nodes if node not in found]
    if missing:
        raise TuneError(
            f"{missing[0]} has no pod of {name}'s agent",
            "it may run inside another program, as in k3s, or not at all",
            f"start {name} anew on it by hand: it gives new pods the old MTU until then",
        )
    return [found[node] for node in nodes]


def restart(
    api: Api, agents: Sequence[Agent], say: Callable[[str], None], cancelled: Callable[[], bool], limit: float = LIMIT
) -> list[str]:
    """Start agents anew in this order.

    Args:
        api: the server.
        agents: see :func:`find`; nodes whose loss costs least first.
        say: is told of each that is done.
        cancelled: asked between the nodes.
        limit: seconds for each.

    Returns:
        The nodes whose agent is new.

    Raises:
        TuneError: one was not ready again in time; those after it were left as they were.
    """
    done: list[str] = []
    for agent in agents:
        if cancelled():
            break
        _restart(api, agent, limit, done)
        done.append(agent.node)
        say(f"{agent.node}: {agent.app} is new and ready")
    return done


def _restart(api: Api, agent: Agent, limit: float, done: Sequence[str]) -> None:
    until, asked, why = time.monotonic() + limit, False, ""
    while True:
        if not asked:
            why = drain.evict(api, agent.pod)
            asked = not why
        else:
            why = _not_yet(api, agent)
            if not why:
                return
        if time.monotonic() >= until:
            raise TuneError(
                f"the agent {agent.pod} of {agent.node} is not ready again after {limit:g} s",
                f"{why}; {len(done)} before it are done, those after it were not touched",
                f"kubectl -n {agent.pod.namespace} get pods -o wide; then run this again",
            )
        time.sleep(LOOK)


def _not_yet(api: Api, agent: Agent) -> str:
    """Return what a node's new agent still lacks, "" for nothing."""
    mine = [
        item for item in drain.pods_on(api, agent.node, agent.pod.namespace) if objects.daemonset_of(item) == agent.app
    ]
    if any(objects.text(item, "metadata", "uid") == agent.pod.uid for item in mine):
        return "the old one has not ended"
    facts = [fact for fact in map(objects.agent_facts, mine) if fact is not None]
    if not facts:
        return "no new one has been made"
    return next((fact.why for fact in facts if not fact.ready), "")


def in_order(nodes: Sequence[str], roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Return nodes with those of the control plane last, else by name (pure)."""
    return sorted(nodes, key=lambda node: (bool(set(roles.get(node, ())) & {"control-plane", "master", "etcd"}), node))
