"""Which connections stand for the traffic in question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.objects import at, mappings
from tune_nodes.policy.model import Pod, strings
from tune_nodes.policy.opening.allows import is_dns
from tune_nodes.policy.opening.flows import ANY_PORT, DNS, Flow
from tune_nodes.policy.opening.reset import Plan


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
