"""Policy resets on a kind cluster, for tests: the command, the policies that it is used on, and what must be left."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kindbed.cluster import Cluster
from shopfront import Shop

TUNE_NODES = str(Path(sys.executable).with_name("tune-nodes"))
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "default-deny", "annotations": {"team": "shop"}, "labels": {"tier": "base"}},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


def egress_deny(name: str, namespace: str) -> dict[str, Any]:
    """Return a policy for the whole cluster that no allow can beat."""
    mine = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": namespace}}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, "annotations": {"team": "platform"}},
        "spec": {"endpointSelector": mine, "egressDeny": [{"toEndpoints": [mine]}]},
    }


class Command:
    """The command line against one cluster, with a state directory of its own."""

    def __init__(self, directory: Path, kubeconfig: Path) -> None:
        self.directory = directory
        self.kubeconfig = kubeconfig

    def argv(self, *words: str) -> list[str]:
        """Return the command's line."""
        return [TUNE_NODES, "policy", *words, "--kubeconfig", str(self.kubeconfig)]

    @property
    def env(self) -> dict[str, str]:
        """Return its environment."""
        return {**os.environ, "TUNE_NODES_STATE_DIR": str(self.directory / "state"), "COLUMNS": "300"}

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run it; its output, both streams."""
        done = subprocess.run(self.argv(*words), env=self.env, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def hash(self, *words: str) -> str:
        """Return the hash of what a reset would do."""
        return str(json.loads(self.document("reset", *words, "--dry-run"))["plan_hash"])

    def document(self, *words: str) -> str:
        """Run it with -o json; its stdout."""
        argv = self.argv(*words, "-o", "json")
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it; stdout is a pipe."""
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(self.argv(*words), env=self.env, text=True, **pipe)


@contextmanager
def applied(place: Shop, *documents: dict[str, Any]) -> Iterator[None]:
    """Have policies, and see the traffic cut."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    place.cluster.kubectl("-n", place.namespace, "apply", "-f", "-", input=text)
    try:
        place.becomes(False)
        yield
    finally:
        place.cluster.kubectl("-n", place.namespace, "delete", "--ignore-not-found", "-f", "-", input=text)
        place.becomes(True)


def said(found: dict[str, Any]) -> dict[str, Any]:
    """Return what an object says: without what the server gives to each anew."""
    metadata = {
        key: value
        for key, value in found["metadata"].items()
        if key not in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
    }
    return {"metadata": metadata, "spec": found["spec"]}


def nothing_left(cluster: Cluster, backup: str) -> None:
    """See that a reset's own objects are gone, all of them."""
    label = f"tune-nodes/reset={backup}"
    kinds = "networkpolicies,jobs,pods,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"
    end = time.monotonic() + 30
    while left := cluster.kubectl("get", kinds, "-A", "-l", label, "-o", "name").split():
        assert time.monotonic() < end, left


def typed(
    command: Command, words: Sequence[str], text: str, code: int, first: Callable[[], None] = lambda: None
) -> str:
    """Answer a reset's question for the scope's name on a terminal; what it said, stdout last.

    Args:
        command: the command.
        words: of the reset.
        text: the answer.
        code: that it must end with.
        first: done before the answer, when the question stands there.
    """
    ours, theirs = pty.openpty()
    try:
        argv = command.argv("reset", *words)
        with subprocess.Popen(argv, env=command.env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
            os.close(theirs)
            heard = ""
            while "type the scope's name" not in heard:
                heard += os.read(ours, 4096).decode()
            first()
            os.write(ours, text.encode())
            out, _ = process.communicate(timeout=120)
            heard += rest(ours) + out.decode()
            assert process.returncode == code, heard
            return heard
    finally:
        os.close(ours)


def rest(terminal: int) -> str:
    """Return what still stands in a terminal whose other end is closed."""
    heard = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return heard.decode()
        if not part:
            return heard.decode()
        heard += part
