"""``tune-nodes probe`` on real nodes: what is whole passes, what is broken is named with pair, direction and layer.

Three nodes joined by vxlan as Flannel joins them. One has a kubelet and a pod, played by processes; on the others the
CNI's bridge stands for the pods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from clirun import Cli, for_lab, traces
from conftest import Ansible
from mtu_overlay import Overlay
from nodecall import call
from test_pods_lab import KUBELET, cgroup_root, running

from commandline import Done
from tune_nodes.collection import environment
from tune_nodes.lab import Lab

MakeLab = Callable[..., Lab]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def overlay(make_module_lab: MakeLab) -> Iterator[Overlay]:
    """Return the joined nodes, with IPv6 between them and one pod in a cgroup as kubelet makes it."""
    lab = make_module_lab(3, 1)
    with ExitStack() as stack:
        made = Overlay(lab)
        stack.callback(made.close)
        for node in lab.nodes:
            node.run(["ip", "-6", "addr", "add", f"fd77::{node.number}/64", "dev", "eth0", "nodad"])
        first = lab.nodes[0]
        stack.enter_context(running(first.argv(["/usr/bin/python3", "-I", "-c", KUBELET])))
        top = cgroup_root() / f"tune-nodes-test-{uuid4().hex[:8]}"
        group = top / "kubepods" / "besteffort" / f"pod{uuid4()}" / "c0"
        group.mkdir(parents=True)
        for directory in (top, top / "kubepods", group.parent.parent, group.parent, group):
            stack.callback(directory.rmdir)
        enter = ["ip", "netns", "exec", made.pod_netns(first), "unshare", "--uts"]
        pid = stack.enter_context(running([*enter, "sh", "-c", "hostname web-1; echo up; exec sleep 300"]))
        (group / "cgroup.procs").write_text(str(pid))
        yield made


@pytest.fixture(autouse=True)
def healed(overlay: Overlay) -> Iterator[None]:
    yield
    for node in overlay.nodes:
        node.heal()


@pytest.fixture
def cli(overlay: Overlay, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return for_lab(tmp_path_factory.mktemp("probe"), overlay.lab)


def document(done: Done) -> Row:
    found: Row = json.loads(done.stdout)
    return found


def test_whole_paths_pass_at_their_size_and_not_above(overlay: Overlay, cli: Cli) -> None:
    before = [traces(node) for node in overlay.nodes]
    done = cli("probe", "-q", "-o", "json")
    found = document(done)
    assert done.returncode == 0, done.stderr
    assert found["faults"] == []
    assert {(p["layer"], p["family"], p["size"]) for p in found["paths"]} == {
        ("node", 4, 1500),
        ("node", 6, 1500),
        ("pod", 4, 1450),
    }
    assert len(found["paths"]) == 18
    assert {(p["exact"], p["above"], p["direction"]) for p in found["paths"]} == {("pass", "fail", "")}
    ends = {p["from"]: p["from_end"] for p in found["paths"] if p["layer"] == "pod"}
    assert list(ends.values()) == ["web-1", "bridge cni0", "bridge cni0"]
    assert found["sent"]["packets"] == 36, "a small one and a full one for each; what is above is refused at once"
    assert [traces(node) for node in overlay.nodes] == before, "nothing is written on a node"


def test_a_hole_in_one_direction_is_named_with_pair_and_layer(overlay: Overlay, cli: Cli) -> None:
    one, other, third = (node.name for node in overlay.nodes)
    overlay.nodes[1].break_("mtu-blackhole-in")
    done = cli("probe", "-q", COLUMNS="80")
    assert done.returncode == 1
    for line in (
        f"{one} -> {other} (IPv4): 1500 bytes vanish, 1400 pass",
        f"{third} -> {other} (IPv6): 1500 bytes vanish, 1400 pass",
        f"{one} -> {other} (pods, IPv4): 1450 bytes vanish, 1350 pass",
        "likely underlay-hop: a hop between them drops packets above 1400",
        f"every fault touches {other}, and no path of it is whole",
        "nodes, IPv4: 4 of 6 pass, at 1500",
    ):
        assert line in done.stdout
    assert f"{other} ->" not in done.stdout, "the other direction is whole"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    record = cli.record()
    assert (record.verb, record.exit_code) == ("probe", 1)
    assert {fault.direction for fault in record.path_faults} == {"forward"}
    assert {(f.layer, f.likely) for f in record.path_faults} == {("node", "underlay-hop"), ("pod", "underlay-hop")}
    assert "1500 bytes vanish" in cli("show", "latest").stdout
    page = cli("report", "latest", "--out", "-").stdout
    assert f"{one} -&gt; {other} (IPv4): 1500 bytes vanish, 1400 pass" in page
    assert page.count('<td class="failed"') == 6


def test_a_node_that_ssh_cannot_reach_any_more_is_judged_by_the_others(overlay: Overlay, cli: Cli) -> None:
    one, other, third = (node.name for node in overlay.nodes)
    overlay.nodes[1].break_("mtu-blackhole-ssh")
    done = cli("probe", "-q", "-o", "json", "--no-pods", "-T", "3", ANSIBLE_SSH_ARGS="-o ControlMaster=no")
    found = document(done)
    assert done.returncode == 1, "a hole was found; 4 would say no more than that a node is silent"
    assert found["nodes"][other]["outcome"] == "unreachable"
    assert {(f["from"], f["to"], f["direction"], f["passes"]) for f in found["faults"]} == {
        (one, other, "both", 1400),
        (other, third, "both", 1400),
    }


def test_directions_are_told_from_one_end_alone(overlay: Overlay) -> None:
    near, far, _ = overlay.nodes
    targets = [{"address": far.address}, {"address": f"fd77::{far.number}"}]
    for fault, back, forth in (
        ("mtu-blackhole-in", "answered", "silent"),
        ("mtu-blackhole-out", "silent", "answered"),
        ("mtu-blackhole", "silent", "silent"),
    ):
        far.break_(fault)
        result = call(near, "probe", paths={"targets": targets})
        assert [(row["back"], row["forth"], row["passes"]) for row in result["paths"]["measured"]] == [
            (back, forth, 1400),
            (back, forth, 1400),
        ]
        assert all(row["packets"] < 40 and row["bytes"] < 40_000 for row in result["paths"]["measured"])
        far.heal()


def test_what_a_router_tells_is_no_fault(overlay: Overlay) -> None:
    near, far, _ = overlay.nodes
    pod = {"address": "10.244.1.2", "source": f"10.244.{far.number}.1"}
    near.run(["ip", "link", "set", "cni0", "mtu", "1300"])
    try:
        (row,) = call(far, "probe", paths={"targets": [pod]})["paths"]["measured"]
    finally:
        near.run(["ip", "link", "set", "cni0", "mtu", "1450"])
        far.run(["ip", "route", "flush", "cache"])
    assert (row["told"], row["size"], row["exact"]) == (1300, 1300, "answered")


def test_the_module_measures_in_a_play(overlay: Overlay, ansible: Ansible) -> None:
    near, far, _ = overlay.nodes
    arguments = json.dumps({"targets": [far.address], "required": True})
    common = ("-b", "-m", "tune.nodes.probe", "-a", arguments, near.name)
    done = ansible(overlay.lab, *common, "--check", **environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"passed": true' in done.stdout and '"changed": false' in done.stdout
    far.break_("mtu-blackhole-in")
    done = ansible(overlay.lab, *common, **environment())
    assert done.returncode != 0
    assert f"{far.address} (1400 pass)" in done.stdout
