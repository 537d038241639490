# SPDX-License-Identifier: Apache-2.0
"""Which interfaces a setting means. Pure: works on the outlines that read.py collected.

A bond is not a device to tune: it stands for its ports, the one in use last.
"""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from .model import DEFAULT_ROUTE, PHYSICAL

_ETHERNET, _INFINIBAND = 1, 32
_GLOBS = "*?["


class Targets(NamedTuple):
    """The interfaces in the order to change them, notes on how they were found, and what matched nothing."""

    names: List[str]
    notes: Dict[str, str]
    missing: List[Tuple[str, str]]  # (pattern, why)


def resolve(patterns: Sequence[str], interfaces: Mapping[str, Mapping[str, Any]], routes: Sequence[str]) -> Targets:
    """Return what the patterns of one setting stand for on this node.

    Args:
        patterns: one keyword, or exact names and globs.
        interfaces: name -> outline (see sysfs.outline).
        routes: interfaces that carry a default route.
    """
    found: Dict[str, str] = {}
    missing: List[Tuple[str, str]] = []
    for pattern in patterns:
        names, note, why = _match(pattern, interfaces, routes)
        if not names:
            missing.append((pattern, why))
        for name in names:
            found.setdefault(name, note if name not in patterns else "")
    return Targets(in_order(found, interfaces), {n: t for n, t in found.items() if t}, missing)


def in_order(names: Iterable[str], interfaces: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Return the names in the order to change them: bond by bond, the port in use last."""
    return sorted(set(names), key=lambda name: _rank(name, interfaces))


def _match(
    pattern: str, interfaces: Mapping[str, Mapping[str, Any]], routes: Sequence[str]
) -> Tuple[List[str], str, str]:
    """Return (names, note, why there are none)."""
    if pattern == PHYSICAL:
        physical = sorted(n for n, outline in interfaces.items() if is_physical(outline))
        if physical:
            return physical, "", ""
        return (
            _beneath(routes, interfaces),
            "no interface has a device of its own here, so the default route's was taken",
            "no interface has a device of its own, and there is no default route",
        )
    if pattern == DEFAULT_ROUTE:
        return _beneath(routes, interfaces), "carries the default route", "there is no default route"
    if pattern not in interfaces and any(c in pattern for c in _GLOBS):
        matching = [n for n in interfaces if fnmatch.fnmatchcase(n, pattern) and _may_match_glob(n, interfaces)]
        names = sorted({port for n in matching for port in _ports_or_self(n, interfaces)})
        return names, "matches %s" % pattern, "no network device has such a name"
    if pattern not in interfaces:
        return [], "", "no such interface in this network namespace"
    names = _ports_or_self(pattern, interfaces)
    return names, "port of %s" % pattern, "%s has no ports" % pattern


def is_physical(outline: Mapping[str, Any]) -> bool:
    """Tell whether an interface is a NIC of this node: no virtual function lent out, representor or radio."""
    return bool(
        outline["device"]
        and outline["type"] in (_ETHERNET, _INFINIBAND)
        and not (outline["function"] or outline["representor"] or outline["wireless"])
    )


def _ports(name: str, interfaces: Mapping[str, Mapping[str, Any]]) -> List[str]:
    return sorted(n for n, outline in interfaces.items() if outline["master"] == name)


def _is_bond(name: str, interfaces: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether an interface only stands for its ports (a bond or team, not a bridge)."""
    outline = interfaces[name]
    if outline["device"] or outline["bridge"]:
        return False
    return bool(outline["bond"] or _ports(name, interfaces))


def _ports_or_self(name: str, interfaces: Mapping[str, Mapping[str, Any]]) -> List[str]:
    return _ports(name, interfaces) if _is_bond(name, interfaces) else [name]


def _may_match_glob(name: str, interfaces: Mapping[str, Mapping[str, Any]]) -> bool:
    """Keep a glob from VLANs, bridges and the loopback, whose names often look alike."""
    outline = interfaces[name]
    if outline["type"] not in (_ETHERNET, _INFINIBAND):
        return False
    return bool(outline["device"] or _is_bond(name, interfaces) or not (outline["lower"] or outline["bridge"]))


def _beneath(names: Iterable[str], interfaces: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Follow VLANs, bonds and bridges down to the devices that carry the traffic."""
    leaves: Set[str] = set()
    seen: Set[str] = set()
    waiting = [n for n in names if n in interfaces]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        outline = interfaces[name]
        lower = [n for n in outline["lower"] if n in interfaces]
        if outline["bridge"]:  # its other ports are pods and machines
            waiting.extend(n for n in lower if is_physical(interfaces[n]) or interfaces[n]["lower"])
            continue
        waiting.extend(lower)
        if outline["device"] or not lower:
            leaves.add(name)
    return sorted(leaves)


def _rank(name: str, interfaces: Mapping[str, Mapping[str, Any]]) -> Tuple[str, bool, str]:
    """Order by bond, the port in use last: the others then already work with their new queues."""
    master = interfaces[name]["master"]
    active = interfaces[master]["active"] if master in interfaces else ""
    return (master, name == active, name)
