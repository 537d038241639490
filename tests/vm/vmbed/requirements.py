"""What this machine must have to run another one."""

from __future__ import annotations

import os
import shutil

from tune_nodes.errors import TuneError
from tune_nodes.lab.command import PATH

#: Program -> the Debian package that has it.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "debootstrap": "debootstrap",
    "mkfs.ext4": "e2fsprogs",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
}


def check() -> None:
    """Raise TuneError, naming all that is missing."""
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None})
    if missing:
        raise TuneError(f"not installed: {', '.join(missing)}", "", "apt-get install " + " ".join(missing))
    if os.geteuid() != 0:
        raise TuneError("the vm lane needs root", "for a network namespace and taps", "run it with sudo")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise TuneError("no taps can be made here", "/dev/net/tun cannot be opened", "modprobe tun")
