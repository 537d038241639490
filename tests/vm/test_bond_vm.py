"""A bond that carries the connection, a VLAN on it with the default route, and an RSS table set by hand on a port."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clirun import assert_clear
from vmbed.machine import Machine
from vmbed.network import BRIDGE_HOST
from vmrun import STATE, VmCli, channels, profile, states

BOND = "198.18.78.2"
VLAN, GATEWAY = "198.18.79.2", "198.18.79.1"
#: eth3 in a namespace of the machine is what the VLAN leads to: the host's kernel may not know VLANs.
UP = f"""
ip link add bond0 type bond mode active-backup miimon 100
for port in eth1 eth2; do
  ip link set $port down
  ip link set $port master bond0
done
ip link set bond0 up
ip address add {BOND}/24 dev bond0
ip link add link bond0 name bond0.77 type vlan id 77
ip address add {VLAN}/24 dev bond0.77
ip link set bond0.77 up
ip netns add peer
ip link set eth3 netns peer
ip -n peer link set eth3 up
ip -n peer link add link eth3 name eth3.77 type vlan id 77
ip -n peer address add {GATEWAY}/24 dev eth3.77
ip -n peer link set eth3.77 up
ip route replace default via {GATEWAY} dev bond0.77
ethtool -X eth1 start 1 equal 1
ping -q -c 1 -W 20 {GATEWAY}
"""
DOWN = """
ip link delete bond0.77
ip link delete bond0
ip -n peer link delete eth3.77
ip -n peer link set eth3 netns 1
ip netns delete peer
ethtool -X eth1 default
ip route replace default via 198.18.77.1 dev eth0
"""
FLOWS = 64
_SEND = """
import socket, sys
for port in range(20000, 20000 + int(sys.argv[3])):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((sys.argv[1], port))
        sender.sendto(b"x", (sys.argv[2], 9))
"""
_TICK = "while :; do cut -d' ' -f1 /proc/uptime; sleep 0.2; done"
LONGEST = 10.0  # seconds without a sign; a link that goes down costs TCP more, and then the bond its port


@pytest.fixture
def bond(vm: Machine) -> Iterator[Machine]:
    """The machine with its second leg set up, eth1 being the port in use."""
    vm.run("sh", "-e", input=UP)
    assert vm.run("cat", "/sys/class/net/bond0/bonding/active_slave").strip() == "eth1"
    yield vm
    vm.run("sh", "-e", input=DOWN)


def table(vm: Machine, nic: str) -> list[int]:
    """Return the RSS table as the ethtool program reads it."""
    lines = vm.run("ethtool", "-x", nic).split("RSS hash key")[0].splitlines()[1:]
    return [int(number) for line in lines for number in line.split(":")[1].split()]


def received(vm: Machine, nic: str) -> list[int]:
    """Return the packets received by each queue."""
    counters = re.findall(r"^ *rx_queue_[0-9]+_packets: ([0-9]+)$", vm.run("ethtool", "-S", nic), re.MULTILINE)
    return [int(counter) for counter in counters]


def spread(vm: Machine, nic: str) -> list[int]:
    """Send many flows to the bond and return how many packets each queue of a port got meanwhile."""
    before = received(vm, nic)
    argv = [*vm.inside, "python3", "-c", _SEND, BRIDGE_HOST, BOND, str(FLOWS)]
    subprocess.run(argv, check=True, timeout=60)
    vm.run("ping", "-q", "-c", "1", "-W", "20", "-I", "bond0", BRIDGE_HOST)  # behind them in line
    return [now - then for then, now in zip(before, received(vm, nic), strict=True)]


def test_ports_change_one_at_a_time_the_table_works_on_and_ssh_stays(bond: Machine, tmp_path: Path) -> None:
    cli = VmCli(tmp_path / "bonded", bond, bond.write_inventory("bond.yml", BOND))
    by_hand = table(bond, "eth1")
    assert set(by_hand) == {1}
    assert spread(bond, "eth1")[1] >= FLOWS

    with (tmp_path / "ticks").open("w") as output:
        session = subprocess.Popen(bond.ssh("sh", "-c", _TICK, address=BOND), stdin=subprocess.DEVNULL, stdout=output)
    try:
        wish = [{"interfaces": "default-route", "channels": 4}]
        done = cli("apply", "-p", cli.profile(profile({}, wish)), "--yes")
        alive = session.poll() is None
    finally:
        session.kill()
        session.wait()
    assert_clear(done, 0, "changed 1 of 1", "eth1/channels", "eth2/channels")
    assert "0/channels" not in done.stdout, "eth0 carries no default route now"
    (probed,) = (node.probes_after for node in cli.record().nodes.values())
    assert f"gateway:{GATEWAY}" in {probe.id for probe in probed if probe.ok}

    ticks = [float(line) for line in (tmp_path / "ticks").read_text().splitlines()[:-1]]
    assert alive, "the connection over the bond outlived the change"
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < LONGEST

    (run,) = states(bond)
    lines = [json.loads(line) for line in bond.run("cat", f"{STATE}/tx/{run}/journal.jsonl").splitlines()]
    keys = [change["key"] for change in lines[0]["changes"]]
    assert [(line["t"], keys[line["i"]]) for line in lines[1:]] == [
        ("intent", "eth2/channels"),
        ("done", "eth2/channels"),
        ("intent", "eth1/channels"),
        ("done", "eth1/channels"),
    ], "the port in use last, once the other one was done"

    assert [channels(bond, port) for port in ("eth1", "eth2")] == [4, 4]
    assert table(bond, "eth1") == by_hand
    got = spread(bond, "eth1")
    assert got[1] >= FLOWS, "the table is not only shown, it is what the device goes by"
    assert sum(got) - got[1] < FLOWS / 8, got
    assert set(table(bond, "eth2")) == {0, 1, 2, 3}, "the other port's own table was spread over its new queues"

    bond.run("ip", "link", "set", "eth1", "down")
    bond.run("ping", "-q", "-c", "1", "-W", "20", "-I", "bond0", BRIDGE_HOST)
    assert bond.run("cat", "/sys/class/net/bond0/bonding/active_slave").strip() == "eth2"
    assert_clear(cli("rollback", run, "--yes"), 0)
    assert [channels(bond, port) for port in ("eth1", "eth2")] == [2, 2]
    assert table(bond, "eth1") == by_hand
