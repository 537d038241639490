"""Wall and CPU seconds of one command, the controller's told apart from the nodes'.

A cgroup counts what a process tree used, also processes that left it (ssh masters); where no cgroup can be made, the
children's resource usage has to do, and the nodes' share is not known.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SETTLE = 0.5  # seconds in which the nodes' ends of the sessions finish, so that their CPU is counted with the command


@dataclass(frozen=True)
class Sample:
    """One run: exit code, wall seconds, CPU seconds of controller and of all nodes (None: not known)."""

    code: int
    wall: float
    controller: float
    nodes: float | None
    stdout: str


class Group:
    """A cgroup of our own (v1 cpuacct or v2); without the right to make one, an empty stand-in."""

    def __init__(self, name: str) -> None:
        unified = (CGROUPS / "cgroup.controllers").exists()
        self.path = (CGROUPS if unified else CGROUPS / "cpuacct") / f"{name}-{os.getpid()}"
        try:
            self.path.mkdir()
        except OSError:
            self.usable = False
        else:
            self.usable = True

    def seconds(self) -> float | None:
        """CPU seconds used so far by everything that is or was in the group."""
        if not self.usable:
            return None
        usage = self.path / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        fields = dict(line.split() for line in (self.path / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put this process, and so the children it starts, into the group for a while."""
        if not self.usable:
            yield
            return
        home = _own_group(self.path.parent)
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Remove the group; processes still in it (none, when all went well) go to its parent."""
        if self.usable:
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self.path.parent / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self.path.rmdir()


def _own_group(hierarchy: Path) -> Path:
    """Return the directory of the group this process is in, in the given hierarchy."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (hierarchy.name == "cpuacct" and "cpuacct" in controllers.split(",")) or (
            hierarchy == CGROUPS and not controllers
        ):
            found = hierarchy / path.lstrip("/")
            return found if found.is_dir() else hierarchy
    return hierarchy


def measure(
    command: Sequence[str], environment: Mapping[str, str], controller: Group, nodes: Group, timeout: float
) -> Sample:
    """Run a command in the controller's group and take the time.

    Raises:
        subprocess.TimeoutExpired: it did not end in time (it was killed).
    """
    used, theirs, own = controller.seconds(), nodes.seconds(), _children()
    began = time.monotonic()
    with controller.inside():
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
    try:
        stdout, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    wall = time.monotonic() - began
    time.sleep(SETTLE)
    after, later = controller.seconds(), nodes.seconds()
    return Sample(
        code=process.returncode,
        wall=wall,
        controller=_children() - own if used is None or after is None else after - used,
        nodes=None if theirs is None or later is None else later - theirs,
        stdout=stdout,
    )


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
