"""What should be changed in the API: nodes' stacks and the API's objects in, a plan out (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tune_nodes.cnimtu import calico, flannel, others
from tune_nodes.cnimtu.model import UNSUPPORTED, CniPlan, Held, NodeStack, Setting
from tune_nodes.cnimtu.stacks import disagreement, mixed_fleet, some

_PLANNERS: dict[str, Callable[[Sequence[NodeStack], Sequence[Held]], list[Setting]]] = {
    "flannel": flannel.plan,
    "calico": calico.plan,
    "cilium": others.cilium,
    "kube-router": others.kube_router,
    "weave": others.weave,
}
#: Places whose owner starts its agents by itself after a change.
_BY_ITSELF = ("Installation", "FelixConfiguration")
#: CNIs whose agent reads an object's new MTU only when it starts.
AT_START = ("flannel", "calico", "cilium")


def plan(stacks: Sequence[NodeStack], held: Sequence[Held], unseen: Collection[str] = ()) -> CniPlan:
    """Decide.

    Args:
        stacks: of every node that was looked at.
        held: what the API holds for their CNI.
        unseen: nodes of the cluster that were not looked at: the settings are theirs too.
    """
    faults = [f"{stack.node}: {sentence}" for stack in stacks for sentence in stack.faults]
    mixed = mixed_fleet(stacks)
    faults += [mixed] if mixed else []
    refused = disagreement(stacks)
    if refused:
        return CniPlan(refused=refused, faults=tuple(faults))
    cni, pods = stacks[0].cni, stacks[0].pods
    planner = _PLANNERS.get(cni)
    if planner is None:
        return CniPlan(cni, pods, refused=_unknown(stacks[0]), faults=tuple(faults))
    settings = tuple(planner(stacks, held))
    refused = "" if settings else _nowhere(cni)
    nodes = _restarts(stacks, settings)
    if unseen and not refused and (nodes or any(one.patch for one in settings)):
        refused = f"what is set there holds for {some(sorted(unseen))} too, which nobody looked at"
    return CniPlan(cni, pods, settings, () if refused else nodes, refused, tuple(faults))


def _restarts(stacks: Sequence[NodeStack], settings: Sequence[Setting]) -> tuple[str, ...]:
    """Return the nodes whose agent must start anew to hand out what is set."""
    cni = stacks[0].cni
    if cni in AT_START and any(one.patch and one.held.kind not in _BY_ITSELF for one in settings):
        return tuple(one.node for one in stacks)
    if cni != "flannel" or not settings or any(one.status == UNSUPPORTED for one in settings):
        return ()
    # flanneld writes what pods get when it starts, and never again: it may be old where its setting is right.
    return tuple(one.node for one in stacks if one.given is not None and one.given != one.pods)


def _unknown(stack: NodeStack) -> str:
    if stack.cni in ("", "unknown"):
        return (
            "its CNI is not known here: one would have to know which tunnels it makes, what they cost, and in which "
            "object of the API its MTU is set"
        )
    told = f" ({stack.tell})" if stack.tell else ""
    return f"how {stack.cni} is told its MTU through the API is not known here{told}"


def _nowhere(cni: str) -> str:
    where = "k3s keeps it in a file of the node, net-conf.json" if cni == "flannel" else "it may be kept on the nodes"
    return f"no object of the API holds {cni}'s MTU: {where}"
