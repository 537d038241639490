"""A node's own files: what lies in its /etc, /root and /home, and the mounts that make them its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from tune_nodes.lab import account
from tune_nodes.lab.model import Layout, NodeState
from tune_nodes.lab.requirements import sftp_server
from tune_nodes.lab.state import write_file

#: What a node sees of its own; all else of the machine is read-only in it.
OWN = ("/etc", "/var", "/root", "/home", "/run", "/tmp", "/dev", "/proc", "/sys")
#: Ours on the machine itself, hidden from its nodes: a node begins untuned.
_HIDDEN = ("etc/tune-nodes", "var/lib/tune-nodes")

SSHD_CONFIG = """\
ListenAddress 0.0.0.0
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
AuthorizedKeysFile .ssh/authorized_keys
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 500
MaxSessions 100
Subsystem sftp {sftp}
"""


@dataclass(frozen=True)
class NodeFiles:
    """Where a node's files lie on this machine."""

    directory: Path

    @property
    def etc(self) -> Path:
        """Upper layer of its /etc."""
        return self.directory / "etc" / "upper"

    @property
    def var(self) -> Path:
        """Upper layer of its /var."""
        return self.directory / "var" / "upper"

    @property
    def root(self) -> Path:
        """Its /root."""
        return self.directory / "root"

    @property
    def home(self) -> Path:
        """Its /home."""
        return self.directory / "home"

    def authorized_keys(self, user: str) -> Path:
        """The file sshd reads at each login of this user."""
        home = self.root if user == "root" else self.home / user
        return home / ".ssh" / "authorized_keys"


def fstab(directory: Path, scopes: list[str]) -> str:
    """Return the mounts of a node in fstab's format. /run comes last: the lab's own directory lies there.

    Args:
        directory: the node's directory.
        scopes: the entries of /proc/sys that hold for the whole machine.
    """
    lines = [
        f"overlay /{part} overlay lowerdir=/{part},upperdir={directory}/{part}/upper,workdir={directory}/{part}/work"
        for part in ("etc", "var")
    ]
    lines += [f"{directory}/{part} /{part} none bind" for part in ("root", "home")]
    lines += [f"/proc/sys/{scope} /proc/sys/{scope} none bind,ro" for scope in scopes]
    lines += [
        f"{directory}/boot_id /proc/sys/kernel/random/boot_id none bind,ro",
        "/sys/devices/virtual/net /sys/devices/virtual/net none bind",
        "tn-lab /dev/shm tmpfs mode=1777,size=64m,nosuid,nodev",
        "tn-lab /tmp tmpfs mode=1777,size=256m,nosuid,nodev",
        "tn-lab /run tmpfs mode=755,size=16m,nosuid,nodev",
    ]
    return "".join(f"{line} 0 0\n" for line in lines)


def readonly_mounts(mountinfo: str) -> list[str]:
    """Return the machine's mount points that a node must not write to, from /proc/self/mountinfo; / comes last."""
    points = {"/sys", "/"}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) < 6 or not fields[4].startswith("/"):
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        own = any(point == top or point.startswith(f"{top}/") for top in OWN)
        if not own and "rw" in fields[5].split(",") and "\n" not in point:
            points.add(point)
    return sorted(points, reverse=True)


def machine_scopes() -> list[str]:
    """Return the entries of /proc/sys that hold for the whole machine: all but the network namespace's own."""
    return sorted(entry.name for entry in Path("/proc/sys").iterdir() if entry.is_dir() and entry.name != "net")


def lay_out(files: NodeFiles, layout: Layout, node: NodeState, public_key: str) -> None:
    """Write all of a new node's files but its host key."""
    for part in ("etc", "var"):
        for layer in ("upper", "work"):
            (files.directory / part / layer).mkdir(parents=True)
    files.root.mkdir(mode=0o700)
    files.home.mkdir()
    _write_etc(files, layout, node)
    _hide(files)
    if node.user == account.USER:
        uid = _write_account(files)
        (files.home / account.USER).mkdir(mode=0o700)
        os.chown(files.home / account.USER, uid, uid)
    authorize(files, node.user, public_key)
    new_boot(files)


def new_boot(files: NodeFiles) -> None:
    """Give the node the id of a new boot."""
    write_file(files.directory / "boot_id", f"{uuid.uuid4()}\n")


def authorize(files: NodeFiles, user: str, public_key: str, command: str = "") -> None:
    """Let the lab's key log in as ``user``; with ``command`` each new connection runs that instead of what it asks."""
    path = files.authorized_keys(user)
    owner = path.parent.parent.stat()
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700)
        os.chown(path.parent, owner.st_uid, owner.st_gid)
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    prefix = f'command="{quoted}" ' if command else ""
    write_file(path, f"{prefix}{public_key.strip()}\n", 0o600, (owner.st_uid, owner.st_gid))


def _write_etc(files: NodeFiles, layout: Layout, node: NodeState) -> None:
    etc = files.etc
    (etc / "ssh").mkdir()
    write_file(etc / "ssh" / "sshd_config", SSHD_CONFIG.format(sftp=sftp_server()))
    write_file(etc / "hostname", f"{node.name}\n")
    write_file(etc / "hosts", f"127.0.0.1 localhost\n{node.address} {node.name}\n{layout.gateway} gateway\n")
    write_file(etc / "machine-id", f"{secrets.token_hex(16)}\n", 0o444)
    write_file(etc / "resolv.conf", "# The lab has no resolver.\n")
    # The machine's own sysctl settings are not the node's: it begins with the kernel's defaults.
    (etc / "sysctl.d").mkdir()
    os.setxattr(etc / "sysctl.d", "trusted.overlay.opaque", b"y")
    write_file(etc / "sysctl.conf", "")


def _hide(files: NodeFiles) -> None:
    for hidden in _HIDDEN:
        if Path("/", hidden).exists():
            target = files.directory / hidden.replace("/", "/upper/", 1)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.mknod(target, 0o020000, os.makedev(0, 0))  # a whiteout, overlayfs's word for "is not there"


def _write_account(files: NodeFiles) -> int:
    etc = Path("/etc")
    made = account.make(*((etc / name).read_text(errors="replace") for name in ("passwd", "shadow", "group")))
    shadow_group = (etc / "shadow").stat().st_gid
    write_file(files.etc / "passwd", made.passwd)
    write_file(files.etc / "shadow", made.shadow, 0o640, (0, shadow_group))
    write_file(files.etc / "group", made.group)
    write_file(files.etc / "sudoers", account.SUDOERS, 0o440)
    pam = files.etc / "pam.d"
    pam.mkdir()
    for name in ("sudo", "sudo-i"):
        write_file(pam / name, account.PAM_SUDO)
    return made.uid


def remove(directory: Path) -> None:
    """Delete a lab's directory, its state last: a removal that was cut off can be taken up again."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == "state.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    directory.rmdir()
