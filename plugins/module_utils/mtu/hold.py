# SPDX-License-Identifier: Apache-2.0
"""The first of two rounds: links take what they should, while routes hold packets to the smaller size. Pure.

A fleet is changed in two rounds so that no node ever sends what another does not take yet, or takes no more. In the
first, routes are pinned at the smaller of the MTUs before and after, then links are raised. In the second, links are
lowered, then the pins go. (OpenShift's enhancement "allow-mtu-changes" does it in the same way.)
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..model import Change
from . import keeper, pins
from .layers import Layer
from .model import FAMILY_NAME, HOLD, ROUTE_MTU, MtuSetting
from .stack import Link, Stack

LATER = "lowered in the second round, once no node sends more"


class Hold(NamedTuple):
    """What becomes of the pins: link -> what its routes are pinned at (0: no longer), and whether this is round one."""

    pins: Mapping[str, int]
    holding: bool

    def waits(self, layer: Layer, found: Mapping[str, Layer]) -> bool:
        """Tell whether a layer is lowered in the second round only: where an interface is, all above it wait too."""
        return self.holding and layer.final() < layer.now and _lowers(found)


def _lowers(found: Mapping[str, Layer]) -> bool:
    return any(layer.kept and layer.final() < layer.now for layer in found.values())


def hold_of(
    settings: Sequence[MtuSetting], stack: Stack, found: Mapping[str, Layer], routes: Mapping[str, Any]
) -> Hold:
    """Decide on the pins of every layer.

    Args:
        settings: of which one with ``pin`` or ``pins`` makes this the first round.
        stack: the links.
        found: the layers with what they should be.
        routes: ``summary`` (see pins.py) and ``kept`` (link -> pin, as the node keeps them) of an observation.
    """
    told = {name: pin for setting in settings for name, pin in setting.pins.items()}
    if not told and not any(setting.pin == HOLD for setting in settings):
        ours = [name for name in routes["kept"] if _pinned(routes, name) and name in stack.by_name]
        return Hold(dict.fromkeys(ours, 0), False)
    wanted: Dict[str, int] = {}
    for layer in found.values():
        pin = _pin_of(stack, layer, found, routes, told)
        if pin and (_pinned(routes, layer.name) or routes["summary"].get(layer.name, {}).get("free")):
            wanted[layer.name] = pin
    return Hold(wanted, True)


def _pinned(routes: Mapping[str, Any], name: str) -> bool:
    return bool(routes["summary"].get(name, {}).get("pins", pins.NONE) != pins.NONE)


def _pin_of(
    stack: Stack, layer: Layer, found: Mapping[str, Layer], routes: Mapping[str, Any], told: Mapping[str, int]
) -> int:
    """Return what a layer's routes must be pinned at, 0 where they need no pin."""
    tunnel = stack.is_tunnel(layer.link)
    if not layer.kept and not tunnel:
        return 0  # the pods' bridge: what comes through it is held by the route that it leaves by
    earlier = told.get(layer.name) or int(routes["kept"].get(layer.name, 0))
    moved = layer.final() > layer.now or (layer.final() < layer.now and _lowers(found))
    if not moved and not earlier:
        return 0
    sizes = [layer.now, layer.final()] + ([earlier] if earlier else [])
    carrier, cost = (stack.carrier(layer.link), stack.overhead(layer.link)) if tunnel else (None, None)
    if carrier is not None and cost is not None and carrier["name"] in found:
        under = _pin_of(stack, found[carrier["name"]], found, routes, told)
        sizes += [under - cost] if under else []
    return min(sizes)


def hindrances(hold: Hold, routes: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Return (link, why) for each whose routes cannot be pinned as they must be."""
    refused = []
    for name, pin in hold.pins.items():
        row = routes["summary"].get(name, {})
        why = row.get("hindered") or ""
        if row.get("own", 0) > pin:
            why = "a route has an MTU of its own, %d, which is more than the %d to be held" % (row["own"], pin)
        if _pinned(routes, name) and name not in routes["kept"]:
            why = "routes have an MTU and MSS of their own (%s), as pins of ours would have" % row["pins"]
        if hold.holding and why:
            refused.append((name, why))
    return refused


def changes(hold: Hold, routes: Mapping[str, Any]) -> List[Change]:
    """Return a change for each link whose routes are pinned, or were."""
    found = []
    for name, pin in hold.pins.items():
        before, want = str(routes["summary"][name]["pins"]), str(pin) if pin else pins.NONE
        reason = "every node takes the new size before one sends it" if pin else "the second round: every node takes it"
        found.append(
            Change(
                FAMILY_NAME,
                "%s/%s" % (name, ROUTE_MTU),
                before,
                want,
                status="ok" if before == want else "pending",
                requested="pin %s" % HOLD if pin else "no pin",
                reason=reason,
                source="openshift/enhancements, enhancements/network/allow-mtu-changes.md",
            )
        )
    return found


def kept(setting: Dict[str, Any], layer: Layer, stack: Stack, found: Mapping[str, Layer], hold: Hold) -> Dict[str, Any]:
    """Return a setting to keep as it must be between the rounds.

    The network manager would raise the link at boot before anybody pins its routes: until the second round the boot
    unit alone keeps it, pins first.
    """
    mine = {name: pin for name, pin in hold.pins.items() if _root(stack, stack.by_name[name], found) == layer.name}
    if not hold.holding or not mine:
        return setting
    size = layer.now if hold.waits(layer, found) else layer.want
    return dict(setting, underlay=size, pins=mine, keeper={"by": keeper.OURS})


def _root(stack: Stack, link: Link, found: Mapping[str, Layer]) -> str:
    """Return the interface whose kept setting speaks for a link's pins: itself, or what it lies on."""
    at: Optional[Link] = link
    for _ in range(len(stack.links)):
        if at is None:
            break
        layer = found.get(at["name"])
        if layer is not None and layer.asked:
            return layer.name
        at = stack.carrier(at) if stack.is_tunnel(at) else stack.parent(at)
    return ""
