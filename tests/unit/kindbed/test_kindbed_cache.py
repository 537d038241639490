"""The cache of the test bed: keys, complete artefacts, one builder at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kindbed.cache import Cache, cache_root, key
from kindbed.command import beside, find, run

from tune_nodes.errors import TuneError


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/home/a"}, "/home/a/.cache/tune-nodes-test"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": "/x"}, "/x/tune-nodes-test"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": ""}, "/home/a/.cache/tune-nodes-test"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": "/x", "TUNE_NODES_TEST_CACHE": "/t"}, "/t"),
    ],
)
def test_where_the_cache_lies(env: dict[str, str], expected: str) -> None:
    assert str(cache_root(env)) == expected


def test_a_key_tells_apart_what_texts_glued_together_do_not() -> None:
    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("abc", "")}) == 4
    assert key("a", b"b") == key("a", b"b")


def test_a_key_follows_names_and_contents_of_files(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        (directory / "below").mkdir(parents=True)
        (directory / "below/file").write_text("content")
    assert key(first) == key(second), "the directory's own name is not part of it"
    (first / "__pycache__").mkdir()
    (first / "__pycache__/file.pyc").write_bytes(b"1")
    assert key(first) == key(second), "nor is what Python leaves"
    (first / "below/file").write_text("other")
    assert key(first) != key(second)
    (first / "below/file").write_text("content")
    (first / "below/file").rename(first / "below/renamed")
    assert key(first) != key(second)


def test_an_artefact_is_built_once_and_only_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    built = []

    def fails(directory: Path) -> None:
        (directory / "half").write_text("")
        raise TuneError("no compiler")

    def works(directory: Path) -> None:
        built.append(directory)
        (directory / "whole").write_text("")

    with pytest.raises(TuneError, match="no compiler"):
        cache.artefact("thing", "k", "a thing", fails)
    assert list(cache.root.iterdir()) == []
    for _ in range(2):
        path = cache.artefact("thing", "k", "a thing", works)
        assert [file.name for file in path.iterdir()] == ["whole"]
    assert len(built) == 1


def test_what_a_killed_build_left_is_removed_under_the_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = cache.root / ".building-thing-1/root"
    left.mkdir(parents=True)
    kept = cache.root / "thing-k"
    kept.mkdir()
    with cache.lock():
        assert not left.parent.exists()
        assert kept.is_dir()


def test_a_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    script = (
        "import pathlib, sys; from kindbed.cache import Cache\n"
        "with Cache(pathlib.Path(sys.argv[1])).lock(): print('has it', flush=True)\n"
    )
    with cache.lock():
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        assert other.stderr is not None
        assert "waiting for it" in other.stderr.readline()
        assert other.poll() is None
    out, _ = other.communicate(timeout=30)
    assert out == "has it\n"


def test_a_program_that_fails_says_what_it_said() -> None:
    with pytest.raises(TuneError, match=r"sh -c .* failed with 3") as failed:
        run(["/bin/sh", "-c", "echo one; echo two >&2; exit 3"])
    assert failed.value.why == "two"
    assert run(["/bin/sh", "-c", "exit 3"], check=False).returncode == 3


def test_a_program_that_hangs_is_ended_with_its_children() -> None:
    with pytest.raises(TuneError, match=r"did not end within 0\.2 s"):
        run(["/bin/sh", "-c", "sleep 60 & wait"], timeout=0.2)  # would hold the pipe open if it lived


def test_a_program_that_is_missing_names_its_package() -> None:
    with pytest.raises(TuneError, match="cannot be run"):
        run(["/nowhere/at-all"])
    with pytest.raises(TuneError) as missing:
        find("no-such-program", "its-package")
    assert "its-package" in missing.value.why
    assert missing.value.next == "scripts/bootstrap test"


def test_two_who_want_an_artefact_at_once_get_the_same(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    began, go_on = threading.Event(), threading.Event()
    built = []

    def slow(directory: Path) -> None:
        began.set()
        assert go_on.wait(10)
        built.append(directory)

    with beside(lambda: cache.artefact("thing", "k", "a thing", slow)):
        assert began.wait(10)
        threading.Timer(0.1, go_on.set).start()
        assert cache.artefact("thing", "k", "a thing", slow).is_dir()
    assert len(built) == 1


def test_an_interruption_ends_what_runs_beside() -> None:
    began = threading.Event()

    def work() -> None:
        began.set()
        run(["/bin/sh", "-c", "sleep 60 & wait"], timeout=50)

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt), beside(work):
        assert began.wait(10)
        time.sleep(0.3)
        raise KeyboardInterrupt
    assert time.monotonic() < before + 20


def test_what_fails_beside_is_raised_at_the_end() -> None:
    reached = []
    with pytest.raises(TuneError, match=r"failed with 3"), beside(lambda: run(["/bin/sh", "-c", "exit 3"])):
        reached.append(True)
    assert reached
