"""Leftovers of another CNI on a real node: found with proof, removed without a lost packet, brought back word for word.

What is counted is read by iptables-save, nft, ipset, ip and ping on the node, never by the code under test.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import foreign
import idlepods
import pytest

from commandline import PROGRAM, Done, env_of, finished

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

pytestmark = pytest.mark.kind

NAMESPACE = "cni-orphans"

# What Flannel 0.28 leaves when its DaemonSet is deleted (its own names and rules), beside Cilium.
FLANNEL_LEFT = """
for p in iptables-nft ip6tables-nft; do
$p -t nat -N FLANNEL-POSTRTG
$p -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
$p -t nat -I POSTROUTING 1 -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
$p -N FLANNEL-FWD
$p -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
done
iptables-nft -t nat -A FLANNEL-POSTRTG -s 10.77.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" \
 -j MASQUERADE --random-fully
iptables-nft -A FLANNEL-FWD -s 10.77.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
nft add table ip flannel-ipv4
nft add chain ip flannel-ipv4 forward '{ type filter hook forward priority filter; policy accept; }'
ip link add flannel.1 type vxlan id 77 dev eth0 dstport 8477 nolearning
ip addr add 10.77.1.0/32 dev flannel.1
ip link set flannel.1 up
ip route add 10.77.3.0/24 via 10.77.3.0 dev flannel.1 onlink
ip link add cni0 type bridge
ip addr add 10.77.1.1/24 dev cni0
ip link set cni0 up
"""
NO_FLANNEL = """
for p in iptables-nft ip6tables-nft; do
$p -t nat -D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
$p -t nat -F FLANNEL-POSTRTG
$p -t nat -X FLANNEL-POSTRTG
$p -D FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
$p -F FLANNEL-FWD
$p -X FLANNEL-FWD
done
nft delete table ip flannel-ipv4
ip link del flannel.1
ip link del cni0
"""

# On a node with Flannel: a policy engine's chains and set, and routes to the pods of a node that is gone.
CALICO_LEFT = """
ipset create cali40all hash:net
ipset add cali40all 192.0.2.64/26
iptables-nft -N cali-FORWARD
iptables-nft -N cali-to-wl
iptables-nft -A cali-to-wl -m set --match-set cali40all src -m comment --comment "cali:abc" -j DROP
iptables-nft -A cali-FORWARD -m comment --comment "cali:def" -j cali-to-wl
iptables-nft -I FORWARD 1 -m comment --comment "cali:ghi" -j cali-FORWARD
ip route add 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink
ip route add blackhole 10.244.78.0/26 proto 80
"""
NO_CALICO = """
iptables-nft -D FORWARD -m comment --comment "cali:ghi" -j cali-FORWARD
iptables-nft -F cali-FORWARD
iptables-nft -F cali-to-wl
iptables-nft -X cali-FORWARD
iptables-nft -X cali-to-wl
ipset destroy cali40all
ip route del 10.244.77.0/24
ip route del blackhole 10.244.78.0/26
"""

SHOWN = """
for p in iptables-nft ip6tables-nft; do $p-save; done 2>/dev/null | grep -E 'FLANNEL|cali|192.0.2'
nft list tables | grep flannel
ipset save
ip route show table all | grep -E '10\\.77\\.|10\\.244\\.7[78]\\.' | grep -v broadcast
ip -o addr | grep -E '(flannel.1|cni0) *inet ' | grep ' 10.77'
true
"""


@dataclass
class Bed:
    """A worker with a running pod, and the ways to look at it."""

    cluster: Cluster
    worker: str
    directory: Path
    address: str = ""

    def node(self, script: str, *, check: bool = True) -> str:
        """Run a script on the worker."""
        return self.cluster.ssh(self.worker, "sh", "-e" if check else "-u", input=script, check=check).stdout

    def shown(self) -> list[str]:
        """Return what the node's programs show of leftovers and of what is foreign."""
        text = re.sub(r"(?m)\[\d+:\d+\]|^\d+: |initval 0x\w+|\blinkdown\b", "", self.node(SHOWN, check=False))
        return [line.strip() for line in text.splitlines()]

    def cli(self, *words: str) -> Done:
        """Run ``tune-nodes recover``."""
        return finished([*PROGRAM, "recover", *words, "-i", str(self.cluster.hosts)], env_of(self.directory))

    def recovered(self, *words: str) -> dict[str, Any]:
        """Run ``recover cni`` on the worker, to its good end; its document."""
        done = self.cli("cni", "--nodes", self.worker, "--between", "1s", "--yes", "-o", "json", *words)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        return dict(json.loads(done.stdout))

    def stream(self) -> tuple[str, subprocess.Popen[str]]:
        """Send the pod packets from its node until SIGINT; the sender's number there, and ssh."""
        argv = self.cluster.ssh_argv(self.worker, f"echo $$; exec ping -q -i 0.02 -W 1 {self.address}")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process


def _bed(cluster: Cluster, directory: Path) -> Iterator[Bed]:
    worker = next(name for name in sorted(cluster.nodes) if not name.endswith("control-plane"))
    bed = Bed(cluster, worker, directory)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        idlepods.start(cluster, NAMESPACE, "steady", worker)
        bed.address = idlepods.ready(cluster, NAMESPACE, "steady")
        with foreign.untouched(cluster, worker):
            yield bed
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s", timeout=70)
        bed.node("rm -rf /var/lib/tune-nodes/removed /var/lib/tune-nodes/evidence", check=False)


@pytest.fixture
def flannel_bed(kind_cluster: Cluster, tmp_path: Path) -> Iterator[Bed]:
    """A worker with Flannel."""
    yield from _bed(kind_cluster, tmp_path)


@pytest.fixture
def cilium_bed(cilium_cluster: Cluster, tmp_path: Path) -> Iterator[Bed]:
    """A worker with Cilium."""
    yield from _bed(cilium_cluster, tmp_path)


def removed_and_brought_back(bed: Bed, lay: str, sweep: str, count: int, *words: str) -> dict[str, Any]:
    """Lay leftovers, have them removed while packets flow, and brought back; the run's document."""
    clean = bed.shown()
    try:
        bed.node(lay)
        laid = bed.shown()
        assert laid != clean
        sender, process = bed.stream()
        try:
            document = bed.recovered(*words)
        finally:
            bed.node(f"kill -INT {sender}")
            told = process.communicate(timeout=20)[0]
        sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", told)[0])
        assert sent > 100 and sent == received, told
        assert bed.shown() == clean
        recovered = document["recovery"][bed.worker]
        assert recovered["rungs"] == [0, 3]
        rows = {row["what"]: (row["before"], row["after"]) for row in recovered["compared"]}
        assert rows["leftovers of other CNIs"] == (str(count), "0")
        back = bed.cli("undo", document["id"], "--yes")
        assert back.returncode == 0 and f"{count} brought back" in back.stdout, back.stdout + back.stderr
        assert sorted(bed.shown()) == sorted(laid)
    finally:
        bed.node(sweep, check=False)
    assert bed.shown() == clean
    return document


def test_on_a_flannel_node_a_policy_engines_rules_and_routes_to_a_node_that_is_gone(flannel_bed: Bed) -> None:
    document = removed_and_brought_back(flannel_bed, CALICO_LEFT, NO_CALICO, 4)
    kept = flannel_bed.directory / "state/runs" / document["id"] / f"cni-{flannel_bed.worker}-before.json"
    rows = {row["name"]: row for row in json.loads(kept.read_text())["orphans"]}
    assert "no agent of calico runs on this node" in rows["cali40all"]["proof"][1]
    assert "the API names none of its pods here" in rows["cali40all"]["proof"][1]
    gone = rows["ip4 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink"]["proof"]
    assert gone[0] == "no node of the cluster has 10.244.77.0/24 as its podCIDR"


def test_on_a_cilium_node_what_flannel_left(cilium_bed: Bed) -> None:
    document = removed_and_brought_back(cilium_bed, FLANNEL_LEFT, NO_FLANNEL, 8, "--probe-image", idlepods.IMAGE)
    rows = {row["what"]: row for row in document["recovery"][cilium_bed.worker]["compared"]}
    denied = rows["a denied flow stays denied"]  # Cilium enforces the closed pod's policy
    assert (denied["before"], denied["after"], denied["good"]) == ("yes: no answer", "yes: no answer", True)
