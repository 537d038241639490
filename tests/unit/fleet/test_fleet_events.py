"""From ansible-runner's events to records: pure, and unmoved by junk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.fleet.events import Collector, explain, node_record, record_from_event
from tune_nodes.runs.models import NodeRecord, Outcome

UUID = "0242ac11-0002"


def event(kind: str, host: str, res: Any, uuid: str = UUID) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": host, "res": res, "playbook_uuid": uuid}}


def start() -> dict[str, Any]:
    return {"event": "playbook_on_start", "event_data": {"playbook_uuid": UUID}}


RESULT: dict[str, Any] = {
    "outcome": "changed",
    "host": {"roles": ["worker"], "kernel": "6.1.0"},
    "identity": {"machine_id": "m1", "boot_id": "b1"},
    "plan_hash": "sha256:aa",
    "changes": [
        {
            "family": "sysctl",
            "key": "net.core.somaxconn",
            "before": "128",
            "want": "4096",
            "status": "changed",
            "new": 1,
        }
    ],
    "probes_before": [{"id": "gateway", "kind": "gateway", "target": "10.0.0.1", "ok": True, "detail": "", "ms": 0.4}],
    "probes_after": [],
    "tx": {"id": "r1", "state": "DONE", "reverter": "systemd", "window": 120.0, "deadline_in": None},
    "error": None,
    "warnings": [],
    "timings": {"total": 0.2},
    "layers": ["a later version's field"],
}


def test_a_result_becomes_a_record() -> None:
    record = record_from_event(event("runner_on_ok", "n1", {"tune_nodes": RESULT}))
    assert record is not None
    assert (record.name, record.outcome, record.plan_hash) == ("n1", Outcome.CHANGED, "sha256:aa")
    assert record.changes[0].key == "net.core.somaxconn"
    assert record.tx is not None
    assert record.tx.state == "DONE"
    assert record.host["machine_id"] == "m1"
    assert record.timings == {"total": 0.2}


def test_a_failed_result_of_ours_is_ours() -> None:
    error = {"what": "put back", "why": "probe lost", "next": "", "code": "reverted", "data": {}}
    res = {"failed": True, "msg": "x", "tune_nodes": {**RESULT, "outcome": "reverted", "error": error}}
    record = record_from_event(event("runner_on_failed", "n1", res))
    assert record is not None
    assert record.outcome is Outcome.REVERTED
    assert record.error is not None
    assert record.error.code == "reverted"


@pytest.mark.parametrize(
    ("kind", "res", "outcome", "code"),
    [
        ("runner_on_unreachable", {"msg": "Failed to connect: Connection refused"}, Outcome.UNREACHABLE, "ssh"),
        ("runner_on_unreachable", {"msg": "Host key verification failed."}, Outcome.UNREACHABLE, "host-key"),
        ("runner_on_unreachable", {}, Outcome.UNREACHABLE, "unreachable"),
        ("runner_on_failed", {"msg": "Missing sudo password"}, Outcome.FAILED, "become"),
        ("runner_on_failed", {"msg": "boom", "exception": "Traceback"}, Outcome.FAILED, "failed"),
        ("runner_on_failed", {"module_stderr": "sh: python: not found"}, Outcome.FAILED, "python"),
        ("runner_on_ok", {}, Outcome.FAILED, "failed"),
        ("runner_on_ok", None, Outcome.FAILED, "failed"),
        ("runner_on_ok", {"tune_nodes": "text"}, Outcome.FAILED, "failed"),
        ("runner_on_skipped", {"skipped": True}, Outcome.FAILED, "failed"),
    ],
)
def test_what_is_not_ours_becomes_an_error(kind: str, res: Any, outcome: Outcome, code: str) -> None:
    record = record_from_event(event(kind, "n1", res))
    assert record is not None
    assert record.outcome is outcome
    assert record.error is not None
    assert record.error.code == code


@pytest.mark.parametrize("kind", ["runner_on_start", "playbook_on_stats", "verbose", "warning", None])
def test_other_events_say_nothing(kind: str | None) -> None:
    assert record_from_event({"event": kind, "event_data": {"host": "n1"}}) is None


@pytest.mark.parametrize("part", ["outcome", "changes", "tx", "error", "timings", "host", "warnings", "probes_after"])
@pytest.mark.parametrize("junk", ["text", 7, [1], {"a": []}, [[]]])
def test_a_broken_contract_is_said(part: str, junk: Any) -> None:
    record = node_record("n1", {**RESULT, part: junk})
    assert record.error is None or record.error.code == "protocol" or part == "error"


def test_escape_sequences_and_megabytes_are_taken_out() -> None:
    raw = {
        **RESULT,
        "warnings": ["\x1b[2J" + "w" * (1 << 20)],
        "error": {"what": "\x1b]0;x\x07bad", "why": "y" * 10**6},
    }
    record = node_record("n1", raw)
    assert "\x1b" not in record.model_dump_json()
    assert len(record.model_dump_json()) < 20_000


def test_a_lost_connection_without_a_step_gets_one() -> None:
    error = {"what": "the node cannot be reached", "why": "Could not resolve hostname x", "next": ""}
    record = node_record("n1", {"outcome": "unreachable", "error": error})
    assert record.error is not None
    assert "ansible_host" in record.error.next


def test_explain_is_one_line() -> None:
    error = explain("a\nb\x1b[1m" + "c" * 5000, unreachable=True)
    assert "\n" not in error.why
    assert len(error.why) <= 600


def test_the_collector_keeps_the_first_answer_of_each_wanted_node() -> None:
    seen: list[NodeRecord] = []
    collector = Collector(["n1", "n2", "n3"], seen.append)
    for one in (
        start(),
        event("runner_on_ok", "n1", {"tune_nodes": RESULT}),
        event("runner_on_failed", "n1", {"msg": "later"}),
        event("runner_on_ok", "stranger", {"tune_nodes": RESULT}),
        event("runner_on_unreachable", "n2", {"msg": "no route"}),
    ):
        assert collector(one) is False
    assert {name: record.outcome for name, record in collector.records.items()} == {
        "n1": Outcome.CHANGED,
        "n2": Outcome.UNREACHABLE,
    }
    assert [record.name for record in seen] == ["n1", "n2"]
    assert collector.missing() == ["n3"]


def test_a_node_cannot_speak_for_another() -> None:
    collector = Collector(["n1", "n2"])
    collector(start())
    collector(event("runner_on_ok", "n2", {"tune_nodes": RESULT}, uuid="forged"))
    collector({"event": "playbook_on_start", "event_data": {"playbook_uuid": "forged"}})
    collector(event("runner_on_ok", "n2", {"tune_nodes": RESULT}, uuid="forged"))
    assert collector.records == {}


def test_the_tail_is_short_and_clean() -> None:
    lines: list[str] = []
    collector = Collector(["n1"], on_line=lines.append)
    for number in range(200):
        collector({"event": "verbose", "stdout": f"\x1b[31mline {number}\x1b[0m " + "x" * 10_000})
    assert len(collector.tail) == 40
    assert collector.tail[-1].startswith("line 199")
    assert max(map(len, lines)) < 2100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RESULT, "x"]), inner, max_size=5),
    max_leaves=12,
)


@given(st.sampled_from(["runner_on_ok", "runner_on_failed", "runner_on_unreachable", "verbose"]), JSON, JSON)
def test_junk_events(kind: str, res: Any, data: Any) -> None:
    Collector(["n1"])(event(kind, "n1", res))
    Collector(["n1"])(event(kind, "n1", {"tune_nodes": data}))
    Collector(["n1"])({"event": kind, "event_data": data, "stdout": res})
