"""What Molecule is given: settings that hold for every scenario, steps that exist, and what is kept of a step."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import context

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
SCENARIOS = sorted(path.parent for path in ROOT.glob("molecule/*/molecule.yml") if path.parent.name != "default")


@pytest.fixture
def reported() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reported", ROOT / "molecule/shared/callback/reported.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_checkout_is_what_is_tested() -> None:
    assert CONFIG["prerun"] is False, "it would install a copy of the collection that hides the checkout for good"
    path = CONFIG["ansible"]["env"]["ANSIBLE_COLLECTIONS_PATH"]
    assert path == "${MOLECULE_PROJECT_DIRECTORY}/.ansible/collections"
    assert CONFIG["ansible"]["cfg"]["defaults"]["host_key_checking"] is True


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_step_of_a_scenario_is_there(scenario: Path) -> None:
    assert (ROOT / "roles" / scenario.name).is_dir(), "a scenario is named as its role"
    own = yaml.safe_load((scenario / "molecule.yml").read_text()) or {}  # it is merged over what all share
    chosen = {**CONFIG["ansible"]["playbooks"], **own.get("ansible", {}).get("playbooks", {})}
    books = {name: scenario / book for name, book in chosen.items()}
    for step in own.get("scenario", CONFIG["scenario"])["test_sequence"]:
        action, _, argument = step.partition(" ")
        if action in ("create", "destroy"):
            book = ROOT / "molecule/default" / f"{action}.yml"
        elif argument:
            book = scenario / argument
        else:
            name = {"check": "converge", "syntax": "converge", "idempotence": "converge"}.get(action, action)
            book = books.get(name, scenario / f"{name}.yml")
        assert book.resolve().is_file(), step
    variables = yaml.safe_load((scenario / "vars/main.yml").read_text())
    if "scenario" not in own:  # the steps that all share want to know what a node holds
        assert {"readings", "drift", "unsupported"} <= set(variables)


def change(key: str, status: str) -> dict[str, Any]:
    return {"key": key, "before": "1", "want": "2", "status": status}


def test_a_result_is_summed_up(reported: ModuleType) -> None:
    changes = [change("a", "changed"), change("b", "pending"), change("c", "unsupported"), change("d", "ok")]
    assert reported.summary(changes, "t1") == {
        "moved": {"a": ["1", "2"], "b": ["1", "2"]},
        "unsupported": ["c"],
        "transaction": "t1",
    }


def test_each_converge_leaves_a_file_of_its_own(
    reported: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLECULE_EPHEMERAL_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MOLECULE_SCENARIO_NAME", "some_role")
    host = SimpleNamespace(get_name=lambda: "node-1")

    def run(book: str, check: bool, *results: dict[str, Any]) -> None:
        monkeypatch.setattr(context, "CLIARGS", {"check": check})
        callback = reported.CallbackModule()
        callback.v2_playbook_on_start(SimpleNamespace(_file_name=f"/somewhere/{book}"))
        for result in results:
            callback.v2_runner_on_ok(SimpleNamespace(result=result, host=host))
        callback.v2_playbook_on_stats(None)

    run("converge.yml", True, {"changed": True}, {"changes": [change("a", "pending")], "transaction": None})
    run("converge.yml", False, {"changes": [change("a", "changed")], "transaction": "t1"})
    run("converge.yml", False, {"changes": [change("a", "ok")], "transaction": None})
    run("cleanup.yml", False, {"changes": [change("a", "changed")], "transaction": "t2"})
    records = {path.name: json.loads(path.read_text())["node-1"] for path in (tmp_path / "some_role").iterdir()}
    assert sorted(records) == ["check-1.json", "converge-1.json", "converge-2.json"]
    assert records["check-1.json"]["moved"] == records["converge-1.json"]["moved"] == {"a": ["1", "2"]}
    assert records["converge-2.json"]["moved"] == {}
