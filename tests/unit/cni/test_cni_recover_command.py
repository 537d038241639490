"""``tune-nodes recover`` as a whole, over nodes in directories: the node code is the real one, only ssh is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import calls
from ansible_collections.tune.nodes.plugins.module_utils.cni.answers import fields_of
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans import calls as orphans
from ansible_collections.tune.nodes.plugins.module_utils.cni.rebuild import verbs as rebuild
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from cni_node import LIVE, Node, make

from tune_nodes.cli import session
from tune_nodes.cli.main import run
from tune_nodes.fleet.events import node_record
from tune_nodes.fleet.runner import Call, CallResult
from tune_nodes.recovery import guard
from tune_nodes.runs.models import NodeRecord, Outcome

NODES = ("w1", "w2", "cp1")


@dataclass
class Fleet:
    """Nodes by name. ``calls``: which playbook went to whom; ``meanwhile``: happens after each release."""

    nodes: dict[str, Node]
    meanwhile: Callable[[], object] = lambda: None
    unreachable: set[str] = field(default_factory=set)
    calls: list[tuple[str, list[str]]] = field(default_factory=list)

    def run(self, call: Call) -> CallResult:
        """Answer one request, as the modules do."""
        self.calls.append((call.playbook, call.names))
        common = call.request["common"]
        records = {}
        for name, fields in call.request["nodes"].items():
            records[name] = (
                NodeRecord(name=name, outcome=Outcome.UNREACHABLE)
                if name in self.unreachable
                else self._answer(call.playbook, name, {**common, **fields})
            )
        if call.playbook == "recover_leases.yml":
            self.meanwhile()
        return CallResult(records)

    def _answer(self, playbook: str, name: str, params: Mapping[str, Any]) -> NodeRecord:
        ask = calls.asked(json.loads(json.dumps(params)))
        ask.root = str(self.nodes[name].root)
        if playbook == "recover_look.yml":
            result = calls.look(ask)
        elif playbook == "recover_evidence.yml":
            result = calls.gather(ask)
            packed = Path(ask.root + result["cni"]["evidence"]["path"]).read_bytes()
            Path(params["dest"]).write_bytes(packed)
        elif playbook == "recover_rebuild.yml":
            result = rebuild.carry_out(rebuild.Asked(params["step"], params["run"], root=ask.root))
        elif playbook == "recover_orphans.yml":
            wanted = orphans.asked(params)
            wanted.root = ask.root
            result = orphans.bring_back(wanted) if wanted.undo else orphans.drop(wanted)
        else:
            result = calls.bring_back(ask) if ask.undo else calls.drop(ask, sleep=lambda _seconds: None)
        found = fields_of(result)["tune_nodes"]
        found["host"]["roles"] = ["control-plane" if name.startswith("cp") else "worker"]
        return node_record(name, found)


class Shell:
    """Runs command lines in a directory of its own."""

    def __init__(self, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
        self.fleet = fleet
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        code = run(("recover", *argv, "-i", "hosts.ini"))
        self.out, self.err = self._capsys.readouterr()
        return code

    def cni(self, *argv: str) -> int:
        """Run ``recover cni``, the two scans right after each other."""
        return self("cni", "--between", "0", "--cluster", "off", *argv)


@pytest.fixture
def sh(tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Three nodes; their programs are the first one's."""
    nodes = {"w1": node}
    for name in NODES[1:]:
        (tmp_path / name).mkdir()
        nodes[name] = make(tmp_path / name)
    fleet = Fleet(nodes)
    monkeypatch.setattr(session, "AnsibleRunner", lambda options, **_: fleet)
    monkeypatch.setattr(calls.evidence, "COMMANDS", ())
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    Path("hosts.ini").write_text("".join(f"{name} ansible_host=10.0.0.{i}\n" for i, name in enumerate(NODES, 1)))
    return Shell(fleet, capsys)


def test_looking_touches_nothing(sh: Shell) -> None:
    node = sh.fleet.nodes["w1"]
    node.lay_many(20)
    before = node.listing()
    assert sh.cni("--nodes", "w1", "--check") == 0
    assert "20 of the 25 leases of cbr0 are stale" in sh.out
    assert "R0 keep evidence" in sh.out and "R2 release stale leases; risk: no running pod" in sh.out
    assert sh.fleet.calls == [("recover_look.yml", ["w1"])] and node.listing() == before


def test_a_healthy_node_is_left_alone(sh: Shell) -> None:
    assert sh.cni("--nodes", "w1", "--yes") == 0
    assert "nothing is to be done" in sh.out and len(sh.fleet.calls) == 1


def test_nodes_one_after_the_other_the_control_plane_last_and_all_of_it_undone(sh: Shell) -> None:
    nodes = sh.fleet.nodes
    for node in nodes.values():
        node.lay_many(20)
    before = {name: node.contents() for name, node in nodes.items()}
    assert sh.cni("--nodes", "cp1,w1", "--nodes", "w2", "--yes", "-o", "json") == 0
    document = json.loads(sh.out)
    steps = ["recover_evidence.yml", "recover_leases.yml", "recover_look.yml"]
    assert sh.fleet.calls[1:] == [(step, [name]) for name in ("w1", "w2", "cp1") for step in steps]
    for name, node in nodes.items():
        assert sorted(node.listing()) == sorted([*LIVE, "last_reserved_ip.0", "lock"])
        assert document["recovery"][name]["released"] == {"file": 20}
        assert Path(document["recovery"][name]["evidence"]).is_file()
        assert {row["good"] for row in document["recovery"][name]["compared"]} <= {True, None}
    assert f"recover undo {document['id']}" not in sh.out  # a document, and nothing else
    assert sh("undo", document["id"], "--yes") == 0
    assert "w1 changed: 20 brought back" in sh.out
    assert {name: node.contents() for name, node in nodes.items()} == before
    assert sh("undo", "--yes") == 0 and "20 there already" in sh.out


def test_the_first_node_that_does_not_come_out_well_ends_it(sh: Shell) -> None:
    for node in sh.fleet.nodes.values():
        node.lay_many(20)
    node = sh.fleet.nodes["w1"]
    # The second look finds a lease that came stale meanwhile.
    sh.fleet.meanwhile = lambda: node.lay("10.244.1.200", 200)
    assert sh.cni("--nodes", "w1,w2", "--yes") == 1
    assert "cbr0: stale leases" in sh.out and "failed" in sh.out
    assert "1 failed, 1 skipped" in sh.out
    assert len(sh.fleet.nodes["w2"].listing()) == 27
    assert "undo:     tune-nodes recover undo" in sh.err


def test_a_refusal_is_said_with_what_to_do(sh: Shell) -> None:
    sh.fleet.nodes["w1"].lay_many(95)
    before = sh.fleet.nodes["w1"].listing()
    assert sh.cni("--nodes", "w1", "--yes") == 1
    assert "95 of the 100 leases of cbr0 look stale: 95.0 %" in sh.out and "--max-stale-percent" in sh.out
    assert sh.fleet.nodes["w1"].listing() == before and len(sh.fleet.calls) == 1
    assert sh.cni("--nodes", "w1", "--yes", "--max-stale-percent", "100") == 0


def test_evidence_alone(sh: Shell) -> None:
    sh.fleet.nodes["w1"].lay_many(20)
    assert sh.cni("--nodes", "w1", "--rung", "0", "--yes") == 0
    assert [step for step, _ in sh.fleet.calls] == ["recover_look.yml", "recover_evidence.yml"]
    assert "evidence:" in sh.err and len(sh.fleet.nodes["w1"].listing()) == 27


def test_an_unreachable_node_is_named(sh: Shell) -> None:
    sh.fleet.unreachable.add("w2")
    assert sh.cni("--nodes", "w1,w2", "--yes") == 4


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--nodes", "w9"], "w9 is no node of this inventory"),
        (["--nodes", "all"], "all is no node of this inventory"),
        (["--nodes", "w1", "--rung", "9"], "there is no rung 9"),
        (["--nodes", "w1", "--grace", "soon"], "--grace cannot be 'soon'"),
    ],
)
def test_mistakes_end_before_any_node(sh: Shell, argv: list[str], said: str) -> None:
    assert sh.cni(*argv, "--yes") == 5
    assert said in sh.err and sh.fleet.calls == []


def test_nobody_to_ask(sh: Shell) -> None:
    assert sh.cni("--nodes", "w1") == 5
    assert "--yes" in sh.err and sh.fleet.calls == []


def test_one_recovery_at_a_time(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(exist_ok=True)
    with guard.alone(tmp_path / "state", "the-first", 0, lambda: False):
        assert sh.cni("--nodes", "w1", "--yes") == 1
    assert "another recovery is at work" in sh.err and "the-first" in sh.err and sh.fleet.calls == []


def test_nothing_to_undo(sh: Shell) -> None:
    assert sh("undo", "--yes") == 5
    assert sh.cni("--nodes", "w1", "--yes") == 0
    assert sh("undo", "--yes") == 5
    assert "changed nothing" in sh.err


@pytest.mark.parametrize(
    ("params", "what"),
    [({"grace": "soon"}, "grace"), ({"between": "-1"}, "between"), ({"pod_ips": ["x"]}, "pod_ips")],
)
def test_wrong_parameters_of_the_modules(params: dict[str, Any], what: str) -> None:
    with pytest.raises(NodeError) as problem:
        calls.asked(params)
    assert what in problem.value.what and problem.value.code == "usage"
