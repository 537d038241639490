"""The parts of the virtual machine's bed that need no machine."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
from vmbed import network, qemu, recipe
from vmbed.image import Image, cache_directory
from vmbed.machine import NAME, Machine, inventory, ssh_options

IMAGE = Image(Path("/cache/disk 1"))


def options(argv: Iterable[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(argv) if option == name]


def test_any_change_of_the_recipe_makes_another_disk() -> None:
    document = recipe.document()
    assert recipe.key() == recipe.key(document)
    assert {"PACKAGES", "FILES", "KERNEL", "SUITE", "MASKED"} <= set(document)
    for name, value in document.items():
        assert recipe.key({**document, name: [value, "more"]}) != recipe.key(), name


@pytest.mark.parametrize(
    ("env", "directory"),
    [
        ({"TUNE_NODES_TEST_CACHE": "/c", "HOME": "/h"}, "/c/vm"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/tune-nodes-test/vm"),
        ({"HOME": "/h"}, "/h/.cache/tune-nodes-test/vm"),
    ],
)
def test_where_disks_are_kept(env: dict[str, str], directory: str) -> None:
    assert cache_directory(env) == Path(directory)


def test_the_emulator_keeps_what_was_flushed_and_reaches_its_taps_only() -> None:
    argv = qemu.command(IMAGE, Path("/t/overlay"), Path("/t/console"), network.NICS)
    (drive,) = options(argv, "-drive")
    assert "file=/t/overlay,format=qcow2" in drive
    assert "cache=writeback" in drive
    assert [option.split(",")[0] for option in options(argv, "-netdev")] == ["tap"] * 4
    assert options(argv, "-append")[0].startswith("root=/dev/vda rw ")
    assert str(IMAGE.disk) not in argv, "the cached disk is beneath the overlay, never written"


@pytest.mark.parametrize("nic", network.NICS)
def test_each_nic_has_four_queue_pairs(nic: network.Nic) -> None:
    argv = qemu.nic_arguments(nic)
    (backend,), (device,) = options(argv, "-netdev"), options(argv, "-device")
    assert f"ifname={nic.tap}" in backend
    assert "queues=4" in backend
    assert "mq=on,vectors=10,host_mtu=9000" in device
    assert ("rss=on" in device) == nic.rss


def test_hardware_addresses_and_taps_differ() -> None:
    assert len({nic.mac for nic in network.NICS}) == len({nic.tap for nic in network.NICS}) == len(network.NICS)
    assert all(int(nic.mac.split(":")[0], 16) & 3 == 2 for nic in network.NICS), "local, not multicast"


def test_the_namespace_is_furnished() -> None:
    commands = [" ".join(words) for words in network.commands(network.NICS)]
    assert "tuntap add tap0 mode tap multi_queue" in commands
    assert "link set tap0 mtu 9000 up" in commands
    assert f"address add {network.HOST}/24 dev tap0" in commands
    assert "link set tap1 master br0 mtu 9000 up" in commands
    assert sum(words.startswith("address add") for words in commands) == 2, "no address that could lead elsewhere"
    assert not any("default" in words or "route" in words for words in commands)


def test_only_namespaces_of_dead_test_processes_are_orphans(tmp_path: Path) -> None:
    (tmp_path / "41").mkdir()
    assert network.namespace(41) == "tnvm-41"
    assert network.orphans(["tnvm-41", "tnvm-42", "tnvm-4x", "tn-lab", "xtnvm-43"], tmp_path) == ["tnvm-42"]


def test_the_host_key_is_always_checked_and_paths_may_hold_spaces() -> None:
    given = options(ssh_options(IMAGE), "-o")
    assert "StrictHostKeyChecking=yes" in given
    assert "UserKnownHostsFile=/cache/disk 1/known_hosts" in given
    host = inventory(IMAGE, "198.18.77.2")["nodes"]["hosts"][NAME]
    assert shlex.split(host["ansible_ssh_common_args"]) == ssh_options(IMAGE)
    assert host["ansible_host"] == "198.18.77.2"


def test_a_login_names_the_host_once_and_quotes_the_command(tmp_path: Path) -> None:
    argv = Machine(tmp_path, IMAGE, network.Network("tnvm-1")).ssh("echo", "a b", address="198.18.78.2")
    assert argv[:3] == ["nsenter", "--net=/run/netns/tnvm-1", "--"]
    assert argv[-3:] == ["root@198.18.78.2", "--", "echo 'a b'"]
    assert sum(word.startswith("root@") for word in argv) == 1
    assert "ControlPath=none" in argv
