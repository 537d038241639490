"""What goes wrong with Flannel on a real node: found, named, mended by the rung that helps; packets prove it.

What is broken and what is right again is read by kubectl, cat and ping, never by the code under test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foreign
import idlepods
import pytest
from clusterworks import wait_for

from commandline import PROGRAM, Done, env_of, finished

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

NAMESPACE = "cni-faults"
CONF, ENV = "/etc/cni/net.d", "/run/flannel/subnet.env"
OURS = "/var/lib/tune-nodes"
AWAY = "/root/cni-faults"
MULTUS = '{"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus"}\n'


@dataclass
class Bed:
    """A worker that is broken and mended, and a pod on another node from which it is looked at."""

    cluster: Cluster
    worker: str
    other: str
    directory: Path

    def node(self, script: str) -> str:
        """Run a script on the worker."""
        return self.cluster.ssh(self.worker, "sh", "-es", input=script).stdout.strip()

    def cli(self, *words: str) -> Done:
        """Run ``tune-nodes recover cni`` on the worker."""
        argv = [*PROGRAM, "recover", "cni", "-i", str(self.cluster.hosts), "--nodes", self.worker, *words]
        return finished(argv, env_of(self.directory, COLUMNS="300"))

    def found(self) -> str:
        """Return what a look says."""
        done = self.cli("--check")
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return done.stdout

    def mended(self, *rungs: int, words: Sequence[str] = ()) -> str:
        """Have it mended, by these rungs and no other; what was said."""
        done = self.cli("--yes", "-o", "json", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        recovered = json.loads(done.stdout)["recovery"][self.worker]
        assert recovered["rungs"] == [0, *rungs], recovered
        return done.stderr

    def start(self, name: str, node: str) -> None:
        """Make a pod that does nothing."""
        idlepods.start(self.cluster, NAMESPACE, name, node)

    def ready(self, name: str) -> str:
        """Wait for a pod; its address."""
        return idlepods.ready(self.cluster, NAMESPACE, name)

    def gone(self, name: str) -> None:
        """Remove a pod."""
        self.cluster.kubectl("delete", "pod", "-n", NAMESPACE, name, "--timeout=60s", timeout=70)

    def reaches(self, address: str) -> bool:
        """Whether the pod on the other node gets an answer from an address."""
        script = f"ping -c 1 -W 1 {address} >/dev/null && echo yes || true"
        return self.cluster.kubectl("exec", "-n", NAMESPACE, "there", "--", "sh", "-c", script).strip() == "yes"

    def new_pod_is_reached(self) -> None:
        """Start a pod on the worker and see that packets come and go across nodes."""
        self.start("fresh", self.worker)
        address = self.ready("fresh")
        wait_for(f"{address} answers across nodes", lambda: self.reaches(address))
        self.gone("fresh")

    def of_api(self) -> dict[str, Any]:
        """Return the worker's Node object."""
        return dict(json.loads(self.cluster.kubectl("get", "node", self.worker, "-o", "json")))


@pytest.fixture(scope="module")
def bed(kind_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two nodes with a pod on one of them; what was kept on the node is gone afterwards."""
    names = sorted(kind_cluster.nodes)
    worker = next(name for name in names if not name.endswith("control-plane"))
    found = Bed(kind_cluster, worker, next(n for n in names if n != worker), tmp_path_factory.mktemp("faults"))
    kind_cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        found.start("there", found.other)
        found.ready("there")
        found.node(f"mkdir -p {AWAY}")
        with foreign.untouched(kind_cluster, worker):
            yield found
    finally:
        kind_cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s", timeout=100)
        found.node(f"rm -rf {OURS}/quarantine {OURS}/evidence {AWAY}")


@pytest.fixture
def runtime(bed: Bed) -> Iterator[Bed]:
    """The same; the container runtime is not started anew meanwhile."""
    before = bed.node("pidof containerd")
    yield bed
    assert bed.node("pidof containerd") == before


def test_the_subnet_of_another_node(runtime: Bed) -> None:
    bed = runtime
    theirs = json.loads(bed.cluster.kubectl("get", "node", bed.other, "-o", "json"))["spec"]["podCIDR"]
    wrong = theirs.replace(".0/", ".1/")
    before = bed.node(f"cat {ENV}")
    bed.node(f"sed -i 's|^FLANNEL_SUBNET=.*|FLANNEL_SUBNET={wrong}|' {ENV}")
    said = bed.found()
    assert f"subnet.env says {wrong}" in said and "start the CNI's agent anew" in said, said
    bed.mended(1)
    assert bed.node(f"cat {ENV}") == before
    bed.new_pod_is_reached()


def test_a_tunnel_with_another_address_than_the_api_says(runtime: Bed) -> None:
    bed = runtime
    bed.start("here", bed.worker)
    address = bed.ready("here")
    wait_for("the pods reach each other to begin with", lambda: bed.reaches(address))
    told = bed.of_api()["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"]
    mac = json.loads(told)["VtepMAC"]
    other = mac[:-2] + format(int(mac[-2:], 16) ^ 1, "02x")
    bed.node(f"ip link set flannel.1 address {other}")
    wait_for("packets are lost", lambda: not bed.reaches(address))
    said = bed.found()
    assert f"has the MAC {other}, but the API tells the other nodes {mac}" in said, said
    bed.mended(1)
    assert other in bed.of_api()["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"]
    wait_for("the pod is reached again", lambda: bed.reaches(address))
    bed.node("ip link del flannel.1")
    wait_for("no packets arrive without the tunnel", lambda: not bed.reaches(address))
    said = bed.found()  # flanneld 0.28 makes the device again by itself, but not the ways through it
    assert "there is no flannel.1" in said or "the way through flannel.1 to" in said, said
    assert "start the CNI's agent anew" in said, said
    bed.mended(1)
    wait_for("the pod is reached through the new tunnel", lambda: bed.reaches(address))
    bed.gone("here")


def test_a_bridge_with_an_old_address(runtime: Bed) -> None:
    bed = runtime
    bed.start("here", bed.worker)
    bed.ready("here")
    shown = bed.node("ip -o -4 addr show dev cni0")
    own = re.findall(r"inet (\S+)", shown)[0]
    bed.node(f"ip addr add 10.99.7.1/24 dev cni0 && ip addr del {own} dev cni0")
    try:
        said = bed.found()
        assert f"cni0 has 10.99.7.1/24, but this node's subnet is {own}" in said, said
        assert "on it" in said and "--rung 4" in said, said
        bed.mended(4, words=("--rung", "4", "--force", "--delete-emptydir-data"))  # a pod hangs on it
        bed.new_pod_is_reached()
        assert own in bed.node("ip -o -4 addr show dev cni0")
    finally:
        bed.node(f"ip addr replace {own} dev cni0 || :; ip addr del 10.99.7.1/24 dev cni0 || :; rm -rf {OURS}/rebuild")


def test_a_configuration_of_a_cni_that_is_not_here_comes_first(runtime: Bed) -> None:
    bed = runtime
    path = f"{CONF}/00-multus.conf"
    bed.node(f"cat >{path} <<'E'\n{MULTUS}E\n")
    try:
        said = bed.found()
        assert f"{path} comes before 10-flannel.conflist" in said and "by multus, whose agent is not here" in said, said
        bed.mended(3)
        assert bed.node(f"ls {CONF}") == "10-flannel.conflist"
    finally:
        bed.node(f"rm -f {path}")
    bed.new_pod_is_reached()


def test_an_emptied_configuration_directory_is_filled_without_a_restart_of_the_runtime(runtime: Bed) -> None:
    bed = runtime
    before = bed.node(f"cat {CONF}/10-flannel.conflist; stat -c %i {CONF}")
    bed.node(f"mv {CONF}/* {AWAY}/")
    said = bed.found()
    assert f"there is no CNI configuration in {CONF}" in said, said
    bed.mended(1)
    assert bed.node(f"cat {CONF}/10-flannel.conflist; stat -c %i {CONF}") == before
    bed.new_pod_is_reached()
