"""What makes a kind node out of Debian and kind's own files, and the network plugin in it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kindbed.node import FILES, containerd_config, containerd_unit
from kindbed.rootfs import libraries

CONFIG = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "old/pause:3.7"
  restrict_oom_score_adj = false
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  base_runtime_spec = "/etc/containerd/cri-base.json"
"""
UNIT = """\
[Service]
ExecStart=/usr/local/bin/containerd
OOMScoreAdjust=-999
LimitNOFILE=infinity
LimitCORE=infinity
Restart=always
"""
LDD = """\
/usr/sbin/ip:
	linux-vdso.so.1 (0x00007ffd)
	libcap.so.2 => /lib/x86_64-linux-gnu/libcap.so.2 (0x00007f1)
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)
	/lib64/ld-linux-x86-64.so.2 (0x00007f3)
	libgone.so.1 => not found
/usr/bin/kube:
	not a dynamic executable
"""
LEASE = """\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cni_flannel", FILES / "cni_flannel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_containerd_is_configured_as_debians_takes_it() -> None:
    text = containerd_config(CONFIG, r"registry.test/pause\1:3.10")
    assert "base_runtime_spec" not in text
    assert "restrict_oom_score_adj = true" in text
    assert r'sandbox_image = "registry.test/pause\1:3.10"' in text, "as it is, no pattern"
    assert 'bin_dir = "/opt/cni/bin"' in text


def test_containerds_unit_asks_for_no_capability_that_is_missing() -> None:
    assert containerd_unit(UNIT) == "[Service]\nExecStart=/usr/bin/containerd\nRestart=always\n"


def test_libraries_that_a_program_needs() -> None:
    assert libraries(LDD) == [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libcap.so.2",
        "/lib64/ld-linux-x86-64.so.2",
    ]
    assert libraries("") == []


def test_the_network_plugin_hands_on_the_lease(plugin: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    path.write_text(LEASE)
    configuration = {"name": "cbr0", "delegate": {"hairpinMode": True, "mtu": 1400}}
    inner = plugin.delegate(configuration, plugin.lease(path))
    assert inner["type"] == "bridge"
    assert inner["name"] == "cbr0"
    assert inner["mtu"] == 1400, "what the administrator says counts"
    assert inner["hairpinMode"] is True
    assert inner["ipMasq"] is False
    # The network's address, not the gateway's: with host bits host-local would never release an address.
    assert inner["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
    assert inner["ipam"]["routes"] == [{"dst": "10.244.0.0/16"}]


@pytest.mark.parametrize("stdin", ["", "junk", "{}", '{"name": "cbr0", "subnetFile": "/nowhere"}'])
def test_the_network_plugin_answers_errors_as_cni_wants_them(stdin: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FILES / "cni_flannel.py")],
        input=stdin,
        capture_output=True,
        text=True,
        env={"CNI_COMMAND": "CHECK", "CNI_CONTAINERID": "c", "CNI_PATH": ""},
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["code"] == 11
    assert answer["msg"].startswith("flannel: ")
    assert done.stderr == ""
