"""Modules, actions and roles in plays of anyone's, on real nodes over real ssh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import bundle
from clirun import wait_for
from nodecall import KEYS, SETTINGS, tune_processes, values

from tune_nodes.collection import environment
from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
ROLES = """
- hosts: all
  gather_facts: false
  roles:
    - role: tune.nodes.sysctl_buffers
      tags: [sysctl]
    - role: tune.nodes.nic_queues
      tags: [nic]
  vars:
    sysctl_buffers_window: 120
    nic_queues_window: 120
    sysctl_buffers_settings:
      net.core.somaxconn: 16384
      net.ipv4.tcp_fin_timeout: {value: 30, class: exact}
    nic_queues_settings:
      - interfaces: [eth0]
        channels: {rx: 2, tx: 2}
"""
TOGETHER = """
- hosts: all
  gather_facts: false
  vars:
    sysctl_buffers_settings: {net.core.somaxconn: 16384}
    nic_queues_settings: [{interfaces: [eth0], channels: {rx: 2, tx: 2}}]
    sysctl_buffers_transaction: "{{ tx.transaction }}"
    nic_queues_transaction: "{{ tx.transaction }}"
  tasks:
    - name: Begin
      tune.nodes.transaction: {state: begin, window: "{{ window | default(120) }}"}
      register: tx
      tags: [always]
    - name: Kernel parameters
      ansible.builtin.import_role: {name: tune.nodes.sysctl_buffers}
      tags: [sysctl]
    - name: Queues
      ansible.builtin.import_role: {name: tune.nodes.nic_queues}
      tags: [nic]
    - name: Cut
      ansible.builtin.meta: end_play
      when: cut | default(false)
      tags: [always]
    - name: Confirm
      tune.nodes.confirm: {transaction: "{{ tx.transaction }}", probes: [{kind: gateway}]}
      tags: [always]
"""


def nobodys(directory: Path) -> dict[str, str]:
    """Return an environment with nobody's Ansible configuration."""
    (directory / "ansible.cfg").write_text("")
    return {**os.environ, **environment(), "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}


def play(lab: Lab, directory: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    book = directory / "play.yml"
    book.write_text(text)
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(lab.state.inventory), str(book), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
        env=nobodys(directory),
    )


def module(lab: Lab, directory: Path, name: str, **arguments: Any) -> dict[str, dict[str, Any]]:
    """Run a module ad hoc; node -> result."""
    results = directory / "results"
    subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible"), "-i", str(lab.state.inventory), "all"),
            *("-m", "tune.nodes." + name, "-t", str(results)),
            *(["-a", json.dumps(arguments)] if arguments else []),
        ],
        capture_output=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
        env=nobodys(directory),
    )
    return {path.name: json.loads(path.read_text()) for path in results.iterdir()}


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(2)  # the second by sudo with a password


def test_roles_in_a_play_then_again(lab: Lab, tmp_path: Path) -> None:
    before = [node.etc() for node in lab.nodes]
    checked = play(lab, tmp_path, ROLES, "--check", "--diff")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "+16384" in checked.stdout
    assert [node.etc() for node in lab.nodes] == before
    first = play(lab, tmp_path, ROLES)
    assert first.returncode == 0, first.stdout + first.stderr
    for node in lab.nodes:
        assert values(node)["net.core.somaxconn"] == "16384"
        assert "2" in values(node)["channels"]
        assert (node.root / "etc/tune-nodes/settings.json").exists()
    etc = [node.etc() for node in lab.nodes]
    again = play(lab, tmp_path, ROLES)
    assert again.returncode == 0
    assert again.stdout.count("changed=0") == 2, again.stdout
    assert [node.etc() for node in lab.nodes] == etc
    for node in lab.nodes:
        wait_for(lambda node=node: not tune_processes(node), 30)


def test_two_roles_in_one_transaction_cut_in_the_middle_revert_both(lab: Lab, tmp_path: Path) -> None:
    before = [values(node) for node in lab.nodes]
    etc = [node.etc() for node in lab.nodes]
    cut = play(lab, tmp_path, TOGETHER, "-e", '{"cut": true, "window": 30}')
    assert cut.returncode == 0, cut.stdout + cut.stderr
    assert [values(node) for node in lab.nodes] != before
    wait_for(lambda: [values(node) for node in lab.nodes] == before, 40)
    assert [node.etc() for node in lab.nodes] == etc


@pytest.mark.parametrize("tag", ["nic", "sysctl"])
def test_tags_still_confirm(lab: Lab, tmp_path: Path, tag: str) -> None:
    done = play(lab, tmp_path, TOGETHER, "-t", tag)
    assert done.returncode == 0, done.stdout + done.stderr
    for node in lab.nodes:
        kept = json.loads((node.root / "etc/tune-nodes/settings.json").read_text())["settings"]
        assert list(kept) == [{"nic": "nic_queues", "sysctl": "sysctl"}[tag]]
        wait_for(lambda node=node: not tune_processes(node), 30)


def test_a_module_alone_with_persist_auto_and_its_rollback(lab: Lab, tmp_path: Path) -> None:
    before = [values(node) for node in lab.nodes]
    wishes = {s["key"]: {"value": s["value"], "class": s["class"]} for s in SETTINGS}
    found = module(lab, tmp_path, "sysctl", settings=wishes, persist="auto")
    for name, result in found.items():
        assert result["state"] == "DONE", (name, result)
        assert {c["key"]: c["status"] for c in result["changes"] if c["key"] in KEYS} == dict.fromkeys(KEYS, "changed")
    for node in lab.nodes:
        undone = module(lab, tmp_path, "rollback", transaction=found[node.name]["transaction"], persist="auto")
        assert undone[node.name]["changed"], undone
    assert [values(node) for node in lab.nodes] == before
    assert not any("tune-nodes" in path for node in lab.nodes for path in node.etc())


def test_code_of_a_module_is_the_code_of_the_checkout(lab: Lab, tmp_path: Path) -> None:
    module(lab, tmp_path, "sysctl", settings={"net.core.somaxconn": 16384}, persist="auto")
    for node in lab.nodes:
        installed = [path.stem for path in (node.root / "var/lib/tune-nodes/code").glob("*.pyz")]
        assert installed == [bundle.build()[0]]


def test_observe_gives_facts_and_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    etc = [node.etc() for node in lab.nodes]
    for name, result in module(lab, tmp_path, "observe").items():
        facts = result["ansible_facts"]["tune_nodes"]
        assert facts["node"]["hostname"] == name
        assert facts["observations"]["nic_queues"]
    assert [node.etc() for node in lab.nodes] == etc


def request_file(lab: Lab, directory: Path, window: int, probe: dict[str, str]) -> str:
    layer = {"profile": "test", "match": None, "sysctl": SETTINGS, "nic_queues": []}
    request = {"run": "r1", "window": window, "layers": [layer], "probes": [probe]}
    path = directory / "request.json"
    nodes: dict[str, Any] = {node.name: {} for node in lab.nodes}
    path.write_text(json.dumps({"operation": "apply", "common": request, "nodes": nodes}))
    return str(path)


def test_action_confirms_each_node_or_reverts_the_one_that_is_cut(lab: Lab, tmp_path: Path) -> None:
    cut, whole = lab.nodes[0], lab.nodes[1]
    before, etc = values(cut), cut.etc()
    armed = cut.root / "var/lib/tune-nodes/tx/r1/ARMED"
    from tune_nodes.lab import once

    with once(armed.exists, lambda: cut.break_("no-ssh")) as fault:
        found = module(lab, tmp_path, "tune", request_file=request_file(lab, tmp_path, 25, {"kind": "gateway"}))
    assert fault.fired.is_set()
    assert found[whole.name]["tune_nodes"]["outcome"] == "changed", found[whole.name]
    assert values(whole)["net.core.somaxconn"] == "16384"
    assert found[cut.name]["tune_nodes"]["outcome"] in ("reverted", "unreachable")
    assert values(cut) == before
    cut.heal()
    assert cut.etc() == etc


def test_probe_that_is_lost_reverts_at_once(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2, sudo=False)
    node, peer = lab.nodes
    before = values(node)
    path = request_file(lab, tmp_path, 60, {"kind": "peer", "target": peer.address})
    armed = node.root / "var/lib/tune-nodes/tx/r1/ARMED"

    def gone(of: LabNode) -> None:
        of.run(["ip", "link", "set", "eth0", "down"])

    from tune_nodes.lab import once

    with once(armed.exists, lambda: gone(peer)):
        found = module(lab, tmp_path, "tune", request_file=path)[node.name]["tune_nodes"]
    assert found["outcome"] == "reverted"
    assert f"peer:{peer.address}" in found["error"]["why"]
    assert values(node) == before
    assert [p["ok"] for p in found["probes_before"]] == [True]
