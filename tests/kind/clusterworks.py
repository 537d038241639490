"""What tests of the cluster layer have in common: a worker and a namespace of their own, and accounts."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kindbed.cluster import Cluster as Bed

from tune_nodes.cluster.model import Drained
from tune_nodes.cluster.objects import CORDONED_BY

RUN, OTHER = "20261124-081530-a1b2c3", "20261124-090000-d4e5f6"


def never() -> bool:
    """Let a drain go on."""
    return False


def wait_for(what: str, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something holds, and return it."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


def workers_of(kind_cluster: Bed) -> list[str]:
    """Return the workers' names."""
    return sorted(name for name in kind_cluster.nodes if not name.endswith("control-plane"))


@contextmanager
def opened_after(kind_cluster: Bed) -> Iterator[str]:
    """A worker that is open and unmarked afterwards, whatever a test did."""
    name = workers_of(kind_cluster)[-1]
    yield name
    kind_cluster.kubectl("uncordon", name)
    kind_cluster.kubectl("annotate", "node", name, f"{CORDONED_BY}-")


def unschedulable(kind_cluster: Bed, node: str) -> bool:
    return (
        json.loads(kind_cluster.kubectl("get", "node", node, "-o", "json"))["spec"].get("unschedulable", False) is True
    )


def pause_image(kind_cluster: Bed, node: str) -> str:
    """Return an image that every node has and that does nothing."""
    images = json.loads(kind_cluster.kubectl("get", "node", node, "-o", "json"))["status"]["images"]
    return next(name for image in images for name in image["names"] if "/pause:" in name)


def pod_spec(kind_cluster: Bed, node: str, **more: Any) -> dict[str, Any]:
    container = {"name": "web", "image": pause_image(kind_cluster, node), "imagePullPolicy": "Never"}
    chosen = {"kubernetes.io/hostname": node}
    return {"nodeSelector": chosen, "terminationGracePeriodSeconds": 1, "containers": [container], **more}


@contextmanager
def namespace(kind_cluster: Bed) -> Iterator[str]:
    """A namespace of a test's own, so that none waits for the end of another's."""
    name = f"tune-nodes-test-{secrets.token_hex(3)}"
    kind_cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kind_cluster.kubectl("delete", "namespace", name, "--wait=false")


@dataclass(frozen=True)
class Shop:
    """A namespace with one replicated pod on a node, and a budget that does not let it go."""

    bed: Bed
    name: str
    node: str

    def kubectl(self, *argv: str, timeout: float = 60) -> str:
        return self.bed.kubectl("-n", self.name, *argv, timeout=timeout)

    def pods(self) -> list[str]:
        """Return the names of its pods on the node."""
        listed = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in listed if pod["spec"].get("nodeName") == self.node]

    def counted(self) -> bool:
        """Whether the budget knows its pod."""
        found = json.loads(self.kubectl("get", "pdb", "web", "-o", "json"))
        return bool(found.get("status", {}).get("currentHealthy") == 1)

    def why(self, result: Drained, pod: str) -> str:
        """Return why one pod is in the way."""
        return next(one.why for one in result.blocked if one.pod == f"{self.name}/{pod}")


@contextmanager
def made_shop(kind_cluster: Bed, worker: str) -> Iterator[Shop]:
    """A shop on a node."""
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(kind_cluster, worker)}
    objects = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
    ]
    with namespace(kind_cluster) as name:
        kind_cluster.kubectl("-n", name, "apply", "-f", "-", input=yaml.safe_dump_all(objects))
        made = Shop(kind_cluster, name, worker)
        made.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
        wait_for("the budget has counted its pods", made.counted)
        yield made


def as_account(kind_cluster: Bed, directory: Path, token: str, server: str = "") -> Path:
    """Write a kubeconfig with a token, for the same server."""
    document = yaml.safe_load(kind_cluster.kubeconfig.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": token}
    if server:
        document["clusters"][0]["cluster"]["server"] = server
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
