"""The CNI is told by its agents' images, whatever registry they come from."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_fixtures import load

from tune_nodes.cluster import cni


def daemonset(name: str, *images: str, namespace: str = "kube-system") -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"image": image} for image in images]}}}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_a_real_cluster() -> None:
    found = cni.of_daemonsets(load("daemonsets"))
    assert found == {("kube-flannel", "kube-flannel-ds"): "flannel v0.28.10"}
    assert cni.of_daemonsets(load("pods")) == found
    assert cni.of_nodes(load("nodes")) == {"flannel"}
    assert cni.named(found, {"flannel"}) == ("flannel v0.28.10",)


@pytest.mark.parametrize(
    ("name", "images", "label"),
    [
        ("kube-flannel-ds", ["ghcr.io/flannel-io/flannel:v0.28.10"], "flannel v0.28.10"),
        ("kube-flannel-ds-amd64", ["quay.io/coreos/flannel:v0.13.0-amd64"], "flannel v0.13.0-amd64"),
        ("calico-node", ["docker.io/calico/node:v3.32.0"], "calico v3.32.0"),
        ("calico-node", ["registry.example:5000/mirror/calico/node:v3.32.0@sha256:" + "a" * 64], "calico v3.32.0"),
        ("calico-node", ["example.com/x@sha256:" + "a" * 64], "calico"),
        ("canal", ["docker.io/calico/node:v3.29.1", "docker.io/flannel/flannel:v0.24.4"], "canal v3.29.1"),
        ("rke2-canal", ["rancher/hardened-calico:v3.30.2", "rancher/hardened-flannel:v0.27.1"], "canal v3.30.2"),
        ("cilium", ["quay.io/cilium/cilium:v1.20.2@sha256:" + "b" * 64], "cilium v1.20.2"),
        ("anetd", ["gke.gcr.io/cilium/anetd:v1.15.6-gke.1"], "cilium v1.15.6-gke.1"),
        ("weave-net", ["weaveworks/weave-kube:latest", "weaveworks/weave-npc:latest"], "weave latest"),
        ("kube-router", ["docker.io/cloudnativelabs/kube-router"], "kube-router"),
        ("kube-multus-ds", ["ghcr.io/k8snetworkplumbingwg/multus-cni:v4.2.2-thick"], "multus v4.2.2-thick"),
        ("antrea-agent", ["antrea/antrea-agent-ubuntu:v2.4.0", "antrea/antrea-agent-ubuntu:v2.4.0"], "antrea v2.4.0"),
        ("ovnkube-node", ["quay.io/openshift/x@sha256:" + "c" * 64], "ovn-kubernetes"),
        ("aws-node", ["602401143452.dkr.ecr.eu-west-1.amazonaws.com/amazon-k8s-cni:v1.20.1"], "aws-vpc-cni v1.20.1"),
        ("azure-cns", ["mcr.microsoft.com/containernetworking/azure-cns:v1.6.21"], "azure-cni v1.6.21"),
        ("netd", ["gke.gcr.io/netd-amd64:v0.3.10"], "gke-netd v0.3.10"),
        ("kindnet", ["docker.io/kindest/kindnetd:v20250512-df8de77b"], "kindnet v20250512-df8de77b"),
        ("kube-proxy", ["registry.k8s.io/kube-proxy:v1.34.4"], ""),
        ("node-exporter", ["quay.io/prometheus/node-exporter:v1.8.0"], ""),
        ("cilium-envoy", ["quay.io/cilium/cilium-envoy:v1.34.4"], ""),
        ("odd", [""], ""),
    ],
)
def test_daemonset(name: str, images: list[str], label: str) -> None:
    assert list(cni.of_daemonsets([daemonset(name, *images)]).values()) == ([label] if label else [])


def test_several_are_all_named() -> None:
    found = cni.of_daemonsets(
        [
            daemonset("kube-multus-ds", "ghcr.io/k8snetworkplumbingwg/multus-cni:v4.2.2"),
            daemonset("calico-node", "quay.io/calico/node:v3.32.0", namespace="calico-system"),
        ]
    )
    assert cni.named(found, {"flannel"}) == ("calico v3.32.0", "multus v4.2.2")


def test_annotations_count_where_no_daemonset_is_a_network() -> None:
    assert cni.named({("kube-system", "kube-multus-ds"): "multus v4"}, {"flannel"}) == ("flannel", "multus v4")
    assert cni.named({}, set()) == ()


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("node", ("node", "")),
        ("calico/node:v1", ("calico/node", "v1")),
        ("localhost:5000/node:v1", ("node", "v1")),
        ("a.b/c/d/node@sha256:00", ("c/d/node", "")),
        ("::::", ("", ":::")),
        ("", ("", "")),
    ],
)
def test_split_image(image: str, parts: tuple[str, str]) -> None:
    assert cni.split_image(image) == parts
