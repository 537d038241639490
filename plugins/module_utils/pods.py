# SPDX-License-Identifier: Apache-2.0
"""What a node's tuning does not reach: one running pod's network namespace, read and left as it is.

The pod that runs longest is asked: it was made before every change, so it shows both what no pod gets and what only
newer pods get.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from .errors import NodeError
from .host import Host, read_text
from .model import Change
from .sysctl.model import parse_setting
from .sysctl.reach import Wish, compare, matters
from .sysctl.read import read_key

#: Seconds until a pod that does not answer is given up.
LIMIT = 2.0
# Pods tried, oldest first, where one ends just then.
_TRIES = 3
_ANSWER_LIMIT = 1 << 20
_NEWUTS = 0x04000000  # CLONE_NEWUTS, CLONE_NEWNET (linux/sched.h)
_NEWNET = 0x40000000

# Pods are a node's own only where its kubelet runs: processes of a machine's other worlds are seen here too.
_KUBELETS = ("kubelet", "k3s-server", "k3s-agent", "k3s", "kubelite")
# gVisor and Kata: the pod's kernel is another one, its namespace on the node says nothing of it.
_OWN_KERNEL = ("exe", "runsc", "qemu-", "cloud-hypervis", "firecracker")

_UID = r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
# cgroupfs driver: kubepods/besteffort/podUID/ID; systemd driver: kubepods-besteffort-podUID.slice, both with any
# prefix (kind's is kubelet-); a static pod's uid is a hash.
_POD_CGROUP = re.compile(
    r"(?:^|[/-])kubepods(?:(?:/(?:besteffort|burstable))?/pod" + _UID + r"(?=/|$)"
    r"|(?:-besteffort|-burstable)?-pod" + _UID + r"\.slice(?=[/:]|$))"
)

Setns = Callable[[int, int], None]


@dataclass(frozen=True, order=True)
class Pod:
    """A running pod: when its first process started (clock ticks since boot), and where it lives."""

    started: int
    pid: int
    netns: int  # inode of its network namespace
    uid: str


def pod_uid(cgroups: str) -> str:
    """Return the pod's uid from the text of /proc/PID/cgroup, "" if the process belongs to no pod of this node.

    A path with two pods in it is that of a node inside a pod: neither's.
    """
    for line in cgroups.splitlines():
        found = _POD_CGROUP.findall(line.partition(":")[2].partition(":")[2])
        if len(found) == 1:
            return "".join(found[0]).replace("_", "-")
    return ""


def parse_stat(text: str) -> Optional[List[str]]:
    """Return [comm, start time] of the text of /proc/PID/stat (proc_pid_stat(5)), None if it is none."""
    head, sep, tail = text.rpartition(")")
    fields = tail.split()
    if not sep or len(fields) < 20 or not fields[19].isdecimal():
        return None
    return [head.partition("(")[2], fields[19]]


def nested(status: str) -> bool:
    """Return whether the text of /proc/PID/status is that of a container in a container, as kind's pods are."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) > 3  # the word, its number here, its number in its own PID namespace
    return False


def _nested(pod: Pod, host: Host) -> bool:
    return nested(read_text(host.path("proc", str(pod.pid), "status"), 1 << 14) or "")


def running(host: Host) -> List[Pod]:
    """Return the pods with a network of their own that may be this node's (see :func:`nested`), oldest first."""
    found: List[Pod] = []
    for netns, pid in host.sandboxes.items():
        uid = pod_uid(read_text(host.path("proc", str(pid), "cgroup"), 1 << 14) or "")
        stat = parse_stat(read_text(host.path("proc", str(pid), "stat"), 1 << 12) or "") if uid else None
        if stat is not None and not stat[0].startswith(_OWN_KERNEL):
            found.append(Pod(int(stat[1]), pid, netns, uid))
    return sorted(found)


def setns_call() -> Setns:
    """Return setns(2). Raises NodeError where this Python cannot call it."""
    native: Optional[Setns] = getattr(os, "setns", None)  # since Python 3.12
    if native is not None:
        return native
    try:
        import ctypes  # left out of some distributions' smallest Python

        call = ctypes.CDLL(None, use_errno=True).setns
    except (ImportError, OSError, AttributeError) as exc:
        raise NodeError("this Python cannot enter a pod's network namespace", str(exc)) from exc

    def enter(fd: int, kind: int) -> None:
        if call(fd, kind):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    return enter


def _open(pod: Pod, kind: str, host: Host) -> int:
    return os.open(host.path("proc", str(pod.pid), "ns", kind), os.O_RDONLY | os.O_CLOEXEC)


def read(pod: Pod, keys: Iterable[str], host: Host, limit: float = LIMIT) -> Dict[str, Any]:
    """Return the pod's ``name`` (its hostname) and ``values``: key -> canonical text.

    A child enters the namespaces and answers through a pipe; this process stays where it is.

    Raises:
        NodeError: code ``gone``: the pod ended meanwhile; else it cannot be read, or did not answer within ``limit``
            seconds.
    """
    return within(pod, lambda: _look(keys, host), host, limit, _unreadable)


def within(
    pod: Pod,
    work: Callable[[], Mapping[str, Any]],
    host: Host,
    limit: float = LIMIT,
    failed: Callable[[str], NodeError] = lambda why: NodeError("the pod's network cannot be entered", why),
) -> Dict[str, Any]:
    """Return what ``work`` returns in the pod's network and UTS namespaces, where a child of this process goes.

    Args:
        pod: the pod.
        work: runs in the child, and in nothing else of this process; an OSError of it is a failure.
        host: the node.
        limit: seconds after which the child is killed; at most LIMIT.
        failed: makes the error of a reason.

    Raises:
        NodeError: code ``gone``: the pod ended meanwhile; else what ``failed`` made.
    """
    setns = setns_call()
    try:
        with contextlib.ExitStack() as stack:
            net = _open(pod, "net", host)
            stack.callback(os.close, net)
            uts = _open(pod, "uts", host)
            stack.callback(os.close, uts)
            if os.fstat(net).st_ino != pod.netns:
                raise _gone()  # the number belongs to another process now
            said = _ask(lambda: _entered(setns, net, uts, work), limit)
    except (FileNotFoundError, ProcessLookupError) as exc:
        raise _gone() from exc
    except OSError as exc:
        raise failed(exc.strerror or str(exc)) from exc
    try:
        found: Dict[str, Any] = json.loads(said.decode("ascii"))
    except ValueError as exc:
        raise failed("no answer within %g seconds" % limit) from exc
    if found.get("error"):
        raise failed(str(found["error"]))
    return found


def _unreadable(why: str) -> NodeError:
    return NodeError("how far the node's kernel parameters reach into pods is not known", why)


def _gone() -> NodeError:
    return NodeError("the pod ended while it was looked at", code="gone")


def _entered(setns: Setns, net: int, uts: int, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Enter the namespaces and work there. In the child only: there is no way back."""
    setns(net, _NEWNET)
    setns(uts, _NEWUTS)
    return work()


def _look(keys: Iterable[str], host: Host) -> Dict[str, Any]:
    """Read keys and the name of the namespaces that this process is in."""
    values: Dict[str, str] = {}
    for key in keys:
        # /proc/sys/net shows the namespace of whoever opens a file there, whichever /proc it is.
        with contextlib.suppress(NodeError):
            value = read_key(key, host)
            if value is not None:
                values[key] = value
    return {"name": os.uname().nodename, "values": values}


def _ask(look: Callable[[], Mapping[str, Any]], limit: float) -> bytes:
    """Return what a child found, as JSON; empty where it said nothing in time. Raises OSError."""
    reading, writing = os.pipe()
    try:
        try:
            child = os.fork()
            if child == 0:
                _answer(writing, look)
        finally:
            os.close(writing)  # the child's end alone says that it is done
        return _collect(reading, child, limit)
    finally:
        os.close(reading)


def _answer(writing: int, look: Callable[[], Mapping[str, Any]]) -> None:
    """Write what ``look`` found, or its error, and end this (child) process, whatever happens."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(LIMIT) + 1)  # should the parent be gone
        try:
            found = look()
        except OSError as exc:
            found = {"error": exc.strerror or str(exc)}
        data = json.dumps(found).encode("ascii")
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _collect(reading: int, child: int, limit: float) -> bytes:
    """Return all the child says. One that is late, or says too much, is killed and has said nothing."""
    said, until, killed = b"", time.monotonic() + limit, False
    poller = select.poll()
    poller.register(reading, select.POLLIN)
    while True:
        ready = poller.poll(max(0.0, until - time.monotonic()) * 1000)
        more = os.read(reading, 1 << 16) if ready else b""
        if ready and not more:
            break
        said += more
        if not ready and killed:
            return b""  # it hangs in the kernel, and ends when it can
        if (not ready or len(said) > _ANSWER_LIMIT) and not killed:
            _without_child(lambda: os.kill(child, signal.SIGKILL))
            until, killed = time.monotonic() + 1.0, True
    _without_child(lambda: os.waitpid(child, 0))
    return b"" if killed else said


def _without_child(call: Callable[[], Any]) -> None:
    """Call; the child may be gone already where this process was started with SIGCHLD ignored."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        call()


def has_kubelet(host: Host) -> bool:
    """Tell whether pods that run here may be this node's."""
    return any(name in host.processes for name in _KUBELETS)


def own(host: Host) -> List[Pod]:
    """Return the pods of this node's kubelet that have a network of their own, oldest first."""
    return [pod for pod in running(host) if not _nested(pod, host)]


def wishes_of(changes: Sequence[Change]) -> List[Wish]:
    """Return the sysctl wishes of a plan that this node fulfils or will, with the values it has then."""
    return [
        (parse_setting(change.persist), change.want)
        for change in changes
        if change.family == "sysctl"
        and change.status in ("ok", "pending")
        and change.persist
        and change.want is not None
    ]


def wishes_kept(kept: Mapping[str, Mapping[str, Any]], host: Host) -> List[Wish]:
    """Return the sysctl wishes that are kept on this node (persist.load), with the values it has now."""
    found: List[Wish] = []
    for raw in kept.values():
        with contextlib.suppress(NodeError):  # of another version, or of a key that cannot be read
            setting = parse_setting(raw)
            value = read_key(setting.key, host)
            if value is not None:
                found.append((setting, value))
    return found


def short_of(wishes: Sequence[Wish], host: Host, warnings: List[str]) -> List[Dict[str, Any]]:
    """Return the node's oldest pod with the keys of which it falls short: none or one mapping.

    Args:
        wishes: what is wished of the node; where nothing of it concerns pods, none is looked at.
        warnings: gets a line where a pod runs and cannot be read.

    Returns:
        ``uid``, ``name`` and ``values`` (see :func:`sysctl.reach.compare`).
    """
    wishes = [wish for wish in wishes if matters(wish[0])]
    if not wishes or not has_kubelet(host):
        return []
    for pod in itertools.islice(own(host), _TRIES):
        try:
            found = read(pod, [setting.key for setting, _value in wishes], host)
        except NodeError as exc:
            if exc.code == "gone":
                continue
            warnings.append(str(exc))
            return []
        inherit = (read_text(host.path("proc/sys/net/core/devconf_inherit_init_net"), 16) or "0").strip()
        values = compare(wishes, found["values"], host.initial_netns, inherit)
        return [{"uid": pod.uid, "name": found["name"], "values": values}]
    return []
