"""The tour of the README and the commands of the page about trouble, run as they stand on a lab of three nodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from clirun import Cli

from consoles import Shown, commands
from tune_nodes.lab import Lab

MakeLab = Callable[..., Lab]
#: What differs from run to run.
_MOVING = [
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"^\d\d:\d\d:\d\d "), ""),
    (re.compile(r"\d+\.\d s"), "N s"),
]


def steady(text: str, lab: Lab) -> str:
    """Return a line without what differs from run to run."""
    text = text.replace(f"{lab.name}-", "lab-").rstrip()
    for pattern, word in _MOVING:
        text = pattern.sub(word, text)
    return text


def to_run(page: str) -> list[Shown]:
    return [shown for shown in commands(page) if shown.run and shown.words[0] == "tune-nodes"]


@pytest.mark.timeout(300)
def test_the_documents_are_true(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(3)
    assert lab.state.inventory is not None
    cli = Cli(tmp_path / "here")
    (tmp_path / "here" / "inventories").mkdir()
    (tmp_path / "here" / "inventories" / "lab").symlink_to(lab.state.inventory)
    tour = [*to_run("README.md"), *to_run("docs/troubleshooting.md")]
    assert len(tour) > 10
    for shown in tour:
        words = [re.sub(r"^lab-", f"{lab.name}-", word) for word in shown.words[1:]]
        done = cli(*words, TUNE_NODES_LAB_NAME=lab.name)
        assert done.returncode == 0, (str(shown), done.stdout, done.stderr)
        said = {steady(line, lab) for line in (done.stdout + "\n" + done.stderr).splitlines()}
        # Shown lines stand as they are printed; the two that were shortened say so with dots or continue such a line.
        exact = [line for line in shown.output if line.strip() and not line.startswith(" ")]
        missing = [line for line in exact if steady(line, lab) not in said]
        assert not missing, (str(shown), missing, sorted(said))
