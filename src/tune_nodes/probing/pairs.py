"""Which nodes measure the path to which others (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tune_nodes.probing.ends import End

#: Up to so many nodes every pair is measured; beyond it a ring and chords.
FULL_UP_TO = 16
#: Chords that each node adds to the ring.
CHORDS = 3

Key = tuple[str, str, str, int]  # from, to, layer, family
LAYERS = ("node", "pod")


@dataclass(frozen=True)
class Choice:
    """The pairs to measure, each in both directions, and how they were chosen, in words."""

    pairs: tuple[tuple[str, str], ...]
    words: str


def choose(names: Sequence[str], chords: int | None = None, full: bool = False) -> Choice:
    """Choose pairs of nodes.

    The choice is the same on every run over the same nodes.

    Args:
        names: the nodes.
        chords: how many others each node is joined with beside its two neighbours on the ring; None: full up to
            FULL_UP_TO nodes, CHORDS beyond.
        full: every pair, however many.
    """
    nodes = sorted(set(names))
    every = list(combinations(nodes, 2))
    if full or (chords is None and len(nodes) <= FULL_UP_TO) or len(nodes) < 3:
        return Choice(tuple(every), "the one pair" if len(every) == 1 else f"all {len(every)} pairs")
    count = CHORDS if chords is None else chords
    pairs = {_pair(one, other) for one, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True)}
    for node in nodes:
        others = [other for other in nodes if other != node and _pair(node, other) not in pairs]
        ranked = sorted((hashlib.sha256(f"{node}\0{other}".encode()).digest(), other) for other in others)
        pairs |= {_pair(node, other) for _, other in ranked[:count]}
    chosen = tuple(sorted(pairs))
    words = f"{len(chosen)} of {len(every)} pairs: a ring, and {count} chords from each node"
    return Choice(chosen, words)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def ident(key: Key) -> str:
    """Return a path's id in a request: its other end. (Its own end is whom it is asked.)"""
    _, to, layer, family = key
    return f"{to}|{layer}|{family}"


def keys(choice: Choice, ends: Mapping[str, End], pods: bool) -> list[Key]:
    """Return the paths between chosen pairs for which both ends have an address."""
    found: list[Key] = []
    for one, other in choice.pairs:
        for layer in LAYERS if pods else LAYERS[:1]:
            for family in (4, 6):
                here, there = address(ends.get(one), layer, family), address(ends.get(other), layer, family)
                if here and there and here != there:
                    found += [(one, other, layer, family), (other, one, layer, family)]
    return found


def address(end: End | None, layer: str, family: int) -> str:
    """Return an end's address, "" where it has none."""
    if end is None:
        return ""
    if layer == "node":
        return end.addresses.get(family, "")
    return end.pod.addresses.get(family, "") if end.pod is not None else ""


def targets(node: str, wanted: Sequence[Key], ends: Mapping[str, End], size: int | None) -> list[dict[str, Any]]:
    """Return what a node is asked to measure: its part of the paths, as a request has it."""
    rows = []
    for key in wanted:
        source, to, layer, family = key
        if source != node:
            continue
        row: dict[str, Any] = {"id": ident(key), "address": address(ends[to], layer, family), "size": size}
        pod = ends[node].pod if layer == "pod" else None
        if pod is not None:
            row |= {"source": pod.addresses[family]} if pod.bridge else {"pod": pod.uid}
        rows.append(row)
    return rows
