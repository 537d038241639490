"""The document ``ansible-inventory --list`` gives, as the nodes of a run (pure).

Only what a run needs is kept of a node's variables: an allow-list, so that passwords and vaulted values never
get into an object, a log or a report.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.errors import UsageError
from tune_nodes.fleet.untrusted import one_line

SSH_PORT = 22

#: Variables that are kept, where they are plain values.
SAFE_VARS = ("ansible_become", "ansible_become_method", "ansible_connection", "ansible_python_interpreter")

_NAME = re.compile(r"[^-\s\x00-\x1f\x7f*?\[\]!&,~@/\\\"'{}][^\s\x00-\x1f\x7f*?\[\]!&,/\\\"'{}]{0,253}\Z")


@dataclass(frozen=True)
class InventoryNode:
    """One node. ``address`` and ``user`` are "" where only a template or a vault knows them."""

    name: str
    address: str
    port: int = SSH_PORT
    user: str = ""
    groups: tuple[str, ...] = ()  # with every parent; without "all" and "ungrouped"
    labels: dict[str, str] = field(default_factory=dict)  # the variable tune_nodes_labels
    vars: dict[str, Any] = field(default_factory=dict)  # SAFE_VARS only


@dataclass(frozen=True)
class Inventory:
    """The nodes of a run, and the sources as Ansible takes them (``-i``)."""

    nodes: dict[str, InventoryNode]
    sources: tuple[str, ...]
    limit: str = ""
    warnings: tuple[str, ...] = ()

    def groups(self) -> dict[str, list[str]]:
        """Return the nodes of every group."""
        found: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            for group in node.groups:
                found.setdefault(group, []).append(name)
        return found


def parse_inventory(text: str, sources: Sequence[str], limit: str = "", said: str = "") -> Inventory:
    """Build the inventory from ``ansible-inventory --list`` (pure).

    Raises:
        UsageError: not such a document, no node in it, a port or label that is none, the same machine twice.
    """
    try:
        raw = json.loads(text)
        hostvars = dict(raw["_meta"]["hostvars"])
        members = {str(g): _members(v) for g, v in raw.items() if g != "_meta"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise UsageError("ansible-inventory gave no inventory", said, "run ansible-inventory --list by hand") from err
    names = _in_order(members, hostvars)
    if not names:
        raise _nothing(sources, limit)
    parents = _groups(members)
    nodes = {name: _node(name, hostvars.get(name) or {}, parents.get(name, set())) for name in names}
    _refuse_twins(nodes, hostvars)
    return Inventory(nodes, tuple(sources), limit, (said,) if said else ())


def _nothing(sources: Sequence[str], limit: str) -> UsageError:
    if limit:
        return UsageError(f"--limit {one_line(limit)} leaves no node", next="drop -l to see what there is")
    shown = ", ".join(one_line(source) for source in sources)
    return UsageError(f"the inventory {shown} holds no node", next=f"ansible-inventory -i {shown} --list")


def _members(group: Any) -> tuple[list[str], list[str]]:
    return [str(h) for h in group.get("hosts", [])], [str(c) for c in group.get("children", [])]


def _in_order(members: Mapping[str, tuple[list[str], list[str]]], hostvars: Mapping[str, Any]) -> list[str]:
    """Return every host once, in the inventory's order: group by group from "all" down."""
    names: dict[str, None] = {}
    seen: set[str] = set()
    queue = ["all"]
    while queue:
        group = queue.pop(0)
        if group in seen:
            continue
        seen.add(group)
        hosts, children = members.get(group, ([], []))
        names.update(dict.fromkeys(hosts))
        queue = [*children, *queue]
    rest = sorted({host for hosts, _ in members.values() for host in hosts} | set(hostvars))
    return list(dict.fromkeys([*names, *rest]))


def _groups(members: Mapping[str, tuple[list[str], list[str]]]) -> dict[str, set[str]]:
    """Return each host's groups, parents included."""
    above: dict[str, set[str]] = {}
    for parent, (_, children) in members.items():
        for child in children:
            above.setdefault(child, set()).add(parent)
    found: dict[str, set[str]] = {}
    for group, (hosts, _) in members.items():
        reached, queue = {group}, [group]
        while queue:
            new = above.get(queue.pop(), set()) - reached
            reached |= new
            queue += new
        for host in hosts:
            found.setdefault(host, set()).update(reached - {"all", "ungrouped"})
    return found


def _plain(hostvars: Mapping[str, Any], *keys: str) -> Any:
    """Return the first of some variables that is set and plain; None for templates and vaulted values."""
    for key in keys:
        value = hostvars.get(key)
        if isinstance(value, str) and ("{{" in value or "{%" in value):
            return None
        if isinstance(value, (str, int, bool)):
            return value
        if value is not None:
            return None
    return None


def _is_set(hostvars: Mapping[str, Any], *keys: str) -> bool:
    return any(hostvars.get(key) is not None for key in keys)


def _node(name: str, hostvars: Mapping[str, Any], groups: set[str]) -> InventoryNode:
    if not _NAME.match(name):
        raise UsageError(
            f"{one_line(name)!r} cannot be a node's name", "it holds characters of host patterns or blanks"
        )
    address_keys, user_keys = ("ansible_host", "ansible_ssh_host"), ("ansible_user", "ansible_ssh_user")
    address = _plain(hostvars, *address_keys) if _is_set(hostvars, *address_keys) else name
    return InventoryNode(
        name=name,
        address=one_line(str(address if address is not None else "")),
        port=_port(name, hostvars),
        user=one_line(str(_plain(hostvars, *user_keys) or "")),
        groups=tuple(sorted(groups)),
        labels=_labels(name, hostvars.get("tune_nodes_labels")),
        vars={key: _plain(hostvars, key) for key in SAFE_VARS if _plain(hostvars, key) is not None},
    )


def _port(name: str, hostvars: Mapping[str, Any]) -> int:
    value = _plain(hostvars, "ansible_port", "ansible_ssh_port")
    if value is None:
        return SSH_PORT
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise UsageError(f"{name}: ansible_port {one_line(text)!r} is not a port", next="a number from 1 to 65535")
    return int(text)


def _labels(name: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, (str, int)) for v in value.values()):
        raise UsageError(f"{name}: tune_nodes_labels must be a mapping of label to value")
    return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}


def _machine(node: InventoryNode, hostvars: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what tells the machine, None where that is not known here.

    Behind different jump hosts the same private address is another machine, so the way there counts.
    """
    if not node.address:
        return None
    connection = str(hostvars.get("ansible_connection", "ssh"))
    if connection in ("local", "ansible.builtin.local"):
        return ("local",)
    try:
        address = str(ipaddress.ip_address(node.address))
    except ValueError:
        address = node.address.lower().rstrip(".")
    way = [str(hostvars.get(f"ansible_ssh_{part}_args", "")) for part in ("common", "extra")]
    return (connection, address, node.port, *way)


def _refuse_twins(nodes: Mapping[str, InventoryNode], hostvars: Mapping[str, Any]) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    for name, node in nodes.items():
        machine = _machine(node, hostvars.get(name) or {})
        if machine is None:
            continue
        if machine in seen:
            raise UsageError(
                f"{seen[machine]} and {name} are the same machine",
                f"both are {one_line(node.address)} port {node.port}",
                "keep one of the two names, or use -l to leave one out",
            )
        seen[machine] = name
