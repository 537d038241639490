"""One running machine: switch it on, log in, reboot it, cut its power."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tune_nodes.errors import TuneError
from tune_nodes.lab.command import run
from vmbed import qemu
from vmbed.image import Image
from vmbed.network import GUEST, Network

NAME = "vm1"
BOOT_LIMIT = 600.0  # seconds; a boot takes 20 on two idle CPUs, and these may be anything but idle
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def ssh_options(image: Image) -> list[str]:
    """Return ssh's arguments: the bed's own key, the host key always checked, nobody's own configuration.

    The key exchange is the one that an emulated CPU is quick at.
    """
    options = [
        f"UserKnownHostsFile={image.known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "KexAlgorithms=curve25519-sha256",
    ]
    return ["-F", "/dev/null", *(word for option in options for word in ("-o", option))]


def inventory(image: Image, address: str = GUEST) -> dict[str, Any]:
    """Return the inventory that reaches the machine from within its network namespace."""
    host = {
        "ansible_host": address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(image.key),
        "ansible_ssh_common_args": shlex.join(ssh_options(image)),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {"nodes": {"hosts": {NAME: host}}}


class Machine:
    """A machine with a disk of its own, an overlay of the image's.

    Attributes:
        directory: its files: overlay, console.log, qemu.log, hosts.yml.
        inventory: for the command line.
        inside: argv prefix that runs a program where the machine is reachable.
    """

    def __init__(self, directory: Path, image: Image, network: Network) -> None:
        self.directory = directory
        self.image = image
        self.network = network
        self.inside = network.inside
        self.console = directory / "console.log"
        self.inventory = self.write_inventory("hosts.yml", GUEST)
        self._overlay = directory / "overlay.qcow2"
        self._control = directory / "ssh"
        self._emulator: subprocess.Popen[bytes] | None = None

    def write_inventory(self, name: str, address: str) -> Path:
        """Write an inventory that reaches the machine at one of its addresses; returns the file."""
        path = self.directory / name
        path.write_text(yaml.safe_dump(inventory(self.image, address), sort_keys=False, width=1000))
        return path

    def start(self) -> None:
        """Switch a fresh machine on and wait until its boot is over."""
        backing = ["-F", "raw", "-b", str(self.image.disk)]
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self._overlay)])
        self.power_on()

    def power_on(self) -> None:
        """Switch it on as its disk is, and wait until its boot is over."""
        argv = qemu.command(self.image, self._overlay, self.console, self.network.nics)
        with (self.directory / "qemu.log").open("ab") as log:
            # The emulator must not outlive the tests, however they end.
            started = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.inside, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._emulator = started
        self._await_boot("")

    def power_cut(self) -> None:
        """Take its power away: whatever was not flushed to the disk is lost."""
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.wait()
            self._emulator = None
        self._hang_up()

    def reboot(self) -> None:
        """Reboot it in an orderly way and wait until its boot is over."""
        before = self.boot_id()
        self.run("systemctl", "--no-block", "reboot")
        self._hang_up()
        self._await_boot(before)

    def running(self) -> bool:
        """Whether it has power."""
        return self._emulator is not None and self._emulator.poll() is None

    def boot_id(self) -> str:
        """Return what tells this boot from every other one."""
        return self.run("cat", BOOT_ID).strip()

    def run(self, *argv: str, check: bool = True, timeout: float = 120, input: str | None = None) -> str:
        """Run a program on the machine and return its output. Raises TuneError.

        Logins of the bed share one connection: an emulated CPU takes its time for each.
        """
        share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self._control}", "-o", "ControlPersist=300"]
        return run(self.ssh(*argv, options=share), check=check, timeout=timeout, input=input).stdout

    def ssh(self, *argv: str, options: Sequence[str] = (), address: str = GUEST) -> list[str]:
        """Return the argument list that runs a program on the machine; a new connection unless options share one."""
        new = ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        bounded = ["BatchMode=yes", "ConnectTimeout=30", "ServerAliveInterval=15", "LogLevel=ERROR"]
        login = [*ssh_options(self.image), "-i", str(self.image.key), *(f"-o{option}" for option in bounded)]
        return [*self.inside, "ssh", *login, *(options or new), f"root@{address}", "--", shlex.join(argv)]

    def _hang_up(self) -> None:
        """End the shared connection: its other end is gone or going."""
        run(self.ssh(options=["-O", "exit", "-o", f"ControlPath={self._control}"])[:-2], check=False)
        self._control.unlink(missing_ok=True)

    def _await_boot(self, before: str) -> None:
        limit = time.monotonic() + BOOT_LIMIT
        while not (found := self._answer()) or found == before:
            if not self.running():
                log = (self.directory / "qemu.log").read_text(errors="replace")
                raise TuneError("the emulator ended", log.strip()[-600:])
            if time.monotonic() > limit:
                tail = self.console.read_text(errors="replace")[-600:]
                raise TuneError(f"the machine did not boot within {BOOT_LIMIT:g} s", tail)
            time.sleep(0.2)
        # "degraded" is an answer too: which unit failed is the tests' business.
        self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOT_LIMIT)

    def _answer(self) -> str:
        """Return the boot id over a new connection, "" where nobody answers."""
        done = run(self.ssh("cat", BOOT_ID), check=False, timeout=90)
        return done.stdout.strip() if done.returncode == 0 else ""
