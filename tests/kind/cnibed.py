"""A cluster whose pods have a wrong MTU, made so by hand, and put right again; and packets of an exact size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kindbed.cluster import Cluster
from kindbed.images import PROBE

NAMESPACE = "mtu-kind"
FLANNEL, CONFIG, AGENTS = "kube-flannel", "kube-flannel-cfg", "kube-flannel-ds"
#: What stands in net-conf.json by hand, and what that makes of pods.
WRONG, OLD = 1300, 1250

MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {{matchLabels: {{app: web}}}}
      containers:
        - &probe
          name: probe
          image: {PROBE}
          command: [sh, -c, "hostname >/www/index.html && exec httpd -f -p 8080 -h /www"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web, namespace: {NAMESPACE}}}
spec:
  minAvailable: 1
  selector: {{matchLabels: {{app: web}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: alone, namespace: {NAMESPACE}}}
spec:
  nodeName: APART
  terminationGracePeriodSeconds: 1
  containers:
    - name: probe
      image: {PROBE}
      command: [sleep, "3600"]
"""


def wait(what: str, true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something holds; the test fails where it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.3)


def config(cluster: Cluster) -> dict[str, Any]:
    """Return the data of Flannel's ConfigMap."""
    return dict(json.loads(cluster.kubectl("-n", FLANNEL, "get", "configmap", CONFIG, "-o", "json"))["data"])


def backend(cluster: Cluster) -> dict[str, Any]:
    """Return the backend in net-conf.json."""
    return dict(json.loads(config(cluster)["net-conf.json"])["Backend"])


def configure(cluster: Cluster, data: dict[str, Any]) -> None:
    """Write the ConfigMap's data."""
    cluster.kubectl("-n", FLANNEL, "patch", "configmap", CONFIG, "--type=merge", "-p", json.dumps({"data": data}))


def given(cluster: Cluster, node: str) -> str:
    """Return what flanneld has written for new pods of a node."""
    return cluster.ssh(node, "sed -n s/FLANNEL_MTU=//p /run/flannel/subnet.env").stdout.strip()


def restart_agents(cluster: Cluster) -> None:
    """Start every flanneld anew, as a person would."""
    cluster.kubectl("-n", FLANNEL, "delete", "pods", "-l", "app=flannel", "--wait=true", timeout=120)
    cluster.kubectl("-n", FLANNEL, "rollout", "status", f"daemonset/{AGENTS}", "--timeout=90s", timeout=100)


def mtu(cluster: Cluster, node: str, link: str) -> int:
    """Return a link's MTU, as the ip program tells it."""
    (found,) = json.loads(cluster.ssh(node, "ip", "-j", "link", "show", "dev", link).stdout)
    return int(found["mtu"])


@contextmanager
def wrong_by_hand(cluster: Cluster) -> Iterator[None]:
    """Make every pod's MTU wrong: configuration, agents, tunnel devices, and pods made then. All is put back."""
    before = config(cluster)
    conf = json.loads(before["net-conf.json"])
    conf["Backend"]["MTU"] = WRONG
    tunnels = {node: mtu(cluster, node, "flannel.1") for node in cluster.nodes}
    try:
        configure(cluster, {"net-conf.json": json.dumps(conf)})
        restart_agents(cluster)
        for node in cluster.nodes:
            cluster.ssh(node, "ip", "link", "set", "flannel.1", "mtu", str(OLD))
            wait(f"flanneld of {node} hands out {OLD}", lambda node=node: given(cluster, node) == str(OLD))
        # An old pod keeps its node's bridge at its MTU: away from those that are to get full packets again.
        apart = next(node for node in cluster.nodes if node.endswith("control-plane"))
        cluster.kubectl("apply", "-f", "-", input=MANIFEST.replace("APART", apart))
        ready = ["--for=condition=Ready", "pods", "--all", "--timeout=90s"]
        wait("the Deployment has its pods", lambda: len(pods(cluster)) == 3)
        cluster.kubectl("-n", NAMESPACE, "wait", *ready, timeout=100)
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", timeout=120)
        if config(cluster) != before:
            wrong = backend(cluster).get("MTU")
            configure(cluster, before)
            if wrong is not None:
                restart_agents(cluster)
        for node, size in tunnels.items():
            cluster.ssh(node, "ip", "link", "set", "flannel.1", "mtu", str(size))


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the pods of the namespace that are not being deleted."""
    listed = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]


def pid_of(cluster: Cluster, pod: dict[str, Any]) -> str:
    """Return a process of a pod, as its node numbers it."""
    uid = pod["metadata"]["uid"]
    script = f"grep -lE 'pod({uid}|{uid.replace('-', '_')})' /proc/[0-9]*/cgroup | head -1"
    return cluster.ssh(pod["spec"]["nodeName"], script).stdout.split("/")[2]


def pod_mtu(cluster: Cluster, pod: dict[str, Any]) -> int:
    """Return the MTU of a pod's eth0, read by the ip program in its network."""
    argv = ["nsenter", "-t", pid_of(cluster, pod), "-n", "ip", "-j", "link", "show", "dev", "eth0"]
    (found,) = json.loads(cluster.ssh(pod["spec"]["nodeName"], *argv).stdout)
    return int(found["mtu"])


def passes(cluster: Cluster, source: dict[str, Any], target: dict[str, Any], size: int) -> bool:
    """Say whether a packet of exactly this many bytes, which may not be cut up, is answered from pod to pod."""
    payload = str(size - 28)  # IPv4's header is 20 bytes, ICMP's 8
    ping = ["ping", "-n", "-q", "-M", "do", "-c", "2", "-i", "0.3", "-W", "2", "-s", payload]
    argv = ["nsenter", "-t", pid_of(cluster, source), "-n", *ping, target["status"]["podIP"]]
    return cluster.ssh(source["spec"]["nodeName"], *argv, check=False).returncode == 0
