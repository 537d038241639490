"""What the command line makes of nodes that are cut off, freeze, or lose their controller in the middle of a change.

Windows are the shortest there are. Where a node must be confirmed beside a broken one, its window leaves room for
a busy machine: nothing is confirmed in a window's last 15 s.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clirun import (
    AT_ONCE,
    NEW,
    OLD,
    RUN_DIR,
    Cli,
    armed,
    assert_clear,
    descendants,
    for_lab,
    held,
    kill_all,
    transactions,
    undone_after,
    wait_for,
)
from nodecall import tune_processes

from tune_nodes.lab import Lab, once
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]


def test_ssh_cut_during_the_canary_stops_the_run(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(3)
    cli = for_lab(tmp_path, lab)
    canary, *others = lab.nodes
    etc = [node.etc() for node in lab.nodes]
    with once(armed(canary), lambda: canary.break_("no-ssh"), timeout=120):
        started = time.monotonic()
        done = cli.apply("--canary", "1", "--serial", "100%", window=20)
    took = time.monotonic() - started
    assert_clear(done, 3, canary.name, "gate failed", "stopped early: wave 1")
    assert took < 20 + 30 + 60, "window, the wait for the node to come back, and a busy machine"
    assert "wave 2/2:" not in done.stderr, "the second wave never began"
    record = cli.record()
    assert [(wave.gate, wave.started is not None) for wave in record.waves] == [("failed", True), ("skipped", False)]
    assert cli.outcomes() == {canary.name: "unreachable"} | {node.name: "skipped" for node in others}
    assert not any((node.root / RUN_DIR).exists() for node in others)
    assert [held(node) for node in lab.nodes] == [OLD] * 3, "put back though nobody could reach it"
    canary.heal()
    assert [node.etc() for node in lab.nodes] == etc
    assert undone_after(canary) < 20 + 2, "within its window"
    # It is kept out of the next run until somebody has looked.
    held_back = cli.apply("--limit", canary.name, window=60)
    assert_clear(held_back, 0, "quarantined", f"tune-nodes quarantine clear {canary.name}")
    assert held(canary) == OLD


def test_controller_killed_right_after_the_change(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(3)
    cli = for_lab(tmp_path, lab)
    canary, *others = lab.nodes
    etc = [node.etc() for node in lab.nodes]
    running: list[subprocess.Popen[bytes]] = []

    def cut() -> None:
        kill_all(running[0])
        canary.break_("no-ssh")

    with once(armed(canary), cut, timeout=120):
        running.append(cli.start("apply", "-p", cli.profile(), "--window", "20", "--yes"))
        running[0].wait(timeout=120)
    wait_for(lambda: not tune_processes(canary), 60)  # the request, then the reverter: its window is over
    assert held(canary) == OLD
    canary.heal()
    assert [node.etc() for node in lab.nodes] == etc
    assert not any((node.root / RUN_DIR).exists() for node in others), "no other wave began"
    assert undone_after(canary) < 20 + 2, "within its window"

    history = cli("history", "-o", "json")
    assert [run["state"] for run in json.loads(history.stdout)] == ["interrupted"]
    assert_clear(cli("show"), 0, "interrupted", "nodes undo what was not confirmed", "tune-nodes verify")
    assert_clear(cli("rollback", "--yes", "--window", "60"), 0, "0 changes")
    assert held(canary) == OLD


def test_one_of_twenty_freezes_and_the_others_are_confirmed_in_their_own_time(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(20, sudo=False)
    cli = for_lab(tmp_path, lab)
    nodes = lab.nodes
    frozen = nodes.pop(6)
    etc = frozen.etc()
    with once(armed(frozen), lambda: frozen.break_("freeze"), timeout=120):
        # Fewer forks than nodes: neither a hung one nor a queue may make a healthy one revert.
        done = cli.apply(*AT_ONCE, "--forks", "7", window=30)
    assert_clear(done, 3, "wave 1/1", frozen.name, "changed 19 of 20")
    record = cli.record()
    outcomes = cli.outcomes()
    assert outcomes.pop(frozen.name) in ("unreachable", "failed")
    assert set(outcomes.values()) == {"changed"}
    assert len(record.waves) == 1
    spoken = [line.split()[1] for line in done.stderr.splitlines() if " changed: " in line or " unreachable: " in line]
    assert spoken[-1] == frozen.name, "nobody waited for it"
    for node in nodes:
        assert held(node) == NEW
        (confirmed,) = (node.root / RUN_DIR / "tx").glob("*/DONE")
        begun = json.loads(confirmed.read_text())["created"]
        assert confirmed.stat().st_ctime - begun < 15, "the last 15 s of a window confirm nothing"
    frozen.heal()
    wait_for(lambda: held(frozen) == OLD, 60)
    assert set(transactions(frozen).values()) == {"REVERTED"}
    assert frozen.etc() == etc


def _whole(nodes: Iterable[LabNode], etc: dict[str, dict[str, str]]) -> list[str]:
    """Check that each node is wholly old or wholly confirmed; return which."""
    found = []
    for node in nodes:
        states = set(transactions(node).values())
        if held(node) == NEW:
            assert states == {"DONE"}, (node.name, states)
            assert "tcp_fin_timeout" in (node.root / "etc/sysctl.d/90-tune-nodes.conf").read_text()
            found.append("new")
        else:
            assert held(node) == OLD, node.name
            assert states <= {"REVERTED"}, (node.name, states)
            assert node.etc() == etc[node.name]
            found.append("old")
        wait_for(lambda node=node: not tune_processes(node), 30)
    return found


def _begun(node: LabNode) -> Callable[[], bool]:
    return (node.root / RUN_DIR).exists


def test_controllers_killed_at_many_moments(make_lab: MakeLab, tmp_path: Path) -> None:
    delays = (0.0, 0.2, 0.5, 1.0, 1.8, 3.0)
    lab = make_lab(len(delays), sudo=False)
    etc = {node.name: node.etc() for node in lab.nodes}

    def one(node: LabNode, delay: float) -> None:
        assert lab.state.inventory is not None
        cli = Cli(tmp_path / node.name, lab.state.inventory)
        running = cli.start("apply", "-p", cli.profile(), "--window", "20", "--yes", "--limit", node.name)
        try:
            wait_for(_begun(node), 120)
            time.sleep(delay)
        finally:
            kill_all(running)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one, lab.nodes, delays))
    settle = time.monotonic() + 22
    wait_for(lambda: time.monotonic() > settle or all(held(node) in (OLD, NEW) for node in lab.nodes), 60)
    wait_for(lambda: time.monotonic() > settle, 60)
    assert "old" in _whole(lab.nodes, etc)


def _sessions(node: LabNode) -> list[int]:
    """Return the ssh sessions open on a node: children of its listening sshd."""
    return list(descendants(node.sshd)) if node.sshd is not None else []


def test_ssh_sessions_killed_at_many_moments(make_lab: MakeLab, tmp_path: Path) -> None:
    delays = (0.0, 0.1, 0.2, 0.4, 0.6, 0.9, 1.3, 2.0)
    lab = make_lab(len(delays), sudo=False)
    cli = for_lab(tmp_path, lab)
    etc = {node.name: node.etc() for node in lab.nodes}

    def cut(node: LabNode, delay: float) -> None:
        wait_for(_begun(node), 120)
        time.sleep(delay)
        for pid in _sessions(node):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    cutters = [threading.Thread(target=cut, args=pair) for pair in zip(lab.nodes, delays, strict=True)]
    for cutter in cutters:
        cutter.start()
    done = cli.apply(*AT_ONCE, window=30)
    for cutter in cutters:
        cutter.join(timeout=60)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 3), done.stderr
    found = _whole(lab.nodes, etc)
    # What the run says of a node is what the node says of itself.
    said = cli.outcomes()
    assert {said[node.name] for node, what in zip(lab.nodes, found, strict=True) if what == "new"} <= {"changed"}
    assert not {said[node.name] for node, what in zip(lab.nodes, found, strict=True) if what == "old"} & {"changed"}


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(make_lab: MakeLab, tmp_path: Path, presses: int) -> None:
    """Once: the wave in flight is finished, no other begins. Twice: now; the node puts itself back."""
    lab = make_lab(2, sudo=False)
    cli = for_lab(tmp_path, lab)
    canary, other = lab.nodes
    window = "60" if presses == 1 else "45"
    if presses == 2:
        canary.break_("slow")  # or it might be confirmed before the keys are down
    command = cli.terminal("apply", "-p", cli.profile(), "--window", window, "--yes")

    def press() -> None:
        if presses == 2:
            canary.break_("no-ssh")
        for _ in range(presses):
            command.sendintr()
            time.sleep(0.5)

    with once(armed(canary), press, timeout=120):
        shown = command.read()
    command.close()
    canary.heal()  # half a minute before the window's end: whoever wanted to could still confirm
    assert command.exitstatus == 130, shown
    assert "stopping: the wave in flight is finished first" in shown
    assert "Traceback" not in shown
    assert not (other.root / RUN_DIR).exists()
    assert cli.outcomes()[other.name] == "skipped"
    if presses == 1:
        assert held(canary) == NEW
        assert cli.outcomes()[canary.name] == "changed"
    else:
        assert "stopping now" in shown
        wait_for(lambda: set(transactions(canary).values()) <= {"REVERTED"}, 90)
        assert held(canary) == OLD
    assert cli.newest().exit_code == 130
