"""Whether the traffic really flows: a connection out of the source pod's network namespace, made on its node.

Judging says what policies mean; only a connection shows what the engine does. The node makes it over ssh, so nothing
has to run in the pod. Where a node cannot be reached, that is said: a verdict is no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.match import match_nodes
from tune_nodes.cluster.objects import at, mappings
from tune_nodes.errors import TuneError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod, Snapshot, strings
from tune_nodes.policy.opening.allows import is_dns
from tune_nodes.policy.opening.flows import ANY_PORT, DNS, Flow
from tune_nodes.policy.opening.reset import Plan

#: Connections that are tried.
MOST = 4
#: How often the nodes are asked before a connection counts as failed: an engine needs a moment.
TRIES = 3
#: Runs the playbook: nodes with their probe targets -> node and target -> (ok, detail).
Ask = Callable[[Mapping[str, Sequence[str]]], Mapping[tuple[str, str], tuple[bool, str]]]


@dataclass(frozen=True)
class Proof:
    """What one connection showed. ``ok``: None where none could be made; ``text``: a sentence."""

    ok: bool | None
    text: str

    @property
    def word(self) -> str:
        """The result in a word."""
        return {True: "proved", False: "does not flow", None: "not proved"}[self.ok]


def prove(cluster: Cluster, plan: Plan, inventory: Sequence[str], explicit: bool) -> list[Proof]:
    """Make connections of the kind that was cut, and say what came of them.

    Args:
        cluster: for the services of the scope.
        plan: what was done.
        inventory: names of inventories with the nodes; [] for none.
        explicit: the flows were named, and stand for themselves.
    """
    try:
        flows = provable(one.flow for one in plan.ladder.now) if explicit else []
        flows = flows or list(samples(plan, ports(cluster, plan)))
    except ClusterError as problem:
        return [Proof(None, f"which services the scope has is not known: {problem.what}")]
    if not flows:
        return [Proof(None, "no pod of the scope serves a port that is known, so there is nothing to connect to")]
    if not inventory:
        return [Proof(None, f"{flow}: no inventory was given (-i), so no node can try it") for flow in flows[:1]]
    try:
        return _tried(plan.snapshot, cluster, inventory, flows[:MOST])
    except TuneError as problem:
        return [Proof(None, f"{flows[0]}: {problem.what}: {problem.why}")]


def provable(flows: Iterable[Flow]) -> list[Flow]:
    """Return the flows that a connection can show: between two pods, on a port (pure)."""
    return [
        flow
        for flow in flows
        if isinstance(flow.source, Pod) and isinstance(flow.target, Pod) and flow.target.ips and flow.port != ANY_PORT
    ]


def samples(plan: Plan, served: Mapping[str, Sequence[int]]) -> Iterator[Flow]:
    """Yield connections that stand for a scope's traffic: to its services, and from its pods to DNS (pure).

    Args:
        plan: the scope and the pods.
        served: of each pod of the scope ("shop/web-0"), the ports that a service sends to it.
    """
    mine = [pod for pod in plan.scope.pods(plan.snapshot) if pod.phase == "Running" and pod.ips]
    alive = [pod for pod in plan.snapshot.pods if pod.phase == "Running" and pod.ips and not pod.host_network]
    for target in mine:
        for port in served.get(target.ref, ()):
            source = next((pod for pod in (*mine, *alive) if pod.ref != target.ref), None)
            if source is not None:
                yield Flow(source, target, port)
    servers = [pod for pod in alive if is_dns(pod)]
    cut_out = any("egress" in one.flow.sides for one in plan.ladder.cut)
    for pod in mine[:1] if cut_out else ():
        for server in servers[:1]:
            yield Flow(pod, server, DNS, "UDP")


def ports(cluster: Cluster, plan: Plan) -> dict[str, list[int]]:
    """Return the ports at which services reach each pod of the scope. Raises ClusterError."""
    found: dict[str, list[int]] = {}
    mine = plan.scope.pods(plan.snapshot)
    for namespace in sorted({pod.namespace for pod in mine})[:20]:
        for service in cluster.api.items(Call("list", "services", namespace=namespace)):
            selector = strings(at(service, "spec", "selector"))
            for pod in mine:
                if selector and pod.namespace == namespace and selector.items() <= dict(pod.labels).items():
                    found.setdefault(pod.ref, []).extend(_target_ports(service, pod))
    return {ref: sorted(set(numbers))[:2] for ref, numbers in found.items()}


def _target_ports(service: Mapping[str, Any], pod: Pod) -> Iterator[int]:
    for row in mappings(service, "spec", "ports"):
        if row.get("protocol", "TCP") != "TCP":
            continue
        wanted = row.get("targetPort", row.get("port"))
        named = {port.name: port.number for port in pod.ports}
        number = named.get(wanted) if isinstance(wanted, str) else wanted
        if isinstance(number, int) and 0 < number < 65536:
            yield number


def _tried(snapshot: Snapshot, cluster: Cluster, inventory: Sequence[str], flows: Sequence[Flow]) -> list[Proof]:
    """Let the nodes try, more than once where it does not flow at first."""
    names, ask = _reach(cluster, inventory)
    found: dict[Flow, Proof] = {}
    for flow in flows:
        if isinstance(flow.source, Pod) and flow.source.node not in names:
            found[flow] = Proof(None, f"{flow}: the node {flow.source.node} is not in the inventory")
    left = [flow for flow in flows if flow not in found]
    for _ in range(TRIES):
        wanted: dict[str, list[str]] = {}
        for flow in left:
            node, target = _target(flow, names)
            wanted.setdefault(node, []).append(target)
        answers = ask(wanted) if wanted else {}
        for flow in left:
            ok, detail = answers.get(_target(flow, names), (None, "the node did not answer"))
            unsure = ok is False and detail.startswith(("refused", "the pod", "this Python"))
            found[flow] = Proof(None if unsure else ok, f"{flow}: {one_line(detail)}")
        left = [flow for flow in left if found[flow].ok is False]
        if not left:
            break
    return [found[flow] for flow in flows]


def _target(flow: Flow, names: Mapping[str, str]) -> tuple[str, str]:
    source, target = flow.source, flow.target
    if not (isinstance(source, Pod) and isinstance(target, Pod)):
        raise TypeError("only flows between pods are tried")
    uid = "node" if source.host_network else source.uid
    return names[source.node], f"{uid} {target.ips[0]} {flow.port} {flow.protocol}"


def _reach(cluster: Cluster, inventory: Sequence[str]) -> tuple[dict[str, str], Ask]:
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
