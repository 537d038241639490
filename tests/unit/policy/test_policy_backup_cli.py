"""The commands where no cluster is needed, or there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backup_made import write
from policy_objects import policy

from tune_nodes.cli.main import run
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import document


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backup"], "say which policies"),
        (["backup", "--all", "-n", "shop"], "say which policies"),
        (["backup", "-l", "app"], "must be KEY=VALUE"),
        (["backup", "--all"], "no kubeconfig was given"),
        (["restore", "latest"], "no kubeconfig was given"),
        (["restore"], "Missing argument"),
    ],
)
def test_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", *words]) == 5
    assert said in capsys.readouterr().err


def test_backups_are_listed_and_a_damaged_one_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "backups"]) == 0
    assert "there is no backup yet" in capsys.readouterr().err
    home = backups.home(here / "state")
    whole, cut = (write([policy("NetworkPolicy", "deny")], home) for _ in range(2))
    (cut.directory / document.RAW).write_text("{")
    assert run(["policy", "backups", "-o", "json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[whole.id]["state"] == "whole"
    assert "is damaged: raw.json is not what it was" in rows[cut.id]["state"]
    assert run(["policy", "backups"]) == 0
    assert whole.id in capsys.readouterr().out
