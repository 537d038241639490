"""What is kept over a reboot, and the files that say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import persist
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FLOOR = {"key": "net.core.somaxconn", "value": "16384", "class": "floor", "scope": "netns"}
EXACT = {"key": "net.ipv4.tcp_fin_timeout", "value": "30", "class": "exact", "scope": "netns"}
LATE = {
    "key": "net.netfilter.nf_conntrack_max",
    "value": "1048576",
    "class": "floor",
    "scope": "host",
    "module": "nf_conntrack",
}


def kept(*settings: dict[str, Any]) -> persist.Settings:
    return {"sysctl": {s["key"]: s for s in settings}} if settings else {}


def changed(setting: dict[str, Any]) -> Change:
    return Change("sysctl", setting["key"], "1", setting["value"], persist=setting)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(root=str(tmp_path), python="/usr/bin/python3")


MERGES = [
    ({}, [changed(FLOOR)], kept(FLOOR)),
    (kept(FLOOR), [changed(EXACT)], kept(FLOOR, EXACT)),
    (kept(FLOOR), [changed({**FLOOR, "value": "1"})], kept({**FLOOR, "value": "1"})),
    (kept(FLOOR), [Change("sysctl", "k", "1", "1", status="owned")], kept(FLOOR)),
    ({}, [], {}),
]


@pytest.mark.parametrize(("before", "changes", "after"), MERGES)
def test_merge(before: persist.Settings, changes: list[Change], after: persist.Settings) -> None:
    assert persist.merge(before, changes) == after


UNDOS = [
    (kept(FLOOR), {}, [changed(FLOOR)], {}),
    (kept(FLOOR), kept({**FLOOR, "value": "9"}), [changed(FLOOR)], kept({**FLOOR, "value": "9"})),
    (kept(FLOOR, EXACT), {}, [changed(FLOOR)], kept(EXACT)),
    # Set otherwise since: left.
    (kept({**FLOOR, "value": "5"}), {}, [changed(FLOOR)], kept({**FLOOR, "value": "5"})),
]


@pytest.mark.parametrize(("now", "before", "changes", "after"), UNDOS)
def test_undo(now: persist.Settings, before: persist.Settings, changes: list[Change], after: persist.Settings) -> None:
    assert persist.undo(now, before, changes) == after


def test_systemd_sysctl_gets_exact_keys_only(host: Host) -> None:
    files = persist.render(kept(FLOOR, EXACT), host)
    text = (files[persist.SYSCTL_D].content or b"").decode()
    assert "tcp_fin_timeout" in text
    assert "somaxconn" not in text
    assert persist.render(kept(FLOOR), host)[persist.SYSCTL_D].text() is None


def test_no_systemd_no_units(host: Host) -> None:
    files = persist.render(kept(FLOOR, LATE), host)
    assert [path for path, want in files.items() if want.text() is not None] == [persist.SETTINGS]


def test_systemd_gets_a_boot_unit_and_late_modules_a_rule(host: Host) -> None:
    host.init = "systemd"
    files = persist.render(kept(FLOOR, LATE), host)
    unit = (files[persist.BOOT_UNIT].content or b"").decode()
    assert "After=systemd-sysctl.service" in unit
    assert "Before=containerd.service" in unit
    assert "Wants=network-online.target" in unit, "an order alone waits for nothing that nobody starts"
    assert "TimeoutStartSec=" in unit
    assert "Restart=" not in unit, "systemd before 244 refuses a oneshot unit with it"
    assert "RequiredBy" not in unit
    assert 'KERNEL=="nf_conntrack"' in (files[persist.LATE_RULE].content or b"").decode()
    assert files[persist.BOOT_WANTS].link == persist.BOOT_UNIT
    assert persist.render(kept(FLOOR), host)[persist.LATE_RULE].text() is None


def test_what_finishes_the_rest_is_installed_first_and_removed_last(host: Host) -> None:
    host.init = "systemd"
    there = [path for path, _ in persist.in_order(persist.render(kept(FLOOR, EXACT, LATE), host))]
    assert there[:3] == [persist.SETTINGS, persist.BOOT_UNIT, persist.BOOT_WANTS]
    assert [path for path, _ in persist.in_order(persist.render({}, host))] == list(reversed(there))
    some = persist.in_order(persist.render(kept(FLOOR), host))
    assert [path for path, want in some if want.text() is None] == [persist.LATE_RULE, persist.SYSCTL_D]


def test_nothing_kept_means_nothing_left(host: Host) -> None:
    host.init = "systemd"
    assert all(want.text() is None for want in persist.render({}, host).values())


def test_files_are_put_and_taken_away(host: Host, tmp_path: Path) -> None:
    host.init = "systemd"
    (tmp_path / "etc").mkdir()
    for settings_now in (kept(FLOOR, EXACT, LATE), {}):
        for path, want in persist.render(settings_now, host).items():
            persist.put(host.path(path), want, "t1")
        assert persist.plan(settings_now, host) == []
    left = [path for path in (tmp_path / "etc").rglob("*") if not path.is_dir()]
    assert left == []
    assert not (tmp_path / "etc/tune-nodes").exists()


@given(
    st.one_of(st.binary(max_size=100), st.text(max_size=60).map(lambda t: json.dumps({"schema": 1, "x": t}).encode()))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_a_damaged_settings_file_is_said_so(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "etc/tune-nodes").mkdir(parents=True, exist_ok=True)
    (tmp_path / "etc/tune-nodes/settings.json").write_bytes(junk)
    with pytest.raises(NodeError) as caught:
        persist.load(Host(root=str(tmp_path)))
    assert caught.value.next
