"""R1: the CNI's agent is started anew on one node; it then makes again what it keeps on the node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune_nodes.cluster.drain import pods_on
from tune_nodes.errors import TuneError
from tune_nodes.recovery.rebuild import pods
from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import NodeState, mapping, report_of
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken

NUMBER = 1
#: Seconds in which an agent that is ready has put its things right; it is ready before it has.
SETTLE = 30.0
PAUSE = 1.0
#: What an agent's start may do to connections that exist.
CUTS = {"cilium": "connections through its proxy or L7 policies are cut; others go on in the kernel"}
#: Codes of faults that Flannel's agent mends, whoever gives pods their network.
OF_FLANNEL = frozenset({"no-subnet-env", "subnet-env", "no-tunnel", "vtep-mac", "peer"})


def take(run: Recovery, name: str, _taken: Taken) -> NodeRecord:
    """Delete the agent's pod of this node, and wait until another one is ready and the node looks well.

    The look that the plan was made from may be minutes old, and an agent mends much by itself: where what this rung
    helps is gone meanwhile, nothing is touched.
    """
    record = run.fleet.record.nodes[name]
    if _helps(run.states[name]):
        if run.view is not None:
            run.view.forget()
        seen = run.look([name])[name]
        if seen.error is not None and not report_of(seen):
            return seen.model_copy(update={"outcome": Outcome.FAILED})
        if not _helps(run.states[name]):
            run.fleet.progress.note(f"{name}: what was wrong has come right by itself; the agent is left alone")
            return record.model_copy(update={"outcome": Outcome.OK, "error": None, "changes": []})
    try:
        started = _anew(run, name)
    except TuneError as problem:
        return _failed(record, problem)
    run.fleet.handle.event("agents", node=name, deleted=started)
    _settled(run, name)
    return record.model_copy(update={"outcome": Outcome.CHANGED, "error": None, "changes": []})


def _anew(run: Recovery, name: str) -> list[str]:
    """Replace each CNI's agent on a node; the names of the pods that were deleted.

    Raises:
        TuneError: there is none, or none becomes ready.
    """
    if run.view is None:
        raise TuneError("the agent cannot be started anew", "no cluster was asked", "--kubeconfig PATH")
    api, node = run.view.cluster.api, run.view.node_of(name)
    listed = list(pods_on(api, node))
    found = {cni: pods.agents(listed, cni) for cni in _wanted(run, name)}
    found = {cni: agents for cni, agents in found.items() if agents}
    if not found:
        raise TuneError("the CNI has no agent's pod on this node", "", "its DaemonSet: kubectl get daemonsets -A")
    gone: dict[str, str] = {}
    for cni, agents in found.items():
        old = {agent.pod.uid: str(agent.pod) for agent in agents}
        if set(old) <= set(gone):
            continue  # canal: one pod is the agent of both
        cut = f"; {CUTS[cni]}" if cni in CUTS else ""
        run.fleet.progress.note(f"{name}: the agent of {cni} is started anew: {', '.join(old.values())}{cut}")
        pods.replace_agent(api, node, cni, list(old), lambda: run.fleet.stop.requested)
        gone |= old
    run.view.forget()
    return sorted(gone.values())


def wanted(state: NodeState, agents: Sequence[str], unready: Sequence[str]) -> list[str]:
    """Return the CNIs whose agents are to be started anew: those that mend what was found (pure).

    Args:
        state: the look at the node.
        agents: CNIs whose agents have a pod there.
        unready: those of them that are not ready.
    """
    codes = {fault.code for fault in state.faults if fault.rung == NUMBER}
    found = set(unready) if "agent-not-ready" in codes else set()
    if codes & OF_FLANNEL:
        found.add("flannel")
    if codes - OF_FLANNEL - {"agent-not-ready"} or not codes:  # a configuration, a plugin; or only its number was given
        configured = state.cni
        found |= {configured} if configured in agents or configured == "canal" else set(agents)
    return sorted(found)


def _wanted(run: Recovery, name: str) -> list[str]:
    """Return the CNIs whose agents are meant."""
    told = run.facts(name)
    own = mapping(told, "own")
    return wanted(
        run.states[name], *([str(one) for one in row or ()] for row in (told.get("agents"), own.get("unready")))
    )


def _helps(state: NodeState) -> bool:
    return NUMBER in {fault.rung for fault in state.faults}


def _settled(run: Recovery, name: str) -> None:
    """Look until nothing that this rung helps is left, or time is over; the look afterwards says which."""
    until = time.monotonic() + SETTLE
    while time.monotonic() < until and not run.fleet.stop.requested:
        run.look([name])
        if not _helps(run.states[name]):
            return
        time.sleep(PAUSE)


def _failed(record: NodeRecord, problem: TuneError) -> NodeRecord:
    error = ErrorRecord(what=problem.what, why=problem.why, next=problem.next, code="agent")
    return record.model_copy(update={"outcome": Outcome.FAILED, "error": error})


RUNG = Rung(
    NUMBER,
    "start the CNI's agent anew",
    "pods keep their network, and no new one starts for some seconds; with Cilium, connections through its proxy "
    "are cut",
    take,
    forced=True,
)
