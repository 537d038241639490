"""The tour of the README and the pages about trouble and the lab, run as they stand on three nodes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clirun import Cli

from consoles import Shown, commands
from tune_nodes.lab import Lab

MakeLab = Callable[..., Lab]
PAGES = ("README.md", "docs/troubleshooting.md", "docs/lab.md")
_RUN = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b")
#: What differs from run to run.
_MOVING = [
    (_RUN, "RUN"),
    (re.compile(r"^\d\d:\d\d:\d\d ", re.M), ""),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "DATE"),
    (re.compile(r"\b\d+\.\d s\b"), "N s"),
]


def steady(text: str) -> str:
    """Return text without what differs from run to run, nor how it was wrapped and aligned."""
    for pattern, word in _MOVING:
        text = pattern.sub(word, text)
    return " ".join(text.split())


def pieces(output: tuple[str, ...]) -> Iterator[str]:
    """Yield what stands between the lines that are left out (``...``)."""
    for piece in re.split(r"^\.\.\.$", "\n".join(output), flags=re.M):
        if piece.strip():
            yield steady(piece)


class Tour:
    """A reader who types what the pages show.

    Args:
        cli: with a directory of its own, in which ``inventories/lab`` is the lab's.
        lab: whose name stands in for ``lab``.
    """

    def __init__(self, cli: Cli, lab: Lab) -> None:
        self.cli = cli
        self.name = lab.name
        self.runs: dict[str, str] = {}  # id on the page -> id here
        self.waiting: list[tuple[Shown, subprocess.Popen[str]]] = []

    def argv(self, shown: Shown) -> list[str]:
        """Return a command with the names of this lab and of the runs made here."""
        words = [re.sub(r"^lab-(?=\d)", f"{self.name}-", self.runs.get(word, word)) for word in shown.words]
        program = [sys.executable, "-m", "tune_nodes.cli.main"]
        if words[0] == "ansible":
            program = [str(Path(sys.executable).with_name("ansible"))]
        return [*program, *words[1:]]

    def type(self, shown: Shown) -> None:
        """Run a command and compare, or leave it in the background until the next one has ended."""
        process = subprocess.Popen(
            self.argv(shown),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.cli.env(TUNE_NODES_LAB_NAME=self.name, PYTHONUNBUFFERED="1"),
            cwd=self.cli.directory,
        )
        self.waiting.append((shown, process))
        if not shown.background:
            while self.waiting:
                self.compare(*self.waiting.pop())

    def compare(self, shown: Shown, process: subprocess.Popen[str]) -> None:
        """Wait for a command; its exit code and output must be those of the page, in the page's order."""
        said = process.communicate(timeout=200)[0].replace(self.name, "lab")
        assert process.returncode == shown.code, (str(shown), said)
        here = list(dict.fromkeys(_RUN.findall(said)))
        there = dict.fromkeys(_RUN.findall("\n".join(shown.output)))
        self.runs |= {page: run for page, run in zip(there, here, strict=False) if page not in self.runs}
        rest = steady(said)
        for piece in pieces(shown.output):
            assert piece in rest, (str(shown), piece, rest)
            rest = rest.split(piece, 1)[1]


@pytest.fixture
def tour(make_lab: MakeLab, tmp_path: Path) -> Iterator[Tour]:
    lab = make_lab(3)  # the tour takes it down and brings it up again; made here, it is taken down whatever happens
    cli = Cli(tmp_path / "here")
    (cli.directory / "inventories").mkdir()
    (cli.directory / "inventories" / "lab").symlink_to(lab.name)  # where `lab up` writes the inventory of its name
    reader = Tour(cli, lab)
    yield reader
    for _, process in reader.waiting:
        process.kill()
        process.communicate()


@pytest.mark.timeout(600)
def test_the_documents_are_true(tour: Tour) -> None:
    shown = [shown for page in PAGES for shown in commands(page) if shown.run and shown.words[0] != "make"]
    assert len(shown) > 25
    for command in shown:
        tour.type(command)
