"""A cluster as an Ansible inventory: hosts.yml, its ssh key and known_hosts, and the kubeconfig beside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from kindbed.command import find, run
from tune_nodes.errors import UsageError

DEFAULT_NAME = "tune-nodes"
HOSTS, KUBECONFIG = "hosts.yml", "kubeconfig"
SSH = ".ssh"  # hidden: Ansible reads every other file of an inventory's directory as an inventory
KEY, KNOWN_HOSTS = f"{SSH}/id_ed25519", f"{SSH}/known_hosts"
FILES = (HOSTS, KEY, f"{KEY}.pub", KNOWN_HOSTS, KUBECONFIG)


def directory(name: str, below: Path) -> Path:
    """Return the directory of a cluster's inventory: ``kind`` for the usual name, ``kind-NAME`` for another."""
    return below / ("kind" if name == DEFAULT_NAME else f"kind-{name}")


def header(name: str) -> str:
    """Return the first line of hosts.yml: how a directory is known to be this cluster's."""
    return f"# Written by `make kind-up` for the cluster {name}, removed by `make kind-down`.\n"


def ssh_options(where: Path) -> list[str]:
    """Return ssh's arguments: the cluster's known_hosts, always checked, and nobody's own configuration."""
    options = [
        f"UserKnownHostsFile={where / KNOWN_HOSTS}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "HostKeyAlgorithms=ssh-ed25519",
        "IdentitiesOnly=yes",
    ]
    return ["-F", "/dev/null", *(word for option in options for word in ("-o", option))]


def hosts(name: str, nodes: Mapping[str, str], where: Path) -> str:
    """Return hosts.yml.

    Args:
        name: of the cluster.
        nodes: node -> address.
        where: the inventory's directory.
    """
    group = {
        "hosts": {node: {"ansible_host": address} for node, address in nodes.items()},
        "vars": {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(where / KEY),
            "ansible_ssh_common_args": " ".join(ssh_options(where)),
            "ansible_python_interpreter": "/usr/bin/python3",
        },
    }
    return header(name) + "---\n" + yaml.safe_dump({"kind": group}, sort_keys=False, width=1000)


def known_hosts(nodes: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """Return known_hosts for node -> address and node -> public host key (as in its .pub file)."""
    return "".join(f"{address} {' '.join(keys[node].split()[:2])}\n" for node, address in nodes.items())


def refuse_foreign(where: Path, name: str) -> None:
    """Raise UsageError where the directory holds what was not written for this cluster."""
    if not where.exists() or (where.is_dir() and not any(path.is_file() for path in where.rglob("*"))):
        return
    path = where / HOSTS
    if not path.is_file() or not path.read_text(errors="replace").startswith(header(name)):
        raise UsageError(
            f"{where} was not written for the cluster {name}", "nobody's inventory is overwritten", f"move {where} away"
        )


def write(path: Path, text: str, owner: tuple[int, int] | None, mode: int = 0o644) -> None:
    """Write a file as a whole, for the person behind sudo where there is one."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).chmod(mode)
        if owner is not None:
            os.chown(fresh, *owner)
        Path(fresh).replace(path)
    finally:
        Path(fresh).unlink(missing_ok=True)


def make_key(where: Path, name: str, owner: tuple[int, int] | None) -> str:
    """Make the cluster's ssh key, unless there is one; the public key."""
    path = where / KEY
    if not path.exists():
        argv = [find("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        run(argv)
        for file in (path, path.with_suffix(".pub")):
            if owner is not None:
                os.chown(file, *owner)
    return path.with_suffix(".pub").read_text()


def make_directory(where: Path, owner: tuple[int, int] | None) -> None:
    """Make the inventory's directory, those above it and the one for ssh's files."""
    for path in reversed([where / SSH, where, *where.parents]):
        if not path.exists():
            path.mkdir()
            if owner is not None:
                os.chown(path, *owner)


def claim(where: Path, name: str, owner: tuple[int, int] | None) -> None:
    """Make the directory, known to be the cluster's from now on: also by the next process, if this one is killed."""
    make_directory(where, owner)
    if not (where / HOSTS).exists():
        write(where / HOSTS, hosts(name, {}, where), owner)


def remove(where: Path, name: str) -> None:
    """Remove what was written for a cluster, and the directory where nothing else is in it."""
    hosts_file = where / HOSTS
    if hosts_file.is_file() and hosts_file.read_text(errors="replace").startswith(header(name)):
        for file in FILES:
            (where / file).unlink(missing_ok=True)
    for path in (where / SSH, where):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def person() -> tuple[int, int] | None:
    """Return user and group of the person behind sudo, None for root."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if uid.isdigit() and gid.isdigit() and uid != "0" else None
