"""Command lines, files and terminals that are wrong or odd: a clear word, the right exit code, no node touched."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from clirun import NEW, OLD, PROFILE, RUN_DIR, Cli, assert_clear, for_lab, held

from tune_nodes.lab import Lab
from tune_nodes.lab.account import USER

MakeLab = Callable[..., Lab]


@pytest.fixture
def cli(lab3: Lab, tmp_path: Path) -> Cli:
    return for_lab(tmp_path, lab3)


@pytest.fixture(autouse=True)
def nothing_touched(request: pytest.FixtureRequest) -> Any:
    """No test with the shared lab may leave a trace on it."""
    yield
    if "lab3" in request.fixturenames:
        lab = request.getfixturevalue("lab3")
        assert not any((node.root / RUN_DIR).exists() for node in lab.nodes)
        assert [held(node) for node in lab.nodes] == [OLD] * 3


def _with(key: str, **setting: Any) -> dict[str, Any]:
    return {**PROFILE, "sysctl": {key: {"reason": "a test", "source": "a test", **setting}}}


BAD_PROFILES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("unknown field", {**PROFILE, "sysctls": {}}, ("sysctls",)),
    ("unknown key", _with("net.core.somaxcon", value=1), ("net.core.somaxcon",)),
    ("wrong type", _with("net.core.somaxconn", value=["a", "b"]), ("net.core.somaxconn", "value")),
    ("not a number", _with("net.core.somaxconn", value="many"), ("net.core.somaxconn", "many")),
    ("impossible", _with("net.core.somaxconn", value=-5), ("net.core.somaxconn", "-5")),
    ("window", {**PROFILE, "window": 1}, ("window", "20")),
    ("parent", {**PROFILE, "extends": "no-such-profile"}, ("no-such-profile",)),
]


@pytest.mark.parametrize(("document", "words"), [row[1:] for row in BAD_PROFILES], ids=[row[0] for row in BAD_PROFILES])
def test_profiles(cli: Cli, document: dict[str, Any], words: tuple[str, ...]) -> None:
    path = cli.profile(document, "bad")
    assert_clear(cli("apply", "-p", path, "--yes"), 5, "error:", "bad.yml", *words)


def test_profiles_that_extend_each_other(cli: Cli) -> None:
    first = cli.profile({**PROFILE, "extends": "./second.yml"}, "first")
    cli.profile({**PROFILE, "extends": "./first.yml"}, "second")
    assert_clear(cli("apply", "-p", first, "--yes"), 5, "first -> second -> first")


def test_inventories(lab3: Lab, tmp_path: Path) -> None:
    empty = tmp_path / "empty.yml"
    empty.write_text("all:\n  hosts: {}\n")
    broken = tmp_path / "broken.yml"
    broken.write_text("all:\n  hosts: [}\n")
    for path, words in (
        (tmp_path / "missing", ("missing",)),
        (empty, ("empty.yml", "holds no node")),
        (broken, ("broken.yml",)),
    ):
        assert_clear(Cli(tmp_path / "cli", path)("apply", "--yes"), 5, "error:", *words)
    assert lab3.state.inventory is not None
    cli = Cli(tmp_path / "cli", lab3.state.inventory)
    assert_clear(cli("apply", "--yes", "--limit", "nobody"), 5, "nobody")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("apply", "--window", "3", "--yes"), "--window"),
        (("apply", "--serial", "lots", "--yes"), "--serial"),
        (("apply", "--no-such-option"), "--no-such-option"),
        (("apply", "-t", "disks", "--yes"), "disks"),
        (("apply", "--yes", "--", "--limit", "all"), "--limit"),
        (("apply",), "--yes"),
        (("rollback",), "--yes"),
        (("apply", "--yes", "-K"), "no terminal"),
        (("rollback", "--yes"), "nothing to roll back"),
        (("show", "99999999"), "99999999"),
    ],
)
def test_command_lines(cli: Cli, words: tuple[str, ...], said: str) -> None:
    assert_clear(cli(*words), 5, "error:", said)


def test_state_directory_that_cannot_be_made(cli: Cli, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = cli("apply", "--yes", TUNE_NODES_STATE_DIR=str(blocked / "state"))
    assert_clear(done, 5, "error:", "state")
    assert_clear(cli("apply", "--yes", TUNE_NODES_STATE_DIR="/proc/tune-nodes"), 5, "error:", "/proc/tune-nodes")


@pytest.mark.parametrize("form", ["json", "table"])
def test_reader_that_goes_away(cli: Cli, form: str) -> None:
    """``| head -1``: the exit code is the plan's, and nothing is said about the pipe."""
    words = cli.argv("plan", "-o", form, "-D")
    with (cli.directory / "stderr").open("w+") as errors:
        command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, env=cli.env(), cwd=cli.directory)
        assert command.stdout is not None
        command.stdout.close()
        assert command.wait(timeout=120) == 0
        errors.seek(0)
        said = errors.read()
    assert "Broken" not in said
    assert "Traceback" not in said


def test_a_no_on_a_terminal_of_80_columns(cli: Cli) -> None:
    command = cli.terminal("apply", "-p", cli.profile(), NO_COLOR="1")
    command.expect_exact("Change 3 nodes? [y/N] ")
    shown = command.before
    command.sendline("n")
    shown += command.read()
    command.close()
    assert command.exitstatus == 130, shown
    assert "\x1b[3" not in shown, "NO_COLOR"
    assert "\x1b[1;3" not in shown
    plain = [line for line in shown.replace("\r", "\n").split("\n") if "\x1b" not in line]
    assert max(len(line) for line in plain) <= 80
    assert "stopped by the user" in shown


def test_ctrl_c_at_the_question(cli: Cli) -> None:
    command = cli.terminal("apply", "-p", cli.profile())
    command.expect_exact("[y/N] ")
    command.sendintr()
    shown = command.read()
    command.close()
    assert command.exitstatus == 130, shown
    assert "Traceback" not in shown


def test_become_password_from_the_terminal(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2)
    node = lab.nodes[1]
    assert lab.state.inventory is not None
    theirs = lab.state.inventory / "host_vars" / f"{node.name}.yml"
    theirs.write_text(theirs.read_text().splitlines()[0] + "\nansible_user: " + USER + "\n")
    cli = for_lab(tmp_path, lab)
    words = ("apply", "-p", cli.profile(), "--limit", node.name, "--window", "60", "-b", "-K", "--yes")

    def typed(password: str) -> tuple[int, str]:
        command = cli.terminal(*words)
        command.expect_exact("become password: ")
        time.sleep(0.2)  # until the echo is off
        command.sendline(password)
        shown = command.read()
        command.close()
        return command.exitstatus, shown

    code, shown = typed("hunter2hunter2")
    assert code == 1, shown
    assert "sudo refused the password" in shown or "ncorrect" in shown
    assert "hunter2" not in shown
    assert held(node) == OLD
    password = lab.password_file.read_text().strip()
    code, shown = typed(password)
    assert code == 0, shown
    assert held(node) == NEW
    assert password not in shown
    for directory, _, files in os.walk(cli.directory):
        for name in files:
            path = Path(directory, name)
            assert password.encode() not in path.read_bytes(), path


def test_two_controllers_at_once(make_lab: MakeLab, tmp_path: Path) -> None:
    """The second finds the first one's change on the node and is refused; the first is confirmed."""
    lab = make_lab(1, sudo=False)
    node = lab.nodes[0]
    assert lab.state.inventory is not None
    first, second = Cli(tmp_path / "first", lab.state.inventory), Cli(tmp_path / "second", lab.state.inventory)
    running = [cli.start("apply", "-p", cli.profile(), "--window", "60", "--yes") for cli in (first, second)]
    codes = sorted(command.wait(timeout=120) for command in running)
    assert codes[0] == 0
    assert codes[1] in (0, 1)
    assert held(node) == NEW
    outcomes = sorted(outcome for cli in (first, second) for outcome in cli.outcomes().values())
    assert outcomes in (["changed", "refused"], ["changed", "ok"])


def test_what_is_printed_is_yaml_when_asked(cli: Cli, lab3: Lab) -> None:
    done = cli("plan", "-o", "yaml", "-q")
    assert done.returncode == 0
    assert set(yaml.safe_load(done.stdout)["nodes"]) == {
        f"{cli.inventory[0].rsplit('/', 1)[-1]}-{n}" for n in (1, 2, 3)
    }
    assert done.stderr == "" or "next:" in done.stderr
