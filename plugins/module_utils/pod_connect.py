# SPDX-License-Identifier: Apache-2.0
"""Whether one pod's packets reach another and are answered: a real connection, made in the pod's network namespace.

Nothing is run in the pod, so that one without a shell is proved like any other.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Dict, Mapping

from . import pods
from .errors import NodeError
from .host import Host

#: Seconds for an answer: a SYN that was lost is sent again after one second.
WAIT = 1.6
#: A pod of the node's own network.
NODE = "node"
#: The cluster's name servers know it themselves, so that no server outside has to answer too.
_CLUSTER_NAME = b"kubernetes.default.svc.cluster.local"
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


@dataclass(frozen=True)
class Target:
    """From which pod (its uid, or "node"), and where to."""

    uid: str
    address: str
    port: int
    protocol: str


def parse(text: str) -> Target:
    """Return the target of "UID ADDRESS PORT TCP" or "UID ADDRESS 53 UDP". Raises NodeError(code="usage")."""
    words = text.split()
    try:
        uid, address, port, protocol = words
        found = Target(uid, str(ipaddress.ip_address(address)), int(port), protocol)
    except ValueError as exc:
        raise NodeError("a pod probe wants UID ADDRESS PORT PROTOCOL", repr(text[:80]), code="usage") from exc
    if not _UID.fullmatch(found.uid) or not 0 < found.port < 65536 or protocol not in ("TCP", "UDP"):
        raise NodeError("a pod probe wants UID ADDRESS PORT PROTOCOL", repr(text[:80]), code="usage")
    if protocol == "UDP" and found.port != 53:
        raise NodeError("only DNS can be proved over UDP", "no other answer is known beforehand", code="usage")
    return found


def connect(text: str, host: Host) -> Dict[str, Any]:
    """Connect as :func:`parse` reads the text.

    Returns:
        ``{"ok", "detail", "ms"}``. ``ok`` only where the other end answered as a server does: a refusal may come from
        a policy too.

    Raises:
        NodeError(code="usage"): the text is not a target.
    """
    target = parse(text)
    try:
        if target.uid == NODE:
            return dict(_tried(target))
        pod = next((one for one in pods.running(host) if one.uid == target.uid), None)
        if pod is None:
            return {"ok": False, "detail": "the pod does not run here, or has another kernel", "ms": None}
        return pods.within(pod, lambda: _tried(target), host)
    except NodeError as exc:
        return {"ok": False, "detail": str(exc), "ms": None}


def _tried(target: Target) -> Mapping[str, Any]:
    started = time.monotonic()
    detail = _udp(target) if target.protocol == "UDP" else _tcp(target)
    took = round((time.monotonic() - started) * 1000, 2)
    return {"ok": detail in ("connected", "answered"), "detail": detail, "ms": took}


def _family(address: str) -> int:
    return int(socket.AF_INET6 if ":" in address else socket.AF_INET)


def _tcp(target: Target) -> str:
    with socket.socket(_family(target.address), socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT)
        return _said(sock.connect_ex((target.address, target.port)))


def _said(code: int) -> str:
    if code == 0:
        return "connected"
    if code in (errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT):
        return "no answer within %g s" % WAIT
    if code == errno.ECONNREFUSED:
        return "refused: nobody listens there, or a policy rejects it"
    return os.strerror(code).lower()


def _udp(target: Target) -> str:
    """Ask for a name of the cluster's own: any answer, also that there is no such name, has come through."""
    number = os.urandom(2)
    name = b"".join(bytes([len(label)]) + label for label in _CLUSTER_NAME.split(b".")) + b"\0"
    query = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", 1, 1)
    with socket.socket(_family(target.address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT / 2)
        sock.connect((target.address, target.port))
        for _ in range(2):
            try:
                sock.send(query)
                if sock.recv(4096)[:2] == number:
                    return "answered"
            except socket.timeout:
                continue
            except OSError as exc:
                return _said(exc.errno or errno.EIO)
    return "no answer within %g s" % WAIT
