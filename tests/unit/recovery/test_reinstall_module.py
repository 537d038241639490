"""The module tune.nodes.cni_reinstall: recorded, installed, restored, each in check mode too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.modules import cni_reinstall as module
from cni_server import CONFIG, DAEMONSET, CniServer, changed_map
from lease_server import opened

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import TuneError
from tune_nodes.recovery.reinstall import gate
from tune_nodes.recovery.reinstall.carry import Way

DEFAULTS = {name: option.get("default") for name, option in module.OPTIONS.items()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> CniServer:
    monkeypatch.setattr(gate, "LOOK", 0.01)
    return CniServer(2)


@pytest.fixture
def cluster(server: CniServer, tmp_path: Path) -> Iterator[Cluster]:
    with opened(server, tmp_path) as made:
        yield made


def asked(**more: Any) -> dict[str, Any]:
    return {**DEFAULTS, **more}


def test_recorded_put_back_and_taken_back(server: CniServer, cluster: Cluster, tmp_path: Path) -> None:
    way = Way(limit=5)
    assert module.recorded(cluster, tmp_path, asked(), True)["changed"]
    first = module.recorded(cluster, tmp_path, asked(), False)
    again = module.recorded(cluster, tmp_path, asked(), False)
    assert (first["changed"], again["changed"], again["record"]) == (True, False, first["record"])

    server.lose(DAEMONSET, CONFIG)
    looked = module.installed(cluster, tmp_path, asked(), way, True)
    assert (looked["changed"], looked["run"], looked["nodes"]) == (True, "", ["w1", "cp"])
    assert [row["before_header"].partition(" ")[0] for row in looked["diff"]] == ["ConfigMap", "DaemonSet"]
    assert all(row["before"] == "" and "flannel" in row["after"] for row in looked["diff"])
    assert DAEMONSET not in server.objects

    with pytest.raises(TuneError, match="not the one that was approved"):
        module.installed(cluster, tmp_path, asked(approve="sha256:0"), way, False)
    done = module.installed(cluster, tmp_path, asked(approve=looked["plan_hash"]), way, False)
    assert (done["changed"], done["nodes"]) == (True, ["w1", "cp"])
    again = module.installed(cluster, tmp_path, asked(), way, False)
    assert (again["changed"], again["run"], again["nodes"], again["diff"]) == (False, "", [], [])

    assert module.restored(cluster, tmp_path, done["run"], way, True)["changed"]
    back = module.restored(cluster, tmp_path, done["run"], way, False)
    assert (back["changed"], back["left"], len(back["said"])) == (True, [], 2)
    assert DAEMONSET not in server.objects
    assert not module.restored(cluster, tmp_path, "latest", way, False)["changed"]


def test_what_others_hold_is_refused_in_check_mode_too(server: CniServer, cluster: Cluster, tmp_path: Path) -> None:
    module.recorded(cluster, tmp_path, asked(), False)
    server.keep(CONFIG, changed_map(server))
    with pytest.raises(TuneError, match="kubectl-edit holds"):
        module.installed(cluster, tmp_path, asked(), Way(), True)
    forced = module.installed(cluster, tmp_path, asked(force_conflicts=True), Way(force=True), True)
    (row,) = forced["diff"]
    assert "10.9.0.0" in row["before"]
    assert "10.244.0.0" in row["after"]
