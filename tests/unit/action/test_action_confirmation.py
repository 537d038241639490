"""One node's way from apply to its end, against a node whose answers are written down."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.plugin_utils.confirmation import Confirmation, ask
from ansible_collections.tune.nodes.plugins.plugin_utils.lease import Lease, Seen, read
from ansible_collections.tune.nodes.plugins.plugin_utils.link import LinkError
from hypothesis import given
from hypothesis import strategies as st

ARMED = {"id": "r1", "state": "ARMED", "window": 120.0, "deadline_in": 118.0}
CHANGES = [
    {"family": "sysctl", "key": "k", "before": "1", "want": "2", "after": "2", "status": "changed", "note": ""},
    {"family": "files", "key": "/f", "before": None, "want": "x", "after": None, "status": "pending", "note": ""},
]
PROBE = {"id": "gateway:g", "kind": "gateway", "target": "g", "ok": True, "detail": "", "ms": 1.0}


class Clock:
    """Time that passes only by sleeping and by being asked."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted:
    """A node that gives each operation's answers in order, the last one for ever."""

    def __init__(self, clock: Clock, **answers: Any) -> None:
        self.clock, self.answers, self.asked, self.renewed = clock, answers, [], 0

    def renew(self) -> None:
        self.renewed += 1

    def send(self, request: Mapping[str, Any], limit: float) -> dict[str, Any]:
        op = str(request["op"])
        self.asked.append((op, self.renewed > 0))
        queue = self.answers[op]
        found = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(found, LinkError):
            self.clock.now += 3.0
            raise found
        return {"ok": True, "changes": [], "probes": [], "tx": None, "error": None, "warnings": [], **found}


def applied(**more: Any) -> dict[str, Any]:
    return {"tx": ARMED, "changes": [dict(c) for c in CHANGES], "probes": [PROBE], **more}


def state(name: str, rows: Any = ()) -> dict[str, Any]:
    tx = {"id": "r1", "state": name}
    return {"tx": tx, "transactions": [{**tx, "rows": list(rows)}]}


def error(code: str, **more: Any) -> dict[str, Any]:
    return {"ok": False, "error": {"what": code, "why": "", "next": "", "code": code, "data": {}}, **more}


LOST = LinkError("lost", "gone", "lost")
REFUSED = LinkError("cannot be reached", "connection refused", "unreachable")
DONE = {"tx": {"id": "r1", "state": "DONE"}, "probes": [PROBE]}
ROWS = [{"family": "sysctl", "key": "k", "status": "reverted", "note": ""}]

WAYS = [
    ("confirmed", {"apply": [applied()], "confirm": [DONE]}, "changed", ["changed", "changed"]),
    ("nothing to do", {"apply": [{"changes": []}]}, "ok", []),
    ("link settles late", {"apply": [applied()], "confirm": [LOST, REFUSED, DONE]}, "changed", ["changed", "changed"]),
    (
        "probe lost: the node reverts at once",
        {
            "apply": [applied()],
            "confirm": [error("reverted", tx={"id": "r1", "state": "REVERTED"}, rows=ROWS)],
            "probe": [{"probes": [PROBE]}],
        },
        "reverted",
        ["reverted", "reverted"],
    ),
    (
        "never back: the node reverts by itself",
        {"apply": [applied()], "confirm": [LOST], "status": [LOST, state("REVERTED", ROWS)], "probe": [{}]},
        "reverted",
        ["reverted", "reverted"],
    ),
    (
        "refused confirm: reverted on request",
        {
            "apply": [applied()],
            "confirm": [error("moved")],
            "revert": [{"tx": {"id": "r1", "state": "REVERTED"}, "rows": ROWS}],
            "probe": [{}],
        },
        "reverted",
        ["reverted", "reverted"],
    ),
    (
        "confirmed, but the answer was lost",
        {"apply": [applied()], "confirm": [LOST, {"tx": {"id": "r1", "state": "DONE"}}]},
        "changed",
        ["changed", "changed"],
    ),
    ("drifted from the plan", {"apply": [error("drifted")]}, "refused", []),
    ("busy", {"apply": [error("busy")]}, "refused", []),
    ("no connection at all", {"apply": [REFUSED]}, "unreachable", []),
    ("answer of the apply lost, nothing armed", {"apply": [LOST], "status": [{"tx": None}]}, "failed", []),
    (
        "answer of the apply lost, armed",
        {
            "apply": [LOST],
            "status": [state("ARMED")],
            "revert": [{"tx": {"id": "r1", "state": "REVERTED"}, "rows": ROWS}],
            "probe": [{}],
        },
        "reverted",
        [],
    ),
    (
        "gone for good",
        {"apply": [applied()], "confirm": [LOST], "status": [LOST]},
        "unreachable",
        ["changed", "pending"],
    ),
    (
        "a value did not take",
        {"apply": [error("reverted", changes=[{**CHANGES[0], "status": "failed"}])], "probe": [{"probes": [PROBE]}]},
        "reverted",
        ["failed"],
    ),
]


@pytest.mark.parametrize(("answers", "outcome", "statuses"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
def test_ways(answers: dict[str, Any], outcome: str, statuses: list[str]) -> None:
    clock = Clock()
    node = Scripted(clock, **{op: list(queue) for op, queue in answers.items()})
    found = Confirmation(node, {"op": "apply", "run": "r1", "window": 120}, clock).run()
    assert found["outcome"] == outcome
    assert [c["status"] for c in found["changes"]] == statuses
    assert (found["error"] is None) == (outcome in ("changed", "ok"))
    assert all(fresh for op, fresh in node.asked if op != "apply"), "everything after the change uses new connections"
    assert clock.now - 1000.0 < 120 + 60, "a node is not waited for without end"


def test_nothing_is_confirmed_in_the_last_seconds() -> None:
    clock = Clock()
    node = Scripted(clock, apply=[applied()], confirm=[LOST], status=[state("REVERTED")], probe=[{}])
    Confirmation(node, {"op": "apply", "run": "r1", "window": 120}, clock).run()
    asked = [op for op, _ in node.asked]
    assert asked.index("status") > 1
    assert asked.count("confirm") > 3


def test_asking_changes_nothing_and_says_how_the_node_stands() -> None:
    pending = {"changes": [{**CHANGES[0], "status": "pending"}], "plan_hash": "sha256:x"}
    assert ask(Scripted(Clock(), plan=[pending]), {"op": "plan"})["outcome"] == "pending"
    assert ask(Scripted(Clock(), plan=[{}]), {"op": "plan"})["outcome"] == "ok"
    assert ask(Scripted(Clock(), plan=[REFUSED]), {"op": "plan"})["outcome"] == "unreachable"
    assert ask(Scripted(Clock(), plan=[error("unsupported")]), {"op": "plan"})["outcome"] == "refused"


class Watched(Clock):
    """Time in which a watcher keeps the Leases' file: ``at(now)`` says what stands in it."""

    def __init__(self, path: Path, at: Callable[[float], Mapping[str, Any] | None]) -> None:
        super().__init__()
        self.path, self.at = path, at
        self.sleep(0)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        content = self.at(self.now)
        if content is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.write_text(json.dumps({"schema": 1, "error": "", "updated": self.now, **content}))


def renewed(seconds: float) -> Mapping[str, Any]:
    return {"renewed": {"worker": 1000.0 + seconds}}


PUT_BACK = {"tx": {"id": "r1", "state": "REVERTED"}, "rows": ROWS}
STOPPED = "the Lease of worker was not renewed within 15 s of the change: its kubelet is stopped or cut off"
SILENT = "the API server has not answered since the change"
LEASES: list[tuple[str, Callable[[float], Mapping[str, Any] | None], str, str, float]] = [
    ("renewed after 7 s", lambda now: renewed(7 if now >= 1007 else -3), "changed", "renewed 7 s after the change", 8),
    ("kubelet stopped", lambda now: renewed(-3), "reverted", STOPPED, 16),
    ("never seen", lambda now: {"renewed": {"worker": 0.0}}, "reverted", STOPPED, 16),
    ("of another node", lambda now: {"renewed": {"other": 1001.0}}, "reverted", STOPPED, 16),
    ("server silent", lambda now: {**renewed(-3), "updated": 1001.0}, "reverted", SILENT, 16),
    (
        "server fails",
        lambda now: {**renewed(-3), "error": "connection refused"},
        "reverted",
        "(connection refused)",
        16,
    ),
    ("no file", lambda now: None, "reverted", SILENT, 16),
    ("renewed though silent later", lambda now: {**renewed(2), "updated": 1002.0}, "changed", "renewed 2 s", 3),
]


@pytest.mark.parametrize(("at", "outcome", "detail", "took"), [w[1:] for w in LEASES], ids=[w[0] for w in LEASES])
def test_a_change_is_confirmed_only_once_the_lease_is_renewed(
    tmp_path: Path, at: Callable[[float], Mapping[str, Any] | None], outcome: str, detail: str, took: float
) -> None:
    clock = Watched(tmp_path / "leases.json", at)
    node = Scripted(clock, apply=[applied()], confirm=[DONE], revert=[PUT_BACK], probe=[{"probes": [PROBE]}])
    lease = Lease({"file": str(clock.path), "name": "worker", "limit": 15}, clock)
    found = Confirmation(node, {"op": "apply", "run": "r1", "window": 120}, clock, lease).run()
    assert found["outcome"] == outcome
    row = found["probes_after"][-1]
    assert (row["id"], row["ok"], row["target"]) == ("lease", outcome == "changed", "worker")
    assert detail in row["detail"]
    assert ("confirm" in [op for op, _ in node.asked]) == (outcome == "changed")
    if outcome == "reverted":
        assert (found["error"]["code"], found["error"]["why"]) == ("reverted", row["detail"])
        assert [c["status"] for c in found["changes"]] == ["reverted", "reverted"]
    assert clock.now - 1000.0 <= took


def test_the_wait_for_a_lease_leaves_time_to_confirm(tmp_path: Path) -> None:
    """A renewal that comes late in a short window is not waited for: the margin belongs to the confirm."""
    clock = Watched(tmp_path / "leases.json", lambda now: renewed(14 if now >= 1014 else -3))
    short = {**applied(), "tx": {**ARMED, "window": 30.0, "deadline_in": 28.0}}
    node = Scripted(clock, apply=[short], confirm=[DONE], revert=[PUT_BACK], probe=[{}])
    lease = Lease({"file": str(clock.path), "name": "worker", "limit": 15}, clock)
    found = Confirmation(node, {"op": "apply", "run": "r1", "window": 30}, clock, lease).run()
    assert found["outcome"] == "reverted"
    assert "within 8 s of the change" in found["error"]["why"]
    assert clock.now <= 1000.0 + 28.0 - 15.0


def test_a_node_whose_link_is_cut_too_is_waited_for(tmp_path: Path) -> None:
    clock = Watched(tmp_path / "leases.json", lambda now: renewed(-3))
    node = Scripted(clock, apply=[applied()], revert=[LOST], status=[LOST, state("REVERTED", ROWS)], probe=[{}])
    lease = Lease({"file": str(clock.path), "name": "worker", "limit": 15}, clock)
    found = Confirmation(node, {"op": "apply", "run": "r1", "window": 120}, clock, lease).run()
    assert (found["outcome"], found["error"]["why"]) == ("reverted", STOPPED)


@given(st.text() | st.sampled_from(['{"schema":1}', '{"schema":1,"updated":"x","renewed":3}', "[]", "{" * 9999]))
def test_any_content_of_the_leases_file_is_survived(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "leases.json")
        path.write_bytes(text.encode("utf-8", "surrogateescape" if text.isprintable() else "replace"))
        assert read(str(path), "worker") in (None, Seen(0.0, 0.0))
