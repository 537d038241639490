"""A namespace with a web server and a client in it, and a watch on when the one's connections reach the other."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kindbed.cluster import Cluster
from kindbed.images import PROBE

PORT = 8080
#: Run on a node: connects out of a pod's network namespace until it is answered, and says when that was.
WATCH = """
import ctypes, glob, os, socket, sys, time
uid, address, port, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
found = None
for path in glob.glob("/proc/[0-9]*/cgroup"):
    try:
        with open(path) as handle:
            if uid in handle.read().replace("_", "-"):
                found = os.path.dirname(path)
                break
    except OSError:
        continue
space = os.open(os.path.join(found, "ns/net"), os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(space, 0x40000000):
    sys.exit("setns: %d" % ctypes.get_errno())
print("watching", flush=True)
end = time.time() + limit
while time.time() < end:
    with socket.socket() as sock:
        sock.settimeout(0.05)
        if sock.connect_ex((address, port)) == 0:
            print(time.time(), flush=True)
            break
"""
SERVE = f"hostname >/www/index.html && exec httpd -f -p {PORT} -h /www"


def _deployment(namespace: str, name: str, container: dict[str, Any]) -> dict[str, Any]:
    pod = {
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": name, "image": PROBE, **container}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def manifests(namespace: str) -> list[dict[str, Any]]:
    """Return the namespace, the two deployments and the service."""
    web = {"command": ["sh", "-c", SERVE], "ports": [{"name": "http", "containerPort": PORT}]}
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        _deployment(namespace, "web", web),
        _deployment(namespace, "client", {"command": ["sleep", "1000000"]}),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": namespace}, "spec": service},
    ]


@dataclass
class Shop:
    """The namespace. ``pods``: by app, as the server returns them."""

    cluster: Cluster
    namespace: str
    pods: dict[str, dict[str, Any]]

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        """Return an object, or a list."""
        return dict(
            json.loads(self.cluster.kubectl("-n", self.namespace, "get", kind, *([name] if name else []), "-o", "json"))
        )

    def flows(self) -> bool:
        """Say whether the client's connection is answered."""
        with self.watch(0.5) as watch:
            return watch.first() is not None

    def becomes(self, flowing: bool, limit: float = 30) -> None:
        """Wait until the client reaches the server, or does not any more."""
        end = time.monotonic() + limit
        while self.flows() is not flowing:
            assert time.monotonic() < end, f"after {limit:g} s it {'does not flow' if flowing else 'still flows'}"

    @contextmanager
    def watch(self, seconds: float) -> Iterator[Watch]:
        """Watch for the first connection that is answered, from before this returns."""
        client, web = self.pods["client"], self.pods["web"]
        words = [client["metadata"]["uid"], web["status"]["podIP"], str(PORT), str(seconds)]
        argv = self.cluster.ssh_argv(client["spec"]["nodeName"], "python3", "-", *words)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(WATCH)
            process.stdin.close()
            try:
                assert process.stdout.readline().strip() == "watching"
                yield Watch(process)
            finally:
                process.kill()


@dataclass
class Watch:
    """A watch that is on."""

    process: subprocess.Popen[str]

    def first(self) -> float | None:
        """Return when the first connection was answered (seconds since 1970), None where none was in time."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        return float(line) if line else None


@contextmanager
def shop(cluster: Cluster, namespace: str) -> Iterator[Shop]:
    """Have the namespace, with both pods ready and talking to each other."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests(namespace)})
    cluster.kubectl("apply", "-f", "-", input=document)
    try:
        for name in ("web", "client"):
            cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=90s", timeout=100)
        found = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
        made = Shop(cluster, namespace, {pod["metadata"]["labels"]["app"]: pod for pod in found})
        made.becomes(True)
        yield made
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
