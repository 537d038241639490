# SPDX-License-Identifier: Apache-2.0
"""Which connections some pods have, or had a moment ago: the kernel's conntrack and the pods' own sockets, read only.

Both are needed: conntrack has what was short and what is UDP, but a CNI may move packets past it (eBPF); sockets are
there whatever moves the packets, but only while they last. Direction of a socket: who listens on a port was called.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
import sys
import time
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from . import conntrack, pods
from .errors import NodeError
from .host import Host, read_text

CONNTRACK = "proc/net/nf_conntrack"
_MOST_BYTES = 32 << 20
_MOST_ADDRESSES, _MOST_FLOWS = 5000, 4000
#: Seconds that one request watches, and between two looks: a TCP connection that has ended stands for two minutes.
MOST_SECONDS = 20.0
EVERY = 1.0
#: A table of many connections takes its time: between two looks so many times as long nothing is done.
_SHARE = 4.0
_PAIR = re.compile(r"\b(src|dst|sport|dport)=(\S+)")
_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
#: States of a socket whose handshake is over, and LISTEN (include/net/tcp_states.h).
_WAS_OPEN = frozenset(("01", "04", "05", "06", "08", "09"))
_LISTEN = "0A"


class Flow(NamedTuple):
    """A connection: who called whom at which port, and where that was seen ("conntrack" or "socket")."""

    source: str
    target: str
    port: int
    protocol: str
    seen: str


def parse_conntrack(text: str) -> Iterator[Flow]:
    """Yield the answered connections in the text of /proc/net/nf_conntrack; lines that are none are passed over.

    A line has the addresses of both directions: the reply's source is who answered, also behind a service's address.
    """
    for line in text.splitlines():
        words = line.split(None, 4)
        protocol = next((_PROTOCOLS[word] for word in words[:3] if word in _PROTOCOLS), "")
        pairs = _PAIR.findall(line)
        if not protocol or "[UNREPLIED]" in line or [key for key, _ in pairs[:8]] != _KEYS:
            continue
        source, target, port = pairs[0][1], pairs[4][1], pairs[6][1]
        if port.isdecimal() and 0 < int(port) < 65536:
            yield Flow(source, target, int(port), protocol, "conntrack")


_KEYS = ["src", "dst", "sport", "dport"] * 2


def parse_sockets(text: str, order: str = sys.byteorder) -> Iterator[Flow]:
    """Yield the connections in the text of a pod's /proc/PID/net/tcp and tcp6, one after the other.

    Addresses stand there as 32-bit words of the machine's byte order (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
    """
    rows = []
    listening: Set[int] = set()
    for line in text.splitlines():
        fields = line.split()
        local, remote = (_end(field, order) for field in fields[1:3]) if len(fields) > 3 else (None, None)
        if local is None or remote is None:
            continue
        if fields[3] == _LISTEN:
            listening.add(local[1])
        elif fields[3] in _WAS_OPEN:
            rows.append((local, remote))
    for local, remote in rows:
        called = local[1] in listening
        (source, _), (target, port) = (remote, local) if called else (local, remote)
        yield Flow(source, target, port, "TCP", "socket")


def _end(text: str, order: str) -> Optional[Tuple[str, int]]:
    """Return (address, port) of "0100007F:1F90", None if it is none."""
    address, _, port = text.partition(":")
    try:
        words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
        packed = struct.pack("%s%dI" % ("<" if order == "little" else ">", len(words)), *words)
        found = ipaddress.ip_address(packed)
        number = int(port, 16)
    except (ValueError, struct.error):
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return (str(mapped or found), number) if len(address) in (8, 32) else None


def watch(request: Mapping[str, Any], host: Host) -> Dict[str, Any]:
    """Watch for a while.

    Args:
        request: ``addresses`` (of the pods that matter), ``uids`` (of those whose sockets are looked at; others' are
            not), ``seconds``.
        host: the node.

    Returns:
        ``flows`` (rows of :class:`Flow`, those with an end among the addresses), ``conntrack`` (whether this kernel
        shows it), ``pods`` (how many of the pods were found here), ``more`` (whether there were more than are told).

    Raises:
        NodeError: code ``usage``: the request is none.
    """
    addresses = _texts(request.get("addresses"))
    uids = _texts(request.get("uids"))
    seconds = request.get("seconds")
    limit = float(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds <= MOST_SECONDS else MOST_SECONDS
    until = time.monotonic() + limit
    mine = [pod for pod in pods.running(host) if pod.uid in uids]
    found: Set[Flow] = set()
    tracked, more = False, False
    while True:
        begun = time.monotonic()
        table = _table(host)
        tracked = tracked or table is not None
        flows: List[Flow] = list(table or ())
        for pod in mine:
            flows += parse_sockets(_sockets(pod, host))
        for flow in flows:
            if flow.source in addresses or flow.target in addresses:
                more = more or (len(found) >= _MOST_FLOWS and flow not in found)
                if len(found) < _MOST_FLOWS:
                    found.add(flow)
        pause = max(EVERY, _SHARE * (time.monotonic() - begun))
        if time.monotonic() + pause > until:
            break
        time.sleep(pause)
    return {"flows": [list(flow) for flow in sorted(found)], "conntrack": tracked, "pods": len(mine), "more": more}


def _table(host: Host) -> Optional[Iterator[Flow]]:
    """Return what conntrack has, None where this kernel shows none."""
    text = read_text(host.path(CONNTRACK), _MOST_BYTES)
    if text is not None:
        return parse_conntrack(text)
    entries = conntrack.read() if host.root == "/" else None
    if entries is None:
        return None
    return (
        Flow(entry.original.source, entry.reply.source, entry.reply.source_port, entry.reply.protocol, "conntrack")
        for entry in entries
    )


def _sockets(pod: pods.Pod, host: Host) -> str:
    """Return a pod's tables of TCP sockets, "" where it has ended."""
    try:
        if os.stat(host.path("proc", str(pod.pid), "ns", "net")).st_ino != pod.netns:
            return ""  # the number is another process's by now
    except OSError:
        return ""
    parts = [read_text(host.path("proc", str(pod.pid), "net", name), _MOST_BYTES) or "" for name in ("tcp", "tcp6")]
    return "\n".join(parts)


def _texts(raw: Any) -> FrozenSet[str]:
    if not isinstance(raw, list) or len(raw) > _MOST_ADDRESSES or not all(isinstance(one, str) for one in raw):
        raise NodeError("what to watch is no list of at most %d texts" % _MOST_ADDRESSES, code="usage")
    return frozenset(raw)
