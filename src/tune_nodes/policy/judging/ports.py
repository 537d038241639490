"""Whether rules cover a port (pure)."""

from __future__ import annotations

from typing import Any

from tune_nodes.policy.judging.matching import NO, Match, any_of, said, unknown
from tune_nodes.policy.model import Peer, Pod

PROTOCOLS = ("TCP", "UDP", "SCTP")
_UNREADABLE = unknown("a port in it cannot be read")


def number(value: Any) -> int | None:
    """Return a port's number; None for anything that is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= 65535 else None


def named(name: str, target: Peer, port: int, protocol: str) -> Match:
    """Return whether a pod gives this name to the port; an address has no names."""
    if not isinstance(target, Pod):
        return NO
    return said(any(one.name == name and one.number == port and one.protocol == protocol for one in target.ports))


def covers(wanted: Any, end: Any, target: Peer, port: int, protocol: str) -> Match:
    """Return whether a rule's port is the one in question.

    Args:
        wanted: a number, or a name that the target gives; None for every port.
        end: last number of a range; None for none.
        target: where the connection goes to.
        port: to which of its ports.
        protocol: "TCP", "UDP" or "SCTP".
    """
    if wanted is None:
        return said(True)
    first = number(wanted)
    if first is not None:
        last = number(end) if end is not None else first
        return _UNREADABLE if last is None else said(first <= port <= last)
    return named(wanted, target, port, protocol) if isinstance(wanted, str) and wanted else _UNREADABLE


def any_port(rows: Any, target: Peer, port: int, protocol: str) -> Match:
    """Return whether the ``ports`` of a rule of a NetworkPolicy cover a port; none at all cover every one."""
    if rows is None or rows == []:
        return said(True)
    if not isinstance(rows, list):
        return _UNREADABLE
    return any_of(_row(row, target, port, protocol) for row in rows)


def _row(row: Any, target: Peer, port: int, protocol: str) -> Match:
    if not isinstance(row, dict):
        return _UNREADABLE
    if row.get("protocol", "TCP") != protocol:
        return NO
    return covers(row.get("port"), row.get("endPort"), target, port, protocol)
