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
from tune_nodes.lab.command import run
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
    return node.run(["ping", "-c3", "-i0.3", "-W1", "-Mdo", f"-s{size - 28}", target], check=False).returncode == 0


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


def arrives(sender: LabNode, target: LabNode, size: int, six: bool = False) -> bool:
    """Say whether one of three echo requests of this size arrives, however replies fare; the target's kernel counts.

    A cable that was plugged a moment ago may not carry the first.
    """

    def heard() -> int:
        name = "Icmp6InEchos" if six else "IcmpInEchos"
        return next(int(line.split()[1]) for line in target.run(["nstat", "-asz", name]).stdout.splitlines()[1:])

    before = heard()
    address = f"fd77::{target.number}" if six else target.address
    sender.run(["ping", "-c3", "-i0.3", "-W1", "-Mdo", f"-s{size - (48 if six else 28)}", address], check=False)
    return heard() > before


def with_six(nodes: list[LabNode]) -> None:
    for node in nodes:
        node.run(["ip", "-6", "addr", "replace", f"fd77::{node.number}/64", "dev", "eth0", "nodad"])


BOTH, INWARD, OUTWARD = "mtu-blackhole", "mtu-blackhole-in", "mtu-blackhole-out"


@pytest.mark.parametrize(
    ("fault", "inward", "outward"), [(BOTH, False, False), (INWARD, False, True), (OUTWARD, True, False)]
)
def test_mtu_blackhole_swallows_what_is_too_large_in_its_direction_only(
    lab3: Lab, fault: str, inward: bool, outward: bool
) -> None:
    node, other, third = lab3.nodes
    with_six([node, other])
    seen = node.etc(), node.sysctls(), node.run(["ip", "-j", "link"]).stdout
    with session(node) as say:
        node.break_(fault)
        for six in (False, True):
            assert arrives(other, node, 1400, six)
            assert arrives(node, other, 1400, six)
            assert arrives(other, node, 1401, six) is inward
            assert arrives(node, other, 1401, six) is outward
        assert not ping(node, str(lab3.state.layout.gateway), 1401)
        assert ping(other, third.address, 1500), "the others are as they were"
        say("still here")
        assert node.ssh(["wc", "-c"], input="x" * 300_000).stdout.strip() == "300000", "this machine is spared"
    assert (node.etc(), node.sysctls(), node.run(["ip", "-j", "link"]).stdout) == seen
    assert node.run(["nft", "list", "ruleset"]).stdout == ""
    node.heal(fault)
    assert ping(node, other.address, 1500)
    hub = ["ip", "-n", lab3.state.layout.hub, "-br", "link"]
    left = {line.split("@")[0].split()[0] for line in run(hub).stdout.splitlines()}
    assert left == {"lo", "br0", "uplink", "n1", "n2", "n3"}


def test_a_hop_is_never_passed_by_whichever_cable_has_the_lowest_address(lab3: Lab) -> None:
    node, layout = lab3.nodes[0], lab3.state.layout
    cable = ["ip", "-n", layout.hub, "link", "set", layout.port(node.number), "address"]
    before = run(["ip", "-n", layout.hub, "-br", "link", "show", layout.port(node.number)]).stdout.split()[2]
    run([*cable, "02:00:00:00:00:01"])  # a bridge without an address of its own takes the lowest of its ports
    try:
        assert ping(node, str(layout.gateway), 1400)  # the node knows the gateway's address from now on
        node.break_(OUTWARD)
        assert not ping(node, str(layout.gateway), 1401)
    finally:
        run([*cable, before])


def test_a_hop_before_ssh_hangs_new_logins_and_lets_small_segments_pass(lab3: Lab) -> None:
    node, other, _ = lab3.nodes
    with session(node) as say:
        node.break_("mtu-blackhole-ssh")
        say("small packets pass")
        # The well-known sign of it: TCP connects and then hangs, in the key exchange's first large packet.
        assert not answers(node)
    # Segments that fit pass even where TCP hands a NIC many of them at once: the hop judges packets, as a wire does.
    node.run(["ip", "route", "replace", other.address, "dev", "eth0", "mtu", "1300"])
    assert _sent(node, other, 200_000) == 200_000
    node.run(["ip", "route", "del", other.address])


def _sent(sender: LabNode, target: LabNode, count: int) -> int:
    """Return how many of ``count`` bytes arrive over TCP within 10 s."""
    take = (
        "import socket; s = socket.create_server(('', 4711)); print(flush=True); s.settimeout(10); c, _ = s.accept();"
        f"c.settimeout(10); n = 0\nwhile n < {count}: n += len(c.recv(65536))\nprint(n)"
    )
    give = f"import socket; socket.create_connection(('{target.address}', 4711), 5).sendall(b'x' * {count})"
    enter = ["ip", "netns", "exec", target.netns, "python3", "-c", take]
    with subprocess.Popen(enter, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sender.run(["python3", "-c", give], timeout=20)
        return int(process.stdout.read())


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
    node.break_(INWARD)
    with pytest.raises(UsageError, match="mtu-blackhole-in already"):
        node.break_(OUTWARD)
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
    other = node.lab.nodes[1]
    for fault in ("no-ssh", "drift", "mtu-blackhole"):
        node.break_(fault)
        node.break_(fault)  # again is no error
    node.power_cycle()
    assert sorted(node.faults) == ["mtu-blackhole", "no-ssh"]
    assert not answers(node)
    assert ping(node, other.address, 1400)
    assert not ping(node, other.address, 1401)
    node.heal()
    assert answers(node)
    assert ping(node, other.address, 1500)


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
