"""The commands that the documents show: ``$`` lines of their console blocks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Shown:
    """One command as a page shows it.

    Attributes:
        page: below the root of the checkout.
        line: counted from 1.
        words: the command, as a shell would split it, without sudo.
        run: whether the page is tested by running it (its block does not say ``no-run``).
        output: the lines shown below it.
    """

    page: str
    line: int
    words: tuple[str, ...]
    run: bool
    output: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {' '.join(self.words)}"


def commands(page: str) -> Iterator[Shown]:
    """Yield a page's commands in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    inside, run = False, True
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            inside, run = not inside and line.startswith("```console"), "no-run" not in line
        elif inside and line.startswith("$ "):
            shown = []
            for following in lines[number:]:
                if following.startswith(("$ ", "```")):
                    break
                shown.append(following)
            words = shlex.split(line[2:].removeprefix("sudo ").removesuffix(" &"), comments=True)
            yield Shown(page, number, tuple(words), run, tuple(shown))
