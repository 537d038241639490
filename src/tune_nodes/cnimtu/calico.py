"""Calico's MTUs: the operator's Installation, ConfigMap calico-config, FelixConfigurations (pure).

0 or nothing: Felix takes the smallest that its enabled encapsulations leave of the interface. Sources: docs.tigera.io,
"Configure MTU to maximize network performance"; FelixConfiguration's reference.
"""

from __future__ import annotations

from collections.abc import Sequence

from tune_nodes.cluster.objects import at
from tune_nodes.cnimtu.model import OK, PENDING, Held, NodeStack, Setting
from tune_nodes.cnimtu.values import size

#: Field of a FelixConfiguration: the device it is of.
FELIX = {
    "vxlanMTU": "vxlan.calico",
    "vxlanMTUV6": "vxlan-v6.calico",
    "ipipMTU": "tunl0",
    "wireguardMTU": "wireguard.cali",
    "wireguardMTUV6": "wg-v6.cali",
}
_NODE = "node."


def plan(stacks: Sequence[NodeStack], held: Sequence[Held]) -> list[Setting]:
    """Return Calico's settings in the API."""
    found: list[Setting] = []
    for one in held:
        if one.kind == "Installation":
            now = size(at(one.raw, "spec", "calicoNetwork", "mtu"))
            note = "the operator hands it on to Calico by itself"
            found.append(_of_pods(stacks, one, "spec.calicoNetwork.mtu", now, ("spec", "calicoNetwork", "mtu"), note))
        elif one.kind == "ConfigMap" and at(one.raw, "data", "veth_mtu") is not None:
            now = size(at(one.raw, "data", "veth_mtu"))
            found.append(_of_pods(stacks, one, "veth_mtu", now, ("data", "veth_mtu"), ""))
        elif one.kind == "FelixConfiguration":
            found += _felix(stacks, one)
    return found


def _of_pods(
    stacks: Sequence[NodeStack], held: Held, key: str, now: int | None, path: tuple[str, ...], note: str
) -> Setting:
    """Return a setting that is the pods' own MTU."""
    pods = stacks[0].pods
    number = any(stack.number for stack in stacks)
    if now == pods:
        return Setting(key, held, now, now, OK, "it is what pods should have", note)
    if now is None and not number:
        return Setting(key, held, None, None, OK, "automatic: what the encapsulation leaves of the interface", note)
    want = pods if number else None
    reason = f"pods should have {pods}" + ("" if number else ", which is what Felix finds by itself")
    value: object = want
    if path[0] == "data":  # a ConfigMap holds texts, and its readers take 0 for automatic
        value = str(want or 0)
    patch = {path[-1]: value}
    for step in reversed(path[:-1]):
        patch = {step: patch}
    return Setting(key, held, now, want, PENDING, reason, note, patch)


def _felix(stacks: Sequence[NodeStack], held: Held) -> list[Setting]:
    """Return the MTUs of a FelixConfiguration, of the tunnels that nodes have."""
    name = str(at(held.raw, "metadata", "name"))
    mine = [one for one in stacks if one.node == name.removeprefix(_NODE)] if name.startswith(_NODE) else stacks
    found = []
    for field, device in FELIX.items():
        now = size(at(held.raw, "spec", field))
        wants = {layer.want for stack in mine for layer in stack.tunnels if layer.name == device}
        if now is None or not wants:
            continue
        key = f"spec.{field}"
        if wants == {now}:
            found.append(Setting(key, held, now, now, OK, f"it is what {device} should have"))
            continue
        number = any(stack.number for stack in mine)
        want = min(wants) if number else None
        reason = f"{device} should have {min(wants)}" + ("" if number else ", which is what Felix finds by itself")
        note = "Felix starts anew by itself"
        found.append(Setting(key, held, now, want, PENDING, reason, note, {"spec": {field: want}}))
    return found
