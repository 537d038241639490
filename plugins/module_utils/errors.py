# SPDX-License-Identifier: Apache-2.0
"""The one exception family of the node side."""

from __future__ import annotations

from typing import Any, Dict, Optional


class NodeError(Exception):
    """What went wrong on this node, why, and what to do next.

    Args:
        what: one sentence, no trailing period needed.
        why: the cause as far as it is known ("" where unknown).
        next: the next command or step for a person ("" where there is none).
        code: stable word for programs: ``failed``, ``usage``, ``busy``, ``drifted``,
            ``expired``, ``reverted``, ``same-connection``, ``unsupported``, ``superseded``.
        data: JSON-able details.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        next: str = "",
        code: str = "failed",
        data: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next
        self.code = code
        self.data = data or {}

    def __str__(self) -> str:
        text = self.what
        if self.why:
            text += ": " + self.why
        if self.next:
            text += " (next: " + self.next + ")"
        return text

    def to_dict(self) -> Dict[str, Any]:
        """Return the error as it stands in a result."""
        return {
            "what": self.what,
            "why": self.why,
            "next": self.next,
            "code": self.code,
            "data": self.data,
        }
