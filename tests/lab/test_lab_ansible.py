"""The lab's inventory is one that any Ansible user could have written."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_nodes.lab import Lab
from tune_nodes.lab.command import run

Ansible = Callable[..., subprocess.CompletedProcess[str]]


def test_ping_with_become_reaches_root_on_all_nodes(lab3: Lab, ansible: Ansible) -> None:
    done = ansible(lab3, "all", "-b", "-m", "command", "-a", "id -un")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rc=0") == 3
    assert [line for line in done.stdout.splitlines() if "|" not in line] == ["root"] * 3


def test_the_sudo_node_needs_its_password(lab3: Lab, ansible: Ansible) -> None:
    node = lab3.nodes[2]
    assert node.ssh(["id", "-un"]).stdout.strip() == "ops"
    assert node.ssh(["sudo", "-n", "true"], check=False).returncode != 0
    assert node.ssh(["sudo", "-S", "-p", "''", "id", "-un"], input="wrong\n", check=False).returncode != 0
    password = lab3.password_file.read_text()
    done = node.ssh(["sudo", "-S", "-p", "''", "id", "-un"], input=password)
    assert (done.stdout.strip(), done.stderr.strip()) == ("root", "")
    refused = ansible(lab3, node.name, "-m", "ping", "-e", "ansible_become_password=wrong")
    assert refused.returncode != 0
    assert "password" in (refused.stdout + refused.stderr).lower()


def test_secrets_are_for_their_owner_only_and_not_in_the_inventory(lab3: Lab) -> None:
    secret = lab3.password_file.read_text().strip()
    assert len(secret) > 20
    for path in (lab3.password_file, lab3.key, lab3.nodes[0].files.etc / "ssh" / "ssh_host_ed25519_key"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    inventory = lab3.state.inventory
    assert inventory is not None
    texts = [path.read_text() for path in inventory.rglob("*.yml")]
    assert len(texts) == 3
    assert not [text for text in texts if secret in text]
    assert secret not in (lab3.directory / "state.json").read_text()


def test_host_keys_are_checked(lab3: Lab, ansible: Ansible) -> None:
    node, known = lab3.nodes[0], lab3.known_hosts.read_text()
    assert len({line.split()[2] for line in known.splitlines()}) == 3
    swapped = known.replace(node.address, "10.77.255.1").replace(lab3.nodes[1].address, node.address)
    lab3.known_hosts.write_text(swapped)
    try:
        done = node.ssh(["true"], check=False)
        assert done.returncode == 255
        assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr
        assert "UNREACHABLE" in ansible(lab3, node.name, "-m", "ping", ANSIBLE_SSH_ARGS="-o ControlMaster=no").stdout
    finally:
        lab3.known_hosts.write_text(known)


def test_inventory_lists_the_nodes_as_asked(lab3: Lab) -> None:
    program = Path(sys.executable).parent / "ansible-inventory"
    done = subprocess.run(
        [str(program), "-i", str(lab3.state.inventory), "--list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert shown["nodes"]["hosts"] == [node.name for node in lab3.nodes]
    variables = shown["_meta"]["hostvars"]
    assert {variables[node.name]["ansible_host"] for node in lab3.nodes} == {node.address for node in lab3.nodes}
    assert variables[lab3.nodes[2].name]["ansible_user"] == "ops"
    assert "StrictHostKeyChecking=yes" in variables[lab3.nodes[0].name]["ansible_ssh_common_args"]


def test_open_connections_end_with_the_lab(make_lab: Callable[..., Lab], ansible: Ansible) -> None:
    """Else the next lab's first connection to the same address would go through a dead one's multiplexer."""

    with tempfile.TemporaryDirectory(dir="/tmp") as sockets:  # a socket's path has at most 108 bytes

        def masters() -> int:
            commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
            return sum(command.startswith(f"ssh: {sockets}".encode()) for command in commands)

        lab = make_lab(2)
        assert ansible(lab, "all", "-m", "ping", ANSIBLE_SSH_CONTROL_PATH_DIR=sockets).returncode == 0
        assert masters() == 2
        lab.node(f"{lab.name}-1").break_("no-ssh")
        lab.down()
        deadline = time.monotonic() + 5
        while masters() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert masters() == 0


def test_the_user_behind_sudo_owns_what_he_must_read(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    lab = make_lab(2)
    inventory = lab.state.inventory
    assert inventory is not None
    for path in (lab.key, lab.password_file, inventory, inventory / "hosts.yml", inventory / "host_vars"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534), path
    assert lab.node_directory(f"{lab.name}-1").stat().st_uid == 0
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert run([*as_user, *lab.nodes[1].ssh_argv(["id", "-un"])]).stdout.strip() == "ops"
