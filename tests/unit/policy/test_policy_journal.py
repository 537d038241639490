"""A journal outlives whoever writes it, and has one writer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.policy.keeping import journal
from tune_nodes.policy.keeping.journal import Journal


def test_lines_are_kept_over_a_cut(tmp_path: Path) -> None:
    with Journal(tmp_path) as first:
        first.note("delete", refs=["a", "b"])
    path = tmp_path / journal.NAME
    path.write_bytes(path.read_bytes() + b'{"event":"deleted","re')  # the power went
    with Journal(tmp_path) as second:
        second.note("deleted", ref="b")
    assert [(line["event"], line.get("ref")) for line in journal.read(tmp_path)] == [("delete", None), ("deleted", "b")]
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_writer(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(TuneError, match="is under way"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        Journal(tmp_path / "gone")
    assert journal.read(tmp_path / "gone") == []


@settings(max_examples=40)
@given(some.lists(some.binary(max_size=30), max_size=5))
def test_junk_is_left_out(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    directory = tmp_path_factory.mktemp("journal")
    (directory / journal.NAME).write_bytes(b"\n".join(lines))
    with Journal(directory) as opened:
        opened.note("restore")
    found = journal.read(directory)
    assert found[-1]["event"] == "restore"
    assert json.dumps(found)
