"""Nodes' stacks and API objects for tests of the MTU in the API."""

from __future__ import annotations

import json
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cnimtu.model import Held, Layer, NodeStack


def stack(
    node: str = "w1", cni: str = "flannel", *, nic: int = 1500, cost: int = 50, pods: int | None = 1450, **more: Any
) -> NodeStack:
    """Return a node with one interface and one tunnel as it should be."""
    name = {"calico": "vxlan.calico", "cilium": "cilium_vxlan"}.get(cni, "flannel.1")
    layers = (Layer("eth0", "", nic, nic), Layer(name, "vxlan", nic - cost, nic - cost))
    given = more.pop("given", pods)
    return NodeStack(node, **{"cni": cni, "layers": layers, "given": given, "pods": pods, **more})


def config_map(name: str, data: dict[str, str], namespace: str = "kube-system", **metadata: Any) -> Held:
    """Return a ConfigMap."""
    raw = {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "7", **metadata}, "data": data}
    return Held(Call("get", "configmaps", namespace=namespace, name=name), "ConfigMap", raw)


def flannel(backend: dict[str, Any], delegate: dict[str, Any] | None = None, **metadata: Any) -> Held:
    """Return kube-flannel-cfg."""
    plugins = [{"type": "flannel", "delegate": {"isDefaultGateway": True, **(delegate or {})}}, {"type": "portmap"}]
    data = {
        "net-conf.json": json.dumps({"Network": "10.244.0.0/16", "Backend": backend}),
        "cni-conf.json": json.dumps({"name": "cbr0", "plugins": plugins}),
    }
    return config_map("kube-flannel-cfg", data, "kube-flannel", **metadata)


def calico(kind: str, name: str, spec: dict[str, Any]) -> Held:
    """Return an object of Calico."""
    raw = {"metadata": {"name": name, "resourceVersion": "7"}, "spec": spec}
    return Held(Call("get", f"{kind.lower()}s", "crd.projectcalico.org", name=name, version="v1"), kind, raw)


def daemonset(name: str, container: dict[str, Any]) -> Held:
    """Return a DaemonSet of one container."""
    raw = {
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    return Held(Call("get", "daemonsets", "apps", "kube-system", name), "DaemonSet", raw)
