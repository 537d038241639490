"""A reinstall, and an undo, cut off after any of their writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cni_server import CONFIG, DAEMONSET, CniServer, changed_map
from lease_server import opened
from reinstalled import put_back, take_back

from tune_nodes.cluster import api as wire
from tune_nodes.errors import TuneError
from tune_nodes.recovery.reinstall import gate, record, runs, service
from tune_nodes.recovery.reinstall.carry import Way


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LOOK", 0.01)
    monkeypatch.setattr(wire, "RETRIES", ())


@pytest.mark.parametrize("lost", [True, False], ids=["deleted", "changed"])
def test_cut_off_after_any_write_the_same_command_finishes(tmp_path: Path, lost: bool) -> None:
    number, way = 0, Way(force=True, limit=0.05)
    while True:
        number += 1
        server, here = CniServer(2), tmp_path / str(number)
        here.mkdir()
        with opened(server, here) as cluster:
            whole = server.said()
            made = service.make(cluster, record.home(here))
            if lost:
                server.lose(DAEMONSET, CONFIG)
            else:
                server.keep(CONFIG, changed_map(server))
            server.made.clear()
            server.writes, server.dies = 0, number
            try:
                put_back(cluster, made, here, way)
                break
            except TuneError:
                server.broken, server.dies = False, -1
            put_back(cluster, made, here, Way(force=True, limit=5))
            assert server.said() == whole, number
            assert sorted(server.made) == ["cp", "w1"], f"{number}: an agent was started twice"
            assert server.strangers() == [], number
            assert service.look(cluster, made, here).run is None
    assert number > 10


def test_cut_off_after_any_write_it_can_be_taken_back(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 1
        server, here = CniServer(2), tmp_path / str(number)
        here.mkdir()
        with opened(server, here) as cluster:
            made = service.make(cluster, record.home(here))
            server.keep(CONFIG, changed_map(server))
            before = server.said()
            server.writes, server.dies = 0, number
            try:
                put_back(cluster, made, here, Way(force=True, limit=0.05))
                break
            except TuneError:
                server.broken, server.dies = False, -1
            if not list(runs.known(runs.home(here))):
                assert server.said() == before
                continue
            assert take_back(cluster, here).left == [], number
            assert server.said() == before, number


def test_an_undo_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    for number in range(1, 100, 3):
        server, here = CniServer(2), tmp_path / str(number)
        here.mkdir()
        with opened(server, here) as cluster:
            made = service.make(cluster, record.home(here))
            server.keep(CONFIG, changed_map(server))
            before = server.said()
            put_back(cluster, made, here, Way(force=True, limit=5))
            server.writes, server.dies = 0, number
            try:
                take_back(cluster, here, Way(limit=0.05))
                break
            except TuneError:
                server.broken, server.dies = False, -1
            assert take_back(cluster, here).left == [], number
            assert server.said() == before, number
    assert number > 10
