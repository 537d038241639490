"""Who keeps an interface's MTU, and the files that tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.mtu import keeper
from hypothesis import given
from hypothesis import strategies as st

ETH0 = {"name": "eth0", "index": 2, "kind": ""}
NETWORKD = "ADMIN_STATE=configured\nOPER_STATE=routable\nNETWORK_FILE=/usr/lib/systemd/network/10-all.network\n"
PLANNED = NETWORKD.replace("/usr/lib/systemd/network/10-all", "/run/systemd/network/10-netplan-nic0")
NM = "[device]\nmanaged=true\nconnection-uuid=00000000-0000-0000-0000-000000000000\n"
DROP_IN = "/etc/systemd/network/10-all.network.d/90-tune-nodes.conf"


def host(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root=str(root))


def one(root: Path, files: dict[str, str], **link: Any) -> dict[str, str]:
    return keeper.observe([{**ETH0, **link}], host(root, files))["eth0"]


@pytest.mark.parametrize(
    ("files", "by", "file"),
    [
        ({}, "tune-nodes", ""),
        ({"run/systemd/netif/links/2": NETWORKD}, "networkd", DROP_IN),
        ({"run/systemd/netif/links/3": NETWORKD}, "tune-nodes", ""),
        ({"run/systemd/netif/links/2": NETWORKD.replace("configured", "unmanaged")}, "tune-nodes", ""),
        ({"run/systemd/netif/links/2": "ADMIN_STATE=configured\n"}, "tune-nodes", ""),
        ({"run/systemd/netif/links/2": PLANNED}, "netplan", "/etc/netplan/90-tune-nodes.yaml"),
        ({"run/NetworkManager/devices/2": NM}, "NetworkManager", ""),
        ({"run/NetworkManager/devices/2": NM.replace("true", "false")}, "tune-nodes", ""),
        (
            {"run/systemd/netif/links/2": NETWORKD, "run/NetworkManager/devices/2": NM},
            "several",
            "networkd and NetworkManager",
        ),
        ({"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n"}, "tune-nodes", ""),  # no ifup here
        (
            {"etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\n"},
            "network-scripts",
            "/etc/sysconfig/network-scripts/ifcfg-eth0",
        ),
        ({"etc/sysconfig/network/ifcfg-eth0": "BOOTPROTO=dhcp\n"}, "wicked", "/etc/sysconfig/network/ifcfg-eth0"),
    ],
)
def test_exactly_one_keeps_it(tmp_path: Path, files: dict[str, str], by: str, file: str) -> None:
    found = one(tmp_path, files)
    assert (found["by"], found["file"]) == (by, file)


@pytest.mark.parametrize("where", ["etc/network/interfaces", "etc/network/interfaces.d/50-cloud"])
def test_ifupdown_where_it_is_installed(tmp_path: Path, where: str) -> None:
    found = one(tmp_path, {"sbin/ifup": "", where: "# x\niface eth0 inet static\n  address 192.0.2.1\n"})
    assert (found["by"], found["file"]) == ("ifupdown", str(tmp_path / where))
    assert one(tmp_path, {where: "iface eth01 inet dhcp\n"})["by"] == "tune-nodes"


@pytest.mark.parametrize(
    ("network", "dhcp"),
    [
        ("[DHCP]\nUseMTU=true\n", "9001"),
        ("[DHCPv4]\nUseMTU = yes\n", "9001"),
        ("[DHCPv4]\nUseMTU=no\n", ""),
        ("", ""),
        ("[Link]\nMTUBytes=1500\n[DHCP]\nUseMTU=true\n", ""),  # networkd then leaves the lease's alone
    ],
)
def test_an_mtu_from_a_lease_is_told_only_where_networkd_obeys_it(tmp_path: Path, network: str, dhcp: str) -> None:
    files = {
        "run/systemd/netif/links/2": NETWORKD,
        "run/systemd/netif/leases/2": "# private\nADDRESS=192.0.2.1\nMTU=9001\n",
        "usr/lib/systemd/network/10-all.network": network,
    }
    assert one(tmp_path, files)["dhcp"] == dhcp
    over = {"etc/systemd/network/10-all.network.d/50-x.conf": "[DHCPv4]\nUseMTU=true\n[Link]\nMTUBytes=\n"}
    assert one(tmp_path, over)["dhcp"] == "9001", "a drop-in has the last word"
    ours = {"etc/systemd/network/10-all.network.d/90-tune-nodes.conf": "[Link]\nMTUBytes=9000\n"}
    assert one(tmp_path, ours)["dhcp"] == "9001", "our own drop-in proves nothing"


@pytest.mark.parametrize(
    ("kind", "type_"), [("", "ethernets"), ("bond", "bonds"), ("vlan", "vlans"), ("bridge", "bridges"), ("macvlan", "")]
)
def test_netplan_has_its_own_name_and_type(tmp_path: Path, kind: str, type_: str) -> None:
    found = one(tmp_path, {"run/systemd/netif/links/2": PLANNED}, kind=kind)
    assert (found["id"], found["type"]) == ("nic0", type_)


def kept(by: str, mtu: Any = 9000, **more: str) -> dict[str, Any]:
    return {"interfaces": ["eth0"], "underlay": mtu, "keeper": {"by": by, **more}}


def test_files() -> None:
    found = keeper.files(
        [
            kept("networkd", file=DROP_IN),
            kept("netplan", file="x", id="nic0", type="ethernets"),
            kept("netplan", 1500, id="vlan7", type="vlans"),
            kept("tune-nodes"),
            {"interfaces": ["eth0"], "underlay": "keep"},
        ]
    )
    assert found == {
        DROP_IN: (b"# Written by tune-nodes; removed by its rollback.\n[Link]\nMTUBytes=9000\n", 0o644),
        "/etc/netplan/90-tune-nodes.yaml": (
            b"""# Written by tune-nodes; removed by its rollback.
network:
  version: 2
  ethernets:
    "nic0":
      mtu: 9000
  vlans:
    "vlan7":
      mtu: 1500
""",
            0o600,  # netplan warns of files that others may read
        ),
    }


def test_netplans_file_is_what_yaml_reads() -> None:
    import yaml

    text = keeper.files([kept("netplan", id="bond0.100", type="vlans")])[keeper.NETPLAN_FILE][0]
    assert yaml.safe_load(text) == {"network": {"version": 2, "vlans": {"bond0.100": {"mtu": 9000}}}}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/systemd/network/90-tune-nodes.conf",
        "/etc/systemd/network/10-all.network.d/x.conf",
        "/etc/systemd/network/../../10-all.network.d/90-tune-nodes.conf",
        "/etc/systemd/network/a/b.network.d/90-tune-nodes.conf",
        "/run/systemd/network/10-all.network.d/90-tune-nodes.conf",
        "/etc/systemd/network/10-all.link.d/90-tune-nodes.conf",
    ],
)
def test_a_damaged_setting_names_no_other_file(path: str) -> None:
    assert keeper.files([kept("networkd", file=path)]) == {}


def test_present_are_our_files_and_no_others(tmp_path: Path) -> None:
    names = [
        DROP_IN,
        "/etc/systemd/network/10-b.network.d/50-x.conf",
        "/etc/systemd/network/5-c.network.d/90-tune-nodes.conf",
    ]
    assert keeper.present(host(tmp_path, {name.lstrip("/"): "" for name in names})) == [DROP_IN, names[2]]
    assert keeper.present(host(tmp_path / "none", {"x": ""})) == []
    assert keeper.present(host(tmp_path / "planned", {"etc/netplan/90-tune-nodes.yaml": ""})) == [keeper.NETPLAN_FILE]


@given(st.text(max_size=120))
def test_any_file_is_an_answer(text: str) -> None:
    assert isinstance(keeper.parse_ini(text), dict)


@given(st.dictionaries(st.sampled_from(["by", "file", "id", "type"]), st.text(max_size=20)), st.integers() | st.text())
def test_any_kept_setting_renders_ours_or_nothing(of: dict[str, str], mtu: Any) -> None:
    for path in keeper.files([{"keeper": of, "underlay": mtu}]):
        assert "tune-nodes" in path
