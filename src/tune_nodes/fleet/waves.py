"""Which nodes are changed together, and in what order (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tune_nodes.errors import UsageError

#: Roles whose nodes go last and one at a time: as a node finds on itself, or as the labels of its Node name them
#: (kubeadm before 1.24: master; RKE: controlplane).
PROTECTED_ROLES = frozenset({"control-plane", "controlplane", "master", "etcd"})

_SIZE = re.compile(r"([0-9]{1,9})(%?)")


@dataclass(frozen=True)
class Size:
    """A number of nodes, or a share of them in percent."""

    value: int
    percent: bool = False

    def of(self, total: int) -> int:
        """Return the number of nodes, at least 1, rounded down as Kubernetes rounds maxUnavailable."""
        return max(1, math.floor(total * self.value / 100) if self.percent else self.value)

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


def parse_size(text: str, option: str) -> Size:
    """Parse ``5`` or ``25%``. Raises UsageError that names the option."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) < 1 or (match[2] and int(match[1]) > 100):
        raise UsageError(
            f"{option} {text!r} is neither a number of nodes nor a percentage",
            "it must be at least 1, or 1% to 100%",
            f"write for instance {option} 5 or {option} 25%",
        )
    return Size(int(match[1]), bool(match[2]))


@dataclass(frozen=True)
class Policy:
    """How a fleet is split.

    Args:
        canary: size of the first wave; 0: no canary.
        serial: sizes of the waves after it; the last repeats.
        max_unavailable: no wave is larger.
    """

    canary: int = 1
    serial: tuple[Size, ...] = (Size(25, True),)
    max_unavailable: Size | None = None


@dataclass(frozen=True)
class Wave:
    """Nodes changed together. ``protected``: a control-plane or etcd node, alone in its wave."""

    nodes: tuple[str, ...]
    canary: bool = False
    protected: bool = False


def is_protected(roles: Sequence[str]) -> bool:
    """Say whether a node with these roles must be last and alone."""
    return not PROTECTED_ROLES.isdisjoint(roles)


def split(nodes: Sequence[str], protected: frozenset[str] | set[str], policy: Policy) -> list[Wave]:
    """Split nodes into waves.

    Args:
        nodes: in the inventory's order, without quarantined ones.
        protected: those that run a control plane or etcd.
        policy: sizes.

    Returns:
        The canary, then waves of workers, then each protected node alone. Empty for no nodes.
    """
    workers = [name for name in nodes if name not in protected]
    waves: list[Wave] = []
    limit = policy.max_unavailable.of(len(nodes)) if policy.max_unavailable else len(nodes)
    rest = workers
    if policy.canary and workers:
        first = min(policy.canary, limit)
        waves.append(Wave(tuple(workers[:first]), canary=True))
        rest = workers[first:]
    sizes = policy.serial or (Size(100, True),)
    step = 0
    total = len(rest)
    while rest:
        size = min(sizes[min(step, len(sizes) - 1)].of(total), limit)
        waves.append(Wave(tuple(rest[:size])))
        rest = rest[size:]
        step += 1
    waves.extend(Wave((name,), protected=True) for name in nodes if name in protected)
    return waves
