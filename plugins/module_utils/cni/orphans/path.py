# SPDX-License-Identifier: Apache-2.0
"""Where our own connection to this node comes from: what it goes through is never taken away."""

from __future__ import annotations

import ipaddress
import os
import struct
from dataclasses import dataclass
from typing import List, Optional, Set, Tuple

from ...host import Host, read_text
from ...transaction.connection import connection_of
from .. import command
from ..command import Run
from . import links, routes

_ESTABLISHED = "01"


@dataclass(frozen=True)
class Path:
    """The way of the connection through which this request came.

    Attributes:
        peers: addresses at its other end; () where it came through none (a local call, a container's exec).
        devices: network devices on the way there, those beneath and above them too.
        known: False where there is a connection whose way could not be told.
    """

    peers: Tuple[str, ...] = ()
    devices: Tuple[str, ...] = ()
    known: bool = True

    def holds_link(self, name: str) -> str:
        """Return why a device stays, "" where it is not on the way."""
        if not self.known:
            return "which way our own connection goes could not be told"
        return "our own connection to this node goes through it" if name in self.devices else ""

    def holds_destination(self, destination: str) -> str:
        """Return why a route to a destination stays, "" where nobody of ours is there."""
        if not self.known:
            return "which way our own connection goes could not be told"
        if destination == "default":
            return "it is a default route: our own connection may go by it"
        try:
            network = ipaddress.ip_network(destination, strict=False)
        except ValueError:
            return "its destination is not understood"
        for peer in self.peers:
            address = ipaddress.ip_address(peer)
            if address.version == network.version and address in network:
                return "our own connection comes from %s, which it leads to" % peer
        return ""


#: The request came through no connection that a network change could cut.
NONE = Path()


def parse_tcp(text: str) -> List[Tuple[str, int]]:
    """Return (remote address, inode) of the established connections in /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        parts = line.split()
        if len(parts) > 9 and parts[3] == _ESTABLISHED and parts[9].isdigit():
            address = _address(parts[2].partition(":")[0])
            if address:
                found.append((address, int(parts[9])))
    return found


def _address(text: str) -> str:
    """Return the address of /proc/net/tcp's notation: words of 32 bits in the machine's order."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return ""
    if len(raw) not in (4, 16):
        return ""
    order = struct.unpack(">%dI" % (len(raw) // 4), raw)
    packed = struct.pack("=%dI" % len(order), *order)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def peers_of(host: Host, pid: int) -> Set[str]:
    """Return the remote addresses of a process's TCP connections."""
    inodes = set()
    base = host.path("proc", str(pid), "fd")
    try:
        names = os.listdir(base)
    except OSError:
        return set()
    for name in names:
        try:
            target = os.readlink(os.path.join(base, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for address, inode in parse_tcp(read_text(host.path("proc", str(pid), "net", table), 16 << 20) or ""):
            if str(inode) in inodes:
                found.add(address)
    return found


def devices_of(peer: str, known: List[links.Link], run: Run) -> Optional[Set[str]]:
    """Return the devices on the way to an address, None where the kernel does not say."""
    done = run(["ip", "-o", "route", "get", peer], 10.0)
    device = "" if done.code else routes.after(done.out.decode("utf-8", "replace").split(), "dev")
    if not device:
        return None
    found, todo = set(), [device]
    by_name = {link.name: link for link in known}
    while todo:
        name = todo.pop()
        if name and name not in found:
            found.add(name)
            link = by_name.get(name)
            # A bond's ports, a bridge's ports, and what a VLAN lies on: each of them carries the connection.
            todo += [one.name for one in known if one.master == name]
            todo += [link.lower, link.master] if link is not None else []
    return found


def observe(host: Host, known: List[links.Link], run: Run = command.run) -> Path:
    """Return the way of the connection through which this process was started. Raises NodeError: ``ip`` is missing."""
    connection = connection_of(host)
    if connection.get("kind") != "sshd":
        return NONE
    peers = {one for one in peers_of(host, int(connection["pid"])) if not ipaddress.ip_address(one).is_loopback}
    devices: Set[str] = set()
    for peer in peers:
        way = devices_of(peer, known, run)
        if way is None:
            return Path(tuple(sorted(peers)), (), False)
        devices |= way
    return Path(tuple(sorted(peers)), tuple(sorted(devices)), bool(peers))
