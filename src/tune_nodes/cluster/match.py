"""Which Node object is which node of the inventory (pure). A match is exact or it is none: nothing is guessed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tune_nodes.cluster.model import NodeFacts
from tune_nodes.fleet.untrusted import one_line


@dataclass(frozen=True)
class Match:
    """A Node object, and by what it was found."""

    node: NodeFacts
    by: Literal["name", "address"]


def match_nodes(targets: Mapping[str, str], nodes: Mapping[str, NodeFacts]) -> tuple[dict[str, Match], list[str]]:
    """Match names of an inventory to Node objects.

    By name first: the same, or the same first label where one of the two is a bare host name and no other has that
    label. Then by address. A name that is one Node's while its address is another's matches neither.

    Args:
        targets: inventory name to the address that ssh uses (``ansible_host``), "" where unknown.
        nodes: Node objects by name.

    Returns:
        Matches by inventory name, and a sentence for each node that has none.
    """
    by_address = _index((address, name) for name, node in nodes.items() for address in node.addresses)
    short_nodes = _index((_short(name), name) for name in nodes)
    short_targets = _index((_short(name), name) for name in targets)
    found: dict[str, Match] = {}
    sentences = []
    for name, address in targets.items():
        named = _by_name(name, nodes, short_nodes, short_targets)
        placed = by_address.get(_address(address or name), [])
        result = _decide(name, address, named, placed)
        if isinstance(result, str):
            sentences.append(result)
        else:
            found[name] = Match(nodes[result[0]], result[1])
    return _without_doubles(found, sentences)


def _decide(
    name: str, address: str, named: Sequence[str], placed: Sequence[str]
) -> str | tuple[str, Literal["name", "address"]]:
    """Return the Node's name and by what it was found, or why there is none."""
    shown = one_line(name)
    if len(named) > 1:
        return f"{shown} may be any of the Nodes {', '.join(sorted(named))}"
    if len(placed) > 1:
        return f"{shown}: its address {one_line(address)} is that of the Nodes {', '.join(sorted(placed))}"
    if named and placed and named != placed:
        return f"{shown} is the name of the Node {named[0]}, but its address {one_line(address)} is that of {placed[0]}"
    if named:
        return named[0], "name"
    if placed:
        return placed[0], "address"
    where = f" or has the address {one_line(address)}" if address else ""
    return f"{shown}: no Node object has this name{where}"


def _by_name(
    name: str,
    nodes: Mapping[str, NodeFacts],
    short_nodes: Mapping[str, Sequence[str]],
    short_targets: Mapping[str, Sequence[str]],
) -> list[str]:
    lowered = name.lower()
    if lowered in nodes:
        return [lowered]
    if _is_ip(name):
        return []
    bare = "." not in name
    same = [node for node in short_nodes.get(_short(name), ()) if bare or "." not in node]
    if same and len(short_targets[_short(name)]) > 1:
        return []  # two names of the inventory begin alike: the address decides
    return same


def _without_doubles(found: dict[str, Match], sentences: list[str]) -> tuple[dict[str, Match], list[str]]:
    users = _index((match.node.name, name) for name, match in found.items())
    for node, names in users.items():
        if len(names) > 1:
            sentences.append(f"{', '.join(one_line(name) for name in names)} are all the one Node {node}")
            for name in names:
                del found[name]
    return found, sentences


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _short(name: str) -> str:
    return name.lower().partition(".")[0]


def _is_ip(text: str) -> bool:
    return bool(_address(text))


def _address(text: str) -> str:
    """Return an IP address in its one canonical form, "" for anything else."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def same_machine(facts: NodeFacts, machine_id: str, boot_id: str) -> bool | None:
    """Say whether a Node object stands for the machine that answered.

    Args:
        facts: the Node object.
        machine_id: /etc/machine-id, as the machine says itself.
        boot_id: /proc/sys/kernel/random/boot_id, as the machine says itself.

    Returns:
        False where the machine ids differ. None where it cannot be said: one side is silent, or only the boots differ
        (machines made from one image share their id, and a Node object names the old boot until its kubelet is up).
    """
    if not (facts.machine_id and machine_id):
        return None
    if _bare_id(facts.machine_id) != _bare_id(machine_id):
        return False
    alike = not (facts.boot_id and boot_id) or _bare_id(facts.boot_id) == _bare_id(boot_id)
    return True if alike else None


def _bare_id(text: str) -> str:
    return text.strip().lower().replace("-", "")
