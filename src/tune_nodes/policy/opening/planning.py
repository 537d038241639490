"""From what was asked for to a plan: read the cluster once, judge every rung, choose one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.policy import agents
from tune_nodes.policy.discovery import snapshot
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Policy
from tune_nodes.policy.opening import flows, ladder
from tune_nodes.policy.opening.allows import LABEL
from tune_nodes.policy.opening.ladder import Ladder, Rung
from tune_nodes.policy.opening.reset import Plan, left_open
from tune_nodes.policy.opening.scope import Scope


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Args:
        scope: whose policies may be changed.
        source: where the traffic comes from, as typed; "" for everybody.
        target: where it goes; "" for the scope's pods.
        port: its port, 0 for all.
        ttl: seconds until it closes, 0 for never.
        rung: the rung to take, 0 for the first that opens.
        image: of the Job that closes it.
        pause: whether owners of deleted policies are paused.
    """

    scope: Scope
    source: str = ""
    target: str = ""
    port: int = 0
    ttl: int = 0
    rung: int = 0
    image: str = ""
    pause: bool = False


@dataclass(frozen=True)
class Looked:
    """What was found. ``plan``: None where policies do not cut the traffic, or the rung asked for was taken before."""

    plan: Plan | None
    ladder: Ladder
    not_judged: tuple[str, ...]


def look(cluster: Cluster, wish: Wish) -> Looked:
    """Judge every rung for a wish; nothing is changed.

    Raises:
        UsageError: the scope has no pod, or an end of the traffic is none.
        ClusterError: something that must be read may not be, or cannot.
        TuneError: the rung that was asked for, or every rung, does not help.
    """
    seen = snapshot(cluster)
    earlier = left_open(seen)
    # What an earlier reset added did not help, or nobody would ask again; so what cuts is looked for without it.
    found = seen.without([one.ref for one in earlier])
    scope = wish.scope
    if not scope.pods(found):
        raise UsageError(f"no pod is in {scope}", "it has none, or its name is another", "kubectl get pods -A")
    source, target = (flows.peer(text, found, scope.namespace) if text else None for text in (wish.source, wish.target))
    asked = flows.question(found, scope, source, target, wish.port)
    steps = ladder.climb(ladder.Question(found, scope, asked, judge), wish.rung)
    if steps.chosen is not None and _there(steps.chosen, earlier):
        return Looked(None, steps, found.not_judged)
    if steps.chosen is not None:
        still = tuple(sorted({one.labels[LABEL] for one in earlier}))
        plan = Plan(scope, found, steps, steps.chosen, wish.ttl, wish.image, wish.pause, open=still)
        nodes = {pod.node for pod in scope.pods(found) if pod.node}
        return Looked(replace(plan, agents=tuple(agents.trouble(cluster.api, nodes))), steps, found.not_judged)
    if wish.rung or steps.cut:
        rung = steps.rung(wish.rung)
        why = rung.why if rung else "; ".join(f"rung {one.number}: {one.why}" for one in steps.rungs)
        what = f"rung {wish.rung} is not to be had here" if wish.rung else "no rung lets this traffic through"
        raise TuneError(what, why, "tune-nodes policy explain NAMESPACE/POD")
    return Looked(None, steps, found.not_judged)


def _there(rung: Rung, earlier: Sequence[Policy]) -> bool:
    """Say whether an earlier reset has added all that a rung would add, and it deletes nothing."""
    here = {(one.kind.qualified, one.namespace, json.dumps(one.spec, sort_keys=True)) for one in earlier}
    wanted = {(one.kind.qualified, one.namespace, json.dumps(one.spec, sort_keys=True)) for one in rung.adds}
    return not rung.removes and wanted <= here
