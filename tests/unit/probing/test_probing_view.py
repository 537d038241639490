"""Paths on a terminal, a pipe and in the report; and a probe of a fleet whose nodes are played."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.cli.output import Printer, console
from tune_nodes.cli.pathview import show_paths, show_probe
from tune_nodes.cli.probe import document
from tune_nodes.errors import Exit
from tune_nodes.fleet.execute import FleetRun, Settings
from tune_nodes.fleet.runner import Call, CallResult
from tune_nodes.fleet.stop import StopSwitch
from tune_nodes.fleet.verdict import exit_code
from tune_nodes.probing.ends import end_of, measured
from tune_nodes.probing.likely import faults
from tune_nodes.probing.look import Probing, Wanted
from tune_nodes.runs.models import NodeRecord, Outcome, PathRecord, RunRecord
from tune_nodes.runs.report import render_html
from tune_nodes.runs.report.matrix import matrices
from tune_nodes.runs.store import RunStore

NOW = datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)


def mesh(names: Sequence[str], bad: str = "", layer: str = "node", **said: Any) -> list[PathRecord]:
    """Return all paths between nodes; those to ``bad`` have a hole."""
    rows = []
    for one in names:
        for other in names:
            hole = {"exact": "fail", "passes": 1400, "direction": "forward"} if other == bad else {}
            row = {
                "from": one,
                "to": other,
                "layer": layer,
                "family": 4,
                "size": 1500,
                "exact": "pass",
                "above": "fail",
            }
            rows.append(PathRecord.model_validate({**row, "passes": 1500, **hole, **said}))
    return [row for row in rows if row.from_ != row.to]


def record(paths: list[PathRecord], names: Sequence[str]) -> RunRecord:
    return RunRecord(
        schema=1,
        id="20261124-081530-a1b2c3",
        verb="probe",
        version="0.1.0",
        started=NOW,
        paths=paths,
        path_faults=faults(paths, {}),
        nodes={name: NodeRecord(name=name, outcome=Outcome.OK) for name in names},
        options={"measured": "all pairs"},
    )


def shown(run: RunRecord, unicode: bool = True, width: int = 80, call: Any = show_paths, *more: Any) -> str:
    stream = io.StringIO()
    printer = Printer()
    printer.out = console(stream)
    printer.out.width = width
    printer.unicode = unicode
    call(printer, run, *more)
    return stream.getvalue()


NAMES = ["n1", "n2", "n3"]


def test_a_matrix_says_what_passes_and_a_fault_names_its_pair() -> None:
    text = shown(record(mesh(NAMES, "n2"), NAMES))
    assert "nodes, IPv4: 4 of 6 pass, at 1500" in text
    assert "#1 n1     -    \u27171400 1500" in text
    assert text.count("1500 bytes vanish, 1400 pass") == 2
    assert text.count("likely underlay-hop") == 1, "told once for both"
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(" ") and line.endswith(" ")]


def test_an_ascii_terminal_gets_ascii() -> None:
    assert shown(record(mesh(NAMES, "n2"), NAMES), unicode=False).isascii()


@pytest.mark.parametrize("count", [2, 10, 11, 50, 51, 300])
def test_any_fleet_fits_into_80_columns(count: int) -> None:
    names = [f"node-with-a-long-name-{number}" for number in range(count)]
    paths = [path for path in mesh(names[:60], names[1]) if count <= 60 or path.to == names[1]]
    text = shown(record(paths, names))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "1400" in text or "\u2717" in text


def test_what_was_not_measured_is_no_pass() -> None:
    paths = mesh(NAMES, exact="", size=None, passes=None)
    text = shown(record(paths, NAMES))
    assert "0 of 0 pass" in text
    assert "?" in text
    assert matrices(paths)[0].cells[0][1].state == "none"


def test_the_report_draws_it() -> None:
    page = render_html(record([*mesh(NAMES, "n2"), *mesh(NAMES, layer="pod", size=1450)], NAMES))
    assert "10 of 12 paths carry what is sent over them" in page
    assert page.count('<td class="failed"') == 2
    assert page.count('<td class="ok"') == 10
    assert "n1 to n2: 1500 bytes vanish, 1400 pass, forward" in page
    assert "Measured: all pairs." in page
    assert 'id="paths"' not in render_html(record([], NAMES))


EVIL = '<script>alert(1)</script>"\x1b[31m'


def test_a_pods_name_is_text_everywhere() -> None:
    run = record(mesh(NAMES, "n2", "pod", from_end=EVIL, note=EVIL), NAMES)
    assert "<script>alert" not in render_html(run)
    assert "\x1b" not in shown(run)


# -- a whole probe over played nodes ----------------------------------------------------------------------------------


class Played:
    """Nodes that answer what the test says; a runner."""

    def __init__(self, answer: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self.answer = answer
        self.calls: list[Call] = []

    def run(self, call: Call) -> CallResult:
        self.calls.append(call)
        found = {}
        for name, fields in call.request["nodes"].items():
            said = self.answer(name, fields["paths"])
            outcome = Outcome.OK if said is not None else Outcome.UNREACHABLE
            found[name] = NodeRecord(name=name, outcome=outcome, paths=said if isinstance(said, dict) else {})
        return CallResult(found)


class Silent:
    """A terminal nobody looks at."""

    def phase(self, title: str, total: int) -> None: ...

    def node(self, record: NodeRecord) -> None: ...

    def wave(self, wave: Any, total: int) -> None: ...

    def note(self, text: str) -> None: ...


ADDRESSES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


def probed(tmp_path: Path, answer: Callable[[str, Mapping[str, Any]], Any], **wanted: Any) -> tuple[RunRecord, Probing]:
    store = RunStore.open(tmp_path / "state")
    handle = store.begin(record([], []))
    run = FleetRun(Played(answer), handle, Silent(), StopSwitch(lambda text: None), Settings())
    probing = Probing(run, ADDRESSES)
    probing.run(Wanted(**wanted))
    handle.close()
    return handle.record, probing


def self_of(name: str) -> dict[str, Any]:
    return {"self": {"addresses": {"4": ADDRESSES[name]}, "pod": None}, "measured": []}


def good(target: Mapping[str, Any]) -> dict[str, Any]:
    row = {"id": target["id"], "size": 1500, "small": "answered", "exact": "answered", "passes": 1500}
    return {**row, "packets": 2, "bytes": 1600}


def test_a_probe_asks_twice_and_keeps_what_came_of_it(tmp_path: Path) -> None:
    asked_for = []

    def answer(name: str, asked: Mapping[str, Any]) -> Any:
        asked_for.append(name)
        return {"measured": [good(target) for target in asked["targets"]]} if "targets" in asked else self_of(name)

    run, probing = probed(tmp_path, answer)
    assert len(asked_for) == 2 * len(ADDRESSES)
    assert [path.exact for path in run.paths] == ["pass"] * 6
    assert exit_code(run) is Exit.OK
    found = json.loads(json.dumps(document(run, probing)))
    assert (found["schema"], found["faults"], found["sent"]) == (1, [], {"packets": 12, "bytes": 9600})
    assert {"from", "to", "layer", "family", "size", "exact", "above", "passes", "direction"} <= set(found["paths"][0])
    assert "all 3 pairs; 12 packets, 10 kB sent" in shown(run, True, 80, show_probe, probing)


def test_a_node_that_does_not_answer_is_measured_by_the_others(tmp_path: Path) -> None:
    def answer(name: str, asked: Mapping[str, Any]) -> Any:
        if name == "b":
            return None
        if "targets" not in asked:
            return self_of(name)
        hole = {"exact": "silent", "back": "silent", "forth": "silent", "passes": 1400}
        return {"measured": [{**good(t), **(hole if t["id"].startswith("b|") else {})} for t in asked["targets"]]}

    run, _ = probed(tmp_path, answer)
    assert [(fault.from_, fault.to, fault.direction) for fault in run.path_faults] == [
        ("a", "b", "both"),
        ("b", "c", "both"),
    ]
    assert exit_code(run) is Exit.FAILED


def test_a_node_that_is_down_is_only_unreachable(tmp_path: Path) -> None:
    def answer(name: str, asked: Mapping[str, Any]) -> Any:
        if name == "b":
            return None
        if "targets" not in asked:
            return self_of(name)
        dead = {"small": "silent", "exact": "", "passes": None}
        return {"measured": [{**good(t), **(dead if t["id"].startswith("b|") else {})} for t in asked["targets"]]}

    run, _ = probed(tmp_path, answer)
    assert run.path_faults == []
    assert exit_code(run) is Exit.UNREACHABLE


@pytest.mark.parametrize("junk", [None, 3, "x", [], [[]], {"": ""}, [{"id": "a|node|4", "size": "many"}], [None]])
def test_any_answer_is_survived(tmp_path: Path, junk: Any) -> None:
    def answer(name: str, asked: Mapping[str, Any]) -> Any:
        return {"self": junk, "measured": junk} if name == "b" or "targets" in asked else self_of(name)

    run, _ = probed(tmp_path, answer)
    assert all(path.exact == "" for path in run.paths)


WORDS = st.text(max_size=8)
JUNK = st.recursive(st.none() | st.integers() | WORDS, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner))


@given(junk=JUNK)
def test_junk_is_no_end_and_no_measurement(junk: Any) -> None:
    end = end_of({"self": junk})
    assert end is None or end.addresses == {}
    assert measured({"measured": junk}) == []


def test_a_node_speaks_only_of_what_it_was_asked(tmp_path: Path) -> None:
    def answer(name: str, asked: Mapping[str, Any]) -> Any:
        if "targets" not in asked:
            return self_of(name)
        return {"measured": [good({"id": "c|node|4"}), good({"id": "z|node|9"}), good({"id": "x"})]}

    run, _ = probed(tmp_path, answer)
    assert {path.to for path in run.paths if path.exact} <= {"a", "b", "c"}
