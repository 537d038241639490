"""Why a node is held back because of what its cluster says of it (pure)."""

from __future__ import annotations

from tune_nodes.cluster.model import NodeFacts
from tune_nodes.fleet import standing
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome


def held_back(record: NodeRecord, error: ErrorRecord, verb: str) -> NodeRecord:
    """Refuse a node that would be touched; of one that is looked at, or given back what it had, it is a warning."""
    if record.outcome is Outcome.PENDING and verb in ("plan", "apply"):
        return standing.refuse(record, error)
    said = f"{error.what}: {error.why}" if error.why else error.what
    return record.model_copy(update={"warnings": [*record.warnings, said]})


def not_ready(reason: str) -> ErrorRecord:
    """Return why a node that is not well is refused."""
    return ErrorRecord(
        what=reason,
        why="a node that is not well is not changed: nobody could tell what the change does to it",
        next="get it Ready first (see: kubectl describe node), or go on without the cluster: --cluster off",
        code="not-ready",
    )


def no_node(name: str) -> ErrorRecord:
    """Return why a node without a Node object is refused where the cluster is required."""
    return ErrorRecord(
        what=f"{name} has no Node object",
        why="neither its name nor its address is that of a Node in the cluster, and the cluster is required",
        next="tune-nodes cluster show lists the Nodes; set ansible_host to the Node's InternalIP",
        code="not-in-cluster",
    )


def another_machine(record: NodeRecord, node: NodeFacts) -> ErrorRecord:
    """Return why a node is refused whose Node object is that of another machine."""
    return ErrorRecord(
        what=f"the Node object {node.name} is another machine than the one that answers as {record.name}",
        why=f"its machine-id is {node.machine_id}, not {standing.machine(record)[0]}",
        next="correct ansible_host in the inventory, or give the kubeconfig of this node's cluster",
        code="another-machine",
    )
