"""``tune-nodes lab`` without a lab: help, bad input, no root."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tune_nodes.cli.lab import app
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab import FAULTS, Lab, requirements
from tune_nodes.lab.trigger import once

COMMANDS: tuple[list[str], ...] = ([], ["up"], ["down"], ["status"], ["break"], ["heal"])


@pytest.fixture(autouse=True)
def no_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_NODES_LAB_DIR", str(tmp_path / "labs"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_two_runnable_examples(command: list[str]) -> None:
    page = CliRunner().invoke(app, [*command, "--help"]).output.strip()
    examples = [line.strip() for line in page.split("Examples:")[1].splitlines() if line.strip()]
    assert len(examples) == 2
    assert all(line.startswith("$ sudo tune-nodes lab") for line in examples)


def test_break_help_tells_every_fault() -> None:
    page = CliRunner().invoke(app, ["break", "--help"]).output
    assert all(name in page for name in FAULTS)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["up", "--name", "No Name"], "cannot name a lab"),
        (["up", "--nodes", "1001"], "1 to 1000 nodes"),
        (["break", "lab-1"], "which fault"),
        (["break", "lab-1", "drift"], "there is no lab"),
        (["break", "lab-1", "nonsense"], "is not a fault"),
        (["heal", "lab-1"], "there is no lab"),
    ],
)
def test_bad_input_is_a_usage_error_and_makes_nothing(tmp_path: Path, arguments: list[str], what: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert what in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_down_and_status_without_a_lab(tmp_path: Path) -> None:
    down = CliRunner().invoke(app, ["down"])
    assert (down.exit_code, down.stdout) == (0, "")
    assert "nothing to do" in down.stderr
    status = CliRunner().invoke(app, ["status", "-o", "json"])
    assert status.exit_code == 0
    assert status.stdout == '{\n  "schema": 1,\n  "name": "lab",\n  "up": false,\n  "nodes": []\n}\n'
    assert list(tmp_path.iterdir()) == []


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="needs root") as raised:
        Lab("lab").up(1)
    assert raised.value.next == "sudo tune-nodes lab up"
    assert list(tmp_path.iterdir()) == []


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name in ("nft", "sshd") else f"/usr/bin/{name}")
    with pytest.raises(UsageError, match="missing: nft, sshd") as raised:
        requirements.check(tmp_path)
    assert raised.value.next == "apt-get install nftables openssh-server"


def test_once_calls_once_and_tells_what_failed() -> None:
    calls: list[int] = []
    begun = threading.Event()
    with once(begun.is_set, lambda: calls.append(1)) as watch:
        assert not watch.fired.is_set()
        begun.set()
        assert watch.fired.wait(5)
    assert calls == [1]

    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(TuneError, match="the triggered action failed: broken"), once(lambda: True, fail) as watch:
        watch.fired.wait(0.1)


def test_once_does_not_hide_the_blocks_own_error() -> None:
    with pytest.raises(ZeroDivisionError), once(lambda: False, lambda: None):
        raise ZeroDivisionError
