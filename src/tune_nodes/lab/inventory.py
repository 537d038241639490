"""The lab's inventory: ordinary Ansible files, written by ``lab up`` and removed by ``lab down``."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tune_nodes.errors import UsageError
from tune_nodes.lab.account import USER
from tune_nodes.lab.model import LabState
from tune_nodes.lab.state import write_file


def header(name: str) -> str:
    """Return the first line of each file a lab writes: how it knows its own again."""
    return f"# Written by `tune-nodes lab up --name {name}`, removed by `lab down`: changes made here are lost.\n"


def ssh_options(known_hosts: Path) -> list[str]:
    """Return ssh's arguments for the lab: its own known_hosts, always checked, and nobody's own configuration."""
    options = [
        f"UserKnownHostsFile={known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
    ]
    return ["-F", "/dev/null", *(word for option in options for word in ("-o", option))]


def documents(state: LabState, key: Path, known_hosts: Path, password: Path) -> dict[str, str]:
    """Return relative path -> text of the inventory's files. Holds the password file's path, never the password."""
    group = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": " ".join(ssh_options(known_hosts)),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    hosts = {node.name: {"ansible_host": node.address} for node in state.nodes}
    found: dict[str, object] = {
        "hosts.yml": {"nodes": {"hosts": hosts}},
        "group_vars/nodes.yml": group,
    }
    become = {
        "ansible_user": USER,
        "ansible_become": True,
        "ansible_become_password": f"{{{{ lookup('ansible.builtin.file', '{password}') }}}}",
    }
    found |= {f"host_vars/{node.name}.yml": become for node in state.nodes if node.user == USER}
    return {
        path: header(state.name) + "---\n" + yaml.safe_dump(data, sort_keys=False, width=1000)
        for path, data in found.items()
    }


def refuse_foreign(directory: Path, name: str) -> None:
    """Raise UsageError where this directory holds files that this lab did not write."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", "", "choose another --inventory-dir")
    for path in sorted(directory.rglob("*")) if directory.is_dir() else []:
        if path.is_file() and not _ours(path, name):
            raise UsageError(
                f"{path} was not written by lab {name!r}",
                "a lab overwrites no one else's inventory",
                "choose another --inventory-dir",
            )


def write(directory: Path, name: str, files: dict[str, str], owner: tuple[int, int] | None) -> None:
    """Write the inventory, first removing what an earlier `lab up` left there.

    ``owner``: who gets files and new directories (the user behind sudo), None for root.
    """
    remove(directory, name)
    for relative, text in files.items():
        path = directory / relative
        missing = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        if owner is not None:
            for parent in missing:
                os.chown(parent, *owner)
        write_file(path, text, 0o644, owner)


def remove(directory: Path, name: str) -> None:
    """Remove the files this lab wrote here, and the directories that are then empty."""
    for path in sorted(directory.rglob("*.yml")) if directory.is_dir() else []:
        if path.is_file() and _ours(path, name):
            path.unlink()
    for path in (directory / "group_vars", directory / "host_vars", directory):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _ours(path: Path, name: str) -> bool:
    with path.open(errors="replace") as handle:
        return handle.readline() == header(name)
