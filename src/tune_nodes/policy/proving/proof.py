"""What one connection showed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """What one connection showed.

    Args:
        ok: None where none could be made, or its end says nothing of policies.
        text: a sentence.
        made: a connection was tried; False: nobody could try it, and somebody else may.
        nodes: those of its ends.
    """

    ok: bool | None
    text: str
    made: bool = True
    nodes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The result in a word."""
        return {True: "proved", False: "does not flow", None: "not proved"}[self.ok]
