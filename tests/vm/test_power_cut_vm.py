"""The power goes in the middle of a transaction: afterwards the machine is wholly old or wholly new.

The emulator is killed, so what was not flushed is lost. To have it happen at a point and not near it, the interpreter
that answers a request stops itself there, by a hook for audit events (PEP 578) that knows nothing of the node code.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clirun import assert_clear, kill_all
from nodecall import payload
from vmbed.machine import Machine
from vmrun import ARTICLE, OLD, STATE, VmCli, call, channels, held, node_argv, ours, processes, states, wait_on

LAYERS = [
    {
        "profile": "test",
        "match": None,
        "sysctl": [
            {"key": "net.core.rmem_max", "value": 134217728, "class": "exact"},
            {"key": "net.core.wmem_max", "value": 134217728, "class": "exact"},
        ],
        "nic_queues": [{"interfaces": ["eth0"], "channels": 4}],
    }
]
NEXT = [{"profile": "test", "match": None, "sysctl": [{"key": "net.core.somaxconn", "value": 16384, "class": "floor"}]}]
NEW = {**OLD, **ARTICLE}
FILES = [
    "/etc/sysctl.d/90-tune-nodes.conf",
    "/etc/systemd/system/multi-user.target.wants/tune-nodes-boot.service",
    "/etc/systemd/system/tune-nodes-boot.service",
    "/etc/tune-nodes",
]
#: Stops the interpreter at the rename to a state, or at the Nth opening of a file after it: the first one is the
#: directory's, to make the rename durable; at the second one it is.
_HOOK = """
import os as _os, signal as _signal, sys as _sys
_left = [None]
def _watch(event, arguments):
    if _left[0] is None and event == "os.rename" and str(arguments[1]).endswith("/{state}"):
        _left[0] = {opens}
    elif _left[0] and event == "open":
        _left[0] -= 1
    if _left[0] == 0:
        _left[0] = -1
        _os.kill(_os.getpid(), _signal.SIGSTOP)
_sys.addaudithook(_watch)
"""


@contextmanager
def stopped_at(vm: Machine, state: str, opens: int, op: str, **request: object) -> Iterator[None]:
    """Send a request whose interpreter stops at a point; the block runs once it stands there."""
    hook = _HOOK.format(state=state, opens=opens)
    asked = subprocess.Popen(node_argv(vm, hook), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    sending = threading.Thread(target=asked.communicate, args=(payload({**request, "op": op}),))
    sending.start()
    try:
        wait_on(vm, "pgrep --runstates T python3", 120)
        yield
    finally:
        asked.kill()
        sending.join()


def cut(vm: Machine) -> None:
    """Take the power away and give it back."""
    vm.power_cut()
    vm.power_on()


def assert_old(vm: Machine) -> None:
    assert held(vm) == OLD
    assert channels(vm) == 2
    assert ours(vm) == []
    assert processes(vm) == []


def assert_new(vm: Machine) -> None:
    assert held(vm) == NEW
    assert channels(vm) == 4
    assert ours(vm) == FILES
    assert processes(vm) == []


def applied(vm: Machine, run: str, layers: list[dict[str, object]]) -> None:
    answered = call(vm, "apply", run=run, window=600, layers=layers)
    assert answered["ok"], answered["error"]


def test_while_armed(vm: Machine, cli: VmCli) -> None:
    running = cli.start("apply", "-p", "article", "--yes", "--window", "600")
    wait_on(vm, f"ls {STATE}/tx/*/ARMED && ethtool -l eth0 | tail -1 | grep -q 4", 480)
    vm.power_cut()
    kill_all(running)
    vm.power_on()
    assert_old(vm)
    assert_clear(cli("plan", "-p", "article"), 0, "it is REVERTED now")
    assert_old(vm)
    assert list(states(vm).values()) == ["REVERTED"]


def test_at_the_commit_point(vm: Machine, cli: VmCli) -> None:
    # The first change of a node: nothing of ours runs at its next boot, so the next request finishes it.
    applied(vm, "r1", LAYERS)
    with stopped_at(vm, "COMMITTED", 2, "confirm", tx="r1"):
        assert states(vm) == {"r1": "COMMITTED"}
        assert ours(vm) == []
        vm.power_cut()
    vm.power_on()
    assert_old(vm)
    assert_clear(cli("plan", "-p", "article"), 0, "it is DONE now")
    assert_new(vm)
    assert {c["status"] for c in call(vm, "plan", layers=LAYERS)["changes"]} == {"ok"}, "files and values"

    # Later ones are finished by the boot unit, unasked.
    applied(vm, "r2", NEXT)
    with stopped_at(vm, "COMMITTED", 2, "confirm", tx="r2"):
        vm.power_cut()
    vm.power_on()
    assert states(vm) == {"r1": "DONE", "r2": "DONE"}
    assert held(vm) == {**NEW, "net.core.somaxconn": "16384"}
    kept = json.loads(vm.run("cat", "/etc/tune-nodes/settings.json"))
    assert "net.core.somaxconn" in kept["settings"]["sysctl"]


def test_between_the_files_that_are_installed(vm: Machine) -> None:
    applied(vm, "r1", LAYERS)
    with stopped_at(vm, "multi-user.target.wants/tune-nodes-boot.service", 2, "confirm", tx="r1"):
        assert "/etc/sysctl.d/90-tune-nodes.conf" not in ours(vm), "what a boot reads by itself comes later"
        vm.power_cut()
    vm.power_on()
    assert states(vm) == {"r1": "DONE"}, "finished by the boot unit, unasked"
    assert_new(vm)


def test_while_it_is_put_back(vm: Machine, cli: VmCli) -> None:
    applied(vm, "r1", LAYERS)
    with stopped_at(vm, "REVERTED", 0, "revert", tx="r1"):
        assert states(vm) == {"r1": "REVERTING"}
        cut(vm)
    assert_old(vm)
    assert_clear(cli("plan", "-p", "article"), 0, "it is REVERTED now")
    assert_old(vm)


def test_just_after_the_answer_of_a_confirm(vm: Machine) -> None:
    applied(vm, "r1", LAYERS)
    answered = call(vm, "confirm", tx="r1")
    assert answered["ok"], answered["error"]
    cut(vm)
    assert_new(vm)
    assert states(vm) == {"r1": "DONE"}
