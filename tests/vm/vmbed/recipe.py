"""What the machine's disk is made of, as plain data: any change here makes another disk.

No address is in it: the kernel's command line brings that, so one disk serves machines side by side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SUITE = "bookworm"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    "dbus",
    "ethtool",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "strace",
    "systemd",
    "systemd-sysv",
    "udev",
)
DISK_SIZE = "3G"
#: What the initial RAM disk needs to find the root: with all of Debian's choice it would be ten times the size.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "ext4")
#: Written before the kernel is installed, or its initial RAM disk would be made without them.
EARLY_FILES: Mapping[str, str] = {
    "etc/initramfs-tools/conf.d/small": "MODULES=list\n",
    "etc/initramfs-tools/modules": "".join(f"{name}\n" for name in INITRD_MODULES),
}
FILES: Mapping[str, str] = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/ssh/sshd_config.d/bed.conf": "HostKey /etc/ssh/ssh_host_ed25519_key\nPasswordAuthentication no\n",
    # A journal on disk: what an earlier boot said is asked for.
    # An emulated boot beside other work is slow, which is no failure.
    "etc/systemd/system.conf.d/bed.conf": "[Manager]\nDefaultTimeoutStartSec=10min\nDefaultDeviceTimeoutSec=10min\n",
    "etc/systemd/journald.conf.d/bed.conf": "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\n",
}
DIRECTORIES = ("var/log/journal",)
ENABLED = ("ssh", "systemd-networkd", "systemd-network-generator")
#: Timers that would take emulated CPU time from the tests at moments of their own.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-pstore.service",
)
REMOVED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt")
SERVES = "198.18.*"  # the addresses that its host key is accepted for


def document() -> dict[str, Any]:
    """Return the recipe as JSON-able data."""
    return {name: value for name, value in globals().items() if name.isupper()}


def key(recipe: Mapping[str, Any] | None = None) -> str:
    """Return 16 hex digits that name the disk a recipe makes."""
    text = json.dumps(document() if recipe is None else dict(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
