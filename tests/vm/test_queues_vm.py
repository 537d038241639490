"""Queues and rings of real multi-queue devices, from the command line and by the role."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from clirun import assert_clear
from vmbed.machine import Machine
from vmrun import VmCli, channels, profile

PLAY = """
- hosts: all
  gather_facts: false
  roles: [tune.nodes.nic_queues]
  vars:
    nic_queues_settings:
      - {interfaces: [eth0], channels: max}
      - {interfaces: [eth3], rings: max}
"""


def rings(vm: Machine, nic: str) -> tuple[int, int]:
    """Return the receive and transmit ring sizes in use as the ethtool program reads them."""
    now = vm.run("ethtool", "-g", nic).split("Current hardware settings:")[1]
    return int(now.split("RX:")[1].split()[0]), int(now.split("TX:")[1].split()[0])


def test_wishes_are_cut_to_what_the_device_has(vm: Machine, cli: VmCli) -> None:
    vm.run("ethtool", "-G", "eth3", "rx", "64", "tx", "64")
    wishes = [
        {"interfaces": ["eth0"], "channels": 8},
        {"interfaces": ["eth2"], "channels": "auto"},
        {"interfaces": ["eth3"], "channels": "max", "rings": "max"},
    ]
    named = cli.profile(profile({}, wishes))
    planned = cli("plan", "-p", named, "-o", "json")
    assert_clear(planned, 0)
    (node,) = json.loads(planned.stdout)["nodes"].values()
    changes = {change["key"]: change for change in node["changes"]}
    assert "8 queues asked for, the device has at most 4" in changes["eth0/channels"]["note"]
    assert changes["eth2/channels"]["status"] == "ok", "one queue for each of two cores already"
    assert not any(change["disruptive"] for change in changes.values()), "virtio-net keeps its link"

    assert_clear(cli("apply", "-p", named, "--yes"), 0, "changed 1 of 1")
    assert [channels(vm, nic) for nic in ("eth0", "eth2", "eth3")] == [4, 2, 4]
    assert rings(vm, "eth3") == (256, 256)
    assert_clear(cli("apply", "-p", named, "--yes"), 0, "0 changes", "ok 1 of 1")


def test_the_role_changes_once(vm: Machine, cli: VmCli) -> None:
    vm.run("ethtool", "-G", "eth3", "rx", "64", "tx", "64")
    book = Path(cli.directory) / "play.yml"
    book.write_text(PLAY)
    program = str(Path(sys.executable).parent / "ansible-playbook")
    argv = [*vm.inside, program, "-i", str(vm.inventory), str(book)]

    def recap() -> str:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
            env=cli.env(ANSIBLE_NOCOLOR="1"),
            cwd=cli.directory,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.rsplit("PLAY RECAP", 1)[1]

    first = recap()
    assert "failed=0" in first
    assert "changed=0" not in first
    assert (channels(vm), rings(vm, "eth3")) == (4, (256, 256))
    assert "changed=0" in recap()
