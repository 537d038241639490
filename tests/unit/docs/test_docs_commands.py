"""What the documents show exists: commands, options, files."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from consoles import PAGES, ROOT, Shown, commands, mentions
from tune_nodes.cli.app import app
from tune_nodes.cli.main import with_verb
from tune_nodes.errors import Exit

SHOWN = [command for page in PAGES for command in commands(page)]
OURS = [c for page in PAGES for c in (*commands(page), *mentions(page)) if c.words[0] == "tune-nodes"]
IMAGES = sorted((ROOT / "docs" / "images").iterdir())
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_SVG = "{http://www.w3.org/2000/svg}"


def test_something_is_shown() -> None:
    assert len(SHOWN) > 25
    assert len(OURS) > 50


@pytest.mark.parametrize("shown", OURS, ids=str)
def test_every_command_is_one(shown: Shown) -> None:
    command: Any = typer.main.get_command(app)
    words = list(shown.words[1:])
    if "--" in words:  # what follows is ansible-playbook's
        words = words[: words.index("--")]
    words = with_verb(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{shown}: there is no {words[0]}"
        command = command.commands[words.pop(0)]
    context = command.context_class(command, info_name="tune-nodes")
    # The program's own parser: unknown options, missing values and surplus arguments fail here. Nothing is run.
    _, surplus, _ = command.make_parser(context).parse_args(words)
    assert not surplus, f"{shown}: {surplus}"


@pytest.mark.parametrize("shown", [c for c in SHOWN if c.words[0] == "make"], ids=str)
def test_every_make_target_is_one(shown: Shown) -> None:
    done = subprocess.run(["make", "-n", *shown.words[1:]], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_in_a_sentence_is_one(page: str) -> None:
    targets = set(re.findall(r"`make ([a-z]+)`", (ROOT / page).read_text()))
    assert targets <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def test_nothing_else_is_shown() -> None:
    others = {shown.words[0] for shown in SHOWN} - {"tune-nodes", "make", "pip", "ansible"}
    assert not others


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    missing = [link for link in _LINK.findall((ROOT / page).read_text()) if not (here / link).exists()]
    assert not missing


def test_every_page_is_listed() -> None:
    listed = set(_LINK.findall((ROOT / "docs" / "README.md").read_text()))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= listed


def test_every_image_is_used() -> None:
    used = {Path(link).name for page in PAGES for link in _LINK.findall((ROOT / page).read_text())}
    assert {image.name for image in IMAGES} <= used


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: str(path.name))
def test_images_are_small_and_say_what_they_show(image: Path) -> None:
    assert image.stat().st_size < 200_000
    if image.suffix == ".svg":
        root = ElementTree.parse(image).getroot()
        assert root.findtext(f"{_SVG}title")
        assert root.findtext(f"{_SVG}desc")
        assert "href" not in image.read_text()  # it loads nothing


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


@pytest.mark.parametrize("page", ["README.md", "docs/concepts.md", "docs/exit-codes.md"])
def test_exit_codes_are_all_there(page: str) -> None:
    text = (ROOT / page).read_text()
    shown = {int(code) for code in re.findall(r"^\| (\d+) \| ", text, re.M)}
    assert shown == {int(code) for code in Exit}


def test_files_on_a_node_are_those_the_code_writes() -> None:
    from ansible_collections.tune.nodes.plugins.module_utils import bundle, persist
    from ansible_collections.tune.nodes.plugins.module_utils.transaction import store

    text = (ROOT / "README.md").read_text()
    for path in (persist.SETTINGS, persist.SYSCTL_D, persist.BOOT_UNIT, persist.LATE_RULE, store.STATE_DIR):
        assert f"`{path}" in text, path
    assert bundle.CODE_DIR in (ROOT / "docs" / "safe-change.md").read_text()
    assert f"last {store.KEEP} transactions" in text
    assert all(f"`{state}`" in (ROOT / "docs" / "safe-change.md").read_text() for state in store.STATES)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_one_machine_is_shown(page: str) -> None:
    assert not re.findall(r"/(?:home|root|work|Users)/\S+|[\w.]*pypi\.org", (ROOT / page).read_text())
