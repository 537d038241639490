"""One more hop on a node's way: a second bridge in the hub, with a cable to the first, that swallows large packets.

All of it lies in the hub, so that the node is byte for byte what it was. The cable between the two bridges has no
offloads: a segment that TCP left to the NIC would else cross as one giant frame, which no wire carries and the rules
would misjudge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from ipaddress import IPv4Address

from tune_nodes.errors import TuneError
from tune_nodes.lab.command import run
from tune_nodes.lab.model import Layout
from tune_nodes.lab.network import in_hub

#: Bytes of IP packet that still pass.
LIMIT = 1400
_IP6_HEADER = 40  # its length field counts without it
#: The cable is never what limits a lab whose wires were raised.
_ANY_MTU = 65535
#: Seconds for the kernel to take notice of a cable; it waits for whoever else adds or removes devices.
_NOTICE = 30.0


def names(number: int) -> tuple[str, str, str]:
    """Return a node's second bridge, and the cable's ends: at the first bridge, at the second."""
    return f"b{number}", f"h{number}", f"p{number}"


def rules(number: int, inward: bool, outward: bool, spared: IPv4Address | None) -> str:
    """Return the hop's rules for nft: what is above the limit vanishes, without a word to the sender.

    Args:
        number: the node's.
        inward: drop what goes to the node.
        outward: drop what comes from it.
        spared: an address whose packets pass whatever their size.
    """
    _, far, near = names(number)
    # A frame is seen where it comes out of the cable, cut to size.
    chains = _chain("inward", near, f"ip saddr {spared} accept" if spared else "") if inward else ""
    chains += _chain("outward", far, f"ip daddr {spared} accept" if spared else "") if outward else ""
    return f"table netdev tn_hop_{number} {{\n{chains}}}\n"


def _chain(name: str, device: str, first: str) -> str:
    return (
        f"  chain {name} {{\n    type filter hook ingress device {device} priority 0\n"
        + (f"    {first}\n" if first else "")
        + f"    ip length > {LIMIT} drop\n    ip6 length > {LIMIT - _IP6_HEADER} drop\n  }}\n"
    )


def insert(layout: Layout, number: int, inward: bool, outward: bool, spared: IPv4Address | None) -> None:
    """Put the hop between a node's cable and the lab's bridge. Raises TuneError."""
    remove(layout, number)  # what an attempt that was cut off left behind
    bridge, far, near = names(number)
    in_hub(
        layout,
        f"link add {far} mtu {_ANY_MTU} type veth peer name {near} mtu {_ANY_MTU}\n"
        f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
        f"link set {bridge} up\n"
        f"link set {near} master {bridge}\n"
        f"link set {near} up\n"
        f"link set {far} master br0\n"
        f"link set {far} up\n",
    )
    for device in (far, near):
        run(["ip", "netns", "exec", layout.hub, "ethtool", "-K", device, "tso", "off", "gso", "off"])
    run(["ip", "netns", "exec", layout.hub, "nft", "-f", "-"], input=rules(number, inward, outward, spared))
    rejoin(layout, number)
    _forwarding(layout, (far, near, layout.port(number)))


def _forwarding(layout: Layout, ports: Iterable[str]) -> None:
    """Wait until bridges forward to these ports: until then packets vanish that no rule drops. Raises TuneError."""
    limit = time.monotonic() + _NOTICE
    while silent := not_forwarding(run(["bridge", "-netns", layout.hub, "-json", "link"]).stdout, ports):
        if time.monotonic() > limit:
            raise TuneError(f"the hop does not forward to {', '.join(silent)} after {_NOTICE:g} s")
        time.sleep(0.02)


def not_forwarding(told: str, ports: Iterable[str]) -> list[str]:
    """Return the ports to which ``bridge -json link`` says that nothing is forwarded (pure)."""
    states = {row["ifname"]: row["state"] for row in json.loads(told or "[]")}
    return [port for port in ports if states.get(port) != "forwarding"]


def rejoin(layout: Layout, number: int) -> None:
    """Lead a node's cable to its hop: on insertion, and when the node comes back with a new cable."""
    run(["ip", "-n", layout.hub, "link", "set", layout.port(number), "master", names(number)[0]])


def remove(layout: Layout, number: int) -> None:
    """Lead a node's cable to the lab's bridge again and take the hop away; nothing of it is no error."""
    bridge, far, _ = names(number)
    run(["ip", "-n", layout.hub, "link", "set", layout.port(number), "master", "br0"], check=False)
    for device in (bridge, far):
        run(["ip", "-n", layout.hub, "link", "del", device], check=False)
    table = f"table netdev tn_hop_{number}"
    run(["ip", "netns", "exec", layout.hub, "nft", "-f", "-"], input=f"{table}\ndelete {table}\n")
