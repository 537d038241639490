"""The command line of the emulator. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmbed.image import Image
from vmbed.network import GUEST, HOST, QUEUES, Nic

CPUS = 2
#: The plainest one: what more there is to emulate costs time, and brings nothing here.
CPU_MODEL = "qemu64"
MEMORY_MIB = 1024
#: The host's page cache outlives a killed emulator, and what the machine flushed is in it. What it did not flush is
#: lost as in a power cut: its own page cache, and, as the overlay's tables are written only when it flushes, blocks
#: that it sent to the disk without a flush as well. ("unsafe" would ignore flushes.)
CACHE = "writeback"


def kernel_arguments(name: str) -> str:
    """Return the machine's kernel command line; systemd's network generator reads ip= from it."""
    address = f"ip={GUEST}::{HOST}:255.255.255.0:{name}:eth0:none"
    return f"root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off {address}"


def nic_arguments(nic: Nic) -> list[str]:
    """Return the options of one multi-queue NIC. RSS is done by the emulator itself: a tap alone cannot."""
    # Two interrupt vectors for each queue pair, one for configuration and one for control.
    device = f"virtio-net-pci,netdev=n{nic.number},mac={nic.mac},mq=on,vectors={2 * QUEUES + 2},host_mtu=9000"
    rss = ",rss=on,hash=on" if nic.rss else ""
    return [
        *("-netdev", f"tap,id=n{nic.number},ifname={nic.tap},script=no,downscript=no,vhost=off,queues={QUEUES}"),
        *("-device", device + rss),
    ]


def command(image: Image, overlay: Path, console: Path, nics: Sequence[Nic], name: str = "vm1") -> list[str]:
    """Return the argument list that runs a machine: software emulation, no display, no way out but its taps."""
    return [
        *(
            "qemu-system-x86_64",
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            CPU_MODEL,
            "-smp",
            str(CPUS),
            "-m",
            str(MEMORY_MIB),
        ),
        *("-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", kernel_arguments(name)),
        *("-drive", f"file={overlay},format=qcow2,if=none,id=disk,cache={CACHE}"),
        *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
        *(word for nic in nics for word in nic_arguments(nic)),
    ]
