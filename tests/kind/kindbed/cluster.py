"""A kind cluster: bring it up, look at it, take it down. Only clusters made here are ever touched."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindbed import inventory
from kindbed.cache import Cache
from kindbed.command import run
from kindbed.docker import Docker
from kindbed.health import from_before, not_ready
from kindbed.images import CILIUM, FLANNEL, HERE, PROBE
from tune_nodes.errors import TuneError, UsageError

NETWORK = "tune-nodes-kind"
CNIS = ("flannel", "cilium")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,29}")
_READY_LIMIT = 240.0
MADE = "/kind/tune-nodes.json"  # on the control-plane node: written last, so a cluster without it is half made
_LABEL = "io.x-k8s.kind.cluster"


@dataclass(frozen=True)
class Spec:
    """What a cluster shall be.

    Attributes:
        name: of the cluster; its nodes are NAME-control-plane, NAME-worker, NAME-worker2 ...
        cni: flannel or cilium.
        workers: beside one control-plane node.
    """

    name: str = inventory.DEFAULT_NAME
    cni: str = "flannel"
    workers: int = 2

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} cannot name a cluster", "small letters, digits and -, at most 30")
        if self.cni not in CNIS:
            raise UsageError(f"there is no CNI {self.cni!r} here", f"there are {' and '.join(CNIS)}")
        if not 0 <= self.workers <= 9:
            raise UsageError(f"{self.workers} workers are not possible", "0 to 9 are")

    @property
    def nodes(self) -> list[str]:
        """Return the names of the nodes, as kind gives them."""
        workers = [f"{self.name}-worker{number if number > 1 else ''}" for number in range(1, self.workers + 1)]
        return [f"{self.name}-control-plane", *workers]


def kind_config(spec: Spec) -> str:
    """Return kind's configuration of a cluster (JSON, which is YAML)."""
    roles = ["control-plane", *["worker"] * spec.workers]
    return json.dumps(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": {"disableDefaultCNI": True, "ipFamily": "ipv4"},
            "nodes": [{"role": role} for role in roles],
        }
    )


def manifest(name: str) -> str:
    """Return a manifest of this package with the names of the images in it."""
    text = (HERE / "manifests" / f"{name}.yml").read_text()
    for place, image in (("IMAGE_FLANNEL", FLANNEL), ("IMAGE_CILIUM", CILIUM), ("IMAGE_PROBE", PROBE)):
        text = text.replace(place, image)
    return text


@dataclass(frozen=True)
class Container:
    """A node's container."""

    name: str
    address: str  # "" while it is stopped
    running: bool
    ours: bool  # it is on our network, where nobody else puts one


def containers(inspected: Sequence[Mapping[str, Any]]) -> list[Container]:
    """Return the nodes among what ``docker inspect`` printed, the control plane first."""
    found = []
    for item in inspected:
        networks = item["NetworkSettings"]["Networks"]
        network = networks.get(NETWORK)
        address = (network or {}).get("IPAddress") or ""
        name = item["Name"].removeprefix("/")
        found.append(Container(name, address, bool(item["State"]["Running"]), network is not None))
    return sorted(found, key=lambda node: (not node.name.endswith("-control-plane"), len(node.name), node.name))


class Cluster:
    """A cluster and its inventory.

    Attributes:
        name: of the cluster.
        inventory: a directory with hosts.yml, kubeconfig, .ssh/id_ed25519 and .ssh/known_hosts.
        nodes: node -> address; :meth:`refresh` reads it anew.
    """

    def __init__(self, name: str, where: Path, docker: Docker, kubectl: Path, cache: Cache) -> None:
        self.name = name
        self.inventory = where
        self.nodes: dict[str, str] = {}
        self._docker = docker
        self._kubectl = kubectl
        self._cache = cache

    @property
    def hosts(self) -> Path:
        """Return the inventory's one file. Given the directory, Ansible warns that the kubeconfig is no inventory."""
        return self.inventory / inventory.HOSTS

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.inventory / inventory.KUBECONFIG

    @property
    def kubectl_program(self) -> Path:
        """Return a kubectl of the cluster's version."""
        return self._kubectl

    def containers(self) -> list[Container]:
        """Return the nodes' containers, [] for a cluster that does not exist."""
        return cluster_containers(self._docker, self.name)

    def kubectl(self, *argv: str, input: str | None = None, timeout: float = 60) -> str:
        """Run kubectl as the administrator; its output. TuneError where it fails."""
        cache = f"--cache-dir={self._cache.root / 'kubectl-cache' / self.name}"  # not in anybody's home
        command = [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", cache, *argv]
        return run(command, input=input, timeout=timeout).stdout

    def ssh_argv(self, node: str, *argv: str) -> list[str]:
        """Return the command line of ssh to a node as root; its host key is checked."""
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-i", str(self.inventory / inventory.KEY)]
        return ["ssh", *inventory.ssh_options(self.inventory), *options, f"root@{self.nodes[node]}", *argv]

    def ssh(
        self, node: str, *argv: str, input: str | None = None, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node over a new ssh connection."""
        return run(self.ssh_argv(node, *argv), input=input, timeout=timeout, check=check)

    def exec(self, node: str, *argv: str, input: str | None = None, timeout: float = 60) -> str:
        """Run a command on a node past its network (docker exec); its output."""
        interactive = ["--interactive"] if input is not None else []
        return self._docker("exec", *interactive, node, *argv, input=input, timeout=timeout)

    def import_root(self, root: Path, image: str, changes: Sequence[str] = ()) -> None:
        """Have an image of one layer, made of a directory, on every node."""
        self._docker.import_root(root, image, changes)
        for node in self.nodes:
            argv = ["exec", "--interactive", node, "ctr", "--namespace", "k8s.io", "images", "import", "-"]
            self._docker.save_into([image], *argv)

    def restart(self, node: str, *, wait: bool = True) -> None:
        """Restart a node, as a reboot does: its files stay, its processes and /run do not.

        Args:
            node: which.
            wait: until it is reached by ssh again and the whole cluster is ready.
        """
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._docker("restart", "--time=1", node, timeout=120)
        if wait:
            self.refresh()
            self.wait_ready(since={node: since})

    def stop(self, node: str) -> None:
        """Switch a node off at once."""
        self._docker("kill", node)

    def start(self, node: str) -> None:
        """Switch a node on again and wait for the cluster."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._docker("start", node)
        self.refresh()
        self.wait_ready(since={node: since})

    def wait_ready(self, limit: float = _READY_LIMIT, since: Mapping[str, str] | None = None) -> None:
        """Wait until nodes and pods are ready; TuneError names what is not.

        Args:
            limit: seconds.
            since: node -> when it was restarted; what is older than that does not count.
        """
        cni = self.cni()
        end = time.monotonic() + limit
        while missing := self.not_ready(cni, since or {}):
            if time.monotonic() > end:
                raise TuneError(
                    f"the cluster {self.name} is not ready after {limit:g} s",
                    "; ".join(missing),
                    f"look at it with `{self._kubectl} --kubeconfig={self.kubeconfig} get pods -A`, or take it down: "
                    f"make kind-down NAME={self.name}",
                )
            time.sleep(0.5)

    def not_ready(self, cni: str, since: Mapping[str, str]) -> list[str]:
        """Return a sentence for each thing that is not ready."""
        names = [node.name for node in self.containers()]
        try:
            listed = json.loads(self.kubectl("get", "nodes,pods,daemonsets", "-A", "-o", "json", timeout=20))
        except TuneError as error:
            return [str(error)]
        stale = [sentence for node, when in since.items() for sentence in from_before(listed, node, when)]
        return not_ready(listed, names, cni) + stale

    def cni(self) -> str:
        """Return which CNI the cluster was made with."""
        return str(self.made()["cni"])

    def made(self) -> dict[str, Any]:
        """Return what the cluster was made as, {} while that is not complete."""
        done = self._docker.try_("exec", f"{self.name}-control-plane", "cat", MADE)
        return dict(json.loads(done.stdout)) if done.returncode == 0 and done.stdout.strip() else {}

    def probe_pods(self, image: str = PROBE) -> dict[str, tuple[str, str]]:
        """Run one small pod on each node that answers HTTP on port 8080 with its name; node -> (pod, address)."""
        self.kubectl("apply", "-f", "-", input=manifest("probe").replace(PROBE, image))
        self.kubectl("rollout", "status", "daemonset/probe", "--timeout=90s", timeout=100)
        pods = json.loads(self.kubectl("get", "pods", "-l", "app=probe", "-o", "json"))["items"]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {pod["spec"]["nodeName"]: (pod["metadata"]["name"], pod["status"]["podIP"]) for pod in alive}

    def fetch(self, pod: str, address: str, port: int = 8080, *, seconds: int = 3) -> str:
        """Return what a probe pod gets over HTTP, "" where it gets no answer in time."""
        script = f"timeout {seconds} wget -q -O - http://{address}:{port}/ || true"
        return self.kubectl("exec", pod, "--", "sh", "-c", script).strip()

    def refresh(self) -> None:
        """Write the inventory for the addresses that the nodes have now, each with the host key it has now."""
        # A node that restarts may come back with another address.
        nodes = {node.name: node.address for node in self.containers() if node.running}
        keys = {node: self._host_key(node) for node in nodes}
        owner = inventory.person()
        inventory.write(self.inventory / inventory.KNOWN_HOSTS, inventory.known_hosts(nodes, keys), owner)
        inventory.write(self.inventory / inventory.HOSTS, inventory.hosts(self.name, nodes, self.inventory), owner)
        self.nodes = nodes
        for node in nodes:
            self._wait_ssh(node)

    def _host_key(self, node: str, limit: float = 60) -> str:
        end = time.monotonic() + limit
        while True:
            done = self._docker.try_("exec", node, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
            if done.returncode == 0 and done.stdout.startswith("ssh-ed25519 "):
                return done.stdout
            if time.monotonic() > end:
                raise TuneError(f"{node} has no ssh host key", done.stderr.strip())
            time.sleep(0.3)

    def _wait_ssh(self, node: str, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while (done := self.ssh(node, "true", timeout=30, check=False)).returncode:
            if time.monotonic() > end:
                raise TuneError(f"{node} is not reached by ssh", done.stderr.strip())
            time.sleep(0.3)


def cluster_containers(docker: Docker, name: str) -> list[Container]:
    """Return the containers of a cluster, [] where there is none."""
    ids = docker("ps", "--all", "--quiet", "--filter", f"label={_LABEL}={name}").split()
    return containers(docker.inspect(*ids))


def our_clusters(docker: Docker) -> list[str]:
    """Return the names of all clusters on our network."""
    told = docker(
        "ps", "--all", "--filter", f"label={_LABEL}", "--filter", f"network={NETWORK}", "--format",
        f'{{{{.Label "{_LABEL}"}}}}',
    )  # fmt: skip
    return sorted(set(told.split()))
