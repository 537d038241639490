"""Whole commands over a scripted fleet: plan, apply, plan files, rollback, what is asked, what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_scripted import Fleet

from tune_nodes.cli import session
from tune_nodes.cli.main import run

NODES = ("n1", "n2", "n3")


class Shell:
    """Runs command lines in a directory of its own."""

    def __init__(self, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
        self.fleet = fleet
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        code = run(argv)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *argv: str, code: int = 0) -> Any:
        """Run a command that must end with a code, and return its document."""
        assert self(*argv, "-o", "json") == code, self.err
        return json.loads(self.out)


@pytest.fixture
def sh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    fleet = Fleet(dict.fromkeys(NODES, "128"))
    monkeypatch.setattr(session, "AnsibleRunner", lambda options, **_: fleet)
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    Path("hosts.ini").write_text("".join(f"{name} ansible_host=10.0.0.{name[1]}\n" for name in NODES))
    return Shell(fleet, capsys)


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {name: node["outcome"] for name, node in document["nodes"].items()}


def test_plan_shows_and_touches_nothing(sh: Shell) -> None:
    assert sh("plan", "-i", "hosts.ini") == 0
    assert "3 nodes share this plan: 1 change each (n1, n2, n3)" in sh.out
    assert "net.core.somaxconn  128  4096    pending" in sh.out
    assert "pending 3 of 3" in sh.out
    assert "next: tune-nodes apply -i hosts.ini" in sh.err
    assert sh.fleet.calls == [("plan", list(NODES))]
    assert sh("plan", "-i", "hosts.ini", "--detailed-exitcode") == 2


def test_documents_are_undecorated(sh: Shell) -> None:
    document = sh.json("plan", "-i", "hosts.ini")
    assert document["schema"] == 1
    assert outcomes(document) == dict.fromkeys(NODES, "pending")
    assert sh("plan", "-i", "hosts.ini", "-o", "yaml") == 0
    assert outcomes(yaml.safe_load(sh.out)) == dict.fromkeys(NODES, "pending")


def test_a_line_without_a_verb_is_apply_and_the_second_changes_nothing(sh: Shell) -> None:
    assert sh("--inventory", "hosts.ini", "--yes") == 0
    assert "changed 3 of 3" in sh.out
    assert "tune-nodes rollback 2" in sh.err
    assert [call[0] for call in sh.fleet.calls] == ["plan", "apply", "apply", "apply"]
    sh.fleet.calls.clear()
    assert sh("--inventory", "hosts.ini", "--yes") == 0
    assert "0 changes" in sh.out
    assert sh.fleet.calls == [("plan", list(NODES))]


def test_nobody_to_ask_is_a_refusal_before_anything(sh: Shell) -> None:
    assert sh("apply", "-i", "hosts.ini") == 5
    assert "there is no terminal to ask on" in sh.err
    assert "--yes" in sh.err
    assert sh.fleet.calls == []
    assert sh("rollback") == 5


def test_check_is_plan(sh: Shell) -> None:
    assert sh("apply", "-i", "hosts.ini", "-C") == 0
    assert sh.fleet.calls == [("plan", list(NODES))]


def test_a_reverted_canary(sh: Shell) -> None:
    sh.fleet.broken = {"n1"}
    document = sh.json("apply", "-i", "hosts.ini", "--yes", code=3)
    assert outcomes(document) == {"n1": "reverted", "n2": "skipped", "n3": "skipped"}
    assert sh("quarantine", "list") == 0
    assert "n1" in sh.out
    sh.fleet.broken = set()
    document = sh.json("apply", "-i", "hosts.ini", "--yes")
    assert outcomes(document) == {"n1": "quarantined", "n2": "changed", "n3": "changed"}
    assert sh("quarantine", "clear") == 5
    assert sh("quarantine", "clear", "n9") == 5
    assert sh("quarantine", "clear", "n1") == 0
    assert outcomes(sh.json("apply", "-i", "hosts.ini", "--yes")) == {"n1": "changed", "n2": "ok", "n3": "ok"}


def test_unreachable_nodes_do_not_stop_the_others(sh: Shell) -> None:
    sh.fleet.unreachable = {"n2"}
    document = sh.json("apply", "-i", "hosts.ini", "--yes", code=4)
    assert outcomes(document) == {"n1": "changed", "n2": "unreachable", "n3": "changed"}


def test_a_reviewed_plan_is_applied_exactly(sh: Shell) -> None:
    assert sh("plan", "-i", "hosts.ini", "--out", "plan.json") == 0
    assert sh("apply", "plan.json", "--yes") == 0
    assert sh.fleet.values == dict.fromkeys(NODES, "4096")


def test_a_drifted_node_stops_all_or_is_left_out(sh: Shell) -> None:
    assert sh("plan", "-i", "hosts.ini", "--out", "plan.json") == 0
    sh.fleet.values["n2"] = "256"
    document = sh.json("apply", "plan.json", "--yes", code=1)
    assert outcomes(document) == {"n1": "skipped", "n2": "refused", "n3": "skipped"}
    assert document["nodes"]["n2"]["error"]["why"] == "net.core.somaxconn: was 128, now 256"
    assert sh.fleet.values == {"n1": "128", "n2": "256", "n3": "128"}
    document = sh.json("apply", "plan.json", "--yes", "--allow-drift", code=1)
    assert outcomes(document) == {"n1": "changed", "n2": "refused", "n3": "changed"}
    assert sh.fleet.values["n2"] == "256"


def test_a_damaged_plan_file_reaches_no_node(sh: Shell) -> None:
    assert sh("plan", "-i", "hosts.ini", "--out", "plan.json") == 0
    sh.fleet.calls.clear()
    text = Path("plan.json").read_text()
    for damaged in (text[:500], text.replace("4096", "8192"), ""):
        Path("plan.json").write_text(damaged)
        assert sh("apply", "plan.json", "--yes") == 5
    assert sh("apply", "plan.json", "--yes", "-p", "latency") == 5
    assert sh.fleet.calls == []


def test_rollback_undoes_the_last_run_that_changed_something(sh: Shell) -> None:
    assert sh("--inventory", "hosts.ini", "--yes") == 0
    assert sh("verify", "-i", "hosts.ini") == 0
    document = sh.json("rollback", "--yes")
    assert outcomes(document) == dict.fromkeys(NODES, "changed")
    assert sh.fleet.values == dict.fromkeys(NODES, "128")
    assert sh("rollback", "--yes") == 5
    assert "nothing to roll back" in sh.err
    plans = sh.json("history", "--verb", "verify")
    assert sh("rollback", plans[0]["id"], "--yes") == 5
    assert "changed nothing" in sh.err


def test_verify_and_drift(sh: Shell) -> None:
    assert sh("verify", "-i", "hosts.ini") == 1
    assert sh("verify", "-i", "hosts.ini", "--detailed-exitcode") == 2
    assert sh("drift", "-i", "hosts.ini", "--metrics-file", "x.prom") == 0
    assert 'tune_nodes_pending_changes{node="n1"' in Path("x.prom").read_text()
    assert sh("drift", "-i", "hosts.ini", "--detailed-exitcode") == 2
    assert sh("--inventory", "hosts.ini", "--yes") == 0
    assert sh("drift", "-i", "hosts.ini", "--detailed-exitcode") == 0
    assert "no drift" in sh.out


def test_history_show_report_bundle(sh: Shell) -> None:
    assert sh("history") == 0
    assert "no runs yet" in sh.err
    assert sh("--inventory", "hosts.ini", "--yes") == 0
    (entry,) = sh.json("history")
    assert (entry["verb"], entry["state"], entry["outcomes"]) == ("apply", "finished", {"changed": 3})
    assert sh("show", entry["id"][-6:]) == 0
    assert "1 canary" in sh.out
    assert sh("show", "latest", "--node", "n9") == 5
    assert sh("report", "latest", "--out", "r.html") == 0
    assert sh("bundle", "--out", "b.tar.gz") == 0
    assert Path("b.tar.gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["plan"], "no inventory given"),
        (["plan", "-i", "nowhere"], "no inventory 'nowhere'"),
        (["plan", "-i", "hosts.ini", "-l", "zzz"], "zzz"),
        (["plan", "-i", "hosts.ini", "-p", "nope"], "nope"),
        (["plan", "-i", "hosts.ini", "-t", "nope"], "no tag 'nope'"),
        (["apply", "-i", "hosts.ini", "-y", "--serial", "0"], "serial"),
        (["apply", "-i", "hosts.ini", "-y", "--fail-percent", "200"], "--fail-percent"),
        (["plan", "-i", "hosts.ini", "--bogus"], "--bogus"),
        (["plan", "-i", "hosts.ini", "-o", "xml"], "xml"),
        (["frobnicate"], "frobnicate"),
        (["plan", "-i", "hosts.ini", "-K"], "no terminal"),
        (["show", "zzz"], "no run 'zzz'"),
        (["apply", "none.json", "-y"], "cannot read the plan"),
    ],
)
def test_mistakes_end_with_5_and_words(sh: Shell, argv: list[str], words: str) -> None:
    assert sh(*argv) == 5
    assert words in sh.err
    assert sh.err.startswith("error: ")
    assert "next: " in sh.err
    assert "Traceback" not in sh.err
    assert sh.fleet.calls == []


def test_an_unusable_state_directory_is_said_before_any_node(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert sh("--inventory", "hosts.ini", "--yes", "--state-dir", str(tmp_path / "file")) == 5
    assert "state directory" in sh.err
    assert sh.fleet.calls == []


def test_tags_leave_the_rest_out(sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    answer = sh.fleet.run

    def keep(call: Any) -> Any:
        asked.append(dict(call.request))
        return answer(call)

    monkeypatch.setattr(sh.fleet, "run", keep)
    assert sh("plan", "-i", "hosts.ini", "-t", "nic") == 0
    assert all(layer["sysctl"] == [] for layer in asked[0]["common"]["layers"])
