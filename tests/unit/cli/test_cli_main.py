"""The entry point as a process, and every help page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tune_nodes.cli import passthrough
from tune_nodes.cli.app import app
from tune_nodes.cli.help import paragraphs
from tune_nodes.cli.main import run, with_verb

COMMAND = [sys.executable, "-m", "tune_nodes.cli.main"]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    state = str(tmp_path / "state")
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "TUNE_NODES_STATE_DIR": state, **more}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], []),
        (["--inventory", "x"], ["apply", "--inventory", "x"]),
        (["-i", "x", "-y"], ["apply", "-i", "x", "-y"]),
        (["--version"], ["--version"]),
        (["--help"], ["--help"]),
        (["-h"], ["-h"]),
        (["--install-completion"], ["--install-completion"]),
        (["plan", "-i", "x"], ["plan", "-i", "x"]),
    ],
)
def test_a_line_without_a_verb(argv: list[str], line: list[str]) -> None:
    assert with_verb(argv) == line


@pytest.mark.parametrize(
    ("argv", "mine", "rest"),
    [
        (["plan", "-i", "x"], ["plan", "-i", "x"], []),
        (["plan", "--", "-c", "ssh", "--", "y"], ["plan"], ["-c", "ssh", "--", "y"]),
        (["--"], [], []),
    ],
)
def test_what_stands_after_the_dashes(argv: list[str], mine: list[str], rest: list[str]) -> None:
    assert passthrough.split(argv) == (mine, rest)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


PAGES = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), PAGES, ids=[" ".join(path) or "root" for path, _ in PAGES])
def test_every_page_ends_with_two_examples(path: tuple[str, ...], command: Any) -> None:
    epilog = command.epilog or ""
    assert epilog.startswith("Examples:")
    assert sum("tune-nodes" in line for line in epilog.splitlines()) >= 2
    assert command.help
    words = [line.split("tune-nodes", 1)[1].split() for line in epilog.splitlines() if "tune-nodes " in line]
    names = {name for known, _ in PAGES for name in known}
    assert all(line[0] in names or line[0].startswith("-") for line in words)


@pytest.mark.parametrize("path", [path for path, _ in PAGES], ids=[" ".join(path) or "root" for path, _ in PAGES])
def test_every_page_prints(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples" in out
    assert max(map(len, out.splitlines())) <= 100


def test_version(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--version"], capture_output=True, text=True, timeout=60, env=environment(tmp_path), check=True
    )
    assert "collection tune.nodes" in done.stdout


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path: Path, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(
            [*COMMAND, "doctor", "-o", form],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=environment(tmp_path),
            check=False,
        )
    assert done.returncode == 0
    assert done.stderr == ""


def test_an_ascii_terminal(tmp_path: Path) -> None:
    variables = environment(tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = subprocess.run([*COMMAND, "doctor"], capture_output=True, timeout=120, env=variables, check=False)
    assert done.stdout.isascii()
    assert b"state directory" in done.stdout


def test_no_hang_without_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-i", "h1,"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path),
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.splitlines()[0].startswith("error: ")


def test_a_traceback_only_at_vvv(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for flags, seen in ((["-vv"], False), (["-vvv"], True)):
        done = subprocess.run(
            [*COMMAND, "show", "nope", *flags],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(tmp_path),
            check=False,
        )
        assert done.returncode == 5
        assert ("Traceback" in done.stderr) is seen
        assert "error: there is no run 'nope'" in done.stderr


def test_completion_of_runs_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_nodes.cli import complete

    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "none"))
    assert complete.runs("") == []
    assert not (tmp_path / "none").exists()
    assert "kubernetes-node" in complete.profiles("kube")


def test_a_command_loads_no_other(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tune_nodes.cli.main import run\n"
        "run(['history', '--state-dir', sys.argv[1]])\n"
        "print([name for name in sys.modules if name.startswith(('tune_nodes.recovery', 'tune_nodes.policy'))])\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "state")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment(tmp_path))
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_mistyped_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plna"]) == 5
    assert "Did you mean 'plan'" in capsys.readouterr().err


def test_a_paragraph_is_one_line_whatever_the_source() -> None:
    assert paragraphs("First.\n\n        Second line\n        goes on.\n    ") == "First.\n\nSecond line goes on."
    assert paragraphs("") == ""
