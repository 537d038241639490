"""R3: remove what other CNIs have left on a node and nobody uses, each thing with its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tune_nodes.recovery.rung import Rung
from tune_nodes.recovery.state import NodeState, Orphan
from tune_nodes.runs.models import NodeRecord

if TYPE_CHECKING:
    from tune_nodes.recovery.run import Recovery, Taken

NUMBER, REBOOT = 3, 5
_SHOWN = 4  # things of one CNI that are named in a finding; the run's directory has all of them


def findings(state: NodeState) -> list[tuple[str, str, int | None]]:
    """Return (what, what a person looks at, the rung that helps) for each CNI that has left something."""
    found: list[tuple[str, str, int | None]] = []
    for owner in dict.fromkeys(one.owner for one in state.orphans):
        own = [one for one in state.orphans if one.owner == owner]
        going = [one for one in own if not one.refused]
        kernel = [one for one in own if one.kind == "bpf"]
        if going:
            found.append((f"{_named(going, owner)}, which nobody uses: {'; '.join(going[0].proof)}", "", NUMBER))
        if kernel:
            what = f"{_named(own, owner)}, and its BPF programs are in the kernel: {kernel[0].refused}"
            found.append((what, "a reboot of this node, once its pods are moved away", REBOOT))
            continue
        found += [(f"{one.kind} {one.name} of {owner} stays: {one.refused}", "", None) for one in own if one.refused][
            :5
        ]
    return found


def _named(orphans: Sequence[Orphan], owner: str) -> str:
    names = ", ".join(f"{one.kind} {one.name}" for one in orphans[:_SHOWN])
    more = f" and {len(orphans) - _SHOWN} more" if len(orphans) > _SHOWN else ""
    return f"left by {owner or 'a pod that is gone'}: {names}{more}"


def take(run: Recovery, name: str, _taken: Taken) -> NodeRecord:
    """Have the node judge again, and remove what this look and the one before it both call an orphan."""
    only = [one.id for one in run.states[name].orphans if not one.refused]
    run.fleet.progress.note(f"{name}: {len(only)} leftovers are judged again, saved, and removed one by one")
    return run.ask("recover_orphans", {name: {**run.facts(name), "only": only}})[name]


def undo(run: Recovery, names: Sequence[str], recovery: str) -> Mapping[str, NodeRecord]:
    """Bring back what a recovery removed, where nobody has made another of its name since."""
    return run.ask("recover_orphans", {name: {"undo": recovery} for name in names})


RUNG = Rung(
    NUMBER,
    "remove what other CNIs left",
    "no running pod is touched; each thing is saved word for word before it goes, and undo brings it back",
    take,
    undo,
)
