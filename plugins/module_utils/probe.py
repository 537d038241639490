# SPDX-License-Identifier: Apache-2.0
"""Probes from this node: gateway, peers (both ways, at the path's full size), names, its kubelet and the API server.

An echo request carries the path's MTU with DF set, and the reply brings the same size back: a hop that
silently drops large frames in either direction is seen, which the usual 64-byte ping cannot.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import pod_connect, probe_kubelet
from .errors import NodeError
from .host import Host, read_text

_IP_MTU_DISCOVER, _IP_PMTUDISC_DO, _IP_MTU = 10, 2, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_IP_HEADER, _ICMP_HEADER, _IP6_HEADER = 20, 8, 40
_TRIES, _WAIT = 3, 1.0  # an answer may be lost; a black hole loses all


def checksum(data: bytes) -> int:
    """Return the Internet checksum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse_route_table(text: str) -> List[Tuple[str, str]]:
    """Return (interface, gateway) of the default routes in /proc/net/route, best metric first."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        try:
            gateway = struct.pack("<I", int(fields[2], 16))
            metric, flags = int(fields[6]), int(fields[3], 16)
        except (ValueError, struct.error):
            continue
        if flags & 0x2:  # RTF_GATEWAY
            found.append((metric, fields[0], socket.inet_ntoa(gateway)))
    return [(interface, gateway) for _, interface, gateway in sorted(found)]


def parse_route6_table(text: str) -> List[Tuple[str, str]]:
    """Return (interface, gateway) of the default routes in /proc/net/ipv6_route."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[0].strip("0") or fields[1] != "00":
            continue
        try:
            gateway = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[4]))
            metric, flags = int(fields[5], 16), int(fields[8], 16)
        except (ValueError, OSError):
            continue
        if flags & 0x2:
            found.append((metric, fields[9], gateway))
    return [(interface, gateway) for _, interface, gateway in sorted(found)]


def gateways(host: Host) -> List[Tuple[str, str]]:
    """Return (interface, address) of this node's default gateways, IPv4 first."""
    four = parse_route_table(read_text(host.path("proc/net/route")) or "")
    six = parse_route6_table(read_text(host.path("proc/net/ipv6_route")) or "")
    return four + six


def _resolve(address: str, interface: str) -> Tuple[int, Any]:
    infos = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    family, _, _, _, sockaddr = infos[0]
    if family == socket.AF_INET6 and interface and str(sockaddr[0]).startswith("fe80"):
        return family, (sockaddr[0], 0, 0, socket.if_nametoindex(interface))
    return family, sockaddr


def path_mtu(family: int, sockaddr: Any) -> int:
    """Return the MTU the kernel holds for the path to an address. Raises OSError."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((sockaddr[0], 9, *sockaddr[2:]))
        if family == socket.AF_INET:
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)


#: Addresses kept for documentation (RFC 5737, RFC 3849): the default route leads to them. Nothing is sent there.
_BEYOND: Mapping[int, str] = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def ping_gateway(interface: str, address: str, tries: int = _TRIES) -> Dict[str, Any]:
    """Ping a default gateway as :func:`ping` does, at the size that the default route lets pass.

    A gateway may take less than its neighbours on the link, and then the default route has an MTU of its own.
    """
    size: Optional[int] = None
    try:
        family, sockaddr = _resolve(address, interface)
        size = min(path_mtu(family, sockaddr), path_mtu(family, (_BEYOND[family], 9)))
    except (OSError, ValueError):
        size = None  # no route to anywhere: ping says why
    return ping(address, size, interface, tries)


def ping(address: str, size: Optional[int] = None, interface: str = "", tries: int = _TRIES) -> Dict[str, Any]:
    """Send echo requests of ``size`` bytes (IP header included; None: the path's MTU) with DF set.

    Returns:
        ``{"ok", "detail", "ms"}``; ``ms`` is None without an answer.
    """
    try:
        family, sockaddr = _resolve(address, interface)
        size = path_mtu(family, sockaddr) if size is None else size
        with _icmp_socket(family) as sock:
            for attempt in range(tries):
                took = _echo(sock, family, sockaddr, size, attempt)
                if took is not None:
                    return {"ok": True, "detail": "%d bytes, DF" % size, "ms": round(took * 1000, 2)}
    except (OSError, ValueError) as exc:  # ValueError: an address that is none (NUL, bad IDNA)
        return {"ok": False, "detail": getattr(exc, "strerror", None) or str(exc), "ms": None}
    return {"ok": False, "detail": "no answer to %d bytes with DF in %d tries" % (size, tries), "ms": None}


#: Bytes that every path must carry (RFC 791).
_SMALL = 576


def swallowed(probes: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return the gateways and peers that answer small packets and not those of the path's size: a black hole."""
    lost_ = [p for p in probes if p.get("kind") in ("gateway", "peer") and not p.get("ok")]
    return [str(p["target"]) for p in lost_ if ping(str(p["target"]), _SMALL, tries=2)["ok"]]


def _icmp_socket(family: int) -> socket.socket:
    four = family == socket.AF_INET
    protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
    sock = socket.socket(family, socket.SOCK_RAW, protocol)
    if four:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IP_PMTUDISC_DO)
    return sock


def _echo(sock: socket.socket, family: int, sockaddr: Any, size: int, sequence: int) -> Optional[float]:
    """Send one echo request and wait for its reply; seconds, or None."""
    four = family == socket.AF_INET
    headers = (_IP_HEADER if four else _IP6_HEADER) + _ICMP_HEADER
    identifier = (os.getpid() ^ (id(sock) >> 4)) & 0xFFFF
    token = os.urandom(8)
    payload = token + b"\0" * max(0, size - headers - len(token))
    kind, answer = (8, 0) if four else (128, 129)
    head = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence)
    total = checksum(head + payload) if four else 0  # the kernel fills in ICMPv6's
    started = time.monotonic()
    sock.sendto(struct.pack("!BBHHH", kind, 0, total, identifier, sequence) + payload, sockaddr)
    while True:
        left = started + _WAIT - time.monotonic()
        if left <= 0:
            return None
        sock.settimeout(left)
        try:
            data = sock.recv(65535)
        except socket.timeout:
            return None
        body = data[(data[0] & 0x0F) * 4 :] if four and data else data
        if len(body) >= 16 and body[0] == answer and body[8:16] == token:
            return time.monotonic() - started


def lookup(name: str, wait: float = 3.0) -> Dict[str, Any]:
    """Resolve a name as this node's programs do. Returns ``{"ok", "detail", "ms"}``."""
    answer: List[str] = []
    started = time.monotonic()

    def ask() -> None:
        try:
            answer.append(str(socket.getaddrinfo(name, None)[0][4][0]))
        except (OSError, ValueError) as exc:
            answer.append("")
            answer.append(str(exc))

    # A thread, because getaddrinfo has no timeout of its own; it dies with this short-lived process.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(wait)
    if not answer:
        return {"ok": False, "detail": "no answer within %g s" % wait, "ms": None}
    if not answer[0]:
        return {"ok": False, "detail": answer[1], "ms": None}
    return {"ok": True, "detail": answer[0], "ms": round((time.monotonic() - started) * 1000, 2)}


def run_probes(wanted: Sequence[Mapping[str, Any]], host: Host) -> List[Dict[str, Any]]:
    """Run probes ``[{"kind": "gateway"} | {"kind": "peer", "target": ADDR} | {"kind": "dns", "target": NAME} | ...]``.

    Returns:
        One ``{"id", "kind", "target", "ok", "detail", "ms"}`` for each; a node without a default route has
        no gateway probe, one without a kubelet no probe ``kubelet`` and (without its kubeconfig) no ``api``.

    Raises:
        NodeError(code="usage"): an unknown kind.
    """
    results: List[Dict[str, Any]] = []
    for probe in wanted:
        kind, target = str(probe.get("kind", "")), str(probe.get("target", ""))
        run = _KINDS.get(kind)
        if run is None:
            raise NodeError("unknown probe %r" % kind, "known: %s" % ", ".join(_KINDS), code="usage")
        results.extend(run(target, host))
    return results


def _gateway(_: str, host: Host) -> List[Dict[str, Any]]:
    found = gateways(host)[:2]
    return [_result("gateway", "gateway", address, ping_gateway(interface, address)) for interface, address in found]


def _api(_: str, host: Host) -> List[Dict[str, Any]]:
    server = probe_kubelet.api_server(host)
    return [] if server is None else [_result("api:" + server.shown, "api", server.shown, _reach(server))]


def _kubelet(_: str, host: Host) -> List[Dict[str, Any]]:
    return [_result("kubelet", "kubelet", "", probe_kubelet.healthz())] if probe_kubelet.runs(host) else []


#: Kind -> what it finds of a target.
_KINDS: Mapping[str, Callable[[str, Host], List[Dict[str, Any]]]] = {
    "gateway": _gateway,
    "peer": lambda target, host: [_result("peer:" + target, "peer", target, ping(target))],
    "dns": lambda target, host: [_result("dns:" + target, "dns", target, lookup(target))],
    "api": _api,
    "kubelet": _kubelet,
    "pod": lambda target, host: [_result("pod:" + target, "pod", target, pod_connect.connect(target, host))],
}


def _reach(server: probe_kubelet.Server) -> Dict[str, Any]:
    """Reach an API server; its name is looked up first, as that has no time limit of its own."""
    if server.is_name:
        found = lookup(server.host)
        return probe_kubelet.handshake(server, found["detail"]) if found["ok"] else found
    return probe_kubelet.handshake(server, server.host)


def _result(probe_id: str, kind: str, target: str, outcome: Dict[str, Any]) -> Dict[str, Any]:
    return dict(outcome, id=probe_id if kind != "gateway" else "gateway:" + target, kind=kind, target=target)


def lost(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the probes that passed before and do not pass now (a probe that is gone counts as lost)."""
    passing = {probe["id"] for probe in after if probe.get("ok")}
    return [dict(probe) for probe in before if probe.get("ok") and probe["id"] not in passing]
