"""Up and down: build what is absent, make the cluster, write its inventory; and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kindbed import cilium, firewall, inventory, rootfs
from kindbed.cache import Cache
from kindbed.cluster import MADE, NETWORK, Cluster, Spec, cluster_containers, kind_config, manifest, our_clusters
from kindbed.command import beside, find, run, say
from kindbed.docker import Docker, connect, own_pid, stop_own
from kindbed.images import Images
from kindbed.programs import Programs
from tune_nodes.errors import TuneError, UsageError

_CREATE_LIMIT = 400.0


class Bed:
    """The test bed on this machine.

    Args:
        cache: where everything built lies.
        inventories: the directory for the clusters' inventories.
    """

    def __init__(self, cache: Cache, inventories: Path) -> None:
        self._cache = cache
        self._inventories = inventories
        self._programs = Programs(cache)

    def build(self, *, cni: str = "flannel") -> None:
        """Build everything a cluster needs. The daemon that had to be started for it is stopped again."""
        check_root()

        def others() -> None:  # what the node image, which is the longest, comes to need
            rootfs.debian(self._cache)
            for module in ("kind", "flanneld", *(["cilium"] if cni == "cilium" else [])):
                self._programs.path(module)

        # Debian's packages, a linker and docker use one CPU at most: another compiler takes the other.
        with self._cache.lock(), self._daemon() as docker, beside(others):
            images = Images(self._cache, docker, self._programs)
            images.node()
            images.kubectl()
            if cni == "cilium":
                images.cilium()

    def up(self, spec: Spec) -> Cluster:
        """Return a cluster that is ready; one that exists and is as wanted is kept.

        Raises:
            UsageError: a cluster of that name exists that was not made here, or was made otherwise.
            TuneError: something could not be built or did not become ready.
        """
        check_root()
        where = inventory.directory(spec.name, self._inventories)
        inventory.refuse_foreign(where, spec.name)
        with self._cache.lock(), self._daemon() as docker:
            images = Images(self._cache, docker, self._programs)
            node = images.node()
            cluster = Cluster(spec.name, where, docker, images.kubectl(), self._cache)
            if not self._kept(cluster, spec, docker):
                self._make(cluster, spec, docker, images, node)
            return cluster

    def existing(self, name: str) -> Cluster:
        """Return a cluster that is up, its inventory written anew; TuneError where there is none."""
        docker = self._connect(start=False)
        found = [node for node in cluster_containers(docker, name) if node.ours] if docker else []
        if docker is None or not found or not all(node.running for node in found):
            stopped = [node.name for node in found if not node.running]
            why = f"stopped: {', '.join(stopped)}" if stopped else ""
            raise TuneError(f"no cluster {name} of ours runs", why, f"make kind-up NAME={name}")
        where = inventory.directory(name, self._inventories)
        cluster = Cluster(name, where, docker, Images(self._cache, docker, self._programs).kubectl(), self._cache)
        cluster.refresh()
        return cluster

    def down(self, name: str) -> None:
        """Remove a cluster and, with the last one, network, firewall rules and our own daemon."""
        check_root()
        with self._cache.lock():
            where = inventory.directory(name, self._inventories)
            docker = self._connect(start=self._left_behind())
            if docker is None or not (found := cluster_containers(docker, name)):
                say(f"there is no cluster {name}")
            elif not all(node.ours for node in found):
                raise UsageError(f"the cluster {name} was not made here", "it is left alone", "kind delete cluster")
            else:
                self._delete(docker, name)
            inventory.remove(where, name)
            shutil.rmtree(self._cache.root / "kubectl-cache" / name, ignore_errors=True)
            if docker is not None:
                self._sweep(docker)

    def down_all(self) -> None:
        """Remove all clusters made here, those too that a reboot has stopped."""
        check_root()
        with self._cache.lock():
            docker = self._connect(start=self._left_behind())
            names = our_clusters(docker) if docker else []
            if docker is not None:
                self._sweep(docker)
        for name in names:
            self.down(name)

    def status(self) -> Iterator[str]:
        """Yield lines about daemon, clusters, and what of them is not ready."""
        docker = self._connect(start=False)
        if docker is None:
            yield "no docker daemon runs, so no cluster does"
            return
        yield f"docker daemon: our own, {docker.host}" if own_pid() else "docker daemon: one of this machine"
        for name in our_clusters(docker):
            found = cluster_containers(docker, name)
            stopped = [node.name for node in found if not node.running]
            yield f"{name}: {', '.join(f'{node.name} {node.address}' for node in found if node.running)}"
            if stopped:
                yield f"  stopped: {', '.join(stopped)}"
            else:
                where = inventory.directory(name, self._inventories)
                cluster = Cluster(
                    name, where, docker, Images(self._cache, docker, self._programs).kubectl(), self._cache
                )
                made = cluster.made()
                missing = cluster.not_ready(made["cni"], {}) if made else ["it is half made"]
                yield f"  {made.get('cni', '?')}: {'; '.join(missing) or 'ready'}; inventory {where}"

    @contextlib.contextmanager
    def _daemon(self) -> Iterator[Docker]:
        docker = self._connect(start=True)
        assert docker is not None
        try:
            yield docker
        finally:
            if not our_clusters(docker):
                self._sweep(docker)

    def _connect(self, *, start: bool) -> Docker | None:
        """Return the daemon to use; with ``start`` our own where none runs."""
        if start:
            firewall.remember()
        return connect(self._cache, self._runtime if start else None)

    def _runtime(self) -> Path:
        return self._programs.path("runc-nores")

    def _left_behind(self) -> bool:
        """Return whether our own daemon has containers though it does not run, after a reboot say."""
        below = self._cache.root / "docker/containers"
        return below.is_dir() and any(below.iterdir())

    def _kept(self, cluster: Cluster, spec: Spec, docker: Docker) -> bool:
        """Return whether the cluster exists and is kept; what is half made is removed."""
        found = cluster.containers()
        if not found:
            return False
        if not all(node.ours for node in found):
            raise UsageError(
                f"a cluster {spec.name} exists that was not made here", "it is left alone", "make kind-up NAME=another"
            )
        firewall.close()
        for node in found:
            if not node.running:
                docker("start", node.name)
        made = cluster.made()
        if not made:
            say(f"the cluster {spec.name} is half made: making it anew")
            self._delete(docker, spec.name)
            return False
        if (made["cni"], made["workers"]) != (spec.cni, spec.workers):
            raise UsageError(
                f"the cluster {spec.name} exists with {made['cni']} and {made['workers']} workers",
                f"{spec.cni} and {spec.workers} were asked for",
                f"make kind-down NAME={spec.name}",
            )
        self._kubeconfig(cluster, docker)
        self._enter(cluster)
        cluster.refresh()
        cluster.wait_ready()
        say(f"the cluster {spec.name} is up as it was")
        return True

    def _make(self, cluster: Cluster, spec: Spec, docker: Docker, images: Images, node: str) -> None:
        archive = images.cilium() if spec.cni == "cilium" else None
        ensure_network(docker)
        firewall.close()
        say(f"making the cluster {spec.name}: {spec.cni}, {spec.workers + 1} nodes")
        inventory.claim(cluster.inventory, cluster.name, inventory.person())
        self._kind(
            docker, "create", "cluster", f"--name={spec.name}", f"--image={node}", "--config=-",
            f"--kubeconfig={cluster.kubeconfig}", "--quiet", input=kind_config(spec),
        )  # fmt: skip
        self._kubeconfig(cluster, docker)
        if archive is not None:
            say("loading Cilium's image")
            self._kind(docker, "load", "image-archive", str(archive), f"--name={spec.name}")
            for directory in cilium.custom_resources(self._programs):
                cluster.kubectl("create", "-f", str(directory))
        cluster.kubectl("apply", "-f", "-", input=manifest(spec.cni))
        self._enter(cluster)
        cluster.refresh()
        made = json.dumps({"cni": spec.cni, "workers": spec.workers, "image": node})
        say("waiting until nodes and pods are ready")
        cluster.exec(f"{spec.name}-control-plane", "sh", "-c", f"cat >{MADE}", input=made)
        cluster.wait_ready()

    def _enter(self, cluster: Cluster) -> None:
        """Make the cluster's ssh key known to its nodes."""
        public = inventory.make_key(cluster.inventory, cluster.name, inventory.person())
        script = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys"
        for node in cluster.containers():
            cluster.exec(node.name, "sh", "-c", script, input=public)

    def _kubeconfig(self, cluster: Cluster, docker: Docker) -> None:
        inventory.claim(cluster.inventory, cluster.name, inventory.person())
        text = self._kind(docker, "get", "kubeconfig", f"--name={cluster.name}")
        inventory.write(cluster.kubeconfig, text, inventory.person(), 0o600)

    def _kind(self, docker: Docker, *argv: str, input: str | None = None) -> str:
        env = {**docker.env, "KIND_EXPERIMENTAL_DOCKER_NETWORK": NETWORK, "KIND_EXPERIMENTAL_PROVIDER": "docker"}
        # It ends with this process, even with one that is killed. It would go on, fail once the next `up` makes the
        # cluster anew, and tidy that one up.
        tied = [find("setpriv", "util-linux"), "--pdeathsig", "KILL", str(self._programs.path("kind"))]
        return run([*tied, *argv], input=input, env=env, timeout=_CREATE_LIMIT).stdout

    def _delete(self, docker: Docker, name: str) -> None:
        say(f"removing the cluster {name}")
        with tempfile.TemporaryDirectory() as scratch:  # kind takes the cluster's entry out of a kubeconfig
            self._kind(docker, "delete", "cluster", f"--name={name}", f"--kubeconfig={scratch}/kubeconfig", "--quiet")

    def _sweep(self, docker: Docker) -> None:
        if our_clusters(docker):
            return
        docker.try_("network", "rm", NETWORK)
        stop_own(docker)
        firewall.open_()  # last: the daemon makes empty tables by looking for rules of its own


def ensure_network(docker: Docker) -> None:
    """Make the clusters' network: with a bridge of a known name, and without a way out."""
    if docker.try_("network", "inspect", NETWORK).returncode:
        bridge = f"com.docker.network.bridge.name={firewall.BRIDGE}"
        masquerade = "com.docker.network.bridge.enable_ip_masquerade=false"
        docker("network", "create", "--driver=bridge", f"--opt={bridge}", f"--opt={masquerade}", NETWORK)


def check_root() -> None:
    """Raise UsageError without root."""
    if os.geteuid() != 0:
        raise UsageError("the clusters need root", "for dockerd, the firewall and debootstrap", "sudo make kind-up")
