"""A systemd of its own: the machine's programs under a throw-away overlay, in namespaces, with systemd as PID 1.

It proves what a node with an init does: the revert timer and the boot unit. Nothing of it stays: its root is in
memory, its cgroup is removed, and its PID 1 is the only process to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodecall import PYTHON, answer, payload

_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# $1: an empty directory. Runs in the new namespaces; the machine's own root is let go before systemd starts.
_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs var/lib
mount -t tmpfs -o mode=755 tmpfs dev
for device in $2; do touch "dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
rm -rf etc/systemd/system/*.wants etc/sysctl.d/*
hostname tune-nodes-box
ip link set lo up
pivot_root . mnt
umount -l /mnt
exec env -i container=tune-nodes-box PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --system --unit=basic.target --log-target=null
"""


class Box:
    """A running systemd.

    Attributes:
        pid: of its PID 1, as the machine counts.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the box; its output."""
        enter = ["nsenter", f"--target={self.pid}", *_NAMESPACES, "--root", "--wd=/"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def call(self, op: str = "", prefix: Sequence[str] = (), **request: object) -> dict[str, object]:
        """Send a request to the node code in the box."""
        enter = ["nsenter", f"--target={self.pid}", *_NAMESPACES, "--root", "--wd=/"]
        asked = payload({**request, **({"op": op} if op else {})})
        return answer(
            subprocess.run([*enter, *prefix, *PYTHON], input=asked, capture_output=True, timeout=90, check=False)
        )

    def sysctl(self, key: str) -> str:
        """Return a value as the sysctl program reads it."""
        return " ".join(self.run("sysctl", "-n", key).split())


def _cgroup() -> Path:
    v1 = Path("/sys/fs/cgroup/systemd")
    return (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"tune-nodes-box-{os.getpid()}"


@contextlib.contextmanager
def systemd_box(directory: Path) -> Iterator[Box]:
    """Start a systemd below ``directory`` and end it afterwards, with all that it started."""
    group = _cgroup()
    group.mkdir()
    script = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "bash", "-c", _ENTER, "box"]
    # The cgroup namespace must be that of the box's own group, so the shell joins it first.
    join = ["bash", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "join"]
    with (directory / "log").open("wb") as log:
        started = subprocess.Popen(
            [*join, *script, str(directory), " ".join(_DEVICES)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield Box(_wait(started.pid, directory / "log"))
    finally:
        started.send_signal(signal.SIGKILL)  # --kill-child takes PID 1 along, and the kernel all that is below it
        started.wait(timeout=20)
        _remove(group)


def _wait(parent: int, log: Path) -> int:
    """Return the box's PID 1 once its basic.target is reached."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            box = Box(int(children[0]))
            if box.run("systemctl", "is-active", "basic.target", check=False).strip() == "active":
                return box.pid
        time.sleep(0.2)
    raise AssertionError("systemd did not start: " + log.read_text()[-2000:])


def _remove(group: Path) -> None:
    limit = time.monotonic() + 20
    while group.exists() and time.monotonic() < limit:
        for path in sorted(group.rglob("*/"), key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):
                path.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
        time.sleep(0.1)
    assert not group.exists(), f"{group} could not be removed"
