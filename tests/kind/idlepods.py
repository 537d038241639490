"""Pods that do nothing, on a node by name; and waiting for what they bring about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

#: On every node of the test bed; it need not be pulled.
IMAGE = "docker.io/tune-nodes-test/probe:1"


def start(cluster: Cluster, namespace: str, name: str, node: str) -> None:
    """Make a pod, whatever comes of it."""
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "infinity"]}
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))


def ready(cluster: Cluster, namespace: str, name: str) -> str:
    """Wait for a pod; its address."""
    wait = ["wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=90s"]
    cluster.kubectl(*wait, timeout=100)
    return cluster.kubectl("get", "pod", "-n", namespace, name, "-o", "jsonpath={.status.podIP}")
