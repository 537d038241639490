"""A plan file that is exactly what was reviewed, or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.model import digest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import UsageError
from tune_nodes.fleet.target import Target
from tune_nodes.runs import planfile
from tune_nodes.runs.models import ChangeRecord, ErrorRecord, NodeRecord, Outcome, RunRecord

LAYERS = [{"profile": "p", "match": None, "sysctl": [{"key": "net.core.somaxconn", "value": 4096}], "nic_queues": []}]


def change(key: str = "net.core.somaxconn", before: str | None = "128", **fields: Any) -> ChangeRecord:
    return ChangeRecord.model_validate({"family": "sysctl", "key": key, "before": before, "want": "4096", **fields})


def run() -> RunRecord:
    host = {"machine_id": "m1"}
    nodes = [
        NodeRecord(name="n1", outcome=Outcome.PENDING, plan_hash="sha256:1", changes=[change()], host=host),
        NodeRecord(name="n2", outcome=Outcome.OK, plan_hash="sha256:2", changes=[change(status="ok")]),
        NodeRecord(name="n3", outcome=Outcome.UNREACHABLE, error=ErrorRecord(what="no answer")),
    ]
    return RunRecord(
        schema=1,
        id="20261124-081530-a1b2c3",
        verb="plan",
        version="0.1.0",
        started=datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC),
        profile="kubernetes-node",
        inventory=["/inv"],
        nodes={node.name: node for node in nodes},
    )


TARGETS = [
    Target("n1", "10.0.0.1", LAYERS, {"zone": "a"}, ("workers",), probes=[{"kind": "dns", "target": "x"}]),
    Target("n2", "10.0.0.2", LAYERS, gateway=False, peers=0),
    Target("n3", "10.0.0.3", LAYERS),
]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    planfile.save(tmp_path / "plan.json", planfile.build(run(), TARGETS, 90))
    return tmp_path / "plan.json"


def test_round_trip(kept: Path) -> None:
    plan = planfile.load(kept)
    assert plan == planfile.build(run(), TARGETS, 90)
    assert plan.left_out == {"n3": "no answer"}
    assert len(plan.layers) == 1
    target = plan.target("n1")
    assert (target.expect, target.layers, target.labels, target.groups) == (
        "sha256:1",
        LAYERS,
        {"zone": "a"},
        ["workers"],
    )
    assert (plan.target("n2").gateway, plan.target("n2").peers) == (False, 0)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(text: bytes) -> bytes:
        raw = json.loads(text)
        change(raw)
        return json.dumps(raw).encode()

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: text[: len(text) // 2], "not a complete JSON document"),
        (lambda text: text + b"}", "not a complete JSON document"),
        (lambda text: b"\xff\xfe" + text, "not a complete JSON document"),
        (lambda text: b"[" * 100_000, "not a complete JSON document"),
        (lambda text: b"[]", "not a JSON object"),
        (lambda text: b"{}", "not a plan file"),
        (lambda text: text.replace(b"4096", b"8192"), "edited or damaged"),
        (edited(lambda raw: raw.pop("digest")), "edited or damaged"),
        (edited(lambda raw: raw.update(schema=2)), "another version"),
        (edited(lambda raw: raw["nodes"].pop("n1")), "edited or damaged"),
        (edited(lambda raw: raw.update(extra=1)), "edited or damaged"),
    ],
)
def test_anything_else_is_refused(kept: Path, edit: Callable[[bytes], bytes], words: str) -> None:
    kept.write_bytes(edit(kept.read_bytes()))
    with pytest.raises(UsageError) as caught:
        planfile.load(kept)
    assert words in f"{caught.value.what} {caught.value.why}"
    assert caught.value.next


def test_a_digest_made_anew_does_not_get_junk_through(kept: Path) -> None:
    raw = json.loads(kept.read_bytes())
    del raw["digest"]
    raw["nodes"]["n1"]["layers"] = "sha256:none"
    kept.write_text(json.dumps({"digest": digest(raw), **raw}))
    with pytest.raises(UsageError, match="not a valid plan file"):
        planfile.load(kept)


@given(st.binary(max_size=200))
def test_junk(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.json"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        planfile.load(path)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        planfile.load(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot write"):
        planfile.save(tmp_path / "no" / "plan.json", planfile.build(run(), TARGETS, 90))


@pytest.mark.parametrize(
    ("was", "now", "lines"),
    [
        ([change()], [change()], []),
        ([change()], [change(before="512")], ["net.core.somaxconn: was 128, now 512"]),
        ([change(before=None)], [change()], ["net.core.somaxconn: was absent, now 128"]),
        ([change()], [], ["net.core.somaxconn: no longer planned"]),
        ([], [change()], ["net.core.somaxconn: not in the reviewed plan"]),
        (
            [change()],
            [change(status="owned", owner="TuneD")],
            ["net.core.somaxconn: was 4096 (pending), now 4096 (owned)"],
        ),
        ([change(identity={"mac": "a"})], [change(identity={"mac": "b"})], ["net.core.somaxconn: another device"]),
    ],
)
def test_which_keys_drifted(was: list[ChangeRecord], now: list[ChangeRecord], lines: list[str]) -> None:
    assert planfile.drifted_keys(was, now) == lines


def test_compare(kept: Path) -> None:
    plan = planfile.load(kept)
    now = run().nodes
    assert planfile.compare(plan, now) == {}
    moved = now["n1"].model_copy(update={"plan_hash": "sha256:9", "changes": [change(before="256")]})
    assert planfile.compare(plan, {**now, "n1": moved}) == {"n1": ["net.core.somaxconn: was 128, now 256"]}
    other = now["n1"].model_copy(update={"host": {"machine_id": "m2"}})
    assert planfile.compare(plan, {**now, "n1": other}) == {"n1": ["it is another machine now (machine-id differs)"]}
    silent = NodeRecord(name="n1", outcome=Outcome.UNREACHABLE)
    assert planfile.compare(plan, {**now, "n1": silent}) == {}
    same_words = now["n1"].model_copy(update={"plan_hash": "sha256:9"})
    assert planfile.compare(plan, {**now, "n1": same_words}) == {"n1": ["the plan's hash differs"]}
