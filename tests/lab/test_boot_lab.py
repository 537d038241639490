"""What comes back after a boot: the boot unit's work, run as the unit runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodecall import apply_request, call, values

from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
SETTINGS = "etc/tune-nodes/settings.json"


@pytest.fixture
def node(make_lab: MakeLab) -> LabNode:
    """A node with confirmed settings, just switched on again."""
    node = make_lab(1, sudo=False).nodes[0]
    assert call(node, **apply_request("r1"))["ok"]
    assert call(node, "confirm", tx="r1")["ok"]
    return node


def boot(node: LabNode) -> dict[str, Any]:
    """Do what tune-nodes-boot.service does."""
    code = next((node.root / "var/lib/tune-nodes/code").glob("*.pyz")).name
    path = str(Path("/var/lib/tune-nodes/code") / code)
    done = node.run(["/usr/bin/python3", "-I", "-S", path, "boot"], timeout=60, check=False)
    found = json.loads(done.stdout)
    assert isinstance(found, dict), done.stderr
    return found


def test_confirmed_settings_come_back(node: LabNode) -> None:
    confirmed = values(node)
    node.power_cycle()
    assert values(node) != confirmed
    report = boot(node)
    assert values(node) == confirmed
    assert {c["status"] for c in report["changes"]} == {"changed"}
    assert boot(node)["changes"] == [], "a second time there is nothing to do"


def test_a_floor_does_not_lower_what_a_newer_kernel_brings(node: LabNode) -> None:
    node.power_cycle()
    node.write_sysctl("net.core.somaxconn", "30000")
    node.write_sysctl("net.ipv4.tcp_wmem", "8192 16384 33554432")
    boot(node)
    assert node.read_sysctl("net.core.somaxconn") == "30000"
    assert node.read_sysctl("net.ipv4.tcp_wmem") == "8192 65536 33554432"


@pytest.mark.parametrize("field", ["driver", "kernel"])
def test_queues_of_another_driver_or_kernel_are_left(node: LabNode, field: str) -> None:
    path = node.root / SETTINGS
    document = json.loads(path.read_text())
    for setting in document["settings"]["nic_queues"].values():
        setting["identity"][field] = "another"
    path.write_text(json.dumps(document))
    node.power_cycle()
    fresh = values(node)["channels"]
    report = boot(node)
    assert values(node)["channels"] == fresh
    left = [c for c in report["changes"] if c["status"] == "unsupported"]
    assert any("another" in c["note"] for c in left), report


def test_an_unconfirmed_change_is_resolved_at_boot(node: LabNode) -> None:
    more = apply_request("r2", window=300)
    more["layers"][0]["sysctl"] = [{"key": "net.ipv4.tcp_fin_timeout", "value": 20, "class": "exact"}]
    assert call(node, **more)["tx"]["state"] == "ARMED"
    node.power_cycle()
    report = boot(node)
    assert report["resolved"] == [{"id": "r2", "state": "REVERTED"}]
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "30", "the confirmed value, not the tried one"


def test_queues_that_cost_the_gateway_are_undone(node: LabNode) -> None:
    node.power_cycle()
    fresh = values(node)["channels"]
    node.run(["nft", "add table ip tn_test; add chain ip tn_test in { type filter hook input priority 0; }"])
    # The gateway answers once, before the queues change, then nobody any more.
    node.run(["nft", "add rule ip tn_test in icmp type echo-reply limit rate over 1/day burst 1 packets drop"])
    report = boot(node)
    assert values(node)["channels"] == fresh
    assert [c["status"] for c in report["changes"] if c["key"] == "eth0/channels"] == ["reverted"]
