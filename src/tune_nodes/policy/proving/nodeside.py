"""Connections out of a pod's own network namespace, made by its node: nothing has to run in the pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.match import match_nodes
from tune_nodes.errors import TuneError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.proving.proof import Proof

#: How often the nodes are asked before a connection counts as failed: an engine needs a moment.
TRIES = 3
#: What a node says where it could not try at all.
_NOT_TRIED = ("the pod", "this Python")
#: Runs the playbook: nodes with their probe targets -> node and target -> (ok, detail).
Ask = Callable[[Mapping[str, Sequence[str]]], Mapping[tuple[str, str], tuple[bool, str]]]


def tried(cluster: Cluster, inventory: Sequence[str], flows: Sequence[Flow], tries: int = TRIES) -> list[Proof]:
    """Let the nodes try, up to so many times where it does not flow at first. Raises TuneError."""
    names, ask = reach(cluster, inventory)
    found: dict[Flow, Proof] = {}
    for flow in flows:
        if isinstance(flow.source, Pod) and flow.source.node not in names:
            found[flow] = Proof(None, f"{flow}: the node {flow.source.node} is not in the inventory", made=False)
    left = [flow for flow in flows if flow not in found]
    for _ in range(tries):
        wanted: dict[str, list[str]] = {}
        for flow in left:
            node, target = _target(flow, names)
            wanted.setdefault(node, []).append(target)
        answers = ask(wanted) if wanted else {}
        for flow in left:
            found[flow] = _proof(flow, answers.get(_target(flow, names)))
        left = [flow for flow in left if found[flow].ok is False]
        if not left:
            break
    return [found[flow] for flow in flows]


def _proof(flow: Flow, answer: tuple[bool, str] | None) -> Proof:
    if answer is None:
        return Proof(None, f"{flow}: the node did not answer", made=False)
    ok, detail = answer
    text = f"{flow}: {one_line(detail)}"
    if not ok and detail.startswith(_NOT_TRIED):
        return Proof(None, text, made=False)
    return Proof(None if not ok and detail.startswith("refused") else ok, text)


def _target(flow: Flow, names: Mapping[str, str]) -> tuple[str, str]:
    source, target = flow.source, flow.target
    if not (isinstance(source, Pod) and isinstance(target, Pod)):
        raise TypeError("only flows between pods are tried")
    uid = "node" if source.host_network else source.uid
    return names[source.node], f"{uid} {target.ips[0]} {flow.port} {flow.protocol}"


def reach(cluster: Cluster, inventory: Sequence[str]) -> tuple[dict[str, str], Ask]:
    """Return the inventory's name of each Node, and how to ask nodes. Raises TuneError."""
    from tune_nodes.fleet.inventory import read_inventory
    from tune_nodes.fleet.runner import AnsibleOptions, AnsibleRunner
    from tune_nodes.fleet.runner import Call as Request

    read = read_inventory(inventory, "")
    matches, _ = match_nodes({node.name: node.address for node in read.nodes.values()}, cluster.nodes())
    runner = AnsibleRunner(AnsibleOptions(inventory=tuple(read.sources)))

    def ask(wanted: Mapping[str, Sequence[str]]) -> Mapping[tuple[str, str], tuple[bool, str]]:
        nodes = {
            name: {"probes": [{"kind": "pod", "target": target} for target in dict.fromkeys(targets)]}
            for name, targets in wanted.items()
        }
        request = {"operation": "probe", "common": {"schema": 1}, "nodes": nodes}
        records = runner.run(Request(request, lambda record: None, lambda: False, 60)).records
        found = {}
        for name, record in records.items():
            for probe in record.probes_before or record.probes_after:
                found[name, probe.target] = (probe.ok, probe.detail)
            if record.error is not None and not (record.probes_before or record.probes_after):
                raise TuneError(record.error.what, record.error.why, record.error.next)
        return found

    return {match.node.name: name for name, match in matches.items()}, ask
