# SPDX-License-Identifier: Apache-2.0
"""Work in a pod's network namespace by threads of this process: setns(2) moves the calling thread only."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, TypeVar

from .. import pods
from ..errors import NodeError
from ..host import Host

_KINDS = (("net", 0x40000000), ("uts", 0x04000000))  # CLONE_NEWNET, CLONE_NEWUTS (linux/sched.h)

Result = TypeVar("Result")


class Namespace:
    """A pod's network and UTS namespaces, held open. A context manager.

    Raises:
        NodeError: code ``gone``: the pod ended meanwhile; else this Python cannot enter namespaces.
    """

    def __init__(self, pod: pods.Pod, host: Host) -> None:
        self._setns = pods.setns_call()
        self._held = []
        try:
            for name, kind in _KINDS:
                path = host.path("proc", str(pod.pid), "ns", name)
                self._held.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind))
            same = os.fstat(self._held[0][0]).st_ino == pod.netns
        except OSError:
            same = False
        if not same:  # the number is another process's now, or nobody's
            self.close()
            raise NodeError("the pod ended while it was looked at", code="gone")

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the namespaces."""
        while self._held:
            os.close(self._held.pop()[0])

    def enter(self) -> None:
        """Move the calling thread there, for good. Raises OSError."""
        for fd, kind in self._held:
            self._setns(fd, kind)


def run_in(namespace: Namespace, work: Callable[[], Result]) -> Result:
    """Return what ``work`` returns in a namespace, in a thread of its own. Raises NodeError where it cannot get in."""

    def inside() -> Result:
        namespace.enter()
        return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            return pool.submit(inside).result()
        except OSError as exc:
            raise NodeError("the pod's network cannot be entered", exc.strerror or str(exc)) from exc
