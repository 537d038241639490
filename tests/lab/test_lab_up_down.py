"""Up, down, up again, two at once, after a crash."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tune_nodes.cli.lab import app
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.process import alive, identify
from tune_nodes.lab.state import load, root_directory, save

MakeLab = Callable[..., Lab]


def netns(lab: str) -> list[str]:
    return sorted(path.name for path in Path("/run/netns").glob(f"tn-{lab}-*"))


def test_nodes_answer_over_ssh_with_their_own_names(lab3: Lab) -> None:
    assert [node.ssh(["hostname"]).stdout.strip() for node in lab3.nodes] == [f"{lab3.name}-{n}" for n in (1, 2, 3)]
    assert [node.user for node in lab3.nodes] == ["root", "root", "ops"]
    assert all(status.ssh and status.up and status.sshd_pid for status in lab3.status())


def test_nodes_reach_gateway_and_each_other_at_full_mtu(lab3: Lab) -> None:
    one, two, _ = lab3.nodes
    gateway = str(lab3.state.layout.gateway)
    assert f"via {gateway}" in one.run(["ip", "route", "show", "default"]).stdout
    for target in (gateway, two.address):
        assert one.run(["ping", "-c1", "-W2", "-Mdo", "-s1472", target]).returncode == 0
        assert one.run(["ping", "-c1", "-W2", "-Mdo", "-s1473", target], check=False).returncode != 0


def test_channels_are_there_to_be_set(lab3: Lab) -> None:
    node = lab3.node(f"{lab3.name}-1")
    shown = node.run(["ethtool", "-l", "eth0"]).stdout.split("Current hardware settings:")
    assert "RX:\t\t4" in shown[0]
    assert "RX:\t\t1" in shown[1]
    node.run(["ethtool", "-L", "eth0", "rx", "4", "tx", "4"])
    assert "TX:\t\t4" in node.run(["ethtool", "-l", "eth0"]).stdout.split("Current hardware settings:")[1]
    node.run(["ethtool", "-L", "eth0", "rx", "1", "tx", "1"])


def test_up_twice_leaves_the_nodes_alone_and_another_size_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    before = [node.init for node in lab.nodes]
    lab.up(2, inventory_dir=lab.state.inventory)
    assert [node.init for node in lab.nodes] == before
    with pytest.raises(UsageError, match="is up with 2 nodes"):
        lab.up(3)


def test_a_dead_node_is_started_again_with_its_files(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    node = lab.nodes[0]
    node.run(["tee", "/etc/kept"], input="yes")
    pids = node.processes()
    assert {node.init.pid, node.sshd} <= set(pids)
    kill(pids)
    lab.up(2)
    assert node.ssh(["cat", "/etc/kept"]).stdout == "yes"


def test_a_node_without_its_sshd_is_started_again(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    node = lab.nodes[0]
    assert node.sshd is not None
    kill([node.sshd])
    lab.up(2)
    assert node.ssh(["true"]).returncode == 0


def kill(pids: Collection[int]) -> None:
    """Kill processes and see them dead: a signal is sent before it is taken, and until then they look alive."""
    with ExitStack() as stack:
        ends = [os.pidfd_open(pid) for pid in pids]
        for end in ends:
            stack.callback(os.close, end)
            signal.pidfd_send_signal(end, signal.SIGKILL)
        for end in ends:
            assert select.select([end], [], [], 10)[0]


def test_two_labs_live_side_by_side(make_lab: MakeLab) -> None:
    one, two = make_lab(1), make_lab(1)
    assert one.state.layout.network != two.state.layout.network
    assert one.nodes[0].ssh(["hostname"]).stdout != two.nodes[0].ssh(["hostname"]).stdout
    assert one.nodes[0].run(["ping", "-c1", "-W1", two.nodes[0].address], check=False).returncode != 0
    one.down()
    assert two.nodes[0].ssh(["true"]).returncode == 0


def test_down_removes_all_and_may_be_repeated(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    processes = [identify(pid) for node in lab.nodes for pid in node.processes()]
    interface = lab.state.layout.interface
    inventory = lab.state.inventory
    assert len(processes) >= 4
    assert inventory is not None
    assert lab.down() is True
    assert lab.down() is False
    assert netns(lab.name) == []
    assert not lab.directory.exists()
    assert not inventory.exists()
    assert not Path("/sys/class/net", interface).exists()
    assert not [process for process in processes if alive(process)]
    assert lab.status() == []


def test_what_a_killed_up_left_is_removed_by_the_next(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    half = lab.state
    half.complete = False
    half.nodes[1].init = None
    save(lab.directory, half)
    lab.up(3)
    assert len([status for status in lab.status() if status.ssh]) == 3


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0.3), (signal.SIGINT, 0.7), (signal.SIGKILL, 0.5)])
def test_an_interrupted_up_leaves_nothing_or_what_down_finds(
    tmp_path: Path, number: signal.Signals, after: float
) -> None:
    name = f"t{os.getpid()}x0"
    code = "import sys; from tune_nodes.cli.lab import app; app(sys.argv[1:])"
    argv = [sys.executable, "-c", code, "up", "--nodes", "40", "--name", name, "--inventory-dir", str(tmp_path / "inv")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while not netns(name) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after)
        process.send_signal(number)
        process.wait(30)
    lab = Lab(name)
    if number is signal.SIGINT and process.returncode:
        assert not lab.exists
    lab.down()
    assert netns(name) == []
    assert not lab.directory.exists()
    assert not (tmp_path / "inv").exists()


def test_after_a_restart_of_the_machine_only_files_are_left_and_no_process_is_touched(make_lab: MakeLab) -> None:
    lab = make_lab(1)
    old = lab.state
    lab.down()
    # The numbers in the old state belong to other processes now: here, to this one.
    old.boot_id = "an-earlier-boot"
    assert old.nodes[0].init is not None
    old.nodes[0].init.pid = os.getpid()
    lab.directory.mkdir(parents=True)
    save(lab.directory, old)
    assert lab.down() is True
    assert not lab.directory.exists()


def test_a_namespace_of_someone_else_is_left_and_named(make_lab: MakeLab) -> None:
    lab = Lab(f"t{os.getpid()}x0")
    run(["ip", "netns", "add", f"tn-{lab.name}-2"])
    try:
        with pytest.raises(TuneError, match="exists already"):
            lab.up(2)
        assert netns(lab.name) == [f"tn-{lab.name}-2"]
        assert load(lab.directory) is None
        assert not lab.directory.exists()
    finally:
        run(["ip", "netns", "del", f"tn-{lab.name}-2"])


def test_someone_elses_inventory_is_left(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {}\n")
    lab = Lab(f"t{os.getpid()}x0")
    with pytest.raises(UsageError, match="was not written by lab"):
        lab.up(1, inventory_dir=tmp_path)
    assert (tmp_path / "hosts.yml").read_text() == "all: {}\n"
    assert not lab.exists


def test_power_cycle_keeps_the_disk_and_nothing_else(make_lab: MakeLab) -> None:
    node = make_lab(2).nodes[0]
    boot = node.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    node.run(["tee", "/etc/kept", "/var/lib/kept", "/run/lost"], input="x")
    before = node.read_sysctl("net.ipv4.tcp_fin_timeout")
    node.write_sysctl("net.ipv4.tcp_fin_timeout", "7")
    old = node.processes()
    node.power_cycle()
    assert node.run(["sh", "-c", "ls /etc/kept /var/lib/kept /run/lost 2>/dev/null"], check=False).stdout.split() == [
        "/etc/kept",
        "/var/lib/kept",
    ]
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == before
    assert node.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot
    assert not set(old) & set(node.processes())
    assert node.ssh(["true"]).returncode == 0


def test_the_command_line_from_up_to_down(tmp_path: Path) -> None:
    name, call = f"t{os.getpid()}x0", CliRunner().invoke
    named = ["--name", name]
    try:
        up = call(app, ["up", "--nodes", "2", "--queues", "2", *named, "--inventory-dir", str(tmp_path / "inv")])
        assert (up.exit_code, up.stdout.strip()) == (0, str(tmp_path / "inv"))
        assert call(app, ["break", f"{name}-1", "no-ssh", *named]).exit_code == 0
        status = call(app, ["status", "-o", "json", *named])
        shown = json.loads(status.stdout)
        assert status.exit_code == 4
        assert [(node["ssh"], node["faults"]) for node in shown["nodes"]] == [(False, ["no-ssh"]), (True, [])]
        assert call(app, ["break", f"{name}-1", "--heal", *named]).exit_code == 0
        table = call(app, ["status", *named])
        assert table.exit_code == 0
        assert table.stdout.split()[:6] == ["NODE", "ADDRESS", "SSH", "SSHD", "PID", "FAULTS"]
        assert isinstance(call(app, ["break", "../../x", "drift", *named]).exception, UsageError)
    finally:
        down = call(app, ["down", *named])
    assert down.exit_code == 0
    assert not (root_directory() / name).exists()


def test_sixty_nodes(make_lab: MakeLab) -> None:
    lab = make_lab(60, 2)
    statuses = lab.status()
    assert len(statuses) == 60
    assert all(status.ssh for status in statuses)
    assert len({node.files.etc.joinpath("machine-id").read_text() for node in lab.nodes}) == 60
