"""The report command on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_builder import small
from report_parts import at
from typer.testing import CliRunner

from tune_nodes.cli.app import app
from tune_nodes.errors import UsageError
from tune_nodes.runs.store import RunStore

OLDER, NEWER = "20261124-081530-a1b2c3", "20261125-101530-a1b2c4"


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Path:
    store = RunStore.open(tmp_path / "state")
    store.begin(small())
    store.begin(small().model_copy(update={"id": NEWER, "started": at(86400)}))
    return store.root


def call(state: Path, *words: str) -> str:
    """Run ``report`` and return what it prints on stdout."""
    done = CliRunner().invoke(app, ["report", *words, "--state-dir", str(state)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_latest_run_lies_beside_its_record(state: Path) -> None:
    path = Path(call(state).strip())
    assert path == (state / "runs" / NEWER / "report.html").resolve()
    assert NEWER in path.read_text(encoding="utf-8")


def test_named_run_goes_where_it_is_told(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "here" / "page.html"
    assert call(state, OLDER, "--out", str(target)).strip() == str(target)
    assert OLDER in target.read_text(encoding="utf-8")


def test_json_on_stdout(state: Path) -> None:
    assert json.loads(call(state, "a1b2c3", "-o", "json", "--out", "-"))["id"] == OLDER


def test_unknown_run_is_a_usage_error(state: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        call(state, "nothing-like-it")
