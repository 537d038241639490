"""From what nodes say in a plan of the family mtu to one view of the fleet (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune_nodes.cnimtu.model import Layer, NodeStack
from tune_nodes.fleet.untrusted import one_line

#: Names in one sentence.
SHOWN = 5
_BRIDGE = "bridge"


def stack_of(node: str, changes: Sequence[Mapping[str, Any]]) -> NodeStack:
    """Return what a node's changes of the family mtu say; see docs/mtu.md for what stands in them.

    Args:
        node: its name.
        changes: as a plan or the module tune.nodes.mtu returns them. Other families' are skipped.
    """
    mine = [change for change in changes if change.get("family", "mtu") == "mtu"]
    pods = next((change for change in mine if change.get("key") == "pods/mtu"), None)
    layers = [layer for layer in map(_layer, mine) if layer is not None]
    if pods is None:
        return NodeStack(node, layers=tuple(layers), problem=_why_none(mine))
    refused = [change for change in mine if change.get("status") == "unsupported"]
    return NodeStack(
        node,
        cni=one_line(str((pods.get("identity") or {}).get("cni", "")), 40),
        layers=tuple(layers),
        given=_size(pods.get("before")),
        pods=_size(pods.get("want")),
        number=str(pods.get("requested", "")).removeprefix("pods ").isdecimal(),
        tell=one_line(str(pods.get("note", "")), 400),
        problem=_sentence(refused[0]) if refused else "",
        faults=tuple(_sentence(change) for change in mine if _is_fault(change)),
    )


def _is_fault(change: Mapping[str, Any]) -> bool:
    """Say whether a change's note tells of something wrong: a layer that is right may have a note too."""
    return bool(change.get("note")) and (change.get("status") != "ok" or change.get("key") == "pods/mtu")


def _why_none(changes: Sequence[Mapping[str, Any]]) -> str:
    refused = next((change for change in changes if change.get("status") == "unsupported"), None)
    return _sentence(refused) if refused else "nothing is known of a CNI on it"


def _sentence(change: Mapping[str, Any]) -> str:
    return one_line(f"{str(change.get('key', '')).removesuffix('/mtu')}: {change.get('note', '')}", 400)


def _size(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 7 else None


def _layer(change: Mapping[str, Any]) -> Layer | None:
    """Return an interface or tunnel; None for bridges, for what pods get, and for what is not there."""
    name, slash, aspect = str(change.get("key", "")).rpartition("/")
    kind = str((change.get("identity") or {}).get("kind", ""))
    now, want = _size(change.get("after")) or _size(change.get("before")), _size(change.get("want"))
    if aspect != "mtu" or not slash or name == "pods" or kind == _BRIDGE or now is None or want is None:
        return None
    return Layer(one_line(name, 20), one_line(kind, 20), now, want, change.get("status") == "pending")


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """Return a list of names for a sentence."""
    shown = ", ".join(one_line(name, 80) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def disagreement(stacks: Sequence[NodeStack]) -> str:
    """Return why there is no one MTU for all pods of these nodes, "" where there is."""
    if not stacks:
        return "no node was looked at"
    broken = [stack for stack in stacks if stack.problem or stack.pods is None]
    if broken:
        why = broken[0].problem or "it does not say what its pods should have"
        return f"{some([stack.node for stack in broken])} cannot be built on: {why}"
    kinds = sorted({stack.cni for stack in stacks})
    if len(kinds) > 1:
        return f"the nodes have different CNIs: {', '.join(kinds)}"
    mixed = mixed_fleet(stacks)
    if mixed:
        return f"{mixed}; bring all nodes to one MTU first"
    low = [stack.node for stack in stacks if any(one.pending and one.now < one.want for one in stack.layers)]
    if low:
        return f"pods would send more than {some(low)} can carry yet; set the nodes' own MTUs first (mtu_alignment)"
    return ""


def mixed_fleet(stacks: Sequence[NodeStack]) -> str:
    """Return a sentence where pods of some nodes should have another MTU than those of others, "" where none."""
    by_size: dict[int, list[str]] = {}
    for stack in stacks:
        if stack.pods is not None:
            by_size.setdefault(stack.pods, []).append(stack.node)
    if len(by_size) < 2:
        return ""
    parts = [f"{size} on {some(names, 3)}" for size, names in sorted(by_size.items())]
    return f"pods would have {' and '.join(parts)}: what is larger vanishes between them"
