"""What is said of a connection is what Cilium does with it: the same sets of policies, judged and tried."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from kindbed.cluster import Cluster
from kindbed.images import PROBE

from tune_nodes.cluster import client
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.policy.discovery import discover, snapshot
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Cidr, Peer, Snapshot

LIMIT = 40.0  # seconds for a set of policies to reach every node
HERE, THERE = "explain-a", "explain-b"
BOTH = (f"{HERE}/client", f"{THERE}/server", f"{THERE}/other")
WORKER, CONTROL = "node/worker", "node/control-plane"
#: From, to, port. Nodes reach as they are.
FLOWS = (
    (f"{HERE}/client", f"{THERE}/server", 8080),
    (f"{HERE}/client", f"{THERE}/server", 9090),
    (f"{HERE}/client", f"{THERE}/other", 8080),
    (f"{THERE}/server", f"{HERE}/client", 8080),
    (WORKER, f"{THERE}/server", 8080),
    (CONTROL, f"{THERE}/server", 8080),
)
HASH = {"controller-revision-hash": "5bf4f57289"}
CLIENT, SERVER = {"matchLabels": {"app": "client"}}, {"matchLabels": {"app": "server"}}
OF_CLIENT = {"matchLabels": {"app": "client", "k8s:io.kubernetes.pod.namespace": HERE}}
OF_SERVER = {"matchLabels": {"app": "server", "k8s:io.kubernetes.pod.namespace": THERE}}
NAMESPACE_HERE = {"matchLabels": {"kubernetes.io/metadata.name": HERE}}


def policy(kind: str, name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Return a policy; a clusterwide one has no namespace."""
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def np(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return policy("NetworkPolicy", name, namespace, **{"podSelector": {}, **spec})


def cnp(name: str, namespace: str, selector: Any, **spec: Any) -> dict[str, Any]:
    return policy("CiliumNetworkPolicy", name, namespace, endpointSelector=selector, **spec)


def ccnp(name: str, selector: Any, **spec: Any) -> dict[str, Any]:
    return policy("CiliumClusterwideNetworkPolicy", name, "", endpointSelector=selector, **spec)


def ports(*rows: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"ports": [{"port": port, "protocol": protocol} for port, protocol in rows]}]


DENY_INGRESS = np("deny-ingress", THERE, policyTypes=["Ingress"])
TCP_8080 = [{"protocol": "TCP", "port": 8080}]
FROM_HERE = {"namespaceSelector": NAMESPACE_HERE, "podSelector": CLIENT}


@dataclass(frozen=True)
class Case:
    """A set of policies, what each of FLOWS does under it ("y" or "n"), and which policy decides the first."""

    name: str
    expected: str
    decider: str
    policies: tuple[dict[str, Any], ...]


CASES = (
    Case("nothing", "yyyyyy", "", ()),
    Case("default deny and an allow", "ynnyyn", "NetworkPolicy explain-b/allow-client", (
        DENY_INGRESS,
        np("allow-client", THERE, podSelector=SERVER, ingress=[{"from": [FROM_HERE], "ports": TCP_8080}]),
    )),
    Case("egress by a named port", "ynnyyy", "NetworkPolicy explain-a/to-web", (
        np("to-web", HERE, podSelector=CLIENT, policyTypes=["Egress"], egress=[
            {"to": [{"namespaceSelector": {}, "podSelector": SERVER}], "ports": [{"protocol": "TCP", "port": "web"}]},
        ]),
    )),
    Case("all namespaces, and only one's own", "yynyyn", "NetworkPolicy explain-b/all", (
        np("all", THERE, podSelector=SERVER, ingress=[{"from": [{"namespaceSelector": {}}]}]),
        np("own", THERE, podSelector={"matchLabels": {"app": "other"}}, ingress=[{"from": [{"podSelector": {}}]}]),
    )),
    Case("an ipBlock covers no pod", "nnyyyn", "NetworkPolicy explain-b/everywhere", (
        np("everywhere", THERE, podSelector=SERVER, ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]),
    )),
    Case("egress rules count without their type", "ynnyyy", "NetworkPolicy explain-a/odd", (
        np("odd", HERE, podSelector=CLIENT, policyTypes=["Ingress"], ingress=[{}], egress=[
            {"to": [{"namespaceSelector": {}, "podSelector": SERVER}], "ports": TCP_8080},
        ]),
    )),
    Case("a label that is no part of an identity", "yynyyy", "", (
        np("unseen", THERE, podSelector={"matchLabels": HASH}, policyTypes=["Ingress"]),
        np("seen", THERE, podSelector={"matchLabels": {"app": "other"}}, policyTypes=["Ingress"]),
    )),
    Case("a Cilium policy over a default deny", "ynnyyn", "CiliumNetworkPolicy explain-b/cilium-allow", (
        DENY_INGRESS,
        cnp("cilium-allow", THERE, SERVER, ingress=[{"fromEndpoints": [OF_CLIENT], "toPorts": ports(("8080", "TCP"))}]),
    )),
    Case("a deny beneath an allow", "nyyyyy", "CiliumClusterwideNetworkPolicy egress-deny", (
        np("allow-all-egress", HERE, policyTypes=["Egress"], egress=[{}]),
        ccnp("egress-deny", OF_CLIENT, egressDeny=[{"toEndpoints": [OF_SERVER], "toPorts": ports(("8080", "TCP"))}]),
    )),
    Case("a deny alone refuses everything", "nnnyyy", "CiliumClusterwideNetworkPolicy no-world", (
        ccnp("no-world", OF_CLIENT, egressDeny=[{"toEntities": ["world"]}]),
    )),
    Case("a deny that isolates nothing", "ynyyyy", "", (
        ccnp("some", OF_CLIENT, enableDefaultDeny={"egress": False}, egressDeny=[
            {"toEndpoints": [{}], "toPorts": ports(("9090", "ANY"))},
        ]),
    )),
    Case("the entity cluster", "ynyyyy", "CiliumNetworkPolicy explain-b/from-cluster", (
        cnp("from-cluster", THERE, SERVER, ingress=[{"fromEntities": ["cluster"], "toPorts": ports(("8080", "TCP"))}]),
    )),
    Case("the entity world", "nnyyyn", "CiliumNetworkPolicy explain-b/from-world", (
        cnp("from-world", THERE, SERVER, ingress=[{"fromEntities": ["world"]}]),
    )),
    Case("the entity remote-node", "nnyyyy", "CiliumNetworkPolicy explain-b/from-nodes", (
        cnp("from-nodes", THERE, SERVER, ingress=[{"fromEntities": ["remote-node"]}]),
    )),
    Case("a range of addresses covers no pod", "nnnyyy", "CiliumNetworkPolicy explain-a/to-addresses", (
        cnp("to-addresses", HERE, CLIENT, egress=[{"toCIDR": ["0.0.0.0/0"]}]),
    )),
    Case("an empty rule", "yynyyy", "", (cnp("nobody", THERE, {"matchLabels": {"app": "other"}}, ingress=[{}]),)),
    Case("a range of ports", "ynyyyn", "CiliumNetworkPolicy explain-b/span", (
        cnp("span", THERE, SERVER, ingress=[{
            "fromEndpoints": [{"matchLabels": {"io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name": HERE}}],
            "toPorts": [{"ports": [{"port": "8000", "endPort": 8999, "protocol": "TCP"}]}],
        }]),
    )),
    Case("a deny by the namespace", "nnyyyn", "CiliumClusterwideNetworkPolicy deny-here", (
        np("allow", THERE, podSelector=SERVER, ingress=[{"from": [FROM_HERE]}]),
        ccnp("deny-here", OF_SERVER, ingressDeny=[
            {"fromEndpoints": [{"matchExpressions": [
                {"key": "k8s:io.kubernetes.pod.namespace", "operator": "In", "values": [HERE]},
            ]}]},
        ]),
    )),
)  # fmt: skip


def pod(namespace: str, name: str, node: str) -> dict[str, Any]:
    script = "hostname >/www/index.html; httpd -p 9090 -h /www; exec httpd -f -p 8080 -h /www"
    container = {
        "name": "probe",
        "image": PROBE,
        "command": ["sh", "-c", script],
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 9090}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": name, **(HASH if name == "server" else {})},
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "tolerations": [{"operator": "Exists"}],
        },
    }


@pytest.fixture(scope="module")
def pods(cilium_cluster: Cluster) -> Iterator[dict[str, str]]:
    """Two namespaces and three pods; "namespace/name" to address. All of it is gone afterwards."""
    control, worker = sorted(cilium_cluster.nodes, key=lambda name: not name.endswith("control-plane"))
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (HERE, THERE)]
    made = [pod(HERE, "client", control), pod(THERE, "server", worker), pod(THERE, "other", worker)]
    try:
        cilium_cluster.kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, spaces)))
        cilium_cluster.kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, made)))
        for space in (HERE, THERE):
            wanted = ("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
            cilium_cluster.kubectl("-n", space, *wanted, timeout=70)
        found = json.loads(cilium_cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
        named = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in found}
        yield {name: named[name]["status"]["podIP"] for name in BOTH}
    finally:
        cilium_cluster.kubectl("delete", "namespace", HERE, THERE, "--ignore-not-found", timeout=90)


class Applied:
    """The policies of a case at a time."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds = {kind.kind: kind for kind in discover(api)}
        self._there: dict[str, dict[str, Any]] = {}

    def only(self, policies: Iterable[dict[str, Any]]) -> None:
        """Make these policies, and delete all others that were made here."""
        wanted = {f"{one['kind']} {one['metadata']['name']}": one for one in policies}
        for ref in wanted.keys() - self._there.keys():
            self._there[ref] = wanted[ref]
            self._api.post(self._call("create", wanted[ref]), wanted[ref])
        for ref in self._there.keys() - wanted.keys():
            self._api.delete(self._call("delete", self._there[ref], named=True))
            del self._there[ref]

    def _call(self, verb: str, policy: Mapping[str, Any], *, named: bool = False) -> Call:
        metadata = policy["metadata"]
        return self._kinds[policy["kind"]].call(verb, metadata.get("namespace", ""), metadata["name"] if named else "")


@pytest.fixture(scope="module")
def opened(cilium_cluster: Cluster) -> Iterator[client.Cluster]:
    with client.Cluster.open(cilium_cluster.kubeconfig) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def applied(opened: client.Cluster, pods: dict[str, str]) -> Iterator[Applied]:
    policies = Applied(opened.api)
    try:
        yield policies
    finally:
        policies.only([])


def tried(cluster: Cluster, pods: Mapping[str, str]) -> str:
    """Return what each of FLOWS really does: all at once, each with one second."""
    sources = list(dict.fromkeys(flow[0] for flow in FLOWS))
    with ThreadPoolExecutor(len(sources)) as pool:
        found = list(pool.map(lambda source: tried_from(cluster, pods, source), sources))
    seen = {flow: word for part in found for flow, word in part.items()}
    return "".join(seen[flow] for flow in FLOWS)


def tried_from(cluster: Cluster, pods: Mapping[str, str], source: str) -> dict[tuple[str, str, int], str]:
    """Return what the flows of one source do."""
    node, mine = source.startswith("node/"), [flow for flow in FLOWS if flow[0] == source]
    get = "curl -s -m 1" if node else "timeout 1 wget -q -O -"
    calls = [f"({get} http://{pods[to]}:{port}/ >/dev/null && echo {n}) &" for n, (_, to, port) in enumerate(mine)]
    script = " ".join([*calls, "wait"])
    if node:
        said = cluster.exec(node_of(cluster, source), "sh", "-c", script)
    else:
        space, name = source.split("/")
        said = cluster.kubectl("-n", space, "exec", name, "--", "sh", "-c", script)
    return {flow: "y" if str(number) in said.split() else "n" for number, flow in enumerate(mine)}


def node_of(cluster: Cluster, source: str) -> str:
    return next(name for name in cluster.nodes if name.endswith(source.removeprefix("node/")))


def judged(known: Snapshot, cluster: Cluster) -> tuple[str, str]:
    """Return what is said of each of FLOWS ("?" where nothing is), and which policy decides the first."""

    def peer(text: str) -> Peer:
        if text.startswith("node/"):
            return Cidr(cluster.nodes[node_of(cluster, text)])
        return next(one for one in known.pods if one.ref == text)

    verdicts = [judge(known, peer(source), peer(target), port) for source, target, port in FLOWS]
    words = {True: "y", False: "n", None: "?"}
    deciders = [one.decided_by.ref for one in (verdicts[0].egress, verdicts[0].ingress) if one.decided_by]
    refused = verdicts[0].deciding.decided_by
    decider = refused.ref if refused and not verdicts[0].allowed else next(iter(deciders), "")
    return "".join(words[one.allowed] for one in verdicts), decider


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_is_said_is_what_happens(
    cilium_cluster: Cluster, opened: client.Cluster, pods: dict[str, str], applied: Applied, case: Case
) -> None:
    applied.only(case.policies)
    assert judged(snapshot(opened), cilium_cluster) == (case.expected, case.decider)
    end = time.monotonic() + LIMIT
    while (seen := tried(cilium_cluster, pods)) != case.expected:
        assert time.monotonic() < end, f"said {case.expected}, but it is {seen}"
