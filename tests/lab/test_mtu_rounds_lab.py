"""A fleet's MTU in two confirmed rounds by the command line: nothing is lost at any moment, up and down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clirun import Cli, assert_clear, for_lab
from mtu_overlay import Overlay, Place
from nodecall import call

from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
OLD = {"eth0": 1500, "flannel.1": 1450, "cni0": 1450}
RAISED = {"eth0": 9000, "flannel.1": 8950, "cni0": 1450}  # pods still have 1450


@pytest.fixture
def overlay(make_lab: MakeLab) -> Iterator[Overlay]:
    made = Overlay(make_lab(3, sudo=False))
    yield made
    made.close()


def profile(cli: Cli, underlay: int) -> str:
    wish = {"interfaces": "auto", "underlay": underlay, "pods": "auto", "reason": "a test", "source": "test"}
    return cli.profile({"description": "An MTU for tests", "mtu": [wish]}, f"mtu{underlay}")


def to(cli: Cli, underlay: int, *more: str) -> Any:
    return cli("apply", "-p", profile(cli, underlay), "--window", "60", "--serial", "100%", "--yes", *more)


def routes(node: LabNode) -> str:
    """Return the routes by the interface and the tunnel, as the ip program says."""
    shown = [run(["ip", "-n", node.netns, f"-{family}", "route"]).stdout for family in (4, 6)]
    return "\n".join(line for line in "".join(shown).splitlines() if "eth0" in line or "flannel.1" in line)


def pinned(node: LabNode) -> list[str]:
    return sorted({word for line in routes(node).splitlines() for word in line.split("mtu ")[1:2]})


def every_way(overlay: Overlay, node: int, pod: int) -> list[tuple[Place, Place, int]]:
    """Return streams between all nodes, and between all pods, at these sizes."""
    found = []
    for one in overlay.nodes:
        for other in overlay.nodes:
            if one is not other:
                found.append((overlay.node_place(one), overlay.node_place(other), node))
                found.append((overlay.pod_place(one), overlay.pod_place(other), pod))
    return found


def test_up_to_9000_and_back_without_a_lost_packet(overlay: Overlay, tmp_path: Path) -> None:
    cli = for_lab(tmp_path, overlay.lab)
    for node in overlay.nodes:
        run(["ip", "-n", node.netns, "addr", "add", f"fd77::{node.number}/64", "dev", "eth0", "nodad"])
    before = [routes(node) for node in overlay.nodes]
    nodes = [overlay.node_place(node) for node in overlay.nodes]
    with overlay.streams(every_way(overlay, 1500, 1450)):
        raised = to(cli, 9000)
        assert_clear(raised, 0, "in two rounds", "round 1 of 2", "round 2 of 2")
        assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED] * 3
        assert [routes(node) for node in overlay.nodes] == before, "no pin is left"
        assert all(one.ping(other, 9000) for one in nodes for other in nodes if one is not other)
        assert not nodes[0].ping(nodes[1], 9001)
        record = cli.record()
        assert (record.rounds, [wave.round for wave in record.waves]) == (2, [1, 1, 2, 2])
        for shown in record.nodes.values():
            rows = [(c.key, c.before, c.want) for c in shown.pending if c.family == "mtu"]
            assert rows == [("eth0/mtu", "1500", "9000"), ("flannel.1/mtu", "1450", "8950")]
        assert_clear(to(cli, 9000), 0, "0 changes")
        assert_clear(to(cli, 1500), 0, "round 1 of 2", "round 2 of 2")
        assert [overlay.mtus(node) for node in overlay.nodes] == [OLD] * 3
        assert [routes(node) for node in overlay.nodes] == before
        assert_clear(cli("rollback", "--serial", "100%", "--window", "60", "--yes"), 0, "round 1 of 2", "round 2 of 2")
        assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED] * 3
        assert [routes(node) for node in overlay.nodes] == before


def test_where_a_hop_swallows_packets_of_todays_size_the_canary_is_refused(overlay: Overlay, tmp_path: Path) -> None:
    cli = for_lab(tmp_path, overlay.lab)
    etc = [node.etc() for node in overlay.nodes]
    overlay.nodes[0].break_("mtu-blackhole")  # nothing above 1400 passes: no probe of today's size does
    refused = to(cli, 9000)
    assert_clear(refused, 1, "the canary failed", "a hop swallows them", "mend it, then run again")
    assert [overlay.mtus(node) for node in overlay.nodes] == [OLD] * 3
    assert [node.etc() for node in overlay.nodes] == etc, "nothing was written anywhere"


def test_where_a_hop_swallows_the_new_size_the_canary_goes_back_to_its_pins(overlay: Overlay, tmp_path: Path) -> None:
    cli = for_lab(tmp_path, overlay.lab)
    canary, *others = overlay.nodes
    overlay.wires(1500)
    reverted = to(cli, 9000)
    assert_clear(reverted, 3, "round 2 of 2", "the canary failed", "no answer to 9000 bytes with DF")
    assert cli.outcomes() == {canary.name: "reverted", **dict.fromkeys((n.name for n in others), "changed")}
    assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED] * 3
    assert [pinned(node) for node in overlay.nodes] == [pinned(others[0])] * 3 != [[]] * 3, "as round 1 left them"
    assert_clear(cli("rollback", "--serial", "100%", "--window", "60", "--yes"), 0, "links as they were")
    assert [overlay.mtus(node) for node in overlay.nodes] == [OLD] * 3
    assert [pinned(node) for node in overlay.nodes] == [[]] * 3
    assert all("tune-nodes" not in path for node in overlay.nodes for path in node.etc())


def boot(node: LabNode) -> dict[str, str]:
    """Do what tune-nodes-boot.service does; key -> status of what was not right already."""
    code = next((node.root / "var/lib/tune-nodes/code").glob("*.pyz")).name
    words = ["/usr/bin/python3", "-I", "-S", f"/var/lib/tune-nodes/code/{code}", "boot"]
    done = node.run(words, timeout=90, check=False)
    return {change["key"]: change["status"] for change in json.loads(done.stdout)["changes"]}


def test_stopped_between_the_rounds_rebooted_and_gone_on(overlay: Overlay, tmp_path: Path) -> None:
    cli = for_lab(tmp_path, overlay.lab)
    one, two, three = overlay.nodes
    layer = {"profile": "test", "match": None, "mtu": [{"underlay": 9000, "pods": "auto"}]}
    for node in (one, two, three):  # what a run does that is stopped after its first round
        held = call(node, "apply", run="half", window=60, hold=True, layers=[layer])
        assert held["ok"], held["error"]
        assert call(node, "confirm", tx="half")["ok"]
    assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED] * 3
    three.power_cycle()  # the lab lays its cables anew, with 1500; flannel.1 is flanneld's to make
    assert (overlay.mtus(three), pinned(three)) == ({"eth0": 1500}, []), "wholly old, until its boot unit is at work"
    overlay.wires(9000)
    assert boot(three) == {"eth0/route-mtu": "changed", "eth0/mtu": "changed"}
    assert (overlay.mtus(three), pinned(three)) == ({"eth0": 9000}, ["1500 advmss 1460 "])
    went_on = to(cli, 9000)
    assert_clear(went_on, 0, "eth0/route-mtu")
    assert [overlay.mtus(node)["eth0"] for node in overlay.nodes] == [9000] * 3
    assert [pinned(node) for node in overlay.nodes] == [[]] * 3
