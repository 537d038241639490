"""What a boot finishes and applies: interfaces that come late, modules that load meanwhile, commits it cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import boot, persist
from ansible_collections.tune.nodes.plugins.module_utils.family import Family
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.transaction import restore, store
from ansible_collections.tune.nodes.plugins.module_utils.transaction.commit import commit
from ansible_collections.tune.nodes.plugins.module_utils.transaction.journal import Journal
from ansible_collections.tune.nodes.plugins.module_utils.transaction.store import Store

LATE = {"key": "net.netfilter.nf_conntrack_max", "value": "5", "class": "floor", "module": "nf_conntrack"}


class Values(Family):
    """A family whose node state is a dictionary."""

    name = "sysctl"

    def __init__(self, **held: str) -> None:
        self.held = held

    def parse(self, raw: Sequence[Mapping[str, Any]]) -> list[Any]:
        return list(raw)

    def observe(self, settings: Sequence[Any], host: Host) -> dict[str, Any]:
        return dict(self.held)

    def plan(self, settings: Sequence[Any], observation: Mapping[str, Any]) -> list[Change]:
        found = []
        for setting in settings:
            key, want = setting["key"], setting["value"]
            status = "ok" if observation.get(key) == want else "pending" if key in observation else "unsupported"
            found.append(Change(self.name, key, observation.get(key), want, status=status, persist=dict(setting)))
        return found

    def read(self, key: str, host: Host) -> str | None:
        return self.held.get(key)

    def write(self, key: str, value: str, host: Host) -> None:
        self.held[key] = value


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "etc").mkdir()
    (tmp_path / "sys/class/net").mkdir(parents=True)
    return Host(root=str(tmp_path), boot_id="boot-1", machine_id="m", python="/usr/bin/python3")


def appearing(host: Host, monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> list[float]:
    """Let an interface appear at the nth pause; returns the pauses made."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == after:
            Path(host.path("sys/class/net", name)).mkdir()

    clock = iter(range(10_000))
    monkeypatch.setattr(boot.time, "sleep", pause)
    monkeypatch.setattr(boot.time, "monotonic", lambda: float(next(clock)))
    return pauses


@pytest.mark.parametrize(("after", "pauses"), [(3, 3), (0, int(boot.INTERFACE_WAIT))])
def test_a_kept_interface_is_waited_for_within_bounds(
    host: Host, monkeypatch: pytest.MonkeyPatch, after: int, pauses: int
) -> None:
    made = appearing(host, monkeypatch, "eth7", after)
    settings = {"nic_queues": {"eth7/channels": {"interfaces": ["eth7"], "channels": 4}}}
    boot.await_interfaces(settings, host)
    assert abs(len(made) - pauses) <= 1


def test_nobody_waits_where_no_interface_is_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    made = appearing(host, monkeypatch, "eth7", 1)
    boot.await_interfaces({"sysctl": {LATE["key"]: LATE}}, host)
    assert made == []


def test_a_module_that_loads_while_the_boot_unit_works_is_not_missed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Values()
    rounds: list[list[Change]] = []

    def apply(*arguments: Any) -> list[Change]:
        found = restore.apply_settings(*arguments)
        if not rounds:  # loaded just after the plan
            values.held[LATE["key"]] = "1"
            path = Path(host.path("proc/sys/net/netfilter/nf_conntrack_max"))
            path.parent.mkdir(parents=True)
            path.write_text("1\n")
        rounds.append(found)
        return found

    monkeypatch.setattr(boot, "TUNING", [values])
    monkeypatch.setattr(boot, "apply_settings", apply)
    done = boot.apply_late({"sysctl": {LATE["key"]: LATE}}, host)
    assert values.held == {LATE["key"]: "5"}
    assert [change.status for change in done] == ["changed"]
    assert len(rounds) == 2, "and no third time"


def test_a_commit_cut_off_by_a_boot_is_finished_with_its_values(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Store(host)
    place.create_dirs()
    header = {"boot_id": host.boot_id, "window": 120.0, "deadline": store.now() + 120, "run": "t1"}
    tx = place.create("t1", header)
    place.save_header(tx)
    setting = {"key": "net.core.a", "value": "new", "class": "floor"}
    Journal(tx.dir).join([Change("sysctl", "net.core.a", "old", "new", persist=setting)])
    monkeypatch.setattr(persist, "put", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # the power goes just after the commit point
        commit(place, tx, host)
    monkeypatch.undo()
    host.boot_id = "boot-2"
    values = Values(**{"net.core.a": "old"})
    (row,) = restore.resolve(place, [values], host)
    assert (row["state"], [r["status"] for r in row["rows"]]) == (store.DONE, ["changed"])
    assert values.held == {"net.core.a": "new"}
    assert json.loads(Path(host.path(persist.SETTINGS)).read_text())["settings"]["sysctl"]["net.core.a"] == setting
