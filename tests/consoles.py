"""The commands that the documents show: ``$`` lines of their console blocks, and mentions of ours anywhere else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md"))),
)
_FENCE = re.compile(r"^```", re.M)
_EXIT = re.compile(r"\bexit=(\d+)")
_INLINE = re.compile(r"`(?:sudo )?(tune-nodes\s[^`]+)`")


@dataclass(frozen=True)
class Shown:
    """One command as a page shows it.

    Attributes:
        page: below the root of the checkout.
        line: counted from 1.
        words: the command, as a shell would split it, without sudo.
        run: whether the page is tested by running it (its block does not say ``no-run``).
        output: the lines shown below it; a line ``...`` stands for any number of lines.
        code: the exit code: 0, but for the last command of a block that says ``exit=N``.
        background: whether it ends with ``&``.
    """

    page: str
    line: int
    words: tuple[str, ...]
    run: bool = False
    output: tuple[str, ...] = ()
    code: int = 0
    background: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {' '.join(self.words)}"


def commands(page: str) -> Iterator[Shown]:
    """Yield the commands of a page's console blocks in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    inside, info, block = False, "", list[Shown]()
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            yield from _with_exit_code(block, info)
            inside, info, block = not inside and line.startswith("```console"), line, []
        elif inside and line.startswith("$ "):
            block.append(_shown(page, number, line[2:], lines[number:], run="no-run" not in info))


def _shown(page: str, number: int, line: str, following: list[str], *, run: bool) -> Shown:
    output = []
    for below in following:
        if below.startswith(("$ ", "```")):
            break
        output.append(below)
    words = shlex.split(line.removeprefix("sudo ").removesuffix(" &"), comments=True)
    return Shown(page, number, tuple(words), run, tuple(output), background=line.endswith(" &"))


def _with_exit_code(block: list[Shown], info: str) -> list[Shown]:
    said = _EXIT.search(info)
    return [*block[:-1], replace(block[-1], code=int(said[1]))] if block and said else block


def mentions(page: str) -> Iterator[Shown]:
    """Yield our commands that a page names outside of console blocks: in a sentence, a listing or another block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = _FENCE.split(text)
    position = 0
    for index, part in enumerate(parts):
        if index % 2 == 0:
            for found in _INLINE.finditer(part):
                yield _mention(page, text, position + found.start(), found[1])
        if index % 2 == 0 or not part.startswith("console"):
            for found in re.finditer(r"^ *(tune-nodes\s.+)$", part, re.M):
                if index % 2 or found[0].startswith("    "):
                    for one in found[1].split("; "):
                        yield _mention(page, text, position + found.start(), one)
        position += len(part) + len("```")


def _mention(page: str, text: str, position: int, command: str) -> Shown:
    words = shlex.split(command.split(" |")[0], comments=True)
    return Shown(page, text.count("\n", 0, position) + 1, tuple(words))
