# SPDX-License-Identifier: Apache-2.0
"""The right MTU of every layer of a node, as changes in the order they must be applied. Pure.

A stack is changed as a whole or not at all: where one layer cannot be what it must, nothing is written.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..model import Change
from . import hold as rounds
from . import keeper, limits
from .layers import Layer, Wishes, layers_of, order, pods_mtu, pods_reason
from .model import AUTO, FAMILY_NAME, KEEP, MtuSetting
from .stack import Stack, faults, pods

#: Drivers that change the MTU without taking the link down.
_SEAMLESS = ("veth", "virtio_net", "tun", "bridge", "vxlan", "802.1Q VLAN Support", "macvlan", "ipvlan")


def plan(settings: Sequence[MtuSetting], observation: Mapping[str, Any]) -> List[Change]:
    """Decide what to change.

    Where several settings speak of the same, the last one counts.

    Args:
        settings: parsed settings, in the order of the profile's layers.
        observation: what read.observe() returned.
    """
    if not settings:
        return []
    stack = Stack(observation)
    wishes, misnamed = _wishes(settings, stack)
    found = layers_of(stack, wishes)
    hold = rounds.hold_of(settings, stack, found, observation["pinning"])
    refused = limits.refusals(stack, wishes, found) + misnamed + rounds.hindrances(hold, observation["pinning"])
    noted: Dict[str, List[str]] = {}
    for fault in faults(stack):
        noted.setdefault(fault.at, []).append(fault.text)
    changes = [_change(layer, observation, noted) for layer in order(stack, found)]
    for layer, change in zip(order(stack, found), changes):
        if change.persist is not None:
            change.persist = rounds.kept(change.persist, layer, stack, found, hold)
        if hold.waits(layer, found):
            change.want, change.status, change.note = change.before, "ok", rounds.LATER
    pinned = rounds.changes(hold, observation["pinning"])
    changes = pinned + changes if hold.holding else changes + pinned
    changes += [_pods(stack, wishes, found, noted)] if stack.cni is not None else []
    return _refuse(changes, refused) if refused else changes


def _wishes(settings: Sequence[MtuSetting], stack: Stack) -> Tuple[Wishes, List[Tuple[str, str]]]:
    """Return what is wanted of which underlay and of pods, and the names that no MTU can be asked for."""
    underlay: Dict[str, MtuSetting] = {}
    last: Optional[MtuSetting] = None
    misnamed: List[Tuple[str, str]] = []
    for setting in settings:
        if setting.pods is not None:
            last = setting
        if setting.interfaces == (AUTO,):
            names = [str(link["name"]) for link in stack.underlays()]
            if not names and setting.underlay not in (None, KEEP):
                misnamed.append((AUTO, "no tunnel says what carries it, and there is no default route"))
        else:
            names = list(setting.interfaces)
        for name in names:
            why = limits.misnamed(stack, name)
            if why:
                misnamed.append((name, why))
            else:
                underlay[name] = setting
    return Wishes(underlay, last), misnamed


def _change(layer: Layer, observation: Mapping[str, Any], noted: Mapping[str, Sequence[str]]) -> Change:
    status = "ok" if layer.want == layer.link["mtu"] else "pending"
    if layer.owner and status == "pending":
        status = "owned"
    driver = observation["drivers"].get(layer.name) or layer.link["kind"] or "?"
    identity = {"driver": driver, "mac": layer.link["mac"]} if layer.kept else {"kind": layer.link["kind"]}
    return Change(
        family=FAMILY_NAME,
        key=layer.name + "/mtu",
        before=str(layer.link["mtu"]),
        want=str(layer.want),
        status=status,
        requested=layer.requested,
        reason=layer.reason,
        source=layer.source,
        owner=layer.owner,
        note="; ".join(n for n in (layer.note, *noted.get(layer.name, ())) if n),
        disruptive=status == "pending" and driver not in _SEAMLESS and layer.link["tunnel"] is None,
        identity=identity,
        persist=_keep(layer, identity, observation) if status in ("ok", "pending") else None,
    )


def _keep(layer: Layer, identity: Mapping[str, str], observation: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """Return the setting to keep on the node: of interfaces only, as the CNI makes its own links anew at boot."""
    kept = observation["keepers"].get(layer.name)
    if not layer.asked or kept is None or keeper.refusal(kept, layer.name)[0]:
        return None
    setting: Dict[str, Any] = {
        "interfaces": [layer.name],
        "underlay": layer.want,
        "identity": dict(identity, kernel=observation["kernel"]),
        "keeper": {key: kept[key] for key in ("by", "file", "id", "type") if kept[key]},
    }
    if layer.pods is not None:
        setting["pods"] = layer.pods
    return setting


def _pods(stack: Stack, wishes: Wishes, found: Mapping[str, Layer], noted: Mapping[str, Sequence[str]]) -> Change:
    """Return what the CNI gives new pods: never written on the node, whose copy its agent would write over."""
    given, want = stack.state["mtu"], pods_mtu(stack, wishes, found)
    stale = [pod for pod in stack.pods() if pod["mtu"] != want]
    notes = list(noted.get("pods", ()))
    if stale:
        keep = "keeps another MTU until it is" if len(stale) == 1 else "keep another MTU until they are"
        notes.append("%s %s made anew" % (pods(len(stale)), keep))
    right = given == want or (given is None and not stale)
    cni = stack.cni
    assert cni is not None  # the caller asked
    if not right:
        notes.append(cni.tell)
    return Change(
        family=FAMILY_NAME,
        key="pods/mtu",
        before=None if given is None else str(given),
        want=str(want) if want else None,
        status="ok" if right else "owned",
        requested="pods %s" % wishes.pods_word(),
        reason=pods_reason(stack, wishes, found),
        owner="" if right else cni.agent,
        note="; ".join(notes),
        identity={"cni": cni.name},
    )


def _refuse(changes: List[Change], refused: Sequence[Tuple[str, str]]) -> List[Change]:
    """Turn a plan into one that writes nothing and says why."""
    known = {change.key: change for change in changes}
    whys: Dict[str, List[str]] = {}
    for name, why in refused:
        whys.setdefault(name + "/mtu", []).append(why)
    for key, reasons in whys.items():
        change = known.get(key)
        if change is None:
            change = Change(FAMILY_NAME, key, None, None)
            changes.append(change)
        change.status, change.note = "unsupported", "; ".join(reasons)
    first = refused[0]
    for change in changes:
        if change.status == "pending":
            change.status, change.note = "unsupported", "not changed because of %s: %s" % first
        if change.status == "unsupported":
            change.persist, change.disruptive = None, False
    return changes
