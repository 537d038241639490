"""A running node, for tests and for the lab's own work in it."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tune_nodes.errors import TuneError
from tune_nodes.lab.boot import KEEP_MACHINE, sshd_pid
from tune_nodes.lab.command import run
from tune_nodes.lab.filesystem import NodeFiles
from tune_nodes.lab.inventory import ssh_options
from tune_nodes.lab.model import NodeState, Started
from tune_nodes.lab.process import alive, members, netns_of

if TYPE_CHECKING:
    from tune_nodes.lab.fleet import Lab


class LabNode:
    """One node of a lab.

    Attributes:
        name: as in the inventory, ``lab-1``.
        address: IPv4 address.
        user: who logs in over ssh (``root``, or the user with a sudo password).
    """

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab = lab
        self.number = number
        state = self.state
        self.name, self.address, self.user = state.name, state.address, state.user

    def __repr__(self) -> str:
        return f"<LabNode {self.name} {self.address}>"

    @property
    def state(self) -> NodeState:
        """What the lab knows of the node now."""
        return self.lab.state.nodes[self.number - 1]

    @property
    def netns(self) -> str:
        """Its network namespace, for ``ip netns exec``."""
        return self.lab.state.layout.netns(self.number)

    @property
    def files(self) -> NodeFiles:
        """Where its own files lie on this machine."""
        return NodeFiles(self.lab.node_directory(self.name))

    @property
    def init(self) -> Started:
        """The process that holds its namespaces. Raises TuneError while the node is down."""
        init = self.state.init
        if init is None or not alive(init):
            raise TuneError(f"{self.name} is down", "", f"tune-nodes lab up --name {self.lab.name}")
        return init

    @property
    def root(self) -> Path:
        """Its file system as it sees it. Not for /proc and /sys: those would show the reader's network."""
        return Path(f"/proc/{self.init.pid}/root")

    @property
    def sshd(self) -> int | None:
        """Pid of its listening sshd, None if it does not run."""
        init = self.state.init
        return sshd_pid(init) if init is not None and alive(init) else None

    @property
    def faults(self) -> list[str]:
        """Faults active on it."""
        return sorted(self.state.faults)

    def argv(self, command: Sequence[str]) -> list[str]:
        """Return the argv that runs ``command`` as root in the node's namespaces (for Popen)."""
        enter = ["nsenter", f"--target={self.init.pid}", "--mount", "--uts", "--net", "--wd=/"]
        return [*enter, *KEEP_MACHINE, *command]

    def run(
        self, command: Sequence[str], *, input: str | None = None, timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the node's namespaces, past ssh. Raises TuneError as ``command.run`` does."""
        return run(self.argv(command), input=input, timeout=timeout, check=check)

    def ssh_argv(self, command: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
        """Return the argv of a login over a new connection, host key checked. The words of ``command`` meet a shell."""
        key = ["-i", str(self.lab.key), "-l", self.user, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        once = ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        # ssh takes the first of several values.
        return ["ssh", *options, *ssh_options(self.lab.known_hosts), *key, *once, self.address, *command]

    def ssh(
        self, command: Sequence[str], *, input: str | None = None, timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over a new ssh connection. Raises TuneError as ``command.run`` does."""
        return run(self.ssh_argv(command), input=input, timeout=timeout, check=check)

    def read_sysctl(self, key: str) -> str:
        """Return a sysctl as the node sees it, blanks made single. ``key`` as in systemd: net.ipv4.conf.a/b.mtu."""
        return " ".join(self.run(["cat", sysctl_path(key)]).stdout.split())

    def write_sysctl(self, key: str, value: str) -> None:
        """Set a sysctl by hand. Raises TuneError where the node refuses it."""
        self.run(["tee", sysctl_path(key)], input=value)

    def sysctls(self) -> dict[str, str]:
        """Return all sysctls of the node's network, values with single blanks; what cannot be read is left out."""
        output = self.run(["sysctl", "--all", "--ignore", "--pattern", "^net\\."], check=False).stdout
        pairs = (line.partition(" = ") for line in output.splitlines())
        return {key: " ".join(value.split()) for key, sep, value in pairs if sep}

    def etc(self) -> dict[str, str]:
        """Return path -> "type mode uid:gid mtime_ns content" of all that is the node's own in /etc.

        That is the upper layer over this machine's /etc: equal means untouched.
        """
        return tree(self.files.etc)

    def processes(self) -> list[int]:
        """Return the pids of all that runs in the node (revert timers and ssh sessions too)."""
        return members({netns_of(self.init.pid) or -1})

    def break_(self, fault: str) -> None:
        """Inject a fault (``tune_nodes.lab.FAULTS``)."""
        self.lab.break_(self.name, fault)

    def heal(self, fault: str | None = None) -> list[str]:
        """Take back one fault or all; return those that were active."""
        return self.lab.heal(self.name, fault)

    def power_cycle(self) -> None:
        """Cut the power and boot again: all processes and runtime values gone, /etc and /var kept, a new boot id."""
        self.lab.power_cycle(self.name)


def sysctl_path(key: str) -> str:
    """Return the file of a sysctl key written with dots, or systemd-style with slashes inside names."""
    first = next((char for char in key if char in "./"), ".")
    parts = key if first == "/" else key.translate(str.maketrans("./", "/."))
    if {"", ".", ".."} & set(parts.split("/")):
        raise TuneError(f"{key!r} is not a sysctl key")
    return f"/proc/sys/{parts}"


def tree(top: Path) -> dict[str, str]:
    """Return path -> what tells a file's state, for all below ``top``. Symlinks are not followed."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(directory, name)
            info = path.lstat()
            content = ""
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = str(path.readlink())
            when = "" if stat.S_ISDIR(info.st_mode) else f" {info.st_mtime_ns}"
            owner = f"{info.st_uid}:{info.st_gid}"
            found[str(path.relative_to(top))] = f"{stat.filemode(info.st_mode)} {owner}{when} {content}"
    return found
