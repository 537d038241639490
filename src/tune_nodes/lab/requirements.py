"""What the machine must have for a lab, checked before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tune_nodes.errors import UsageError
from tune_nodes.lab.command import PATH, run

#: Program -> the Debian package that brings it.
PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ethtool": "ethtool",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sudo": "sudo",
    "chpasswd": "passwd",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "sysctl": "procps",
}
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)


def missing_programs() -> dict[str, str]:
    """Return the programs that are not installed, each with its Debian package."""
    return {name: package for name, package in PROGRAMS.items() if shutil.which(name, path=PATH) is None}


def program(name: str) -> str:
    """Return the path of a program that :func:`check` has seen."""
    return shutil.which(name, path=PATH) or name


def sftp_server() -> str:
    """Return the sftp server that sshd starts; its built-in one where there is no program."""
    return next((path for path in _SFTP_SERVERS if Path(path).exists()), "internal-sftp")


def check_root(command: str) -> None:
    """Raise UsageError without root."""
    if os.geteuid() != 0:
        raise UsageError(
            "a lab needs root", "it is made of this machine's network and mount namespaces", f"sudo {command}"
        )


def check(directory: Path) -> None:
    """Raise UsageError, naming the remedy, where this machine cannot carry a lab below ``directory``."""
    check_root("tune-nodes lab up")
    if missing := missing_programs():
        raise UsageError(
            f"missing: {', '.join(sorted(missing))}",
            "a lab is made of these programs",
            f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )
    _check_filesystem(directory)


def _check_filesystem(directory: Path) -> None:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    kind = run(["stat", "--file-system", "--format=%T", str(existing)]).stdout.strip()
    if kind in ("overlayfs", "nfs", "fuseblk", "v9fs", "smb2"):
        raise UsageError(
            f"{existing} is on {kind}, which cannot carry the nodes' own /etc",
            "an overlay's upper layer needs ext4, xfs, btrfs or tmpfs",
            "TUNE_NODES_LAB_DIR=/dev/shm/tune-nodes-lab tune-nodes lab up",
        )
