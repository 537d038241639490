"""Transactions on disk and in memory: states, journal, what is restored. No root, no kernel: a made-up family."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.family import Family
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.transaction import session, store
from ansible_collections.tune.nodes.plugins.module_utils.transaction.journal import Journal, read_changes
from ansible_collections.tune.nodes.plugins.module_utils.transaction.restore import resolve, revert
from ansible_collections.tune.nodes.plugins.module_utils.transaction.store import Store, Tx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


class Shelf(Family):
    """A family whose node state is a directory of files."""

    name = "sysctl"

    def __init__(self, directory: Path, refuse: str = "", rounds: str = "") -> None:
        self.directory, self.refuse, self.rounds = directory, refuse, rounds

    def read(self, key: str, host: Host) -> str | None:
        path = self.directory / key
        return path.read_text() if path.exists() else None

    def write(self, key: str, value: str, host: Host) -> None:
        if key == self.refuse:
            raise NodeError(f"{key} does not take {value}")
        (self.directory / key).write_text("rounded" if value == self.rounds else value)

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> list[Any]:
        return list(raw)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "etc").mkdir()
    return Host(root=str(tmp_path), boot_id="boot-1", machine_id="m", python="/usr/bin/python3")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    directory = tmp_path / "shelf"
    directory.mkdir()
    for key in ("a", "b", "c"):
        (directory / key).write_text("old-" + key)
    return Shelf(directory)


def armed(host: Host, tx_id: str = "t1", window: float = 120.0, **header: Any) -> tuple[Store, Tx]:
    """Return a transaction as begin() leaves it, without a reverter of its own."""
    place = Store(host)
    place.create_dirs()
    fields = {"boot_id": host.boot_id, "window": window, "deadline": store.now() + window, "run": tx_id, **header}
    tx = place.create(tx_id, fields)
    place.save_header(tx)
    return place, tx


def change(key: str, **fields: Any) -> Change:
    return Change("sysctl", key, "old-" + key, "new-" + key, **fields)


def write(host: Host, shelf: Shelf, place: Store, tx: Tx, *keys: str) -> list[Change]:
    changes = [change(key) for key in keys]
    session.write_changes(place, tx, changes, [shelf], host, 10.0)
    return changes


def held(shelf: Shelf) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(shelf.directory.iterdir())}


def test_steps_are_only_those_of_the_design(host: Host) -> None:
    place, tx = armed(host)
    for state in (store.DONE, store.REVERTED):
        with pytest.raises(NodeError):
            place.step(tx, state)
    place.step(tx, store.COMMITTED)
    with pytest.raises(NodeError):
        place.step(tx, store.REVERTING)
    place.step(tx, store.DONE)
    assert place.get("t1").state == store.DONE
    assert sorted(p.name for p in Path(tx.dir).iterdir()) == ["DONE"]


def test_due_counts_boots_and_time_since_boot_but_no_wall_clock(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tx = armed(host, window=120)
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert not tx.due(host)
    assert tx.due(host, at=tx.deadline)
    host.boot_id = "boot-2"
    assert tx.due(host)


def test_written_read_back_and_put_back(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host)
    before = held(shelf)
    changes = write(host, shelf, place, tx, "a", "b")
    assert [c.status for c in changes] == ["changed", "changed"]
    assert held(shelf) == {**before, "a": "new-a", "b": "new-b"}
    assert [c.after for c in read_changes(tx.dir)] == ["new-a", "new-b"]
    rows = revert(place, tx, [shelf], host, "test")
    assert [(row["key"], row["status"]) for row in rows] == [("b", "reverted"), ("a", "reverted")]
    assert held(shelf) == before
    assert place.get("t1").state == store.REVERTED


@pytest.mark.parametrize("fault", [{"refuse": "b"}, {"rounds": "new-b"}])
def test_one_failure_puts_the_whole_transaction_back(host: Host, shelf: Shelf, fault: dict[str, str]) -> None:
    place, tx = armed(host)
    before = held(shelf)
    bad = Shelf(shelf.directory, **fault)
    changes = [change("a"), change("b"), change("c")]
    with pytest.raises(NodeError) as caught:
        session.write_changes(place, tx, changes, [bad], host, 10.0)
    assert caught.value.code == "reverted"
    assert [c.status for c in changes] == ["reverted", "failed", "pending"]
    assert held(shelf) == before


def test_a_write_that_takes_too_long_is_put_back(host: Host, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    place, tx = armed(host)
    before = held(shelf)
    real = shelf.write

    def slow(key: str, value: str, host: Host) -> None:
        real(key, value, host)
        if value == "new-b":
            time.sleep(5)

    monkeypatch.setattr(shelf, "write", slow)
    with pytest.raises(NodeError) as caught:
        session.write_changes(place, tx, [change("a"), change("b")], [shelf], host, 0.2)
    assert caught.value.data["cause"] == "timeout"
    assert held(shelf) == before


def test_foreign_values_are_left(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host)
    write(host, shelf, place, tx, "a", "b")
    (shelf.directory / "a").write_text("somebody's")
    rows = {row["key"]: row["status"] for row in revert(place, tx, [shelf], host, "test")}
    assert rows == {"a": "foreign", "b": "reverted"}
    assert held(shelf)["a"] == "somebody's"


def test_killed_between_write_and_read_back_counts_as_ours(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host)
    journal = Journal(tx.dir)
    journal.join([change("a")])
    journal.intent(0)
    (shelf.directory / "a").write_text("rounded by the kernel")
    revert(place, tx, [shelf], host, "test")
    assert held(shelf)["a"] == "old-a"


def test_after_a_reboot_no_runtime_value_is_touched(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host)
    write(host, shelf, place, tx, "a")
    host.boot_id = "boot-2"
    assert [row["state"] for row in resolve(place, [shelf], host)] == [store.REVERTED]
    assert held(shelf)["a"] == "new-a"


def test_a_restore_that_fails_is_tried_again(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host, window=-1)
    write(host, shelf, place, tx, "a", "b")
    with pytest.raises(NodeError):
        resolve(place, [Shelf(shelf.directory, refuse="a")], host)
    assert place.get("t1").state == store.REVERTING
    assert held(shelf)["b"] == "old-b", "the others are back already"
    resolve(place, [shelf], host)
    assert place.get("t1").state == store.REVERTED
    assert held(shelf)["a"] == "old-a"


def test_resolve_leaves_what_is_not_due(host: Host, shelf: Shelf) -> None:
    place, tx = armed(host)
    write(host, shelf, place, tx, "a")
    assert resolve(place, [shelf], host) == []
    assert place.get("t1").state == store.ARMED


@pytest.mark.parametrize("tx_id", ["", "../x", "a/b", ".", "a b", "x" * 65, "-x", "a\0b", "ä"])
def test_ids_that_are_no_names(host: Host, tx_id: str) -> None:
    with pytest.raises(NodeError) as caught:
        Store(host).get(tx_id)
    assert caught.value.code == "usage"


@pytest.mark.parametrize("window", [None, "", "x", 0, 19, 3601, float("nan"), [], True])
def test_windows_that_are_none(window: Any) -> None:
    with pytest.raises(NodeError):
        session.check_window(window)


def test_finished_transactions_are_pruned_oldest_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "KEEP", 3)
    for number in range(5):
        place, tx = armed(host, f"t{number}")
        place.step(tx, store.REVERTING)
        place.step(tx, store.REVERTED)
    place, _ = armed(host, "live")
    place.prune()
    assert [tx.id for tx in place.list()] == ["t2", "t3", "t4", "live"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
lines = st.one_of(
    st.binary(max_size=80),
    st.fixed_dictionaries(
        {"t": st.sampled_from(["join", "intent", "done", "x"])},
        optional={"i": json_values, "changes": json_values, "after": json_values},
    ).map(lambda line: json.dumps(line).encode()),
)


@given(st.lists(lines, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_journal_survives_junk(tmp_path: Path, junk: list[bytes]) -> None:
    journal = Journal(str(tmp_path))
    good = json.dumps({"t": "join", "changes": [change("a").to_dict()]}).encode()
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join([good, *junk]))
    entries = journal.entries()
    assert entries[0].change.key == "a"
    journal.done(0, "v")
    assert journal.entries()[0].after == "v"


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_header_reverts_rather_than_stays(host: Host, junk: bytes) -> None:
    place, tx = armed(host, f"h{time.monotonic_ns()}")
    Path(tx.path(store.ARMED)).write_bytes(junk)
    found = place.get(tx.id)
    assert found.state == store.ARMED
    assert found.due(host) or found.header.get("boot_id") == host.boot_id
