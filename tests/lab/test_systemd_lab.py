"""The reverter and the boot unit on a real systemd, which every node of a production fleet has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodecall import SETTINGS
from systemd_box import Box, systemd_box

OLD = {"net.core.somaxconn": "4096", "net.ipv4.tcp_fin_timeout": "60", "net.ipv4.tcp_wmem": "4096 16384 4194304"}
NEW = {"net.core.somaxconn": "16384", "net.ipv4.tcp_fin_timeout": "30", "net.ipv4.tcp_wmem": "4096 65536 16777216"}
LAYERS: list[dict[str, Any]] = [{"profile": "test", "match": None, "sysctl": SETTINGS}]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with systemd_box(tmp_path) as box:
        yield box


def held(box: Box) -> dict[str, str]:
    return {key: box.sysctl(key) for key in OLD}


def timers(box: Box) -> str:
    return box.run("systemctl", "list-timers", "--all", "--no-pager")


def test_unconfirmed_change_is_reverted_by_a_timer_and_said_in_the_journal(box: Box) -> None:
    assert held(box) == OLD
    applied: Any = box.call("apply", run="r1", window=20, layers=LAYERS)
    assert applied["ok"], applied["error"]
    assert applied["tx"]["reverter"] == "systemd"
    assert held(box) == NEW
    assert "tune-nodes-revert-r1-1.timer" in timers(box)
    assert box.run("systemctl", "show", "-P", "AccuracyUSec", "tune-nodes-revert-r1-1.timer").strip() == "1s"
    limit = time.monotonic() + 26
    while held(box) != OLD:
        assert time.monotonic() < limit, "the timer did not revert in time"
        time.sleep(0.5)
    assert '"state": "REVERTED"' in box.run("journalctl", "--no-pager", "-u", "tune-nodes-revert-r1-1.service")
    assert "tune-nodes" not in timers(box)
    assert box.run("find", "/etc", "-name", "*tune-nodes*") == ""


def test_a_killed_reverter_is_started_again(box: Box) -> None:
    applied: Any = box.call("apply", run="r1", window=20, layers=LAYERS)
    assert applied["ok"], applied["error"]
    # The first run of the timer's service meets an interpreter that fails; systemd must try again.
    broken = 'test -e /run/once || { touch /run/once; exit 1; }; exec /usr/bin/python3.real "$@"'
    box.run("mv", "/usr/bin/python3", "/usr/bin/python3.real")
    box.run("sh", "-c", "printf '%s\\n' '#!/bin/sh' '" + broken + "' > /usr/bin/python3; chmod 755 /usr/bin/python3")
    limit = time.monotonic() + 40
    while held(box) != OLD:
        assert time.monotonic() < limit, "nobody tried again"
        time.sleep(0.5)
    assert box.run("ls", "/run/once").strip() == "/run/once"


def test_each_join_arms_a_new_timer_before_the_old_one_is_stopped(box: Box) -> None:
    begun: Any = box.call("begin", run="t1", window=60)
    assert begun["ok"], begun["error"]
    joined: Any = box.call("apply", run="t1", tx="t1", window=60, layers=LAYERS)
    assert joined["ok"], joined["error"]
    shown = timers(box)
    assert "tune-nodes-revert-t1-2.timer" in shown
    assert "tune-nodes-revert-t1-1.timer" not in shown
    reverted: Any = box.call("revert", tx="t1")
    assert reverted["ok"]
    assert held(box) == OLD
    assert "tune-nodes" not in timers(box)


def test_confirmed_settings_come_back_by_the_boot_unit_and_go_with_the_rollback(box: Box) -> None:
    applied: Any = box.call("apply", run="r1", window=60, layers=LAYERS)
    assert applied["ok"], applied["error"]
    confirmed: Any = box.call("confirm", tx="r1")
    assert confirmed["ok"], confirmed["error"]
    assert "tune-nodes" not in timers(box)
    assert box.run("systemctl", "is-enabled", "tune-nodes-boot.service").strip() == "enabled"
    assert box.run("systemd-analyze", "verify", "tune-nodes-boot.service", check=False) == ""
    assert box.run("systemctl", "show", "-P", "Requires", "multi-user.target").find("tune-nodes") < 0
    box.run("sysctl", "-w", "net.core.somaxconn=4096", "net.ipv4.tcp_fin_timeout=60")
    box.run("systemctl", "start", "tune-nodes-boot.service")
    assert held(box) == NEW
    undone: Any = box.call("rollback", tx="r1", run="b1")
    assert undone["ok"], undone["error"]
    again: Any = box.call("confirm", tx="b1")
    assert again["ok"], again["error"]
    assert held(box) == OLD
    assert box.run("find", "/etc", "-name", "*tune-nodes*") == ""


def test_exact_values_are_read_by_systemd_sysctl_itself(box: Box) -> None:
    applied: Any = box.call("apply", run="r1", window=60, layers=LAYERS)
    assert applied["ok"], applied["error"]
    confirmed: Any = box.call("confirm", tx="r1")
    assert confirmed["ok"], confirmed["error"]
    box.run("sysctl", "-w", "net.ipv4.tcp_fin_timeout=60", "net.core.somaxconn=30000")
    box.run("/lib/systemd/systemd-sysctl", "--prefix=/net", check=False)
    assert box.sysctl("net.ipv4.tcp_fin_timeout") == "30"
    assert box.sysctl("net.core.somaxconn") == "30000", "a floor is not in the file"
