"""What the documents show exists: commands, options, files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from consoles import PAGES, ROOT, Shown, commands
from tune_nodes.cli.app import app

SHOWN = [command for page in PAGES for command in commands(page)]
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_something_is_shown() -> None:
    assert len(SHOWN) > 10


@pytest.mark.parametrize("shown", [c for c in SHOWN if c.words[0] == "tune-nodes"], ids=str)
def test_every_command_is_one(shown: Shown) -> None:
    command: Any = typer.main.get_command(app)
    words = list(shown.words[1:])
    if not words or words[0] not in command.commands:
        words.insert(0, "apply")  # a line without a verb
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("-")}
    assert used <= known | {"--help"}, f"{shown}: {used - known}"


@pytest.mark.parametrize("shown", [c for c in SHOWN if c.words[0] == "make"], ids=str)
def test_every_make_target_is_one(shown: Shown) -> None:
    done = subprocess.run(["make", "-n", *shown.words[1:]], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_else_is_shown() -> None:
    others = {shown.words[0] for shown in SHOWN} - {"tune-nodes", "make", "pip", "ansible"}
    assert not others


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    missing = [link for link in _LINK.findall((ROOT / page).read_text()) if not (here / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_yaml_blocks_are_yaml(page: str) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S):
        yaml.safe_load(block)


def test_roles_and_modules_named_in_the_documents_exist() -> None:
    for page in PAGES:
        for name in set(re.findall(r"tune\.nodes\.([a-z_]+)", (ROOT / page).read_text())):
            places = [
                ROOT / "roles" / name,
                ROOT / "plugins/modules" / f"{name}.py",
                ROOT / "playbooks" / f"{name}.yml",
            ]
            assert any(Path(place).exists() for place in places), (page, name)
