"""What this machine must have for a cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from kindbed.command import environment
from kindbed.programs import find_go
from tune_nodes.errors import TuneError

#: Program -> the Debian package that brings it.
PROGRAMS = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "nft": "nftables",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}


def missing_programs(which: Callable[[str], str | None] | None = None) -> dict[str, str]:
    """Return the programs that are not installed, each with its Debian package."""
    path = environment()["PATH"]
    look = which or (lambda name: shutil.which(name, path=path))
    return {name: package for name, package in PROGRAMS.items() if look(name) is None}


def why_not() -> str:
    """Return why this machine cannot carry a cluster, "" where it can."""
    if os.geteuid() != 0:
        return "it needs root: dockerd, the firewall and debootstrap"
    if missing := missing_programs():
        return f"missing: {', '.join(missing)} (next: apt-get install {' '.join(sorted(set(missing.values())))})"
    try:
        find_go()
    except TuneError as error:
        return str(error)
    return ""
