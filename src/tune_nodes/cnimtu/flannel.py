"""Flannel's MTU: ``MTU`` of the backend in net-conf.json, and ``mtu`` of the delegate in its CNI configuration (pure).

``MTU`` is that of the interface, not of the tunnel: flanneld takes what its encapsulation costs off it, and without it
takes the interface's own (flannel v0.28, pkg/backend/vxlan/vxlan.go, wireguard.go; Documentation/backends.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tune_nodes.cluster.objects import at
from tune_nodes.cnimtu.model import OK, PENDING, UNSUPPORTED, Held, NodeStack, Setting
from tune_nodes.cnimtu.values import document, key_of, rendered, size, with_size

NET_CONF, CNI_CONF = "net-conf.json", "cni-conf.json"
#: Backend: bytes that flanneld takes off, whatever the underlay's family.
COSTS = {"vxlan": 50, "wireguard": 80}
#: Backends that look at no MTU in the configuration: they take the interface's, less this.
BOUND = {"host-gw": 0, "ipip": 20}
_KEY = f"{NET_CONF} Backend.MTU"


def plan(stacks: Sequence[NodeStack], held: Sequence[Held]) -> list[Setting]:
    """Return Flannel's settings in the API."""
    found = []
    for one in held:
        if isinstance(at(one.raw, "data", NET_CONF), str):
            found.append(_backend(stacks, one))
        found += _delegate(stacks, one)
        found += _canal(stacks, one)
    return found


def _backend(stacks: Sequence[NodeStack], held: Held) -> Setting:
    conf = document(at(held.raw, "data", NET_CONF))
    name = key_of(conf, "Backend")
    backend = conf.get(name)
    if not isinstance(backend, dict):
        return Setting(_KEY, held, None, None, UNSUPPORTED, f"{NET_CONF} has no Backend that can be read")
    kind = str(backend.get(key_of(backend, "Type"), "")).lower()
    now = size(backend.get(key_of(backend, "MTU")))
    pods = stacks[0].pods
    assert pods is not None  # whoever asks has seen to it
    if kind in BOUND:
        return _bound(stacks, held, kind, now)
    cost = COSTS.get(kind)
    if cost is None:
        return Setting(_KEY, held, now, None, UNSUPPORTED, f"how the backend {kind[:40]!r} reckons is not known here")
    automatic = all(stack.less(cost) for stack in stacks)
    if now is None and automatic:
        return Setting(_KEY, held, None, None, OK, f"unset: the interface's, less {cost} bytes of {kind}")
    if now is not None and now - cost == pods:
        note = "it will not follow a change of the interfaces; unset it would give the same" if automatic else ""
        return Setting(_KEY, held, now, now, OK, f"{now} less {cost} bytes of {kind} is {pods}", note)
    want = None if automatic else pods + cost
    given = "the interfaces'" if now is None else str(now)
    reason = f"{given} less {cost} bytes of {kind} is not the {pods} that pods should have"
    reason += "; unset, flanneld takes the interface's" if automatic else f"; {want} is"
    return Setting(_KEY, held, now, want, PENDING, reason, patch=_patched(conf, name, backend, want))


def _patched(conf: dict[str, Any], name: str, backend: dict[str, Any], want: int | None) -> dict[str, Any]:
    return {"data": {NET_CONF: rendered({**conf, name: with_size(backend, "MTU", want)})}}


def _bound(stacks: Sequence[NodeStack], held: Held, kind: str, now: int | None) -> Setting:
    cost = BOUND[kind]
    if all(stack.less(cost) for stack in stacks):
        return Setting(_KEY, held, now, now, OK, f"the backend {kind} looks at the interface alone")
    reason = f"pods should have {stacks[0].pods}, and the backend {kind} takes the interface's MTU, less {cost}"
    return Setting(_KEY, held, now, None, UNSUPPORTED, reason, "set the interfaces' own MTU instead")


def _delegate(stacks: Sequence[NodeStack], held: Held) -> list[Setting]:
    """Return what the CNI configuration says itself, over what flanneld has written; nothing where it is silent."""
    conf = document(at(held.raw, "data", CNI_CONF))
    plugins = conf.get("plugins")
    for number, plugin in enumerate(plugins if isinstance(plugins, list) else []):
        delegate = plugin.get("delegate") if isinstance(plugin, dict) and plugin.get("type") == "flannel" else None
        now = size(delegate.get("mtu")) if isinstance(delegate, dict) else None
        if now is None or not isinstance(delegate, dict) or not isinstance(plugins, list):
            continue
        key = f"{CNI_CONF} delegate.mtu"
        if now == stacks[0].pods:
            return [Setting(key, held, now, now, OK, "it is what pods should have", "unset would give the same")]
        changed = [*plugins]
        changed[number] = {**plugin, "delegate": with_size(delegate, "mtu", None)}
        patch = {"data": {CNI_CONF: rendered({**conf, "plugins": changed})}}
        reason = f"it overrules flanneld, and is not the {stacks[0].pods} that pods should have"
        return [Setting(key, held, now, None, PENDING, reason, patch=patch)]
    return []


def _canal(stacks: Sequence[NodeStack], held: Held) -> list[Setting]:
    """Return a fixed MTU of Canal's pods, whose cables Calico's plugin makes; what it finds by itself is not judged."""
    now, pods = size(at(held.raw, "data", "veth_mtu")), stacks[0].pods
    if now is None:
        return []
    if now == pods:
        return [Setting("veth_mtu", held, now, now, OK, "it is what pods should have")]
    patch = {"data": {"veth_mtu": str(pods)}}
    return [Setting("veth_mtu", held, now, pods, PENDING, f"pods should have {pods}", patch=patch)]
