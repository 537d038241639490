"""The run store on a real file system: crash, damage, no room, quarantine."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tune_nodes.errors import Exit, UsageError
from tune_nodes.runs import store as store_module
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import NodeRecord, Outcome, RunRecord, Transaction
from tune_nodes.runs.store import RUN_ID, RunStore, new_run_id


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.open(tmp_path / "state")


def record(verb: str = "apply", age: int = 0) -> RunRecord:
    started = datetime.now(UTC) - timedelta(seconds=age)
    return RunRecord(schema=1, id=new_run_id(started), verb=verb, version="0", started=started, inventory=["lab"])


def test_ids() -> None:
    moment = datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)
    assert new_run_id(moment).startswith("20261124-081530-")
    assert RUN_ID.fullmatch(new_run_id())


def test_a_run_from_begin_to_end(store: RunStore) -> None:
    run = record()
    handle = store.begin(run)
    assert store.history()[0].state == "running"
    handle.node(NodeRecord(name="n1", outcome=Outcome.CHANGED, tx=Transaction(id=run.id, state="DONE")))
    handle.finish(0)
    (summary,) = store.history()
    assert (summary.id, summary.state, summary.exit_code, summary.outcomes) == (run.id, "finished", 0, {"changed": 1})
    assert store.load(run.id) == run
    lines = (store.runs / run.id / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["node", "finished"]


def test_whether_a_run_is_over(store: RunStore) -> None:
    run = record()
    assert not store.over(run.id), "not known here"
    handle = store.begin(run)
    assert not store.over(run.id)
    handle.close()  # as when its process dies
    assert store.over(run.id)
    for other in ("", "..", "../runs/" + run.id, "20260101-000000-abcdef"):
        assert not store.over(other)


def test_a_killed_run_is_interrupted_and_its_journal_is_read(store: RunStore) -> None:
    program = (
        "import sys, time\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from tune_nodes.runs.models import NodeRecord, RunRecord\n"
        "from tune_nodes.runs.store import RunStore, new_run_id\n"
        "store = RunStore.open(Path(sys.argv[1]))\n"
        "run = RunRecord(schema=1, id=new_run_id(), verb='apply', version='0', started=datetime.now(UTC))\n"
        "run.nodes['n1'] = NodeRecord(name='n1', outcome='pending')\n"
        "handle = store.begin(run)\n"
        "handle.node(NodeRecord(name='n1', outcome='changed'))\n"
        "print(run.id, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.root)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert store.history()[0].state == "running"
        process.send_signal(signal.SIGKILL)
    with (store.runs / run_id / "events.jsonl").open("a") as journal:
        journal.write('{"event":"node","record":{"na')  # cut off in the middle of a write
    assert store.history()[0].state == "interrupted"
    assert store.load(run_id).nodes["n1"].outcome is Outcome.CHANGED


def test_resolve(store: RunStore) -> None:
    ids = []
    for age, verb in ((300, "plan"), (200, "apply"), (100, "verify")):
        run = record(verb, age)
        store.begin(run).finish(0)
        ids.append(run.id)
    assert store.resolve("latest") == ids[2]
    assert store.resolve("") == ids[2]
    assert store.resolve("latest", "apply") == ids[1]
    assert store.resolve(ids[0]) == ids[0]
    assert store.resolve(ids[1][-6:]) == ids[1]
    assert store.resolve(f"{ids[1]}-2") == ids[1], "the transaction of a second round, as nodes name it"
    with pytest.raises(UsageError, match="fits 3 runs"):
        store.resolve("20")
    with pytest.raises(UsageError, match="no run 'zzz'"):
        store.resolve("zzz")
    with pytest.raises(UsageError, match="no rollback run"):
        store.resolve("latest", "rollback")


@pytest.mark.parametrize("reference", ["../../etc/passwd", "x", "20261124-081530-zzzzzz"])
def test_only_ids_are_opened(store: RunStore, reference: str) -> None:
    with pytest.raises(UsageError, match="not a run id"):
        store.load(reference)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00\xff"])
def test_damage_is_said(store: RunStore, text: str) -> None:
    run = record()
    store.begin(run).finish(0)
    (store.runs / run.id / "run.json").write_text(text)
    with pytest.raises(UsageError, match="damaged or of another version"):
        store.load(run.id)


def test_a_lost_index_is_made_again(store: RunStore) -> None:
    run = record()
    store.begin(run).finish(3)
    for path in store.root.glob("index.sqlite3*"):
        path.unlink()
    (summary,) = RunStore.open(store.root).history()
    assert (summary.id, summary.exit_code) == (run.id, 3)


def test_a_broken_index_is_said(store: RunStore) -> None:
    for path in store.root.glob("index.sqlite3*"):
        path.unlink()
    store.index.write_text("not a database" * 100)
    with pytest.raises(UsageError, match="cannot be used"):
        store.history()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(UsageError, match="state directory") as caught:
        RunStore.open(tmp_path / "state")
    assert caught.value.exit is Exit.USAGE
    assert "--state-dir" in caught.value.next


def test_no_room_is_said_before_anything_begins(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ROOM", 1 << 60)
    with pytest.raises(UsageError, match="cannot be used") as caught:
        store.begin(record())
    assert "MiB free" in caught.value.why
    assert store.history() == []


def test_quarantine(store: RunStore) -> None:
    store.quarantine("n1", "m1", "r", "probe lost")
    store.quarantine("n2", "", "r", "gone")
    first, second = store.quarantined()
    assert first.covers("renamed", "m1")
    assert not first.covers("n1", "reinstalled")
    assert first.covers("n1", "")
    assert second.covers("n2", "anything")
    assert store.clear_quarantine(["n2"]) == ["n2"]
    assert store.clear_quarantine([]) == ["n1"]
    assert store.quarantined() == []


def test_the_index_waits_for_a_writer(store: RunStore) -> None:
    other = sqlite3.connect(store.index)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert store.history() == []  # readers never wait
    assert time.monotonic() - began < 5
    other.close()


def test_an_atomic_write_leaves_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "f"
    write_atomic(target, "one")
    write_atomic(target, "two", 0o644)
    assert target.read_text() == "two"
    assert target.stat().st_mode & 0o777 == 0o644
    blocked = tmp_path / "dir"
    blocked.mkdir()
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        write_atomic(blocked, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "f"]
