# SPDX-License-Identifier: Apache-2.0
"""What each layer of a stack should be, and the order in which layers change. Pure.

Raised from the outside in (NIC, VLAN or bridge, tunnel, the pods' bridge), lowered from the inside out: at no moment
does a layer send what the one below it does not take. What is lowered comes before what is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Union

from . import keeper
from .model import KEEP, MtuSetting
from .stack import BOND_KINDS, Link, Stack

_KERNEL = "Linux net/8021q/vlan.c, net/bridge/br_if.c, drivers/net/bonding"
_SOURCES = {
    "vxlan": "RFC 7348",
    "geneve": "RFC 8926",
    "ipip": "RFC 2003",
    "wireguard": "WireGuard's paper, section 5.4",
}
#: The kernel gives a bridge without ports this MTU, whatever it had.
_EMPTY_BRIDGE = 1500


@dataclass
class Layer:
    """One link with the MTU it should have and why."""

    link: Link
    want: int
    requested: str
    reason: str
    source: str = ""
    kept: bool = False  # an interface of the node's own: kept over a reboot by its network manager
    asked: bool = False  # a number was asked for, so it is kept
    pods: Union[str, int, None] = None  # what is asked of pods, to be kept beside it
    owner: str = ""  # who writes it instead of us
    note: str = ""

    @property
    def name(self) -> str:
        """The link's name."""
        return str(self.link["name"])

    @property
    def now(self) -> int:
        """The link's MTU as it is."""
        return int(self.link["mtu"])

    def final(self) -> int:
        """Return the MTU it will have: one that is left to its owner stays."""
        return self.now if self.owner else self.want


class Wishes(NamedTuple):
    """The settings that count: interface -> setting for its underlay, and the one for pods."""

    underlay: Mapping[str, MtuSetting]
    pods: Optional[MtuSetting]

    def pods_number(self) -> Optional[int]:
        """Return the bytes asked for pods, None for auto."""
        return self.pods.pods if self.pods is not None and isinstance(self.pods.pods, int) else None

    def pods_word(self) -> str:
        """Return the wish for pods as written."""
        return str(self.pods.pods) if self.pods is not None else "auto"


def layers_of(stack: Stack, wishes: Wishes) -> Dict[str, Layer]:
    """Return every layer that a plan speaks of: name -> layer."""
    found: Dict[str, Layer] = {}
    for name, setting in wishes.underlay.items():
        _add_underlay(stack, stack.by_name[name], setting, wishes, found)
    _leave_to_owners(stack, found)
    _add_pulled(stack, found)
    for link in stack.links:
        if stack.is_cni_tunnel(link) and link["up"] and stack.carrier(link) is not None:
            _add_tunnel(stack, link, wishes, found)
    for link in stack.links:
        if stack.is_cni_bridge(link):
            _add_bridge(stack, link, wishes, found)
    return found


def _add_underlay(stack: Stack, link: Link, setting: MtuSetting, wishes: Wishes, found: Dict[str, Layer]) -> None:
    """Add an interface, and what lies beneath it as far as it must change with it."""
    asked = setting.underlay if isinstance(setting.underlay, int) else None
    want = asked if asked is not None else int(link["mtu"])
    layer = Layer(
        link,
        want,
        "underlay %s" % (asked if asked is not None else KEEP),
        setting.reason or ("asked for as it stands" if asked is not None else "kept as it is"),
        setting.source,
        kept=True,
        asked=asked is not None,
        pods=wishes.pods.pods if wishes.pods is not None else None,
    )
    if link["kind"] in BOND_KINDS:
        layer.note = "hands it to its ports: " + ", ".join(str(p["name"]) for p in stack.ports(link))
    found[layer.name] = layer
    if asked is not None:
        for lower in stack.beneath(link):
            _add_beneath(stack, lower, layer, found)


def _add_beneath(stack: Stack, link: Link, above: Layer, found: Dict[str, Layer]) -> None:
    """Raise what is beneath a layer; lower it too where it serves nothing else."""
    want = above.want
    if link["name"] in found:
        want = max(want, found[link["name"]].want)
    elif int(link["mtu"]) > want and _serves_others(stack, link, above.link):
        return  # a VLAN or port may well be smaller than what it lies on
    layer = Layer(
        link,
        want,
        above.requested,
        "%s lies on it" % above.name if stack.parent(above.link) else "port of %s" % above.name,
        _KERNEL,
        kept=True,
        asked=True,
        pods=above.pods,
    )
    found[layer.name] = layer
    for lower in stack.beneath(link):
        _add_beneath(stack, lower, layer, found)


def _serves_others(stack: Stack, link: Link, above: Link) -> bool:
    """Tell whether a link carries more than the one above it: addresses of its own, other VLANs."""
    if any(a["index"] == link["index"] and not a["address"].startswith("fe80:") for a in stack.addresses):
        return True
    return any(upper is not above for upper in stack.uppers(link))


def _leave_to_owners(stack: Stack, found: Mapping[str, Layer]) -> None:
    """Leave an interface as it is where another program keeps its MTU and we cannot tell that one."""
    for layer in found.values():
        kept = stack.keepers.get(layer.name)
        owner, why = keeper.refusal(kept, layer.name) if kept is not None else ("", "")
        if owner and layer.want != layer.now:
            layer.owner, layer.note = owner, why


def _add_pulled(stack: Stack, found: Dict[str, Layer]) -> None:
    """Add what the kernel pulls down with a layer, so that a revert puts it back: it never raises it again itself."""
    waiting = list(found.values())
    while waiting:
        below = waiting.pop()
        for upper in stack.uppers(below.link):
            if upper["name"] not in found and int(upper["mtu"]) > below.final():
                reason = "the kernel pulls it down with %s" % below.name
                layer = Layer(upper, below.final(), below.requested, reason, _KERNEL, kept=True)
                found[layer.name] = layer
                waiting.append(layer)


def _wanted(stack: Stack, tunnel: Link, found: Mapping[str, Layer]) -> Optional[int]:
    """Return what fits into a tunnel once its carrier is what it should be, None where that is not known."""
    carrier, cost = stack.carrier(tunnel), stack.overhead(tunnel)
    if carrier is None or cost is None:
        return None
    below = found.get(carrier["name"])
    return (below.final() if below is not None else int(carrier["mtu"])) - cost


def _tunnels(stack: Stack) -> List[Link]:
    """Return the CNI's tunnels that are in use."""
    return [link for link in stack.links if stack.is_cni_tunnel(link) and link["up"]]


def pods_mtu(stack: Stack, wishes: Wishes, found: Mapping[str, Layer]) -> int:
    """Return what pods' devices should have: what the smallest tunnel carries, else what the underlay has.

    Where the CNI's routes hold the smaller size, the devices have the underlay's.
    """
    number = wishes.pods_number()
    if number is not None:
        return number
    by_routes = stack.cni is not None and stack.cni.routes
    fitting = [size for size in (_wanted(stack, link, found) for link in _tunnels(stack)) if size]
    if fitting and not by_routes:
        return min(fitting)
    under = [found[u["name"]].final() if u["name"] in found else int(u["mtu"]) for u in stack.underlays()]
    return min(under, default=0)


def pods_reason(stack: Stack, wishes: Wishes, found: Mapping[str, Layer]) -> str:
    """Say in a line what the pods' MTU is taken from."""
    if wishes.pods_number() is not None:
        return "asked for as it stands"
    tunnels = _tunnels(stack)
    if not tunnels:
        return "no encapsulation: what the interface takes"
    if stack.cni is not None and stack.cni.routes:
        return "the interface's: the routes in pods hold what fits into the tunnel"
    least = min(tunnels, key=lambda link: _wanted(stack, link, found) or int(link["mtu"]))
    return _less(stack, least)


def _less(stack: Stack, tunnel: Link) -> str:
    carrier = stack.carrier(tunnel)
    return "%s less %d bytes of %s" % (
        carrier["name"] if carrier is not None else "its underlay",
        stack.overhead(tunnel) or 0,
        tunnel["kind"],
    )


def _add_tunnel(stack: Stack, link: Link, wishes: Wishes, found: Dict[str, Layer]) -> None:
    fits, cni = _wanted(stack, link, found), stack.cni
    if fits is None or cni is None:
        return
    number = wishes.pods_number()
    want, reason = fits if number is None else min(fits, number), _less(stack, link)
    if cni.routes:
        want, reason = fits + (stack.overhead(link) or 0), "the interface's: routes hold what fits into it"
    layer = Layer(link, want, "pods %s" % wishes.pods_word(), reason, _SOURCES.get(str(link["kind"]), ""))
    if want != layer.now and not cni.written:
        layer.owner, layer.note = cni.agent, cni.tell
    found[layer.name] = layer


def _add_bridge(stack: Stack, link: Link, wishes: Wishes, found: Dict[str, Layer]) -> None:
    """Add the pods' bridge.

    The kernel keeps a bridge at its smallest port until somebody writes its MTU; from then on it stays as written, and
    a pod with less would lose what is larger. So it is written only where it is not what its ports make it.
    """
    ports, want, note = [int(port["mtu"]) for port in stack.ports(link)], pods_mtu(stack, wishes, found), ""
    if not ports and int(link["mtu"]) == _EMPTY_BRIDGE:
        want, note = _EMPTY_BRIDGE, "it has no port: the kernel gives it the MTU of its first pod"
    elif ports and min(ports) < want:
        smaller = sum(1 for port in ports if port < want)
        want, note = min(ports), "%d of its ports have less than %d: it follows them" % (smaller, want)
    reason = "what pods take, and no more than its smallest port"
    layer = Layer(link, want, "pods %s" % wishes.pods_word(), reason, _KERNEL, note=note)
    if want != layer.now and stack.cni is not None and not stack.cni.written:
        layer.owner = stack.cni.agent
    found[layer.name] = layer


def order(stack: Stack, found: Mapping[str, Layer]) -> List[Layer]:
    """Return the layers in the order to write them; a revert goes the other way."""
    depth = {name: _depth(stack, layer.link, set()) for name, layer in found.items()}
    lowered = [layer for layer in found.values() if layer.want < layer.now]
    raised = [layer for layer in found.values() if layer.want >= layer.now]
    lowered.sort(key=lambda layer: (-depth[layer.name], layer.name))
    raised.sort(key=lambda layer: (depth[layer.name], layer.name))
    return lowered + raised


def _depth(stack: Stack, link: Link, seen: Set[Any]) -> int:
    """Return how many layers lie between a link and the wire."""
    if link["index"] in seen:
        return 0
    seen = seen | {link["index"]}
    below: List[Link] = stack.beneath(link)
    carrier = stack.carrier(link) if stack.is_tunnel(link) else None
    if carrier is not None:
        below = [carrier]
    elif stack.is_cni_bridge(link):
        below = [other for other in stack.links if stack.is_cni_tunnel(other)] or stack.underlays()
    return 1 + max((_depth(stack, other, seen) for other in below), default=0)
