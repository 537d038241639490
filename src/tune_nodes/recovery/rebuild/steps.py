"""The steps of a rebuild, and which of them are left (pure).

The order is that of Calico's flannel-migration controller (projectcalico/calico,
kube-controllers/pkg/controllers/flannelmigration), the best published one, with a fence under which pods still give
back what they have, and with the agent ready before sandboxes may start.
"""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """One step; its value is the word in journals."""

    BEGIN = "begin"  # backup, on the node and here
    CORDON = "cordon"
    DRAIN = "drain"  # as PodDisruptionBudgets allow
    FENCE = "fence"  # no new sandbox; those that end still give back what they have
    PODS = "pods"  # the rest: DaemonSets' pods with a network of their own
    CLEAR = "clear"  # the agent held still, artefacts away, files to quarantine
    START = "start"  # a new agent in place of the stopped one
    OPEN = "open"  # sandboxes may start; the runtime's network is ready
    VERIFY = "verify"
    UNCORDON = "uncordon"
    FINISH = "finish"


#: What each step is for, for a person who watches.
WORDS = {
    Step.BEGIN: "keep a backup",
    Step.CORDON: "close the node for new pods",
    Step.DRAIN: "move its pods away, as their budgets allow",
    Step.FENCE: "keep new sandboxes from starting",
    Step.PODS: "delete the pods that are left, while their plugin works",
    Step.CLEAR: "take the CNI's state away",
    Step.START: "start its agent anew",
    Step.OPEN: "let sandboxes start",
    Step.VERIFY: "look whether all is well",
    Step.UNCORDON: "open the node for pods",
    Step.FINISH: "note that it is done",
}

_ALL = tuple(Step)
#: The phase that a node says it has reached, to the first step that is left.
_FROM = {
    "": Step.BEGIN,
    "begun": Step.BEGIN,
    "fenced": Step.CORDON,
    "clearing": Step.CORDON,
    "cleared": Step.START,
    "open": Step.START,
}
#: Phases in which something was taken away already, so that an agent which was stopped must be replaced.
TAKEN_AWAY = ("clearing", "cleared", "open", "done")


def left(phase: str) -> tuple[Step, ...]:
    """Return the steps that are left for a node, in order.

    Each may be repeated, so that a step which was under way when a run was killed is simply done again.

    Args:
        phase: what the node says, "" for a rebuild that was not begun.
    """
    first = _FROM.get(phase)
    if first is None:
        return ()
    found = _ALL[_ALL.index(first) :]
    return tuple(step for step in found if not (phase == "open" and step is Step.OPEN))
