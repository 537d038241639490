"""The ladder: what is wrong with a node, which rung helps, and what a person looks at where none does (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.rungs import agent, evidence, leases, orphans, rebuild
from tune_nodes.recovery.state import Fault, NodeState

#: Every rung there is, lowest first.
RUNGS = (evidence.RUNG, agent.RUNG, leases.RUNG, orphans.RUNG, rebuild.RUNG)
EVIDENCE = evidence.RUNG
#: Without --rung no rung above this one is taken: those stop pods that work.
UNASKED = 3
#: R5, the reboot or replacement of a node: it is asked for, with the reason, and never done.
REBOOT = orphans.REBOOT


@dataclass(frozen=True)
class Finding:
    """Something wrong with a node.

    Args:
        next: what a person would look at.
        rung: the number of the one that helps, None for none.
    """

    what: str
    next: str = ""
    rung: int | None = None


def findings(state: NodeState) -> list[Finding]:
    """Return what is wrong with a node, the worst first."""
    found = []
    helps = leases.RUNG.number if state.stale and not state.refusals else None
    for network in state.networks:
        if network.exhausted:
            held = f"{network.live} live, {network.stale} stale, {network.young + network.in_use} not to be told"
            what = f"no address of {network.name} is free: {network.leases} leases for {network.usable} ({held})"
            found.append(Finding(what, "" if helps else _exhausted(state), helps))
        elif network.stale:
            found.append(
                Finding(f"{network.stale} of the {network.leases} leases of {network.name} are stale", "", helps)
            )
    found += [Finding(refusal.what, refusal.next or refusal.why) for refusal in state.refusals]
    found += _configuration(state)
    found += [Finding(what, then, rung) for what, then, rung in orphans.findings(state)]
    found += [Finding(fault.what, fault.next or fault.why, _mends(fault, state)) for fault in state.faults]
    found += [
        Finding(f"the pod {ping.pod} ({ping.ip}) does not answer the node: {ping.detail}", _POD)
        for ping in state.pings
        if not ping.ok
    ][:20]
    if state.waiting:
        plural = "pods wait" if state.waiting != 1 else "pod waits"
        found.append(Finding(f"{state.waiting} {plural} for a network", _WAITING, helps))
    return found


_POD = "whether the pod drops pings (a policy), else its route and neighbour entry in the evidence"
_LEFTOVER = "whether that CNI is still wanted; it is left as it is"
_WAITING = "the pod's events: kubectl describe pod; and the agent's log on this node"


def _mends(fault: Fault, state: NodeState) -> int | None:
    """Return the rung that mends a fault; R3 only where there is something that it may remove."""
    if fault.rung == orphans.NUMBER and not any(not one.refused for one in state.orphans):
        return None
    return fault.rung


def _exhausted(state: NodeState) -> str:
    if state.refusals:
        return "first what is named below: until then nothing is released"
    return "the node's podCIDR is too small for its pods, or the young leases become stale: look again in a while"


def _configuration(state: NodeState) -> list[Finding]:
    found = []
    if state.network_ready is False:
        agent = "whether the CNI's agent runs on this node, and its log"
        found.append(Finding(f"the runtime says its network is not ready: {state.reason}", agent))
    if state.loaded and state.network and state.loaded != state.network:
        what = f"the runtime has {state.loaded} in use, but the first configuration is {state.conf} ({state.network})"
        found.append(Finding(what, "which of the two is a leftover; the runtime takes the first by name"))
    if not state.orphans:  # they say it one by one, with proof
        found += [Finding(sentence, _LEFTOVER) for sentence in state.leftovers]
    return found


def climb(state: NodeState, wanted: int | None = None) -> list[Rung]:
    """Return the rungs to take on a node, lowest first; evidence goes before everything else.

    Args:
        state: the look at the node.
        wanted: only up to this one, which is taken even where nothing was found if it can be; None: whichever helps,
            up to those that stop pods which work.
    """
    most = UNASKED if wanted is None else wanted
    helps = {finding.rung for finding in findings(state)}
    found = [
        rung
        for rung in RUNGS
        if 0 < rung.number <= most and (rung.number in helps or (rung.forced and rung.number == wanted))
    ]
    return [EVIDENCE, *found] if found or wanted is not None else []


def beyond(state: NodeState, wanted: int | None = None) -> list[Rung]:
    """Return the rungs that would help and are above what may be taken, lowest first."""
    most = UNASKED if wanted is None else wanted
    helps = {finding.rung for finding in findings(state)}
    return [rung for rung in RUNGS if rung.number > most and rung.number in helps]


def asks_for_reboot(state: NodeState) -> bool:
    """Return whether something is wrong that only a reboot or another machine takes away (R5)."""
    return any(finding.rung == REBOOT for finding in findings(state))
