"""What stands after ``--`` on the command line: arguments for ansible-playbook, kept apart from our own."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

_ARGS: ContextVar[tuple[str, ...]] = ContextVar("passthrough", default=())


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line at its first ``--`` (pure)."""
    line = list(argv)
    if "--" not in line:
        return line, []
    at = line.index("--")
    return line[:at], line[at + 1 :]


def put(args: Sequence[str]) -> None:
    """Remember the arguments for this command."""
    _ARGS.set(tuple(args))


def get() -> tuple[str, ...]:
    """Return them."""
    return _ARGS.get()
