"""Each fault does what it says, to its node only, and goes away without a trace."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab import FAULTS, Lab, LabNode, once
from tune_nodes.lab.faults import DELAY, DRIFT_KEY, DRIFT_VALUE, FOREIGN_FILE, FOREIGN_KEY

MakeLab = Callable[..., Lab]
SHORT = ("-o", "ConnectTimeout=1")


def answers(node: LabNode) -> bool:
    argv = node.ssh_argv(["true"], SHORT)
    try:
        return (
            subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=3, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


def ping(node: LabNode, target: str, size: int) -> bool:
    return node.run(["ping", "-c1", "-W1", "-Mdo", f"-s{size - 28}", target], check=False).returncode == 0


@pytest.fixture(autouse=True)
def healed(lab3: Lab) -> Iterator[None]:
    yield
    for node in lab3.nodes:
        node.heal()


@contextmanager
def session(node: LabNode) -> Iterator[Callable[[str], None]]:
    """Yield say(text), which sends text through an open ssh session and returns when it came back."""
    with subprocess.Popen(node.ssh_argv(["cat"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sent, echoed = process.stdin, process.stdout

        def say(text: str) -> None:
            sent.write(f"{text}\n")
            sent.flush()
            assert echoed.readline() == f"{text}\n"

        say("hello")
        yield say
        process.kill()


def test_no_ssh_cuts_open_connections_too_and_leaves_the_node_alone(lab3: Lab) -> None:
    node, other, _ = lab3.nodes
    etc, sysctls, sshd = node.etc(), node.sysctls(), node.sshd
    with session(node) as say:
        node.break_("no-ssh")
        assert not answers(node)
        assert answers(other)
        assert ping(node, str(lab3.state.layout.gateway), 1500)
        healing = threading.Timer(1.5, node.heal)
        healing.start()
        started = time.monotonic()
        say("after")  # TCP sends it again until it comes through
        assert time.monotonic() - started > 1
        healing.join()
    assert answers(node)
    assert (node.etc(), node.sysctls(), node.sshd) == (etc, sysctls, sshd)


def test_mtu_blackhole_swallows_only_what_is_too_large_and_new_logins_hang(lab3: Lab) -> None:
    node, other, _ = lab3.nodes
    with session(node) as say:
        node.break_("mtu-blackhole")
        assert ping(node, other.address, 1400)
        assert not ping(node, other.address, 1401)
        say("small packets pass")
        # The well-known sign of it: TCP connects and then hangs, in the key exchange's first large packet.
        assert not answers(node)
        other_way = other.run(["ping", "-c1", "-W1", "-Mdo", "-s1472", node.address], check=False)
        assert other_way.returncode != 0
    node.heal("mtu-blackhole")
    assert ping(node, other.address, 1500)
    assert node.ssh(["wc", "-c"], input="x" * 300_000).stdout.strip() == "300000"
    assert node.run(["nft", "list", "ruleset"]).stdout == ""


def test_slow_delays_each_command_and_passes_input_through(lab3: Lab) -> None:
    for node in (lab3.nodes[0], lab3.nodes[2]):  # root and the ordinary user
        node.break_("slow")
        started = time.monotonic()
        assert node.ssh(["cat; exit 7"], input="hello", check=False).stdout == "hello"
        assert time.monotonic() - started >= DELAY
        node.heal()
        started = time.monotonic()
        assert node.ssh(["exit 7"], check=False).returncode == 7
        assert time.monotonic() - started < DELAY


def test_hang_logs_in_and_says_nothing(lab3: Lab) -> None:
    node = lab3.nodes[0]
    node.break_("hang")
    assert not answers(node)
    with pytest.raises(UsageError, match="hang already"):
        node.break_("slow")
    node.heal()
    assert answers(node)


def test_freeze_stops_a_command_in_its_middle(lab3: Lab) -> None:
    node = lab3.nodes[0]
    with session(node) as say:
        node.break_("freeze")
        assert not answers(node)
        node.heal()
        say("again")
    assert answers(node)


def test_drift_is_healed_only_while_it_is_ours(lab3: Lab) -> None:
    node = lab3.nodes[0]
    before = node.read_sysctl(DRIFT_KEY)
    node.break_("drift")
    assert node.read_sysctl(DRIFT_KEY) == DRIFT_VALUE
    node.heal()
    assert node.read_sysctl(DRIFT_KEY) == before
    node.break_("drift")
    node.write_sysctl(DRIFT_KEY, "777")
    node.heal()
    assert node.read_sysctl(DRIFT_KEY) == "777"
    node.write_sysctl(DRIFT_KEY, before)


def test_foreign_sysctl_is_file_and_value_and_leaves_no_trace(lab3: Lab) -> None:
    node = lab3.nodes[0]
    node.write_sysctl(FOREIGN_KEY, "0")
    etc = node.etc()
    node.break_("foreign-sysctl")
    assert FOREIGN_KEY in (node.root / FOREIGN_FILE.lstrip("/")).read_text()
    assert node.read_sysctl(FOREIGN_KEY) == "1"
    node.heal()
    assert node.etc() == etc
    assert node.read_sysctl(FOREIGN_KEY) == "0"
    assert not Path(FOREIGN_FILE).exists()


def test_a_fault_outside_the_node_outlasts_its_power(make_lab: MakeLab) -> None:
    node = make_lab(2).nodes[0]
    for fault in ("no-ssh", "drift", "mtu-blackhole"):
        node.break_(fault)
        node.break_(fault)  # again is no error
    node.power_cycle()
    assert node.faults == ["no-ssh"]
    assert not answers(node)
    node.heal()
    assert answers(node)


def test_what_does_not_exist_is_refused_by_name(lab3: Lab) -> None:
    for name in ("lab-1", f"{lab3.name}-4", f"{lab3.name}-1/../x", "", "*", f"{lab3.name}-1\n", "-"):
        with pytest.raises(UsageError, match="is not a node of lab"):
            lab3.break_(name, "drift")
    with pytest.raises(UsageError, match="is not a fault"):
        lab3.heal(f"{lab3.name}-1", "drop table")
    assert all(not node.faults for node in lab3.nodes)


def test_every_fault_is_told_in_one_line() -> None:
    assert all(fault.summary and "\n" not in fault.summary for fault in FAULTS.values())


def test_once_fires_in_the_middle(lab3: Lab) -> None:
    node = lab3.nodes[1]
    mark = node.root / "tmp" / "mark"
    with once(mark.exists, lambda: node.break_("no-ssh")) as watch:
        node.run(["touch", "/tmp/mark"])
        assert watch.fired.wait(5)
        assert not answers(node)
    node.heal()
    with pytest.raises(TuneError, match="the condition never held"), once(lambda: False, node.heal):
        pass
