"""Whether we may do, to every kind at hand, what is about to be done: asked of the server before the first write."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import FORBIDDEN, ClusterError
from tune_nodes.cluster.objects import at
from tune_nodes.cluster.rights import Right, grouped
from tune_nodes.policy.pace import Pace

if TYPE_CHECKING:
    from tune_nodes.policy.model import Policy

#: Up to so many namespaces are asked about one by one where a right does not hold in all of them.
NAMESPACES = 300
#: Seconds after which rights are asked for once more.
AGAIN = 1.0
#: Calico's API server also asks for these, named TIER.*, and for ``get`` on the tier.
_TIERED = {
    kind: f"tier.{resource}"
    for kind, resource in (
        ("NetworkPolicy", "networkpolicies"),
        ("GlobalNetworkPolicy", "globalnetworkpolicies"),
        ("StagedNetworkPolicy", "stagednetworkpolicies"),
        ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies"),
    )
}
CALICO = "projectcalico.org"


def missing_calls(cluster: Cluster, calls: Iterable[Call]) -> list[str]:
    """Return those of some calls that we may not make, in words.

    A right in all namespaces is asked for first; only where there is none, for each namespace.
    """
    pace = Pace()
    calls = list(dict.fromkeys(replace(call, version="") for call in calls))
    wide = list(dict.fromkeys(replace(call, namespace="") for call in calls))
    held = _all(cluster, pace, wide)
    short = [call for call in calls if not held[replace(call, namespace="")]]
    within = [call for call in short if call.namespace]
    if len({call.namespace for call in within}) > NAMESPACES:
        within = []
    has = _all(cluster, pace, within)
    lacking = [call for call in short if not has.get(call, False)]
    if not within:
        lacking = [replace(call, namespace="") for call in lacking]
    return list(dict.fromkeys(str(Right(call)) for call in lacking))


def require(cluster: Cluster, policies: Collection[Policy], verbs: Sequence[str]) -> None:
    """Refuse to begin what could not be finished. Raises ClusterError, code forbidden, naming verb and resource."""
    require_calls(cluster, [call for policy in policies for call in _needed(policy, verbs)])


def require_calls(cluster: Cluster, calls: Collection[Call]) -> None:
    """Refuse to begin where one of these calls may not be made. Raises ClusterError, code forbidden."""
    lacking = missing_calls(cluster, calls)
    if lacking:  # a server that has just started denies everything until it has read its roles
        time.sleep(AGAIN)
        lacking = missing_calls(cluster, calls)
    if not lacking:
        return
    words = grouped(lacking)
    raise ClusterError(
        FORBIDDEN,
        f"{cluster.user or 'the user of this context'} may not {'; '.join(words[:6])}"
        + (f"; and {len(words) - 6} more" if len(words) > 6 else ""),
        "nothing was changed",
        "tune-nodes cluster rbac recover | kubectl apply -f -",
    )


def _needed(policy: Policy, verbs: Iterable[str]) -> Iterator[Call]:
    kind = policy.kind
    for verb in verbs:
        yield Call(verb, kind.resource, kind.group, policy.namespace)
    if kind.group == CALICO and kind.kind in _TIERED:
        tier = at(policy.raw, "spec", "tier")
        tier = tier if isinstance(tier, str) and tier else "default"
        yield Call("get", "tiers", CALICO, name=tier)
        for verb in verbs:
            yield Call(verb, _TIERED[kind.kind], CALICO, policy.namespace, f"{tier}.*")


def _all(cluster: Cluster, pace: Pace, calls: Collection[Call]) -> dict[Call, bool]:
    answers = pace.over(calls, lambda call: _has(cluster, call))
    return dict(zip(calls, answers, strict=True))


def _has(cluster: Cluster, call: Call) -> bool:
    review = Call("create", "selfsubjectaccessreviews", "authorization.k8s.io")
    answer = cluster.api.post(review, Right(call).review(), safe=True)
    return at(answer, "status", "allowed") is True
