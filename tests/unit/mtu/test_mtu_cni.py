"""Which CNI a node has, by its files and links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.mtu import cni
from hypothesis import given
from hypothesis import strategies as st
from mtu_stacks import completed

FLANNEL = {"name": "cbr0", "plugins": [{"type": "flannel", "delegate": {"bridge": "br-pods"}}, {"type": "portmap"}]}
ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"


def files(root: Path, found: dict[str, str]) -> Host:
    for name, text in found.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root=str(root), processes={"flanneld": [1]})


def conf(name: str, *plugins: dict[str, Any]) -> dict[str, str]:
    return {f"etc/cni/net.d/{name}": json.dumps({"name": "n", "plugins": list(plugins)})}


@pytest.mark.parametrize(
    ("found", "links", "name", "mtu", "source"),
    [
        ({}, [], "", None, ""),
        ({}, ["eth0", "flannel.1"], "flannel", None, ""),
        ({}, ["vxlan.calico"], "calico", None, ""),
        (
            {"etc/cni/net.d/10-flannel.conflist": json.dumps(FLANNEL), "run/flannel/subnet.env": ENV},
            [],
            "flannel",
            1450,
            "/run/flannel/subnet.env",
        ),
        (
            conf("10-calico.conflist", {"type": "calico", "mtu": 1430}, {"type": "portmap"}),
            [],
            "calico",
            1430,
            "/etc/cni/net.d/10-calico.conflist",
        ),
        (
            {**conf("10-calico.conflist", {"type": "calico", "mtu": 0}), "var/lib/calico/mtu": "1440\n"},
            [],
            "calico",
            1440,
            "/var/lib/calico/mtu",
        ),
        (
            {**conf("10-canal.conflist", {"type": "calico", "mtu": 1450}), "run/flannel/subnet.env": ENV},
            ["flannel.1"],
            "flannel",
            1450,
            "/run/flannel/subnet.env",
        ),
        (conf("05-cilium.conflist", {"type": "cilium-cni"}), [], "cilium", None, ""),
        (
            {**conf("00-multus.conf", {"type": "multus"}), **conf("10-x.conflist", {"type": "bridge", "mtu": 1400})},
            [],
            "plain",
            1400,
            "/etc/cni/net.d/10-x.conflist",
        ),
        (conf("10-kuberouter.conflist", {"type": "bridge", "bridge": "kube-bridge"}), [], "kube-router", None, ""),
        (
            conf("10-kindnet.conflist", {"type": "ptp", "mtu": 1500}),
            [],
            "plain",
            1500,
            "/etc/cni/net.d/10-kindnet.conflist",
        ),
        (conf("10-antrea.conflist", {"type": "antrea"}), ["antrea-gw0"], "unknown", None, ""),
        ({"etc/cni/net.d/10-x.conf": json.dumps({"type": "bridge"})}, [], "plain", None, ""),
        ({"etc/cni/net.d/10-x.conf.bak": json.dumps({"type": "bridge"})}, [], "", None, ""),
        ({"etc/cni/net.d/10-x.conf": "{"}, [], "", None, ""),
        (
            {"var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist": json.dumps(FLANNEL)},
            [],
            "flannel",
            None,
            "",
        ),
    ],
)
def test_cni_by_files_and_links(
    tmp_path: Path, found: dict[str, str], links: list[str], name: str, mtu: int | None, source: str
) -> None:
    seen = cni.observe(links, files(tmp_path, found))
    assert (seen["name"], seen["mtu"], seen["mtu_from"]) == (name, mtu, source)


def test_the_first_file_by_name_counts_and_names_its_bridge(tmp_path: Path) -> None:
    host = files(
        tmp_path, {**conf("05-a.conflist", {"type": "cilium-cni"}), **conf("10-b.conflist", {"type": "bridge"})}
    )
    assert cni.observe([], host)["file"] == "/etc/cni/net.d/05-a.conflist"
    other = files(tmp_path / "other", {"etc/cni/net.d/10-flannel.conflist": json.dumps(FLANNEL)})
    seen = cni.observe([], other)
    assert (seen["bridge"], seen["types"], seen["agent"]) == ("br-pods", ["flannel", "portmap"], True)


def test_a_real_flannel_node(tmp_path: Path) -> None:
    files(tmp_path, {"etc/cni/net.d/10-flannel.conflist": json.dumps(FLANNEL), "run/flannel/subnet.env": ENV})
    found = completed("flannel-node", tmp_path)
    assert found["faults"] == []
    assert found["cni"]["mtu"] == 1450
    assert list(found["keepers"]) == ["eth0"], "pods' cables, tunnel and bridge are not the node's own"


@given(st.text(max_size=200) | st.from_regex(r'\{("type"|"plugins"|"mtu"): (\[|"x"|1|\{)*.{0,20}', fullmatch=True))
def test_any_configuration_is_an_answer(text: str) -> None:
    assert isinstance(cni.parse_conf(text), list)
    assert isinstance(cni.parse_env(text), dict)
