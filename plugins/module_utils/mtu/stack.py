# SPDX-License-Identifier: Apache-2.0
"""A node's links seen as a stack: what carries what, and what is wrong with their MTUs. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set

from . import cni as cnis
from .model import CLOUD_LIMITS, OVERHEAD, overhead

_ETHERNET, _INFINIBAND = 1, 32
#: Links that live on another one and cannot be larger; the kernel pulls them down with it (never up).
UPPER_KINDS = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")
BOND_KINDS = ("bond", "team")

Link = Mapping[str, Any]


class Fault(NamedTuple):
    """One thing that is wrong: a stable word, the link it is seen at, and the whole sentence."""

    word: str
    at: str
    text: str


class Stack:
    """What read.observe() returned, with the questions a plan asks of it."""

    def __init__(self, observation: Mapping[str, Any]) -> None:
        self.links: List[Link] = list(observation["links"])
        self.by_index: Dict[int, Link] = {link["index"]: link for link in self.links}
        self.by_name: Dict[str, Link] = {link["name"]: link for link in self.links}
        self.addresses: List[Mapping[str, Any]] = list(observation["addresses"])
        self.routes: List[Mapping[str, Any]] = list(observation["routes"])
        self.state: Mapping[str, Any] = observation["cni"]
        self.cni: Optional[cnis.Cni] = cnis.by_name(self.state["name"])
        self.cloud: str = observation["cloud"]
        self.keepers: Mapping[str, Mapping[str, str]] = observation["keepers"]

    def families(self, link: Link) -> Set[int]:
        """Return the address families (4, 6) that a link has addresses of."""
        return {a["family"] for a in self.addresses if a["index"] == link["index"]}

    def ports(self, link: Link) -> List[Link]:
        """Return the ports of a bridge, bond or team."""
        return [port for port in self.links if port["master"] == link["index"]]

    def master(self, link: Link) -> Optional[Link]:
        """Return the bridge, bond or team that holds a link."""
        return self.by_index.get(link["master"])

    def parent(self, link: Link) -> Optional[Link]:
        """Return the link below a VLAN, macvlan or ipvlan; None where it lies in another namespace."""
        return None if link["away"] or link["kind"] not in UPPER_KINDS else self.by_index.get(link["link"])

    def uppers(self, link: Link) -> List[Link]:
        """Return the VLANs, macvlans and ipvlans right above a link."""
        return [upper for upper in self.links if self.parent(upper) is link]

    def beneath(self, link: Link) -> List[Link]:
        """Return the links that must take what this one sends, and that are not written through it.

        A bond hands its MTU to its ports by itself; a bridge does not.
        """
        parent = self.parent(link)
        if parent is not None:
            return [parent]
        if link["kind"] == "bridge":
            return [port for port in self.ports(link) if port["kind"] in ("", "vlan", *BOND_KINDS)]
        return []

    def is_tunnel(self, link: Link) -> bool:
        """Tell whether a link wraps packets."""
        return link["tunnel"] is not None

    def is_cni_tunnel(self, link: Link) -> bool:
        """Tell whether a tunnel is the CNI's."""
        return self.is_tunnel(link) and self.cni is not None and cnis.matches(self.cni.tunnels, link["name"])

    def is_cni_bridge(self, link: Link) -> bool:
        """Tell whether a bridge is the CNI's."""
        if link["kind"] != "bridge" or self.cni is None:
            return False
        return link["name"] == self.state["bridge"] or cnis.matches(self.cni.bridges, link["name"])

    def is_pod(self, link: Link) -> bool:
        """Tell whether a link is this node's end of a pod's cable."""
        if link["kind"] not in ("veth", "netkit") or not link["away"] or self.cni is None:
            return False
        master = self.master(link)
        if master is not None:
            return self.is_cni_bridge(master)
        return cnis.matches(self.cni.pods, link["name"])

    def pods(self) -> List[Link]:
        """Return this node's ends of its pods' cables."""
        return [link for link in self.links if self.is_pod(link)]

    def default_links(self) -> List[Link]:
        """Return the link of the best default route, IPv4's first."""
        for family in (4, 6):
            found = [r for r in self.routes if r["to"] == "default" and r["family"] == family]
            for route in sorted(found, key=lambda r: (r["metric"], r["index"])):
                link = self.by_index.get(route["index"])
                if link is not None and not self.is_tunnel(link) and link["type"] in (_ETHERNET, _INFINIBAND):
                    return [link]
        return []

    def carrier(self, tunnel: Link) -> Optional[Link]:
        """Return the link that carries a tunnel, None where nothing says which.

        It is the one the tunnel names, else the one that has its local address. A tunnel whose packets bring their own
        ends (Cilium, OVN, WireGuard, tunl0) is carried by what carries the default route.
        """
        facts = tunnel["tunnel"]
        if facts["link"]:
            return self.by_index.get(facts["link"])
        if facts["local"]:
            owner = next((a["index"] for a in self.addresses if a["address"] == facts["local"]), 0)
            return self.by_index.get(owner)
        if facts["external"] or tunnel["kind"] in ("wireguard", "geneve") or not facts["remote"]:
            return next(iter(self.default_links()), None)
        return None

    def overhead(self, tunnel: Link) -> Optional[int]:
        """Return the bytes a tunnel costs on its carrier, None where that is not known."""
        facts, carrier = tunnel["tunnel"], self.carrier(tunnel)
        if tunnel["kind"] == "wireguard" and self.is_cni_tunnel(tunnel) and self.cni and self.cni.wireguard:
            return self.cni.wireguard
        family = facts["family"] or (6 if carrier is not None and self.families(carrier) == {6} else 4)
        return overhead(tunnel["kind"], family, facts["options"])

    def underlays(self) -> List[Link]:
        """Return what carries packets to other nodes: what the CNI's tunnels say, else the default route's link."""
        found: Dict[str, Link] = {}
        for tunnel in self.links:
            carrier = self.carrier(tunnel) if self.is_cni_tunnel(tunnel) else None
            if carrier is not None:
                found[carrier["name"]] = carrier
        return list(found.values()) or self.default_links()

    def cloud_limit(self) -> int:
        """Return the most this machine's cloud carries, 0 where none is known."""
        return CLOUD_LIMITS.get(self.cloud, 0)


def faults(stack: Stack) -> List[Fault]:
    """Return everything that is wrong with the MTUs of a node as it stands."""
    found: List[Fault] = []
    for link in stack.links:
        if not link["up"] and link["kind"] != "bridge":
            continue
        found.extend(_tunnel_faults(stack, link))
        found.extend(_coupling_faults(stack, link))
    found.extend(_pod_faults(stack))
    return found


def _tunnel_faults(stack: Stack, link: Link) -> Iterable[Fault]:
    if not stack.is_tunnel(link) or link["kind"] not in OVERHEAD:
        return
    carrier, cost = stack.carrier(link), stack.overhead(link)
    if carrier is None:
        if stack.is_cni_tunnel(link):
            yield Fault("tunnel-without-underlay", link["name"], "nothing says which interface carries %(name)s" % link)
    elif cost is not None and link["mtu"] > carrier["mtu"] - cost and not _routes_count(stack, link):
        text = "%s (%d) is above %s (%d) less %d bytes of %s: full packets are cut up or lost" % (
            *(link["name"], link["mtu"], carrier["name"], carrier["mtu"], cost),
            link["kind"],
        )
        yield Fault("tunnel-above-underlay", link["name"], text)


def _routes_count(stack: Stack, link: Link) -> bool:
    """Tell whether pods' routes, and not the tunnel device, hold the size that fits."""
    return stack.is_cni_tunnel(link) and stack.cni is not None and stack.cni.routes


def _coupling_faults(stack: Stack, link: Link) -> Iterable[Fault]:
    name, mtu = link["name"], link["mtu"]
    parent = stack.parent(link)
    if parent is not None and mtu > parent["mtu"]:
        yield Fault("vlan-above-parent", name, "%s (%d) is above %s (%d)" % (name, mtu, parent["name"], parent["mtu"]))
    ports = stack.ports(link)
    if link["kind"] == "bridge" and ports:
        least = min(ports, key=lambda port: int(port["mtu"]))
        text = "%s (%d) is %s its smallest port %s (%d)" % (name, mtu, "%s", least["name"], least["mtu"])
        if mtu > least["mtu"]:
            yield Fault("bridge-above-port", name, text % "above" + ": what is larger vanishes there")
        elif mtu < least["mtu"]:
            yield Fault("bridge-below-ports", name, text % "below" + ": larger packets are refused without need")
    if link["kind"] in BOND_KINDS:
        for port in ports:
            if port["mtu"] != mtu:
                text = "port %s (%d) differs from %s (%d)" % (port["name"], port["mtu"], name, mtu)
                yield Fault("bond-port-differs", port["name"], text)
    limit = stack.cloud_limit()
    if limit and link["kind"] == "" and link["type"] == _ETHERNET and mtu > limit:
        yield Fault(
            "above-cloud-limit", name, "%s (%d) is above the %d that %s carries" % (name, mtu, limit, stack.cloud)
        )


def _pod_faults(stack: Stack) -> Iterable[Fault]:
    sizes = sorted({pod["mtu"] for pod in stack.pods()})
    if len(sizes) > 1:
        yield Fault("pods-mixed", "pods", "pods of this node have %s" % " and ".join(str(s) for s in sizes))
    tunnels = [t for t in stack.links if stack.is_cni_tunnel(t) and t["up"] and not _routes_count(stack, t)]
    if not tunnels:
        return
    least = min(tunnels, key=lambda tunnel: int(tunnel["mtu"]))
    above = [pod for pod in stack.pods() if pod["mtu"] > least["mtu"]]
    if above:
        text = "%s with %d above %s (%d)" % (pods(len(above)), above[0]["mtu"], least["name"], least["mtu"])
        yield Fault("pod-above-tunnel", "pods", text)
    given = stack.state["mtu"]
    if given is not None and given != least["mtu"]:
        text = "%s gives new pods %d, %s has %d" % (stack.state["mtu_from"], given, least["name"], least["mtu"])
        yield Fault("conf-differs", "pods", text)


def pods(count: int) -> str:
    """Return "1 pod" or "2 pods"."""
    return "%d pod%s" % (count, "" if count == 1 else "s")
