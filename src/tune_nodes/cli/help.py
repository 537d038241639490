"""What every help page has."""

from __future__ import annotations

from inspect import cleandoc


def paragraphs(text: str) -> str:
    """Return a docstring with each paragraph on one line: where lines end in the source is no matter on a terminal."""
    return "\n\n".join(" ".join(part.split()) for part in cleandoc(text).split("\n\n"))


def examples(*lines: str) -> str:
    """Return a help page's last lines: commands that can be run as they stand."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)
