"""The one exception family of the controller side, and the exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes. Where several hold, :func:`worst` picks in the order of :data:`PRECEDENCE`."""

    OK = 0
    FAILED = 1
    PENDING = 2
    REVERTED = 3
    UNREACHABLE = 4
    USAGE = 5
    INTERRUPTED = 130


PRECEDENCE = (Exit.USAGE, Exit.INTERRUPTED, Exit.REVERTED, Exit.FAILED, Exit.UNREACHABLE, Exit.PENDING, Exit.OK)


def worst(*codes: Exit) -> Exit:
    """Return the exit code that counts where several hold (OK for none)."""
    return next((code for code in PRECEDENCE if code in codes), Exit.OK)


class TuneError(Exception):
    """What went wrong, why, and the next command to type.

    Args:
        what: one sentence.
        why: the cause, "" where unknown.
        next: the next command or step, "" where there is none.
        exit: exit code of the command line.
        data: JSON-able details.
    """

    def __init__(
        self, what: str, why: str = "", next: str = "", exit: Exit = Exit.FAILED, data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next
        self.exit = exit
        self.data = data or {}

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text} (next: {self.next})" if self.next else text


class UsageError(TuneError):
    """The command line, the configuration or an input file is wrong; nothing was touched (exit 5)."""

    def __init__(self, what: str, why: str = "", next: str = "", data: dict[str, Any] | None = None) -> None:
        super().__init__(what, why, next, Exit.USAGE, data)
