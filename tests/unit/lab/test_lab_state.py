"""The lab's directory: lock, state file, choice of addresses."""

from __future__ import annotations

import os
import threading
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab import state
from tune_nodes.lab.model import SUBNETS, LabState


def example() -> LabState:
    return LabState(name="lab", index=0, queues=4, boot_id="b")


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state.save(tmp_path, example())
    assert state.load(tmp_path) == example()
    assert list(tmp_path.iterdir()) == [tmp_path / "state.json"]
    assert state.load(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1, "surprise": true}', "\x00" * 10])
def test_a_state_file_that_is_none_is_an_error_with_a_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(TuneError, match="cannot be read as a lab's state") as raised:
        state.load(tmp_path)
    assert "remove by hand" in raised.value.next


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    state.write_file(path, "old", 0o600)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        state.write_file(path, "new")
    assert path.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_root_directory_must_be_one_that_mounts_and_ssh_can_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(state.ROOT_VARIABLE, raising=False)
    assert state.root_directory() == state.DEFAULT_ROOT
    monkeypatch.setenv(state.ROOT_VARIABLE, "/dev/shm/x")
    assert state.root_directory() == Path("/dev/shm/x")
    for bad in ("relative", "/a b", "/a:b", "/a,b", "/a\\b", "/a'b"):
        monkeypatch.setenv(state.ROOT_VARIABLE, bad)
        with pytest.raises(UsageError):
            state.root_directory()


def test_networks_in_use_are_read_from_ip() -> None:
    text = """[{"dst":"default","gateway":"192.0.2.1"},{"dst":"192.0.2.0/24"},{"type":"local","dst":"127.0.0.1"},
              {"dst":"0.0.0.0/0"},{"dst":"10.77.4.1"},{"dst":"fd00::/64"},{"no":"dst"},7,null,{"dst":null}]"""
    assert state.parse_networks(text) == [
        IPv4Network("192.0.2.0/24"),
        IPv4Network("127.0.0.1/32"),
        IPv4Network("10.77.4.1/32"),
    ]


@given(st.text())
def test_junk_from_ip_is_no_network(text: str) -> None:
    assert isinstance(state.parse_networks(text), list)


@pytest.mark.parametrize(
    ("taken", "used", "interfaces", "expected"),
    [
        (set(), [], set(), 0),
        ({0, 1}, [], set(), 2),
        (set(), ["10.77.0.0/22", "10.77.5.7/32"], set(), 2),
        (set(), [], {"tnlab0", "eth0"}, 1),
        (set(), ["192.0.2.0/24"], set(), 0),
    ],
)
def test_first_free_place(taken: set[int], used: list[str], interfaces: set[str], expected: int) -> None:
    assert state.choose_index("lab", taken, [IPv4Network(n) for n in used], interfaces) == expected


def test_no_free_place() -> None:
    with pytest.raises(TuneError, match="no address range is free"):
        state.choose_index("lab", set(), [IPv4Network("10.0.0.0/8")], set())
    with pytest.raises(TuneError, match="no address range is free"):
        state.choose_index("lab", set(range(len(SUBNETS))), [], set())


def test_lock_is_held_by_one_even_when_the_directory_is_removed_meanwhile(tmp_path: Path) -> None:
    directory = tmp_path / "all" / "lab"
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with state.locked(directory):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)
            directory.rmdir()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_lock_gives_up_and_says_so(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path),
        pytest.raises(TuneError, match="another lab command"),
        state.locked(tmp_path, timeout=0.05),
    ):
        pass
