"""A lab whose nodes are joined by vxlan as Flannel joins them, each with a pod, for tests of MTUs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.network import in_hub
from tune_nodes.lab.node import LabNode

CONFLIST = {"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel"}, {"type": "portmap"}]}
LAYERS = ("eth0", "flannel.1", "cni0")


@dataclass(frozen=True)
class Place:
    """One end of a packet's way: a network namespace and its address."""

    netns: str
    address: str

    def ping(self, other: Place, size: int) -> bool:
        """Tell whether an echo of ``size`` bytes (IP header included) with DF comes back."""
        argv = [*("ip", "netns", "exec", self.netns, "ping"), *echo(other, size), "-c", "2", "-W", "1"]
        return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 0


def echo(other: Place, size: int) -> list[str]:
    return ["-n", "-M", "do", "-s", str(size - 28), other.address]


class Overlay:
    """A lab's nodes, each a Flannel node with one pod: nothing of Flannel but what it leaves on a node.

    Args:
        lab: the nodes.
        joined: how many others each node is joined to; all, unless there are too many to be quick.
    """

    def __init__(self, lab: Lab, joined: int | None = None) -> None:
        self.joined = joined
        self.lab = lab
        self.layout = lab.state.layout
        self.nodes = lab.nodes
        self.wires(9000)
        macs = {node.number: self._make(node) for node in self.nodes}
        for node in self.nodes:
            self._join(node, macs)

    def wires(self, mtu: int) -> None:
        """Let the network between the nodes carry this much; the nodes themselves stay as they are."""
        ports = "".join(f"link set {self.layout.port(node.number)} mtu {mtu}\n" for node in self.nodes)
        in_hub(self.layout, ports + f"link set br0 mtu {mtu}\n")

    def _ip(self, node: LabNode, batch: str) -> None:
        run(["ip", "-n", node.netns, "-batch", "-"], input=batch)

    def pod_netns(self, node: LabNode) -> str:
        return f"{node.netns}-pod"

    def _make(self, node: LabNode) -> str:
        number = node.number
        self._ip(
            node,
            f"link add flannel.1 type vxlan id 1 local {node.address} dev eth0 dstport 8472 nolearning\n"
            f"addr add 10.244.{number}.0/32 dev flannel.1\nlink set flannel.1 up\n"
            f"link add cni0 type bridge\naddr add 10.244.{number}.1/24 dev cni0\nlink set cni0 up\n",
        )
        node.run(["mkdir", "-p", "/etc/cni/net.d", "/run/flannel"])
        node.run(["tee", "/etc/cni/net.d/10-flannel.conflist"], input=json.dumps(CONFLIST))
        self.given(node, 1450)
        node.write_sysctl("net.ipv4.ip_forward", "1")
        self.add_pod(node, 1450)
        (found,) = json.loads(run(["ip", "-n", node.netns, "-j", "link", "show", "flannel.1"]).stdout)
        return str(found["address"])

    def given(self, node: LabNode, mtu: int) -> None:
        """Write what flanneld writes when it starts."""
        text = f"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.{node.number}.1/24\nFLANNEL_MTU={mtu}\n"
        node.run(["tee", "/run/flannel/subnet.env"], input=text)

    def add_pod(self, node: LabNode, mtu: int) -> None:
        """Give a node its one pod, or a new one of another MTU in its stead."""
        name, number = self.pod_netns(node), node.number
        # The cable first: with its namespace it would go some time later.
        run(["ip", "-n", node.netns, "link", "del", "vethpod0"], check=False)
        run(["ip", "netns", "del", name], check=False)
        run(["ip", "netns", "add", name])
        self._ip(
            node,
            f"link add vethpod0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}\n"
            "link set vethpod0 master cni0\nlink set vethpod0 up\n",
        )
        inside = f"link set lo up\naddr add 10.244.{number}.2/24 dev eth0\nlink set eth0 up\n"
        run(["ip", "-n", name, "-batch", "-"], input=f"{inside}route add default via 10.244.{number}.1\n")

    def _join(self, node: LabNode, macs: dict[int, str]) -> None:
        after = [*self.nodes[node.number :], *self.nodes[: node.number - 1]]
        for other in after[: self.joined]:
            mac = macs[other.number]
            self._ip(
                node,
                f"neigh add 10.244.{other.number}.0 lladdr {mac} dev flannel.1 nud permanent\n"
                f"route add 10.244.{other.number}.0/24 via 10.244.{other.number}.0 dev flannel.1 onlink\n",
            )
            bridge = f"fdb append {mac} dev flannel.1 dst {other.address} self permanent\n"
            run(["bridge", "-n", node.netns, "-batch", "-"], input=bridge)

    def node_place(self, node: LabNode) -> Place:
        return Place(node.netns, node.address)

    def pod_place(self, node: LabNode) -> Place:
        return Place(self.pod_netns(node), f"10.244.{node.number}.2")

    def mtus(self, node: LabNode) -> dict[str, int]:
        """Return the MTU of each layer, as the ip program says."""
        found = json.loads(run(["ip", "-n", node.netns, "-j", "link"]).stdout)
        return {row["ifname"]: row["mtu"] for row in found if row["ifname"] in LAYERS}

    @contextmanager
    def streams(self, pairs: list[tuple[Place, Place, int]]) -> Iterator[None]:
        """Send DF echoes of a size, 50 a second each, all the while; afterwards see that none was lost."""
        senders = []
        with ExitStack() as stack:
            for source, target, size in pairs:
                argv = ["ip", "netns", "exec", source.netns, "ping", "-q", "-i", "0.02", *echo(target, size)]
                process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
                stack.callback(process.kill)
                senders.append(process)
            yield
            for process in senders:
                process.send_signal(signal.SIGINT)
            for process, (source, target, size) in zip(senders, pairs, strict=True):
                summary = process.communicate(timeout=20)[0]
                sent, received = re.findall(r"([0-9]+) (?:packets transmitted|received)", summary)
                assert int(sent) == int(received) > 0, (source, target, size, summary)

    def close(self) -> None:
        """Delete the pods; the rest goes with the lab."""
        for node in self.nodes:
            run(["ip", "netns", "del", self.pod_netns(node)], check=False)
