"""The commands ``profiles`` and ``config``, run as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tune_nodes.cli import config as config_cli
from tune_nodes.cli import profiles as profiles_cli


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "profiles").mkdir()
    return tmp_path


def _run(app: typer.Typer, *args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def test_list(place: Path) -> None:
    (place / "profiles/mine.yml").write_text("extends: latency\ndescription: my own\n")
    (place / "profiles/bad.yml").write_text("sysctl: {net.core.nope: 1}\n")
    code, text = _run(profiles_cli.app, "list")
    assert code == 0
    assert "kubernetes-node (default)" in text
    assert "broken: tune-nodes profiles validate bad" in " ".join(text.split())
    rows = {row["name"]: row for row in json.loads(_run(profiles_cli.app, "list", "-o", "json")[1])["profiles"]}
    assert rows["mine"]["extends"] == ["kubernetes-node", "latency"]
    assert (rows["mine"]["from"], rows["latency"]["from"], rows["bad"]["ok"]) == ("./profiles", "shipped", False)


def test_show() -> None:
    code, text = _run(profiles_cli.app, "show", "large-cluster")
    assert code == 0
    assert "large-cluster variant 1, only where memory_mib >=8192" in text
    assert "floor 1048576" in text
    assert "probes: ssh, gateway, api, kubelet, 2 peers" in text
    document = yaml.safe_load(_run(profiles_cli.app, "show", "article", "-o", "yaml")[1])
    assert document["layers"][0]["sysctl"][0]["value"] == 134217728
    assert document["digest"].startswith("sha256:")


def test_validate(place: Path) -> None:
    assert _run(profiles_cli.app, "validate")[0] == 0
    (place / "profiles/bad.yml").write_text("sysctl:\n  net.core.somaxcon: 1\n  net.core.rmem_max: x\n")
    code, text = _run(profiles_cli.app, "validate")
    assert code == 5
    assert "bad: wrong" in text and "article: ok" in text
    assert "did you mean net.core.somaxconn" in " ".join(text.split())
    code, text = _run(profiles_cli.app, "validate", "profiles/bad.yml", "nothere", "-o", "json")
    assert code == 5
    bad, nothere = json.loads(text)["profiles"]
    assert [p["where"] for p in bad["problems"]] == ["profiles/bad.yml:2", "profiles/bad.yml:3"]
    assert "no profile named" in nothere["problems"][0]["message"]


def test_config_show(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "tune-nodes.yml").write_text("forks: 7\n")
    monkeypatch.setenv("TUNE_NODES_WINDOW", "60")
    code, text = _run(config_cli.app, "show", "--show-sources")
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "forks 7 tune-nodes.yml:1" in lines
    assert "window 60 TUNE_NODES_WINDOW" in lines
    assert "canary 1 default" in lines
    settings = json.loads(_run(config_cli.app, "show", "--show-sources", "-o", "json")[1])["settings"]
    assert settings["forks"] == {"value": 7, "source": "file", "where": "tune-nodes.yml:1"}
    assert json.loads(_run(config_cli.app, "show", "-o", "json")[1])["settings"]["window"] == 60


@pytest.mark.parametrize("args", [[], ["list"], ["show"], ["validate"]])
def test_help_ends_with_two_examples(args: list[str]) -> None:
    code, text = _run(profiles_cli.app, *args, "--help")
    assert code == 0
    assert text.count("tune-nodes profiles") >= 2
    assert text.rstrip().splitlines()[-1].strip().startswith("tune-nodes profiles")
