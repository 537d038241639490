"""A node's mounts, accounts and sysctl paths: pure functions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import TuneError
from tune_nodes.lab import account
from tune_nodes.lab.boot import listens
from tune_nodes.lab.faults import hub_rules
from tune_nodes.lab.filesystem import NodeFiles, authorize, fstab, readonly_mounts
from tune_nodes.lab.hop import not_forwarding
from tune_nodes.lab.hop import rules as hop_rules
from tune_nodes.lab.model import Layout
from tune_nodes.lab.network import cable_batch, node_batch
from tune_nodes.lab.node import sysctl_path, tree
from tune_nodes.lab.process import parse_start

# Lines of /proc/self/mountinfo of a Debian 12 machine, one with a blank in its name.
MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 27 0:25 / /mnt/model ro,nosuid,nodev,relatime - tmpfs none ro,size=4k
30 27 8:1 / /boot/efi rw,relatime shared:1 - vfat /dev/sda1 rw
31 27 8:2 / /srv/my\\040data rw,noatime shared:2 master:1 - ext4 /dev/sda2 rw
32 27 0:4 net:[4026532] /run/netns/x rw shared:3 - nsfs nsfs rw
33 27 8:3 / /var/lib/docker rw,relatime - ext4 /dev/sda3 rw
34 27 8:4 / /etcetera rw,relatime - ext4 /dev/sda4 rw
"""


def test_what_a_node_must_not_write_to() -> None:
    assert readonly_mounts(MOUNTINFO) == ["/sys", "/srv/my data", "/etcetera", "/boot/efi", "/"]


@given(st.text())
def test_junk_in_mountinfo(text: str) -> None:
    points = readonly_mounts(text)
    assert points[-1] == "/"
    assert all(point.startswith("/") and "\n" not in point for point in points)


def test_run_is_mounted_last_and_machine_wide_sysctls_read_only() -> None:
    lines = fstab(Path("/run/tune-nodes-lab/lab/nodes/lab-1"), ["fs", "kernel", "vm"]).splitlines()
    assert lines[0].startswith(
        "overlay /etc overlay lowerdir=/etc,upperdir=/run/tune-nodes-lab/lab/nodes/lab-1/etc/upper,"
    )
    assert "/proc/sys/vm /proc/sys/vm none bind,ro 0 0" in lines
    assert lines[-1].split()[1] == "/run"
    assert all(len(line.split()) == 6 for line in lines)


def test_the_users_files_gain_one_line_each() -> None:
    passwd = "root:x:0:0:root:/root:/bin/bash\nops:x:1:1::/:/bin/false\nbad line\nu:x:2000:5::/:/bin/sh\n"
    made = account.make(passwd, "root:*:1::::::\n", "root:x:0:\ng:x:2001:\n")
    assert made.uid == 2002
    assert made.passwd.splitlines()[-1] == "ops:x:2002:2002:lab user:/home/ops:/bin/bash"
    assert made.passwd.count("\nops:") == 1
    assert made.shadow.splitlines()[-1].startswith("ops:!:")
    assert made.group.endswith("ops:x:2002:\n")


@given(st.text(), st.text(), st.text())
def test_junk_in_account_files(passwd: str, shadow: str, group: str) -> None:
    made = account.make(passwd, shadow, group)
    assert made.uid not in account.taken_ids(passwd) | account.taken_ids(group)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
        ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_sysctl_paths(key: str, path: str) -> None:
    assert sysctl_path(key) == path


@pytest.mark.parametrize("key", ["", "a/../../x", "../x", "net.//.x"])
def test_sysctl_paths_stay_inside(key: str) -> None:
    with pytest.raises(TuneError):
        sysctl_path(key)


def test_a_forced_command_is_quoted_as_sshd_reads_it(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    files.root.mkdir()
    authorize(files, "root", "ssh-ed25519 KEY lab\n", 'a "b" c')
    path = files.authorized_keys("root")
    assert path.read_text() == 'command="a \\"b\\" c" ssh-ed25519 KEY lab\n'
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    authorize(files, "root", "ssh-ed25519 KEY lab\n")
    assert path.read_text() == "ssh-ed25519 KEY lab\n"


def test_tree_notices_content_mode_time_and_links(tmp_path: Path) -> None:
    file = tmp_path / "d" / "f"
    file.parent.mkdir()
    file.write_text("a")
    (tmp_path / "link").symlink_to("d/f")
    first = tree(tmp_path)
    assert set(first) == {"d", "d/f", "link"}
    file.write_text("b")
    assert {path for path, what in tree(tmp_path).items() if what != first[path]} == {"d/f"}


@pytest.mark.parametrize(
    ("stat", "start"),
    [
        ("7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0", 4711),
        ("7 (zombie) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0", None),
        ("7 (short) S 1", None),
        ("", None),
    ],
)
def test_start_times(stat: str, start: int | None) -> None:
    assert parse_start(stat) == start


@given(st.text())
def test_junk_as_stat_and_tcp(text: str) -> None:
    parse_start(text)
    listens(text)


def test_a_listener_on_port_22_is_seen() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    assert listens(
        head + "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
    )
    assert not listens(
        head + "   0: 00000000:0016 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
    )
    assert not listens(
        head + "   0: 00000000:1016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
    )


def test_rules_name_the_cut_ports_and_vanish_without() -> None:
    assert "oifname n2 tcp dport 22 drop" in hub_rules(["n2", "n10"])
    assert "drop" not in hub_rules([])
    spared = hop_rules(2, inward=True, outward=False, spared=Layout("lab", 1).controller)
    assert "device p2" in spared
    assert "device h2" not in spared
    assert spared.index("ip saddr 10.77.7.254 accept") < spared.index("ip length > 1400 drop")
    assert "accept" not in hop_rules(2, inward=True, outward=True, spared=None)
    assert hop_rules(2, inward=True, outward=True, spared=None).count("ip6 length > 1360 drop") == 2


#: `bridge -netns tn-cap1 -json link` of iproute2 6.1 in a lab with a hop at n1, n2 switched off; cut to what is read.
BRIDGES = """[{"ifname":"uplink","master":"br0","state":"forwarding"},
{"ifname":"n1","master":"b1","state":"forwarding"},
{"ifname":"n2","flags":["BROADCAST","MULTICAST"],"master":"br0","state":"disabled","priority":32,"cost":2},
{"ifname":"p1","master":"b1","state":"forwarding"},{"ifname":"h1","master":"br0","state":"forwarding"}]"""


def test_a_hop_is_there_when_all_its_ports_forward() -> None:
    assert not_forwarding(BRIDGES, ("h1", "p1", "n1")) == []
    assert not_forwarding(BRIDGES, ("h1", "n2", "n3")) == ["n2", "n3"]
    assert not_forwarding("", ("h1",)) == ["h1"]


def test_wires() -> None:
    layout = Layout("lab", 1)
    assert "numtxqueues 4 numrxqueues 4 type veth peer name eth0" in cable_batch(layout, 3, 4)
    assert "netns tn-lab-3" in cable_batch(layout, 3, 4)
    assert node_batch(layout, 3).splitlines()[-1] == "route add default via 10.77.4.1"
