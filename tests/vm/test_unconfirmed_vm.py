"""Before the commit point everything is undone, whatever comes: a reboot, a clock that jumps."""

from __future__ import annotations

import json
import time

from clirun import assert_clear, kill_all
from vmbed.machine import Machine
from vmrun import (
    ARTICLE,
    OLD,
    STATE,
    VmCli,
    boottime,
    call,
    channels,
    held,
    ours,
    processes,
    states,
    wait_on,
)

LAYERS = [{"profile": "test", "match": None, "sysctl": [{"key": "net.core.rmem_max", "value": 134217728}]}]
DAY = 86400


def test_a_reboot_before_confirm_is_a_rollback(vm: Machine, cli: VmCli) -> None:
    running = cli.start("apply", "-p", "article", "--yes", "--window", "600")
    wait_on(vm, f"ls {STATE}/tx/*/ARMED && ethtool -l eth0 | tail -1 | grep -q 4", 240)
    kill_all(running)  # the controller dies between the change and its confirmation
    assert held(vm) == {**OLD, **ARTICLE}
    assert list(states(vm).values()) == ["ARMED"]
    assert ours(vm) == [], "no file holds it"
    vm.reboot()
    assert held(vm) == OLD
    assert channels(vm) == 2
    looked = cli("plan", "-p", "article")
    assert_clear(looked, 0, "it is REVERTED now")
    assert list(states(vm).values()) == ["REVERTED"]
    assert ours(vm) == []
    assert processes(vm) == []


def test_a_clock_that_jumps_does_not_move_the_window(vm: Machine) -> None:
    window = 40.0
    applied = call(vm, "apply", run="r1", window=window, layers=LAYERS)
    assert applied["ok"], applied["error"]
    assert applied["tx"]["reverter"] == "systemd"
    deadline = json.loads(vm.run("cat", f"{STATE}/tx/r1/ARMED"))["deadline"]
    for days in (+1, -2):
        vm.run("date", "-s", f"@{int(vm.run('date', '+%s')) + days * DAY}")
        assert states(vm) == {"r1": "ARMED"}
        assert held(vm, "net.core.rmem_max") == {"net.core.rmem_max": ARTICLE["net.core.rmem_max"]}
    assert boottime(vm) < deadline, "the looks took longer than the window: they prove nothing"
    wait_on(vm, f"ls {STATE}/tx/r1/REVERTED", 90)
    assert deadline <= boottime(vm) <= deadline + 45, "an emulated CPU takes its time to start Python"
    assert held(vm) == OLD
    vm.run("date", "-s", f"@{int(time.time())}")


def test_a_clock_that_jumps_in_the_middle_of_a_run_does_not_stop_it(vm: Machine, cli: VmCli) -> None:
    running = cli.start("apply", "-p", "article", "--yes")
    wait_on(vm, f"ls {STATE}/tx/*/ARMED", 240)
    vm.run("date", "-s", f"@{int(time.time()) + DAY}")
    assert running.wait(timeout=240) == 0
    assert list(states(vm).values()) == ["DONE"]
    assert held(vm) == {**OLD, **ARTICLE}
    vm.run("date", "-s", f"@{int(time.time())}")
