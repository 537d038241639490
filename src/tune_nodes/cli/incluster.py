"""From options, configuration and profile to the cluster a run uses, or to a run without one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tune_nodes.cluster.access import find_kubeconfig
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NO_KUBECONFIG, ClusterError, KubeconfigError
from tune_nodes.cluster.rights import grouped
from tune_nodes.cluster.wiring import ClusterView, Drain, Occasion
from tune_nodes.config import Config
from tune_nodes.errors import UsageError
from tune_nodes.fleet.clusterside import ClusterSide, NoCluster
from tune_nodes.runs.models import ClusterRecord

Mode = Literal["auto", "required", "off"]
#: Seconds of window that a change in a cluster needs: its own work, the wait for the Lease, and the margin at the end.
SHORTEST_WINDOW = 45
#: What a run without a cluster does not look at.
UNSEEN = "Node conditions, Leases, kube-proxy and the CNI's agents, labels"


@dataclass(frozen=True)
class ClusterWish:
    """What was asked for.

    Args:
        kubeconfig: a path that was named, "" for none.
        context: one of its contexts, "" for the current one.
        mode: auto: used where it can be; required: no run without it; off.
        drain: whether nodes are drained before they are changed.
    """

    kubeconfig: str = ""
    context: str = ""
    mode: Mode = "auto"
    drain: Drain = field(default_factory=Drain)

    @property
    def named(self) -> bool:
        """Whether a file or a context was named: then it must be usable as a file."""
        return bool(self.kubeconfig or self.context)

    def described(self, changing: bool) -> dict[str, object]:
        """Return what is not the default, as it stands in the run's record."""
        found: dict[str, object] = {} if self.mode == "auto" else {"cluster": self.mode}
        if changing and self.drain.wanted:
            found |= {"drain": True, "drain_timeout": self.drain.timeout}
        return found


def wish_of(config: Config, suggested: Mapping[str, Any]) -> ClusterWish:
    """Return what is asked for: an option's or variable's word, else the profile's, else the configured one.

    Args:
        config: the settings in force.
        suggested: what the profile says of mode, drain, drain_timeout.
    """
    chosen = config.settings.cluster

    def pick(key: str) -> object:
        own = config.chosen(f"cluster.{key}") or key not in suggested
        return getattr(chosen, key) if own else suggested[key]

    mode: Mode = "off" if pick("mode") == "off" else "required" if pick("mode") == "required" else "auto"
    drain = Drain(bool(pick("drain")), float(str(pick("drain_timeout"))), chosen.delete_emptydir_data)
    return ClusterWish(chosen.kubeconfig, chosen.context, mode, drain)


def open_cluster(
    wish: ClusterWish,
    occasion: Occasion,
    sources: Sequence[str],
    targets: Mapping[str, str],
    window: int,
    env: Mapping[str, str] | None = None,
) -> ClusterSide:
    """Return the cluster's side of a run.

    Args:
        wish: what was asked for.
        occasion: the run.
        sources: the inventory's, for a kubeconfig beside it.
        targets: inventory name to address.
        window: seconds a node waits for its confirmation.
        env: the environment (default: this process's).

    Raises:
        UsageError: a named kubeconfig or context that is none; a window that is too short.
        ClusterError: it cannot be used, and is required (or nodes are to be drained).
    """
    draining = wish.drain.wanted and occasion.changing
    if wish.mode == "off":
        if draining:
            raise UsageError("nodes cannot be drained without the cluster", "--cluster off", "add --no-drain")
        return NoCluster()
    needed = wish.mode == "required" or draining
    try:
        cluster = _open(wish, sources, os.environ if env is None else env)
    except ClusterError as problem:
        if needed or (isinstance(problem, KubeconfigError) and wish.named):
            raise _not_without(problem, draining and wish.mode != "required") from problem
        return _without(problem, occasion)
    try:
        return _view(cluster, wish, occasion, targets, window, draining)
    except ClusterError as problem:
        cluster.close()
        if needed:
            raise _not_without(problem, draining and wish.mode != "required") from problem
        return _without(problem, occasion)
    except BaseException:
        cluster.close()
        raise


def _open(wish: ClusterWish, sources: Sequence[str], env: Mapping[str, str]) -> Cluster:
    path = find_kubeconfig(wish.kubeconfig, sources, env)
    if path is None:
        raise KubeconfigError(
            f"there is no kubeconfig for the context {wish.context}" if wish.context else "there is no kubeconfig",
            "none was named, none lies beside the inventory, and KUBECONFIG names none",
            "give --kubeconfig PATH, or put it beside the inventory as `kubeconfig`",
            NO_KUBECONFIG,
        )
    return Cluster.open(path, wish.context)


def _view(
    cluster: Cluster,
    wish: ClusterWish,
    occasion: Occasion,
    targets: Mapping[str, str],
    window: int,
    draining: bool,
) -> ClusterView:
    facts = cluster.facts()
    strict = wish.mode == "required" or draining
    blind: list[str] = []
    leases = True
    if occasion.changing:
        lacking = cluster.missing("tune" if draining else "read")
        if lacking and strict:
            raise ClusterError("forbidden", "permissions are missing", "; ".join(grouped(lacking)), _RBAC[draining])
        leases = not any("leases" in right for right in lacking)
        blind += [] if leases else ["whether the kubelets renew their Leases: no permission to watch leases"]
    view = ClusterView(cluster, facts, targets, occasion, wish.drain, strict, blind, leases)
    if occasion.changing and leases and view.matched and window < SHORTEST_WINDOW:
        raise UsageError(
            f"a window of {window} s is too short with a cluster",
            "after its change each node waits up to 15 s for its kubelet to renew its Lease",
            f"--window {SHORTEST_WINDOW} or more, or --cluster off",
        )
    return view


_RBAC = {
    False: "grant them: tune-nodes cluster rbac read | kubectl apply -f -",
    True: "grant them: tune-nodes cluster rbac tune | kubectl apply -f -",
}


def _not_without(problem: ClusterError, for_drain: bool) -> ClusterError:
    """Return the error of a run that does not go on: also how it would."""
    how = "--no-drain" if for_drain else "--cluster auto"
    said = f"{problem.next}; or go on without it: {how}" if problem.next else f"go on without it: {how}"
    problem.next = said
    return problem


def _without(problem: ClusterError, occasion: Occasion) -> NoCluster:
    """Return the side of a run that goes on without its cluster, and say so where one was expected."""
    said = f"{problem.what}: {problem.why}" if problem.why else problem.what
    if problem.code != NO_KUBECONFIG:
        occasion.note(f"warning: the cluster is not used: {said}")
        if problem.next:
            occasion.note(f"  next: {problem.next}")
    return NoCluster(ClusterRecord(used=False, problem=problem.code, not_checked=[f"{UNSEEN}: {said}"]))
