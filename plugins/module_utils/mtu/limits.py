# SPDX-License-Identifier: Apache-2.0
"""Why a wanted stack cannot be had: each reason with the link it is about. Pure."""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple

from .layers import Layer, Wishes
from .model import IPV6_MINIMUM
from .stack import BOND_KINDS, Link, Stack

Refusal = Tuple[str, str]  # link, why


def misnamed(stack: Stack, name: str) -> str:
    """Return "" where a name can be asked an underlay MTU of, else why not and what to name instead."""
    link = stack.by_name.get(name)
    if link is None:
        return "no such interface in this network namespace"
    if name == "lo":
        return "the loopback carries nothing to other nodes"
    master = stack.master(link)
    if master is not None and master["kind"] in BOND_KINDS:
        return "it is a port of %s, which hands its MTU to its ports: name %s" % (master["name"], master["name"])
    if master is not None:
        return "it is a port of %s: name %s, and its ports are changed with it" % (master["name"], master["name"])
    if stack.is_tunnel(link):
        return "it is a tunnel: its MTU follows from what carries it"
    if stack.is_cni_bridge(link) or stack.is_pod(link):
        return "it belongs to the CNI: its MTU follows from pods"
    return ""


def refusals(stack: Stack, wishes: Wishes, found: Mapping[str, Layer]) -> List[Refusal]:
    """Return every reason not to change this stack, [] where there is none."""
    moved = [layer for layer in found.values() if layer.want != layer.now and not layer.owner]
    refused: List[Refusal] = []
    if moved:
        refused += _unknown_cni(stack, moved)
        refused += _without_underlay(stack)
    for layer in moved:
        whys = (_ipv6(stack, layer), _device(stack, layer), _cloud(stack, layer), _beneath(stack, layer, found))
        refused += [(layer.name, why) for why in whys if why]
    return refused + _tunnels_left_above(stack, found) + _too_large_for_tunnels(stack, wishes, found)


def _unknown_cni(stack: Stack, moved: List[Layer]) -> List[Refusal]:
    if stack.state["name"] != "unknown":
        return []
    kind = stack.state["types"][0] if stack.state["types"] else "?"
    why = (
        "the CNI of %s (plugin %s) is not known here: to change MTUs below it, it would have to be known which tunnels "
        "it makes, what they cost, and where its own MTU is set" % (stack.state["file"], kind)
    )
    return [("pods", why)]


def _without_underlay(stack: Stack) -> List[Refusal]:
    why = "nothing says which interface carries it: it names none, and no interface has its local address"
    lost = [t for t in stack.links if stack.is_cni_tunnel(t) and t["up"] and stack.carrier(t) is None]
    return [(str(tunnel["name"]), why) for tunnel in lost]


def _ipv6(stack: Stack, layer: Layer) -> str:
    carries_six = 6 in stack.families(layer.link) or any(
        6 in stack.families(upper) for upper in stack.uppers(layer.link)
    )
    if layer.want >= IPV6_MINIMUM or not carries_six:
        return ""
    return "%d is below the %d that IPv6 needs, and it has IPv6 addresses: the kernel would take them away" % (
        layer.want,
        IPV6_MINIMUM,
    )


def _device(stack: Stack, layer: Layer) -> str:
    """Return why the device does not take this MTU; of a bond its ports count as well."""
    for link in (layer.link, *(stack.ports(layer.link) if layer.link["kind"] in BOND_KINDS else [])):
        where = "" if link is layer.link else " of its port %s" % link["name"]
        if link["max"] and layer.want > link["max"]:
            return "%d is above the %d that the device%s takes" % (layer.want, link["max"], where)
        if layer.want < link["min"]:
            return "%d is below the %d that the device%s takes" % (layer.want, link["min"], where)
    return ""


def _cloud(stack: Stack, layer: Layer) -> str:
    limit = stack.cloud_limit()
    if not limit or not layer.kept or layer.want <= max(limit, layer.now):
        return ""
    return "%d is above the %d that the network of %s carries" % (layer.want, limit, stack.cloud)


def _beneath(stack: Stack, layer: Layer, found: Mapping[str, Layer]) -> str:
    """Return why what lies beneath a layer will not take what it sends."""
    for link in stack.beneath(layer.link):
        lower = found.get(link["name"])
        size = lower.final() if lower is not None else int(link["mtu"])
        if size < layer.want:
            why = ", which %s keeps: %s" % (lower.owner, lower.note) if lower is not None and lower.owner else ""
            return "%d is above the %d of %s beneath it%s" % (layer.want, size, link["name"], why)
    return ""


def _tunnels_left_above(stack: Stack, found: Mapping[str, Layer]) -> List[Refusal]:
    """Refuse to lower an underlay beneath a tunnel that is another program's, and would then be too large."""
    refused = []
    for tunnel in stack.links:
        if not stack.is_tunnel(tunnel) or not tunnel["up"]:
            continue
        carrier, cost = stack.carrier(tunnel), stack.overhead(tunnel)
        below = found.get(carrier["name"]) if carrier is not None else None
        if below is None or cost is None or below.final() >= below.now:
            continue
        layer = found.get(tunnel["name"])
        size = layer.final() if layer is not None else int(tunnel["mtu"])
        if size > below.final() - cost and not _fits_by_routes(stack, tunnel, below, cost):
            refused.append((below.name, _left_above(tunnel, size, below, cost, layer)))
    return refused


def _fits_by_routes(stack: Stack, tunnel: Link, below: Layer, cost: int) -> bool:
    """Tell whether a tunnel whose pods' routes hold the size has those small enough already."""
    if not stack.is_cni_tunnel(tunnel) or stack.cni is None or not stack.cni.routes:
        return False
    given = stack.state["mtu"]
    return given is not None and given <= below.final() - cost


def _left_above(tunnel: Link, size: int, below: Layer, cost: int, layer: Optional[Layer]) -> str:
    text = "%s (%d) would be above it less %d bytes of %s" % (tunnel["name"], size, cost, tunnel["kind"])
    if layer is not None and layer.owner:
        return "%s, and is %s's to lower first: %s" % (text, layer.owner, layer.note)
    return "%s, and is not the CNI's: lower it first" % text


def _too_large_for_tunnels(stack: Stack, wishes: Wishes, found: Mapping[str, Layer]) -> List[Refusal]:
    number = wishes.pods_number()
    if number is None:
        return []
    for tunnel in stack.links:
        if not stack.is_cni_tunnel(tunnel) or not tunnel["up"]:
            continue
        carrier, cost = stack.carrier(tunnel), stack.overhead(tunnel)
        if carrier is None or cost is None:
            continue
        below = found.get(carrier["name"])
        size = below.final() if below is not None else int(carrier["mtu"])
        if number > size - cost:
            text = "%d asked for pods, %s carries %d less %d bytes of %s"
            return [("pods", text % (number, carrier["name"], size, cost, tunnel["kind"]))]
    return []
