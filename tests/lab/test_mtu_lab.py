"""MTUs on real links: three nodes with vxlan between them as Flannel makes it, a pod on each.

The family's own code runs in each node's namespaces; the ip program and DF pings are the witnesses.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mtu_overlay import Overlay
from nodecall import code

from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]

#: Runs in a node: the node code and settings in, plan out; "apply" also writes each pending change and reads it back.
#: The code comes with the request, as always: a node sees no checkout.
DRIVER = """
import json, os, sys
size = int(sys.stdin.buffer.readline())
code = os.memfd_create("code")
os.write(code, sys.stdin.buffer.read(size))
sys.path.insert(0, "/proc/self/fd/%d" % code)
from tune_nodes_node.errors import NodeError
from tune_nodes_node.host import observe_host
from tune_nodes_node.mtu.family import FAMILY

request = json.loads(sys.stdin.buffer.read())
host = observe_host()
answer = {"changes": [], "error": None, "values": {}, "observed": {}}
try:
    settings = FAMILY.parse(request.get("settings", []))
    answer["observed"] = observed = FAMILY.observe(settings, host)
    for change in FAMILY.plan(settings, observed):
        if request.get("apply") and change.status == "pending":
            FAMILY.write(change.key, change.want, host)
            change.after = FAMILY.read(change.key, host)
        answer["changes"].append(change.to_dict())
    for key, value in request.get("write", []):
        FAMILY.write(key, value, host)
    for key in request.get("read", []):
        answer["values"][key] = FAMILY.read(key, host)
    if "same" in request:
        answer["same"] = FAMILY.same_device(request["same"], host)
except NodeError as exc:
    answer["error"] = exc.to_dict()
print(json.dumps(answer))
"""
RAISE = {"underlay": 9000, "pods": "auto"}
LOWER = {"underlay": 1500, "pods": "auto"}
OLD = {"eth0": 1500, "flannel.1": 1450, "cni0": 1450}
NEW = {"eth0": 9000, "flannel.1": 8950, "cni0": 8950}


@pytest.fixture
def overlay(make_lab: MakeLab) -> Iterator[Overlay]:
    made = Overlay(make_lab(3, sudo=False))
    yield made
    made.close()


def ask(node: LabNode, **request: Any) -> dict[str, Any]:
    _, archive = code()
    given = b"%d\n" % len(archive) + archive + json.dumps(request).encode()
    argv = node.argv(["/usr/bin/python3", "-I", "-B", "-c", DRIVER])
    done = subprocess.run(argv, input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def apply(node: LabNode, **setting: Any) -> list[dict[str, Any]]:
    answer = ask(node, settings=[setting], apply=True)
    assert answer["error"] is None
    changes: list[dict[str, Any]] = answer["changes"]
    assert all(c["after"] == c["want"] for c in changes if c["status"] == "pending")
    return changes


def pending(changes: list[dict[str, Any]]) -> list[str]:
    return [c["key"] for c in changes if c["status"] == "pending"]


def test_up_to_9000_and_back_with_no_probe_of_the_smaller_size_lost(overlay: Overlay) -> None:
    one, _, three = overlay.nodes
    nodes = overlay.node_place(one), overlay.node_place(three)
    pods = overlay.pod_place(one), overlay.pod_place(three)
    assert nodes[0].ping(nodes[1], 1500)
    assert pods[0].ping(pods[1], 1450)
    assert not pods[0].ping(pods[1], 1451)
    with overlay.streams([(*nodes, 1500), (*nodes[::-1], 1500), (*pods, 1450), (*pods[::-1], 1450)]):
        for node in overlay.nodes:
            assert pending(apply(node, **RAISE)) == ["eth0/mtu", "flannel.1/mtu"]
            assert overlay.mtus(node) == {**NEW, "cni0": 1450}, "its pod still has 1450"
    for node in overlay.nodes:
        overlay.given(node, 8950)
        overlay.add_pod(node, 8950)
        assert overlay.mtus(node) == NEW, "the kernel raises a bridge with its ports until somebody writes it"
        assert {c["status"] for c in ask(node, settings=[RAISE])["changes"]} == {"ok"}
        assert ask(node)["observed"]["faults"] == []
    for place, other, size in [(*nodes, 9000), (*pods, 8950)]:
        assert place.ping(other, size)
        assert other.ping(place, size)
        assert not place.ping(other, size + 1)
    with overlay.streams([(*nodes, 1500), (*pods, 1450), (*pods[::-1], 1450)]):
        for node in overlay.nodes:
            assert pending(apply(node, **LOWER)) == ["cni0/mtu", "flannel.1/mtu", "eth0/mtu"]
            assert overlay.mtus(node) == OLD


def test_put_back_in_the_reverse_order(overlay: Overlay) -> None:
    node = overlay.nodes[0]
    raised = apply(node, **RAISE)
    back = [[c["key"], c["before"]] for c in reversed(raised) if c["status"] == "pending"]
    assert ask(node, write=back)["error"] is None
    assert overlay.mtus(node) == OLD
    forward = [[c["key"], c["want"]] for c in raised if c["status"] == "pending"]
    refused = ask(node, write=forward[::-1])["error"]
    assert refused["what"] == "the MTU of flannel.1 cannot be set to 8950", "the kernel holds a tunnel to its underlay"
    assert overlay.mtus(node) == OLD


def test_a_wrong_tunnel_and_bridge_are_found_and_mended(overlay: Overlay) -> None:
    node = overlay.nodes[0]
    run(["ip", "-n", node.netns, "link", "set", "eth0", "mtu", "9000"])
    run(["ip", "-n", node.netns, "link", "set", "flannel.1", "mtu", "8950"])
    run(["ip", "-n", node.netns, "link", "set", "cni0", "mtu", "8950"])
    run(["ip", "-n", node.netns, "link", "set", "eth0", "mtu", "1500"])
    words = {fault["word"] for fault in ask(node)["observed"]["faults"]}
    assert words == {"tunnel-above-underlay", "bridge-above-port", "conf-differs"}
    assert pending(apply(node, underlay="keep", pods="auto")) == ["cni0/mtu", "flannel.1/mtu"]
    assert overlay.mtus(node) == OLD
    assert ask(node)["observed"]["faults"] == []


def test_the_kernels_refusal_is_in_its_own_words_and_what_is_gone_is_gone(overlay: Overlay) -> None:
    node = overlay.nodes[0]
    error = ask(node, write=[["eth0/mtu", "65536"]])["error"]
    assert (error["what"], error["why"]) == (
        "the MTU of eth0 cannot be set to 65536",
        "mtu greater than device maximum",
    )
    assert ask(node, write=[["eth9/mtu", "1500"]])["error"]["code"] == "gone"
    assert ask(node, read=["eth9/mtu", "eth0/mtu"])["values"] == {"eth9/mtu": None, "eth0/mtu": "1500"}


def test_kept_settings_know_their_device(overlay: Overlay) -> None:
    node = overlay.nodes[0]
    kept = ask(node, settings=[RAISE])["changes"][0]["persist"]
    assert kept["keeper"] == {"by": "tune-nodes"}
    assert ask(node, same=kept)["same"] == [True, ""]
    stale = {**kept, "identity": {**kept["identity"], "kernel": "5.10.0"}}
    assert ask(node, same=stale)["same"][1].startswith("confirmed on kernel 5.10.0, this is ")
    other = {**kept, "identity": {**kept["identity"], "driver": "ena"}}
    assert "now by veth" in ask(node, same=other)["same"][1]


def test_ipv6_is_never_taken_from_an_interface(overlay: Overlay) -> None:
    node = overlay.nodes[0]
    run(["ip", "-n", node.netns, "addr", "add", "2001:db8::1/64", "dev", "eth0"])
    changes = ask(node, settings=[{"underlay": 1279}])["changes"]
    assert not pending(changes)
    assert "below the 1280 that IPv6 needs" in changes[0]["note"] + changes[-2]["note"]
    assert overlay.mtus(node) == OLD
