"""The lab's wires: the hub's namespace with its bridge, a cable to each node, one cable to this machine.

The bridge lies in a namespace of its own, so that the machine sees one interface only, its firewall
(Docker's, say, which sees bridged packets too) cannot come between nodes, and nothing can be forwarded out:
the hub has no other route, whatever the machine's own forwarding says.
"""

from __future__ import annotations

from pathlib import Path

from tune_nodes.errors import TuneError
from tune_nodes.lab.command import run
from tune_nodes.lab.model import Layout, NodeState

MTU = 1500
#: The bridge's own address. Without one it takes the lowest of its ports', and a hop between that port and the bridge
#: would take what is sent to the bridge for its own.
BRIDGE = "02:74:6e:00:00:01"
_NETNS_DIRECTORY = Path("/run/netns")

_HUB_SCRIPT = """\
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null || :
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 2> /dev/null || :
exec ip -batch -
"""


def netns_inodes(names: list[str]) -> set[int]:
    """Return the inodes of those of these network namespaces that exist."""
    found = set()
    for name in names:
        try:
            found.add((_NETNS_DIRECTORY / name).stat().st_ino)
        except FileNotFoundError:
            continue
    return found


def netns_names(layout: Layout, nodes: list[NodeState]) -> list[str]:
    """Return the names of all network namespaces of a lab."""
    return [layout.hub, *(layout.netns(node.number) for node in nodes)]


def hub_batch(layout: Layout) -> str:
    """Return ``ip -batch`` lines that make the bridge, in the hub."""
    prefix = layout.network.prefixlen
    return (
        "link set lo up\n"
        f"link add br0 address {BRIDGE} mtu {MTU} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
        f"addr add {layout.gateway}/{prefix} dev br0\n"
        "link set br0 up\n"
        "link set uplink master br0\n"
        "link set uplink up\n"
    )


def cable_batch(layout: Layout, number: int, queues: int) -> str:
    """Return ``ip -batch`` lines that lead a cable with ``queues`` queues from the hub to a node, in the hub."""
    port, many = layout.port(number), f"numtxqueues {queues} numrxqueues {queues}"
    return (
        f"link add {port} mtu {MTU} {many} type veth peer name eth0 mtu {MTU} {many} netns {layout.netns(number)}\n"
        f"link set {port} master br0\n"
        f"link set {port} up\n"
    )


def node_batch(layout: Layout, number: int) -> str:
    """Return ``ip -batch`` lines that configure a node's network, in the node."""
    return (
        "link set lo up\n"
        f"addr add {layout.address(number)}/{layout.network.prefixlen} broadcast + dev eth0\n"
        "link set eth0 up\n"
        f"route add default via {layout.gateway}\n"
    )


def make_hub(layout: Layout) -> None:
    """Make the hub and this machine's one interface in the lab."""
    interface = layout.interface
    run(
        ["ip", "-batch", "-"],
        input=(
            f"netns add {layout.hub}\n"
            f"link add {interface} mtu {MTU} type veth peer name uplink mtu {MTU} netns {layout.hub}\n"
        ),
    )
    # The machine may forward for others (Docker switches it on): not for the lab.
    for family in ("ipv4", "ipv6"):
        forwarding = Path(f"/proc/sys/net/{family}/conf/{interface}/forwarding")
        if forwarding.exists():
            forwarding.write_text("0")
    in_hub(layout, hub_batch(layout))
    run(
        ["ip", "-batch", "-"],
        input=f"addr add {layout.controller}/{layout.network.prefixlen} dev {interface}\nlink set {interface} up\n",
    )


def in_hub(layout: Layout, batch: str) -> None:
    """Run ``ip -batch`` lines in the hub, with its own /sys and without forwarding."""
    run(["ip", "netns", "exec", layout.hub, "sh", "-ec", _HUB_SCRIPT], input=batch, timeout=120)


def add_cables(layout: Layout, numbers: list[int], queues: int) -> None:
    """Make these nodes' network namespaces and lead a cable to each."""
    run(["ip", "-batch", "-"], input="".join(f"netns add {layout.netns(n)}\n" for n in numbers), timeout=120)
    in_hub(layout, "".join(cable_batch(layout, number, queues) for number in numbers))


def remove_namespaces(names: list[str]) -> None:
    """Delete network namespaces that exist; their interfaces go with them."""
    present = [name for name in names if (_NETNS_DIRECTORY / name).exists()]
    if present:
        run(["ip", "-batch", "-"], input="".join(f"netns del {name}\n" for name in present), timeout=120)


def remove_uplink(layout: Layout) -> None:
    """Delete this machine's interface in the lab, where it is ours: its other end went with the hub."""
    run(["ip", "link", "del", layout.interface], check=False)


def refuse_foreign(names: list[str]) -> None:
    """Raise TuneError where a namespace we are about to make exists already."""
    foreign = [name for name in names if (_NETNS_DIRECTORY / name).exists()]
    if foreign:
        raise TuneError(
            f"network namespace {foreign[0]} exists already",
            "this lab did not make it (a lab in another TUNE_NODES_LAB_DIR?)",
            "choose another --name",
        )


def remove_port(layout: Layout, number: int) -> None:
    """Delete the hub's end of a node's cable at once; the kernel removes a dead namespace's only by and by."""
    run(["ip", "-n", layout.hub, "link", "del", layout.port(number)], check=False)
