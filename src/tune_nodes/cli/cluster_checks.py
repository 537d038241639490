"""What ``doctor --cluster`` looks at."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tune_nodes.cli.checks import Check
from tune_nodes.cluster import rights
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.model import ClusterFacts, NodeFacts

#: Names in one line, and lines about nodes that we left closed.
SHOWN = 5
CORDONS = 20


def cluster(kubeconfig: Path | None, context: str) -> list[Check]:
    """Check whether a cluster can be used, what it is, what was left closed in it, and what we may do in it."""
    if kubeconfig is None:
        why = "none beside the inventory, none in KUBECONFIG; ~/.kube/config is not taken by itself"
        return [Check("kubeconfig", "fail", why, "tune-nodes doctor --cluster --kubeconfig PATH")]
    try:
        with Cluster.open(kubeconfig, context) as opened:
            found = [_server(opened, kubeconfig)]
            found += _facts(opened, kubeconfig)
            return found + _rights(opened)
    except ClusterError as problem:
        detail = f"{problem.what}: {problem.why}" if problem.why else problem.what
        return [Check("cluster", "fail", detail, problem.next)]


def _server(opened: Cluster, kubeconfig: Path) -> Check:
    who = f", as {opened.user}" if opened.user else ""
    return Check("cluster", "ok", f"{opened.server}{who} (context {opened.context} of {kubeconfig})")


def _facts(opened: Cluster, kubeconfig: Path) -> list[Check]:
    try:
        facts = opened.facts()
    except ClusterError as problem:
        return [Check("nodes", "fail", f"{problem.what}: {problem.why}", problem.next)]
    found = [
        Check("kubernetes", "ok", facts.version or "the server does not say its version"),
        Check("cni", "ok" if facts.cni else "warn", ", ".join(facts.cni) or "not recognised"),
        _nodes(facts),
    ]
    found += [Check("not seen", "warn", sentence) for sentence in facts.not_seen]
    return found + _cordons(facts, f"kubectl --kubeconfig {shlex.quote(str(kubeconfig))}", opened.context)


def _nodes(facts: ClusterFacts) -> Check:
    sick = [node.name for node in facts.nodes.values() if not node.ready]
    if not facts.nodes:
        return Check("nodes", "fail", "the cluster has none")
    detail = f"{len(facts.nodes) - len(sick)} of {len(facts.nodes)} ready"
    if not sick:
        return Check("nodes", "ok", detail)
    more = f" and {len(sick) - SHOWN} more" if len(sick) > SHOWN else ""
    return Check("nodes", "warn", f"{detail}; not ready: {', '.join(sick[:SHOWN])}{more}")


def _cordons(facts: ClusterFacts, kubectl: str, context: str) -> list[Check]:
    ours: list[NodeFacts] = [node for node in facts.nodes.values() if node.cordoned_by]
    command = f"{kubectl} --context {shlex.quote(context)} uncordon"
    found = [
        Check(
            f"cordon {node.name}",
            "warn",
            f"closed for new pods by the run {node.cordoned_by}",
            f"if that run is over: {command} {node.name}",
        )
        for node in ours[:CORDONS]
    ]
    if len(ours) > CORDONS:
        found.append(Check("cordon", "warn", f"{len(ours) - CORDONS} more nodes are closed by runs of ours"))
    return found


def _rights(opened: Cluster) -> list[Check]:
    found: list[Check] = []
    for level in rights.LEVELS:
        try:
            missing = opened.missing(level)
        except ClusterError as problem:
            return [*found, Check("rights", "fail", f"{problem.what}: {problem.why}", problem.next)]
        found.append(_level(level, missing))
    try:
        return [*found, _mtu(opened.missing("tune", "mtu"))]
    except ClusterError as problem:
        return [*found, Check("rights", "fail", f"{problem.what}: {problem.why}", problem.next)]


def _mtu(missing: Sequence[str]) -> Check:
    name, of = "rights: tune, mtu", "tune-nodes mtu cni"
    if not missing:
        return Check(name, "ok", f"all that {of} needs")
    verbs = sorted({right.partition(" ")[0] for right in missing})
    detail = f"for {of} alone, missing: {', '.join(verbs)} the CNI's own configuration"
    return Check(name, "warn", detail, "tune-nodes cluster rbac tune | kubectl apply -f -")


def _level(level: str, missing: Sequence[str]) -> Check:
    if not missing:
        return Check(f"rights: {level}", "ok", "all that it needs")
    status = "fail" if level == "read" else "warn"
    return Check(
        f"rights: {level}",
        status,
        f"missing: {'; '.join(rights.grouped(missing))}",
        f"tune-nodes cluster rbac {level} | kubectl apply -f -",
    )
