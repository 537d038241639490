# SPDX-License-Identifier: Apache-2.0
"""What is read of /sys and /proc, from trees laid out as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.nic import read, sysfs
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

ROUTES_V4 = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
ANY = "0" * 32
ROUTES_V6 = (
    f"{ANY} 00 {ANY} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth1\n"
    f"{ANY} 00 {ANY} 00 {ANY} ffffffff 00000001 00000000 00200200       lo\n"
)


def put(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")


@pytest.fixture
def virtio_node(tmp_path: Path) -> Host:
    """A node of two NUMA nodes and two threads a core, with a virtio NIC below a PCI function of node 1."""
    pci = "sys/devices/pci0000:00/0000:00:03.0"
    for name, text in {
        f"{pci}/numa_node": "1",
        f"{pci}/local_cpulist": "4-7",
        f"{pci}/virtio2/net/eth0/type": "1",
        f"{pci}/virtio2/net/eth0/ifindex": "2",
        f"{pci}/virtio2/net/eth0/queues/rx-0/rps_cpus": "00000000,0000000f",
        f"{pci}/virtio2/net/eth0/queues/rx-1/rps_cpus": "00",
        f"{pci}/virtio2/net/eth0/queues/tx-0/xps_cpus": "3",
        "sys/devices/system/node/node1/cpulist": "4-7",
        "sys/devices/system/cpu/online": "0-7",
        "sys/devices/system/cpu/isolated": "7",
        "sys/devices/system/cpu/nohz_full": "(null)",
        "proc/net/route": ROUTES_V4.rstrip(),
    }.items():
        put(tmp_path, name, text)
    for cpu in range(8):
        siblings = f"{cpu & ~1}-{cpu | 1}"
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    (tmp_path / pci / "virtio2/net/eth0/device").symlink_to("../..")
    (tmp_path / "sys/class/net").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth0").symlink_to("../../devices/pci0000:00/0000:00:03.0/virtio2/net/eth0")
    return Host(root=str(tmp_path), cpus=8, kernel="6.1.0")


def test_cpus_and_cores(virtio_node: Host) -> None:
    assert read.read_cpus(virtio_node) == {
        "online": list(range(8)),
        "isolated": [7],
        "cores": [[0, 1], [2, 3], [4, 5], [6, 7]],
    }


def test_cpus_of_a_node_without_sysfs(tmp_path: Path) -> None:
    found = read.read_cpus(Host(root=str(tmp_path), cpus=2))
    assert found == {"online": [0, 1], "isolated": [], "cores": [[0], [1]]}


def test_the_memory_domain_is_that_of_the_pci_function_above(virtio_node: Host) -> None:
    assert sysfs.memory_domain(virtio_node, "eth0") == {"node": 1, "cpus": [4, 5, 6, 7]}
    assert sysfs.memory_domain(virtio_node, "eth9") == {"node": -1, "cpus": []}


def test_outline_and_queues(virtio_node: Host) -> None:
    outline = sysfs.outline(virtio_node, "eth0")
    assert (outline["device"], outline["type"], outline["master"], outline["lower"]) == (True, 1, "", [])
    assert sysfs.queues(virtio_node, "eth0") == {"rx": [0, 1], "tx": [0]}
    assert sysfs.read_mask(virtio_node, "eth0", "rps", "rx-0") == "f"
    assert sysfs.read_mask(virtio_node, "eth0", "rps", "rx-1") == "0"


def test_a_queue_that_is_not_there_holds_what_it_would_be_born_with(virtio_node: Host) -> None:
    assert sysfs.read_mask(virtio_node, "eth0", "rps", "rx-5") == "0"
    put(Path(virtio_node.root), "proc/sys/net/core/rps_default_mask", "00000000,00000003")
    assert sysfs.read_mask(virtio_node, "eth0", "rps", "rx-5") == "3"
    assert sysfs.read_mask(virtio_node, "eth0", "xps", "tx-5") == "0"
    assert sysfs.read_mask(virtio_node, "eth9", "rps", "rx-0") is None


def test_masks_are_written_where_there_is_a_queue(virtio_node: Host) -> None:
    sysfs.write_mask(virtio_node, "eth0", "rps", "rx-1", "1,00000002")
    assert sysfs.read_mask(virtio_node, "eth0", "rps", "rx-1") == "1,00000002"
    with pytest.raises(NodeError) as caught:
        sysfs.write_mask(virtio_node, "eth0", "rps", "rx-5", "a")
    assert caught.value.code == "gone"


def test_default_routes() -> None:
    assert read.parse_routes(ROUTES_V4, ROUTES_V6) == ["eth0", "eth1"]
    assert read.parse_routes("", "") == []


@given(v4=st.text(max_size=200), v6=st.text(max_size=200))
def test_any_text_gives_routes_or_none(v4: str, v6: str) -> None:
    read.parse_routes("head\n" + v4, v6)


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ({}, "does not say which device"),
        ({"kernel": "5.10.0", "driver": "x"}, "confirmed on kernel 5.10.0, this is 6.1.0"),
        ({"kernel": "6.1.0", "driver": "x"}, "tn-no-such-if is gone"),
    ],
)
def test_a_kept_setting_of_another_device_does_not_apply(identity: dict[str, str], why: str) -> None:
    setting = {"interfaces": ["tn-no-such-if"], "channels": 2, "identity": identity}
    same, text = FAMILY.same_device(setting, Host(kernel="6.1.0"))
    assert same is False
    assert why in text


def test_the_loopback_is_recognised_by_driver_and_kernel() -> None:
    setting = {"interfaces": ["lo"], "channels": 2, "identity": {"kernel": "6.1.0", "driver": "?"}}
    assert FAMILY.same_device(setting, Host(kernel="6.1.0")) == (True, "")
    other = {**setting, "identity": {"kernel": "6.1.0", "driver": "ena"}}
    assert FAMILY.same_device(other, Host(kernel="6.1.0"))[0] is False


def test_without_settings_the_physical_nics_are_read() -> None:
    seen = FAMILY.observe([], Host(kernel="6.1.0", cpus=1))
    assert set(seen["nics"]) <= set(seen["interfaces"])
    assert "lo" not in seen["nics"]
