"""The lab never touches the machine it runs on: shown by comparing the machine before and after."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_nodes.errors import TuneError
from tune_nodes.lab import FAULTS, Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.node import tree

MakeLab = Callable[..., Lab]

#: Kernel counters and clocks, which move by themselves.
MOVING = re.compile(
    r"kernel\.(random\.|ns_last_pid|pty\.nr|perf_cpu_time_max_percent|perf_event_max_sample_rate|random)"
    r"|fs\.(dentry-state|file-nr|inode-nr|inode-state|quota|aio-nr|mount-nr)|net\.netfilter\.nf_conntrack_count"
    r"|vm\.stat_refresh|.*\.tnlab[0-9]+\."
)
COUNTED = re.compile(r"packets [0-9]+ bytes [0-9]+")  # what passed a rule, a cluster's on this machine say
# Interfaces of other labs, which may come and go meanwhile; one that is just going has only its number left.
OTHERS = re.compile(r"tnlab[0-9]+|dev if[0-9]+")
UNITS = ("/etc/systemd", "/run/systemd/system", "/run/systemd/transient", "/usr/lib/systemd/system")
SHARED = ("/root", "/home", "/var/lib", "/var/log", "/opt", "/srv", "/usr/local")


def sysctls() -> dict[str, str]:
    output = run(["sysctl", "--all", "--ignore"], check=False).stdout
    pairs = (line.partition(" = ") for line in output.splitlines())
    return {key: value for key, sep, value in pairs if sep and not MOVING.match(key)}


def links() -> list[dict[str, Any]]:
    shown = json.loads(run(["ip", "-j", "-d", "address", "show"]).stdout)
    keep = ("ifname", "mtu", "operstate", "address", "num_tx_queues", "num_rx_queues", "addr_info")
    kept = [{key: link.get(key) for key in keep} for link in shown if not OTHERS.fullmatch(link["ifname"])]
    for link in kept:
        for address in link["addr_info"] or []:
            address.pop("valid_life_time", None)
            address.pop("preferred_life_time", None)
    return kept


def routes() -> list[str]:
    lines = [run(["ip", family, "route", "show", "table", "all"]).stdout for family in ("-4", "-6")]
    return sorted(line for text in lines for line in text.splitlines() if not OTHERS.search(line))


def listing(directories: tuple[str, ...]) -> set[str]:
    """Two levels of names: enough to see a file or directory that a node's program made."""
    tops = [Path(directory) for directory in directories]
    return {str(path) for top in tops if top.is_dir() for pattern in ("*", "*/*") for path in top.glob(pattern)}


def mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(" ".join(line.split()[3:]) for line in lines if "/run/netns" not in line)


def machine() -> dict[str, Any]:
    return {
        "sysctls": sysctls(),
        "links": links(),
        "routes": routes(),
        "firewall": COUNTED.sub("", run(["nft", "list", "ruleset"]).stdout),
        "etc": tree(Path("/etc")),
        "units": listing(UNITS),
        "shared": listing(SHARED),
        "mounts": mounts(),
        "hostname": Path("/proc/sys/kernel/hostname").read_text(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(),
    }


def use_everything(lab: Lab) -> None:
    """Do in the lab whatever it offers, and what a careless program would try."""
    for node in lab.nodes[:2]:
        for fault in FAULTS:
            node.break_(fault)
            node.heal(fault)
    one, _, sudo = lab.nodes
    sudo.ssh(["sudo", "-S", "-p", "''", "touch", "/etc/by-sudo"], input=lab.password_file.read_text())
    one.run(
        ["tee", "/etc/hosts", "/etc/sysctl.d/90-x.conf", "/root/x", "/home/x", "/var/lib/x", "/var/log/x"], input="x"
    )
    one.run(["tee", "/tmp/tn-isolation", "/dev/shm/tn-isolation", "/run/tn-isolation"], input="x")
    one.run(["mkdir", "-p", "/etc/systemd/system/x.service.d", "/var/lib/tune-nodes"])
    one.write_sysctl("net.ipv4.ip_forward", "1")
    one.write_sysctl("net.ipv4.tcp_fin_timeout", "33")
    one.run(["nft", "add", "table", "inet", "tn_isolation"])
    one.run(["ip", "link", "add", "tn-isolation", "type", "bridge"])
    one.run(["ethtool", "-L", "eth0", "rx", "2", "tx", "2"])
    one.run(["hostname", "changed"])
    one.run(["mount", "-t", "tmpfs", "tn-lab", "/mnt"])
    one.power_cycle()


def test_the_machine_is_the_same_afterwards(make_lab: MakeLab) -> None:
    before = machine()
    lab = make_lab(3)
    use_everything(lab)
    interface, hub = Path("/sys/class/net", lab.state.layout.interface, "ifindex"), lab.state.layout.hub
    ours = interface.read_text()
    lab.down()
    after = machine()
    for part, was in before.items():
        assert after[part] == was, part
    with contextlib.suppress(FileNotFoundError):
        assert interface.read_text() != ours  # another lab may have the name by now, but not the device
    assert not Path("/run/netns", hub).exists()
    for path in ("/tmp/tn-isolation", "/dev/shm/tn-isolation", "/run/tn-isolation"):
        assert not Path(path).exists()


def test_while_it_is_up_the_machine_has_one_interface_more_and_forwards_nothing_of_it(lab3: Lab) -> None:
    layout = lab3.state.layout
    assert Path("/sys/class/net", layout.interface).exists()
    assert Path(f"/proc/sys/net/ipv4/conf/{layout.interface}/forwarding").read_text() == "0\n"
    hub = run(["ip", "netns", "exec", layout.hub, "sysctl", "-n", "net.ipv4.ip_forward"]).stdout
    assert hub == "0\n"
    node = lab3.nodes[0]
    beyond = "198.51.100.1"
    assert node.run(["ping", "-c1", "-W1", beyond], check=False).returncode != 0
    node.run(["ip", "route", "add", f"{beyond}/32", "via", str(layout.controller)])  # past the gateway: no way either
    assert node.run(["ping", "-c1", "-W1", beyond], check=False).returncode != 0


@pytest.mark.parametrize(
    "command",
    [
        ["tee", "/proc/sys/fs/file-max"],
        ["tee", "/proc/sys/kernel/pid_max"],
        ["tee", "/proc/sys/vm/swappiness"],
        ["tee", "/proc/sys/kernel/hostname"],
        ["tee", "/usr/tn-isolation"],
        ["tee", "/tn-isolation"],
        ["tee", "/sys/kernel/mm/transparent_hugepage/enabled"],
        ["tee", "/proc/sys/net/core/rmem_max"],
    ],
)
def test_root_in_a_node_cannot_change_what_is_the_machines(lab3: Lab, command: list[str]) -> None:
    before = run(["cat", command[1]], check=False).stdout
    for attempt in (lab3.nodes[0].run, lab3.nodes[0].ssh):
        assert attempt(command, input=before or "1", check=False).returncode != 0
    assert run(["cat", command[1]], check=False).stdout == before


def test_root_in_a_node_lacks_the_power_to_restart_the_machine_or_change_its_kernel(lab3: Lab) -> None:
    dropped = {16: "sys_module", 17: "sys_rawio", 22: "sys_boot", 25: "sys_time"}
    for status in (lab3.nodes[0].run(["cat", "/proc/self/status"]), lab3.nodes[0].ssh(["cat", "/proc/self/status"])):
        bounds = {line.split()[0]: int(line.split()[1], 16) for line in status.stdout.splitlines() if line[:3] == "Cap"}
        for bit, name in dropped.items():
            assert not (bounds["CapBnd:"] | bounds["CapEff:"]) >> bit & 1, name


def test_the_machines_systemd_cannot_be_reached(lab3: Lab) -> None:
    node = lab3.nodes[0]
    assert node.run(["ls", "/run/systemd", "/run/dbus"], check=False).returncode != 0
    asked = node.run(["sh", "-c", "command -v systemctl && systemctl --no-pager list-timers"], check=False)
    assert asked.returncode != 0


def test_nodes_do_not_see_each_other_or_the_machine(lab3: Lab) -> None:
    one, two, _ = lab3.nodes
    one.run(["tee", "/etc/mine"], input="one")
    with pytest.raises(TuneError):
        two.run(["cat", "/etc/mine"])
    assert sorted(one.run(["ls", "/sys/class/net"]).stdout.split())[0] == "eth0"
    assert "tnlab" not in one.run(["ls", "/sys/class/net"]).stdout
    assert one.run(["cat", "/etc/machine-id"]).stdout != two.run(["cat", "/etc/machine-id"]).stdout
    assert one.run(["ls", "/etc/sysctl.d"]).stdout == ""
    assert one.run(["ls", str(lab3.directory)], check=False).returncode != 0  # keys and passwords of the lab
