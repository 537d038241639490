"""MTU changes as transactions on real nodes: confirmed, lost, refused by the network, killed, kept and rolled back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clirun import wait_for
from mtu_overlay import Overlay
from nodecall import SHORT, WIDE, call, call_ssh, state_of, tune_processes

from tune_nodes.collection import environment
from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
OLD = {"eth0": 1500, "flannel.1": 1450, "cni0": 1450}
RAISED = {"eth0": 9000, "flannel.1": 8950, "cni0": 1450}  # its pod still has 1450
SETTINGS = "etc/tune-nodes/settings.json"
DROP_IN = "etc/systemd/network/10-eth0.network.d/90-tune-nodes.conf"


def request(run: str, underlay: Any = 9000, window: float = WIDE, **more: Any) -> dict[str, Any]:
    layer = {"profile": "test", "match": None, "mtu": [{"underlay": underlay, "pods": "auto"}]}
    return {"op": "apply", "run": run, "window": window, "layers": [layer], **more}


@pytest.fixture
def make_overlay(make_lab: MakeLab) -> Iterator[Callable[[int], Overlay]]:
    made: list[Overlay] = []

    def make(nodes: int) -> Overlay:
        made.append(Overlay(make_lab(nodes, sudo=False)))
        return made[-1]

    yield make
    for overlay in made:
        overlay.close()


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {c["key"]: c["status"] for c in result["changes"]}


def test_three_nodes_up_to_9000_confirmed_and_rolled_back(make_overlay: Callable[[int], Overlay]) -> None:
    overlay = make_overlay(3)
    etc = [node.etc() for node in overlay.nodes]
    one, three = overlay.nodes[0], overlay.nodes[2]
    pods = overlay.pod_place(one), overlay.pod_place(three)
    nodes = overlay.node_place(one), overlay.node_place(three)
    with overlay.streams([(*pods, 1450), (*pods[::-1], 1450), (*nodes, 1500)]):
        for node in overlay.nodes:
            applied = call_ssh(node, **request("up"))
            assert applied["ok"], applied["error"]
            assert {key: status for key, status in statuses(applied).items() if key[0] != "/"} == {
                "eth0/mtu": "changed",
                "flannel.1/mtu": "changed",
                "cni0/mtu": "ok",
                "pods/mtu": "owned",
            }
            assert not (node.root / SETTINGS).exists(), "runtime first"
            confirmed = call_ssh(node, "confirm", tx="up")
            assert confirmed["ok"], confirmed["error"]
            assert overlay.mtus(node) == RAISED
            kept = json.loads((node.root / SETTINGS).read_text())["settings"]["mtu"]
            assert list(kept) == ["eth0/mtu"]
            assert kept["eth0/mtu"]["underlay"] == 9000
    assert nodes[0].ping(nodes[1], 9000)
    assert not nodes[0].ping(nodes[1], 9001)
    assert not call_ssh(one, **request("again"))["tx"], "nothing is left to do"
    with overlay.streams([(*pods, 1450), (*nodes, 1500)]):
        for node in overlay.nodes:
            assert call_ssh(node, "rollback", tx="up", run="down", window=WIDE)["ok"]
            assert call_ssh(node, "confirm", tx="down")["ok"]
            assert overlay.mtus(node) == OLD
    assert [{p for p in node.etc() if "tune-nodes" in p} for node in overlay.nodes] == [set()] * 3
    assert all("tune-nodes" not in path for before in etc for path in before)


def test_a_lost_confirmation_puts_every_layer_back(make_overlay: Callable[[int], Overlay]) -> None:
    overlay = make_overlay(2)
    node = overlay.nodes[0]
    pods = overlay.pod_place(node), overlay.pod_place(overlay.nodes[1])
    etc = node.etc()
    with overlay.streams([(*pods, 1450), (*pods[::-1], 1450)]):
        assert call_ssh(node, **request("r1", window=SHORT))["ok"]
        assert overlay.mtus(node) == RAISED
        node.break_("no-ssh")
        wait_for(lambda: overlay.mtus(node) == OLD, 40)
    node.heal()
    wait_for(lambda: state_of(node, "r1") == "REVERTED", 30)
    assert node.etc() == etc
    wait_for(lambda: not tune_processes(node), 30)


def test_a_network_that_does_not_carry_it_reverts_at_the_confirmation(make_overlay: Callable[[int], Overlay]) -> None:
    overlay = make_overlay(2)
    node, peer = overlay.nodes
    overlay.wires(1500)
    probes = [{"kind": "peer", "target": peer.address}]
    applied = call_ssh(node, **request("r1", window=60, probes=probes))
    assert [p["ok"] for p in applied["probes"]] == [True]
    confirmed = call_ssh(node, "confirm", tx="r1", probes=probes, before=applied["probes"])
    assert confirmed["error"]["code"] == "reverted"
    assert "no answer to 9000 bytes with DF" in confirmed["error"]["why"]
    assert overlay.mtus(node) == OLD


def test_a_power_cut_before_the_confirmation_keeps_nothing(make_overlay: Callable[[int], Overlay]) -> None:
    overlay = make_overlay(2)
    node = overlay.nodes[0]
    etc = node.etc()
    assert call(node, **request("r1", window=300))["ok"]
    node.power_cycle()
    assert state_of(node, "r1") == "REVERTED"
    assert node.etc() == etc


def test_kept_where_networkd_reads_it_and_taken_away_again(make_overlay: Callable[[int], Overlay]) -> None:
    overlay = make_overlay(2)
    node = overlay.nodes[0]
    index = node.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout.strip()
    state = f"ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-eth0.network\n# {index}\n"
    node.run(["mkdir", "-p", "/run/systemd/netif/links", "/etc/systemd/network"])
    node.run(["tee", f"/run/systemd/netif/links/{index}"], input=state)
    node.run(["tee", "/etc/systemd/network/10-eth0.network"], input="[Match]\nName=eth0\n")
    before = {path for path in node.etc() if path.startswith("systemd")}
    planned = call(node, **dict(request("r1"), op="plan"))
    assert f"/{DROP_IN}" in statuses(planned), "a plan shows the file that it will write"
    assert call(node, **request("r1"))["ok"]
    assert not (node.root / DROP_IN).exists()
    assert call(node, "confirm", tx="r1")["ok"]
    assert (node.root / DROP_IN).read_text().splitlines()[1:] == ["[Link]", "MTUBytes=9000"]
    lowered = call(node, **request("r2", underlay=4000))
    assert lowered["ok"], lowered["error"]
    assert call(node, "confirm", tx="r2")["ok"]
    assert "MTUBytes=4000" in (node.root / DROP_IN).read_text()
    for tx, back in (("r2", "b2"), ("r1", "b1")):
        assert call(node, "rollback", tx=tx, run=back, window=WIDE)["ok"]
        assert call(node, "confirm", tx=back)["ok"]
    assert {path for path in node.etc() if path.startswith("systemd")} == before
    assert overlay.mtus(node) == OLD


def test_the_module_and_its_idempotence(make_overlay: Callable[[int], Overlay], ansible: Any) -> None:
    overlay = make_overlay(2)
    arguments = ["all", "-m", "tune.nodes.mtu", "-a", json.dumps({"underlay": 9000, "persist": "auto"})]
    checked = ansible(overlay.lab, *arguments, "--check", **environment())
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [overlay.mtus(node) for node in overlay.nodes] == [OLD, OLD]
    first = ansible(overlay.lab, *arguments, **environment())
    assert first.stdout.count("CHANGED") == 2, first.stdout + first.stderr
    assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED, RAISED]
    again = ansible(overlay.lab, *arguments, **environment())
    assert again.stdout.count("SUCCESS") == 2, again.stdout + again.stderr


ROLE = """
- hosts: all
  gather_facts: false
  roles:
    - role: tune.nodes.mtu_alignment
      mtu_alignment_underlay: 9000
      mtu_alignment_window: 120
"""


def test_the_role_confirms_over_a_new_connection(
    make_overlay: Callable[[int], Overlay], playbook: Callable[[Lab, str], subprocess.CompletedProcess[str]]
) -> None:
    overlay = make_overlay(2)
    first = playbook(overlay.lab, ROLE)
    assert first.returncode == 0, first.stdout + first.stderr
    assert [overlay.mtus(node) for node in overlay.nodes] == [RAISED, RAISED]
    again = playbook(overlay.lab, ROLE)
    assert again.stdout.count("changed=0") == 2, again.stdout


@pytest.fixture
def playbook(ansible: Any, tmp_path: Path) -> Callable[[Lab, str], subprocess.CompletedProcess[str]]:
    import os
    import sys

    def play(lab: Lab, text: str) -> subprocess.CompletedProcess[str]:
        book, configuration = tmp_path / "play.yml", tmp_path / "ansible.cfg"
        book.write_text(text)
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(lab.state.inventory), str(book)]
        variables = {**os.environ, **environment(), "ANSIBLE_CONFIG": str(configuration), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=200, check=False, stdin=subprocess.DEVNULL, env=variables
        )

    return play


def boot(node: LabNode) -> dict[str, str]:
    """Do what tune-nodes-boot.service does; key -> status of what was not right already."""
    code = next((node.root / "var/lib/tune-nodes/code").glob("*.pyz")).name
    path = str(Path("/var/lib/tune-nodes/code") / code)
    done = node.run(["/usr/bin/python3", "-I", "-S", path, "boot"], timeout=90, check=False)
    return {change["key"]: change["status"] for change in json.loads(done.stdout)["changes"]}


def test_it_comes_back_after_a_boot_and_not_where_the_gateway_is_lost_by_it(
    make_overlay: Callable[[int], Overlay],
) -> None:
    overlay = make_overlay(2)
    node = overlay.nodes[0]
    assert call(node, **request("r1"))["ok"]
    assert call(node, "confirm", tx="r1")["ok"]
    node.power_cycle()  # the lab lays its cables anew, with 1500
    assert overlay.mtus(node) == {"eth0": 1500}
    assert boot(node) == {"eth0/mtu": "reverted"}
    assert overlay.mtus(node) == {"eth0": 1500}
    overlay.wires(9000)
    assert boot(node) == {"eth0/mtu": "changed"}
    assert overlay.mtus(node) == {"eth0": 9000}
    assert boot(node) == {}
