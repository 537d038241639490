"""Kinds by API discovery, their objects in pages, and what a snapshot is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from policy_server import Server
from policy_world import JSON, load, many, real, served
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.policy import discovery, surroundings
from tune_nodes.policy.judging import engines
from tune_nodes.policy.judging.summary import summary
from tune_nodes.policy.model import Kind, Snapshot


def resources(*rows: tuple[str, str, bool], verbs: Any = ("get", "list")) -> dict[str, Any]:
    return {"resources": [{"name": n, "kind": k, "namespaced": ns, "verbs": list(verbs)} for n, k, ns in rows]}


def test_the_kinds_of_a_real_server() -> None:
    found = served()
    assert [(kind.qualified, kind.version, kind.namespaced, kind.role) for kind in found.kinds] == [
        ("ciliumcidrgroups.cilium.io", "v2", False, "set"),
        ("ciliumclusterwidenetworkpolicies.cilium.io", "v2", False, "policy"),
        ("ciliumnetworkpolicies.cilium.io", "v2", True, "policy"),
        ("networkpolicies.networking.k8s.io", "v1", True, "policy"),
        ("clusternetworkpolicies.policy.networking.k8s.io", "v1alpha2", False, "policy"),
    ]
    assert discovery.groups(load("apis"))["cilium.io"] == ["v2", "v2alpha1"]


def test_the_newest_served_version_counts() -> None:
    rows = ("ciliumcidrgroups", "CiliumCIDRGroup", False)
    answers = [(("cilium.io", version), resources(rows)) for version in ("v2", "v2alpha1", "v1beta1")]
    assert [kind.version for kind in discovery.kinds_of(answers).kinds] == ["v2"]
    ordered = sorted(["v2", "v1", "v2alpha1", "v1beta1", "v1beta2", "v10"], key=discovery.rank)
    assert ordered == ["v2alpha1", "v1beta1", "v1beta2", "v1", "v2", "v10"]


def test_calico_is_taken_from_one_of_its_groups() -> None:
    rows = resources(("globalnetworkpolicies", "GlobalNetworkPolicy", False), ("hostendpoints", "HostEndpoint", False))
    both = discovery.kinds_of([(("projectcalico.org", "v3"), rows), (("crd.projectcalico.org", "v1"), rows)])
    assert [kind.qualified for kind in both.kinds] == ["globalnetworkpolicies.projectcalico.org"]
    assert both.not_handled == ("hostendpoints.projectcalico.org",)
    alone = discovery.kinds_of([(("crd.projectcalico.org", "v1"), rows)])
    assert [kind.api_version for kind in alone.kinds] == ["crd.projectcalico.org/v1"]


def test_kinds_that_are_not_handled_are_named() -> None:
    found = discovery.kinds_of([(("crd.antrea.io", "v1beta1"), resources(("networkpolicies", "NetworkPolicy", True)))])
    assert found == discovery.Found((), ("networkpolicies.crd.antrea.io",))


def test_what_cannot_be_listed_is_no_kind() -> None:
    rows = resources(("networkpolicies", "NetworkPolicy", True), verbs=["get"])
    assert discovery.kinds_of([(("networking.k8s.io", "v1"), rows)]) == discovery.Found()


@given(JSON)
def test_any_answer_to_discovery_is_survived(answer: Any) -> None:
    document = answer if isinstance(answer, dict) else {"groups": answer, "resources": answer}
    discovery.groups(document)
    discovery.kinds_of([(("networking.k8s.io", "v1"), document)])


@given(JSON)
def test_any_object_is_survived(value: Any) -> None:
    document = value if isinstance(value, dict) else {"metadata": value, "spec": value, "status": value}
    surroundings.pod_of(document)
    surroundings.node_of(document)
    named = {"metadata": {"name": "a", "namespace": "b", "labels": value}, "spec": document, "status": document}
    assert surroundings.pod_of(named)
    assert surroundings.node_of(named)


def test_pods_of_a_real_server() -> None:
    pods = {pod.ref: pod for pod in real().pods}
    server = pods["explain-b/server"]
    assert [(one.name, one.number, one.protocol) for one in server.ports] == [("web", 8080, "TCP")]
    assert server.ips and not server.host_network and server.phase == "Running" and server.service_account == "default"
    assert pods["kube-system/kube-apiserver-cil-control-plane"].host_network


def test_policies_of_a_real_server_in_a_few_words() -> None:
    words = {policy.ref: summary(policy) for policy in real().policies}
    assert words["NetworkPolicy explain-b/deny-ingress"] == "refuses all ingress"
    assert words["NetworkPolicy explain-a/allow-all-egress"] == "egress: 1 allow"
    assert words["CiliumClusterwideNetworkPolicy no-world"] == "egress: 1 deny"
    assert words["CiliumCIDRGroup offices"] == "2 ranges of addresses"
    assert words["ClusterNetworkPolicy pass-shop"] == "Admin, priority 20; egress: Pass"


@pytest.mark.parametrize(
    ("cni", "version", "engine", "word"),
    [
        (["cilium v1.20.2"], "v1.34.4", "cilium", ""),
        (["calico v3.32.0"], "v1.34.4", "calico", ""),
        (["canal v3.32.0"], "v1.34.4+rke2r1", "calico", ""),
        (["flannel v0.28.10"], "v1.34.4", "", "flannel does not enforce"),
        (["flannel"], "v1.34.4+k3s1", "kube-router", "--disable-network-policy"),
        (["flannel v0.28.10", "kube-router v2.11.0"], "v1.34.4", "kube-router", ""),
        (["aws-vpc-cni v1.20", "cilium v1.20.2"], "v1.34.4-eks-1", "cilium", ""),
        (["aws-vpc-cni v1.20"], "v1.34.4-eks-1", "aws-vpc-cni", "network policy agent"),
        (["multus v4", "weave 2.8"], "v1.34.4", "weave", ""),
        ([], "v1.34.4", "", "not known"),
    ],
)
def test_who_enforces(cni: list[str], version: str, engine: str, word: str) -> None:
    found, sentences = engines.enforcer(cni, version)
    assert found == engine
    assert word in " ".join(sentences)
    assert bool(sentences) == bool(word)


# -- over the wire ------------------------------------------------------------------------------------------------


@contextmanager
def opened(tmp_path: Path, server: Callable[[Request], None]) -> Iterator[Cluster]:
    with tiny_api(server) as url, Cluster.open(kubeconfig(tmp_path, url)) as cluster:
        yield cluster


def look(tmp_path: Path, server: Server) -> Snapshot:
    with opened(tmp_path, server) as cluster:
        return discovery.snapshot(cluster)


def test_a_snapshot_of_a_large_cluster_takes_few_pages(tmp_path: Path) -> None:
    server = Server(many(2000, 200))
    known = look(tmp_path, server)
    assert sum("/networkpolicies?" in path for path in server.asked) == 4
    assert len(server.asked) < 30
    assert len([one for one in known.policies if one.kind.kind == "NetworkPolicy"]) == 2000
    assert (known.engine, known.cni, known.apiservers) == ("cilium", ("cilium v1.20.2",), real().apiservers)
    assert known.settings["enable-policy"] == "default"
    assert known.not_judged == ()
    assert {node.name for node in known.nodes} == {"cil-control-plane", "cil-worker"}


def test_what_may_not_be_read_but_is_not_needed_is_said(tmp_path: Path) -> None:
    server = Server([])
    server.refused = {
        "/api/v1/namespaces/kube-system/configmaps/cilium-config",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    }
    known = look(tmp_path, server)
    assert len(known.not_judged) == 2
    assert "get configmaps cilium-config in the namespace kube-system" in known.not_judged[0]


@pytest.mark.parametrize("path", ["/api/v1/namespaces", "/apis/cilium.io/v2/ciliumnetworkpolicies", "/api/v1/pods"])
def test_what_is_needed_and_may_not_be_read_is_an_error(tmp_path: Path, path: str) -> None:
    server = Server([])
    server.refused = {path}
    with pytest.raises(ClusterError, match=f"may not list {path.rpartition('/')[2]}"):
        look(tmp_path, server)


def test_reading_one_namespace_leaves_the_others(tmp_path: Path) -> None:
    server = Server([])
    kind = Kind(
        "cilium.io", "v2", "ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy", False, "cilium"
    )
    space = Kind("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy", True, "cilium")
    with opened(tmp_path, server) as cluster:
        discovery.read(cluster.api, [kind, space], "shop")
    asked = [urlsplit(path).path for path in server.asked[-2:]]
    assert sorted(asked) == [
        "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
        "/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies",
    ]


def group(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "versions": [{"groupVersion": f"{name}/{version}", "version": version}]}


def test_an_api_server_that_is_a_pod_may_be_down(tmp_path: Path) -> None:
    server = Server([])
    down = [group("projectcalico.org", "v3"), group("security.istio.io", "v1"), group("crd.projectcalico.org", "v1")]
    server.apis = {"groups": [*server.apis["groups"], *down]}
    served_without = resources(("tiers", "Tier", False))
    server.resources |= {"projectcalico.org/v3": None, "security.istio.io/v1": None}
    server.resources["crd.projectcalico.org/v1"] = served_without
    with opened(tmp_path, server) as cluster:
        found = discovery.survey(cluster.api)
    assert "tiers.crd.projectcalico.org" in [kind.qualified for kind in found.kinds]
    assert [sentence.partition(":")[0] for sentence in found.silent] == ["projectcalico.org/v3", "security.istio.io/v1"]
    assert "does not answer" in found.silent[0]


def test_one_that_is_handled_and_has_no_other_way_may_not(tmp_path: Path) -> None:
    server = Server([])
    server.apis = {"groups": [*server.apis["groups"], group("projectcalico.org", "v3")]}
    server.resources["projectcalico.org/v3"] = None
    with opened(tmp_path, server) as cluster, pytest.raises(ClusterError, match="unable to handle"):
        discovery.survey(cluster.api)
