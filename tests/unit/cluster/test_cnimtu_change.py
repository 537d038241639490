"""Changing an object of the API: stored before, only as it was read, read back, and taken back field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cnimtu_objects import config_map, flannel, stack
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster.api import Api
from tune_nodes.cnimtu import backup, change
from tune_nodes.cnimtu.model import CniPlan
from tune_nodes.cnimtu.plan import plan
from tune_nodes.errors import TuneError, UsageError

WRONG = {"Type": "vxlan", "MTU": 1300}


class Store:
    """A server with one ConfigMap, which it patches as an API server does."""

    def __init__(self, raw: Any) -> None:
        self.raw = json.loads(json.dumps(raw))
        self.version = int(raw["metadata"]["resourceVersion"])
        self.stubborn = False
        self.patched: list[Any] = []

    def __call__(self, request: Request) -> None:
        if request.command == "PATCH":
            patch = request.body()
            if patch["metadata"].pop("resourceVersion") != str(self.version):
                request.refuse(409, "Conflict", "the object has been modified")
                return
            self.patched.append(patch)
            self.version += 1
            if not self.stubborn:
                self.raw["data"] |= patch["data"]
        self.raw["metadata"]["resourceVersion"] = str(self.version)
        request.send(200, self.raw)

    def by_hand(self, **data: str) -> None:
        self.version += 1
        self.raw["data"] |= data


@contextmanager
def served(tmp_path: Path) -> Iterator[tuple[Store, Api, CniPlan]]:
    held = flannel(WRONG)
    store = Store(held.raw)
    with tiny_api(store) as url:
        api = Api(kubeconfig(tmp_path, url))
        try:
            yield store, api, plan([stack()], [held])
        finally:
            api.close()


def test_stored_changed_and_taken_back(tmp_path: Path) -> None:
    with served(tmp_path) as (store, api, wanted):
        before = dict(store.raw["data"])
        made = change.carry_out(api, wanted, tmp_path / "run")
        assert made is not None
        assert made.path.stat().st_mode & 0o777 == 0o600
        assert made.path.parent.stat().st_mode & 0o777 == 0o700
        assert made.saved[0].held.raw["data"] == before
        assert json.loads(store.raw["data"]["net-conf.json"])["Backend"] == {"Type": "vxlan"}
        assert store.raw["data"]["cni-conf.json"] == before["cni-conf.json"]
        assert list(store.patched[0]["data"]) == ["net-conf.json"]
        assert change.undo(api, backup.load(made.path.parent)) == ["ConfigMap kube-flannel/kube-flannel-cfg"]
        assert store.raw["data"] == before
        assert change.undo(api, made) == []  # it is so already
        assert len(store.patched) == 2


def test_what_somebody_changed_meanwhile_is_left(tmp_path: Path) -> None:
    with served(tmp_path) as (store, api, wanted):
        store.by_hand(other="x")
        with pytest.raises(TuneError, match="changed by somebody else meanwhile"):
            change.carry_out(api, wanted, tmp_path / "run")
        assert store.patched == []
        assert backup.load(tmp_path / "run").saved  # what was read is kept all the same


def test_what_does_not_hold_is_said(tmp_path: Path) -> None:
    with served(tmp_path) as (store, api, wanted):
        store.stubborn = True
        with pytest.raises(TuneError, match="does not hold what was written"):
            change.carry_out(api, wanted, tmp_path / "run")


def test_an_undo_leaves_what_was_changed_since(tmp_path: Path) -> None:
    with served(tmp_path) as (store, api, wanted):
        made = change.carry_out(api, wanted, tmp_path / "run")
        assert made is not None
        store.by_hand(**{"net-conf.json": "{}"})
        with pytest.raises(TuneError, match="was changed since"):
            change.undo(api, made)
        assert store.raw["data"]["net-conf.json"] == "{}"
        other = backup.Backup(made.path, "https://other:6443", made.cni, made.saved)
        with pytest.raises(TuneError, match="is of another cluster"):
            change.undo(api, other)


def test_a_backup_that_was_changed_is_none(tmp_path: Path) -> None:
    with served(tmp_path) as (_, api, wanted):
        made = change.carry_out(api, wanted, tmp_path / "run")
    assert made is not None
    text = made.path.read_text()
    made.path.write_text(text.replace("10.244.0.0", "10.99.0.0"))
    with pytest.raises(UsageError, match="was changed"):
        backup.load(made.path)
    for junk in ("", "[]", '{"schema": 1}', text[: len(text) // 2], '{"schema": 1, "objects": [1]}'):
        made.path.write_text(junk)
        with pytest.raises(UsageError, match="is not a backup"):
            backup.load(made.path)
    with pytest.raises(UsageError, match="cannot be read"):
        backup.load(tmp_path / "nowhere")


def test_nothing_is_written_where_no_backup_can_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file is in the way")
    with served(tmp_path) as (store, api, wanted):
        with pytest.raises(TuneError, match="cannot be written"):
            change.carry_out(api, wanted, tmp_path / "run")
        assert store.patched == []


@pytest.mark.parametrize(
    ("patch", "raw", "wanted"),
    [
        ({"data": {"mtu": None}}, {"data": {"mtu": "1400", "x": "y"}}, {"data": {"mtu": "1400"}}),
        ({"data": {"mtu": "1400"}}, {"data": {}}, {"data": {"mtu": None}}),
        ({"spec": {"calicoNetwork": {"mtu": 1}}}, {"spec": {}}, {"spec": {"calicoNetwork": {"mtu": None}}}),
        ({"spec": {"a": 1}}, {}, {"spec": {"a": None}}),
    ],
)
def test_the_way_back(patch: Any, raw: Any, wanted: Any) -> None:
    assert backup.inverse(patch, raw) == wanted


def test_who_else_writes_it() -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    annotations = {"meta.helm.sh/release-name": "net", "meta.helm.sh/release-namespace": "kube-flannel"}
    held = flannel(WRONG, labels=labels, annotations=annotations)
    (said,) = change.others(plan([stack()], [held]))
    assert said.startswith("ConfigMap kube-flannel/kube-flannel-cfg: ") and "Helm" in said
    assert change.others(plan([stack()], [flannel(WRONG)])) == []
    fine = config_map("kube-flannel-cfg", dict(flannel({"Type": "vxlan"}).raw["data"]), labels=labels)
    assert change.others(plan([stack()], [fine])) == []  # nothing of it would be changed
