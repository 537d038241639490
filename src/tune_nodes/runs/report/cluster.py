"""What a run saw of its cluster and did not see, and what of the nodes' tuning does not reach a pod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..models import NodeInCluster, NodeRecord, PodValue, RunRecord
from .text import Clipped, clip, count, natural, plain, seconds

#: Nodes and pods named in one row.
NAMED = 3
#: Most rows; beyond it the run's JSON has the rest.
MOST = 60
#: PodValue.reach: who gets the node's value, in words.
REACH: dict[str, tuple[str, str]] = {
    "inherited": ("newer pods only", "a new pod starts with the node's value; this one is older than the value"),
    "default": ("no pod", "every pod starts with the kernel's own default, whatever the node has"),
    "unknown": ("not known", "nothing is known of how a pod comes by this key"),
}


@dataclass(frozen=True)
class ClusterBox:
    """The cluster as the top of a report shows it."""

    title: str
    server: str
    used: bool
    unseen: list[Clipped]


@dataclass(frozen=True)
class Short:
    """A value that pods do not have: the same on all the nodes it stands for."""

    key: str
    node: str
    pod: str
    reach: str
    meaning: str
    note: Clipped
    where: str
    refs: list[tuple[str, str, str]]  # name, reference, pod


def box(run: RunRecord) -> ClusterBox | None:
    """Return what to say of the cluster; None where nobody asked for one."""
    cluster = run.cluster
    if cluster is None:
        return None
    title = plain(cluster.title, 200) if cluster.used else "Not looked at in this run"
    return ClusterBox(title, plain(cluster.server), cluster.used, [clip(text, 300) for text in cluster.not_checked])


def node_facts(node: NodeInCluster | None) -> list[tuple[str, str]]:
    """Return what the cluster says of a node."""
    if node is None:
        return []
    by = "" if node.matched == "name" else f" (found by its {node.matched})"
    rows = [
        ("Node object", f"{node.name}{by}"),
        ("Ready", "yes" if node.ready else "no"),
        ("Roles", ", ".join(node.roles)),
        ("Kubelet", node.kubelet),
        ("Runtime", node.runtime),
        ("Taints", ", ".join(node.taints)),
        ("Lease", f"renewed {seconds(node.lease_seconds)} after the change" if node.lease_seconds is not None else ""),
        ("For new pods", {"ours": "closed during the change", "foreign": "closed by somebody else"}.get(node.cordoned)),
        ("Moved away", "" if node.evicted is None else count(node.evicted, "pod")),
    ]
    return [(name, plain(value, 200)) for name, value in rows if value]


def shorts(nodes: Mapping[str, NodeRecord], refs: Mapping[str, str]) -> tuple[list[Short], int]:
    """Return the values that do not reach pods, equal ones of several nodes as one row; and how many were left out."""
    found: dict[tuple[str, str, str, str, str], list[tuple[str, str]]] = {}
    for name in sorted(nodes, key=natural):
        for pod in nodes[name].pods:
            for value in pod.values:
                found.setdefault(_same(value), []).append((name, pod.name or pod.uid))
    rows = [_short(value, where, refs) for value, where in sorted(found.items(), key=_order)]
    return rows[:MOST], max(0, len(rows) - MOST)


def looked_into(nodes: Iterable[NodeRecord]) -> int:
    """Return in how many pods was looked."""
    return sum(len(node.pods) for node in nodes)


def _same(value: PodValue) -> tuple[str, str, str, str, str]:
    return value.key, value.node, value.pod, value.reach, value.note


def _order(item: tuple[tuple[str, str, str, str, str], list[tuple[str, str]]]) -> tuple[int, int, str]:
    (key, _, _, reach, _), where = item
    place = list(REACH).index(reach) if reach in REACH else len(REACH)
    return -len(where), place, key


def _short(value: tuple[str, str, str, str, str], where: list[tuple[str, str]], refs: Mapping[str, str]) -> Short:
    key, node, pod, reach, note = value
    word, meaning = REACH.get(reach, (plain(reach, 40), ""))
    more = len(where) - NAMED
    return Short(
        key=plain(key, 160),
        node=plain(node, 90),
        pod=plain(pod, 90),
        reach=word,
        meaning=meaning,
        note=clip(note, 300),
        where=f"and on {count(more, 'more node')}" if more > 0 else "",
        refs=[(plain(name, 60), refs[name], plain(pod_name, 80)) for name, pod_name in where[:NAMED]],
    )
