# SPDX-License-Identifier: Apache-2.0
"""Which addresses somebody has on this node: in every network namespace, and as routes of the host to one address.

A lease whose address is in one of them is never stale, whatever the container runtime says.
"""

from __future__ import annotations

import ipaddress
import os
import re
from functools import partial
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple

from ..errors import NodeError
from ..host import Host, read_text
from .command import run

NETNS_DIRS = ("/run/netns", "/run/docker/netns")
_LEAF = re.compile(r"\s*\|--\s+([0-9.]{7,15})\s*\Z")
_TYPE = re.compile(r"\s*/32 \S+ (LOCAL|UNICAST)\b")
_MOST = 8192

#: Enters a network namespace by a file and returns the text of a file of /proc/net there.
Enter = Callable[[str, str], str]
#: Returns the text of a file of one namespace's /proc/net.
Files = Callable[[str], Optional[str]]


def parse_fib_trie(text: str) -> Set[str]:
    """Return the single addresses of /proc/net/fib_trie: a namespace's own, and those with a route of their own."""
    found: Set[str] = set()
    address = ""
    for line in text.splitlines():
        leaf = _LEAF.match(line)
        if leaf:
            address = leaf.group(1)
        elif address and _TYPE.match(line):
            try:
                found.add(str(ipaddress.ip_address(address)))
            except ValueError:
                address = ""
    return {one for one in found if not ipaddress.ip_address(one).is_loopback}


def parse_if_inet6(text: str) -> Set[str]:
    """Return the addresses of /proc/net/if_inet6 that are not of one link or of the loopback only."""
    return _sixes((line.split()[0] for line in text.splitlines() if line.split()))


def parse_ipv6_route(text: str) -> Set[str]:
    """Return the single addresses (prefix length 128) of /proc/net/ipv6_route."""
    rows = (line.split() for line in text.splitlines())
    return _sixes(row[0] for row in rows if len(row) >= 10 and row[1] == "80")


def _sixes(words: Iterator[str]) -> Set[str]:
    found = set()
    for word in words:
        if not re.match(r"[0-9a-fA-F]{32}\Z", word):
            continue
        address = ipaddress.IPv6Address(int(word, 16))
        if not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified):
            found.add(str(address))
    return found


def _of_process(base: str, name: str) -> Optional[str]:
    return read_text(os.path.join(base, name), 64 << 20)


def in_files(files: Files) -> Set[str]:
    """Return the addresses of the namespace whose /proc/net is read by ``files``. Raises NodeError where it cannot."""
    trie = files("fib_trie")
    if trie is None:
        raise NodeError("the addresses in a network namespace cannot be read", "", "run it again", code="addresses")
    six = files("if_inet6") or ""  # absent where IPv6 is off
    return parse_fib_trie(trie) | parse_if_inet6(six) | parse_ipv6_route(files("ipv6_route") or "")


def enter(path: str, name: str) -> str:
    """Return a file of /proc/net in the namespace that a file stands for. Raises NodeError."""
    done = run(["nsenter", "--net=" + path, "cat", "/proc/net/" + name], 5.0)
    if done.code and "No such file" in done.err and name != "fib_trie":
        return ""
    if done.code:
        why = "%s: %s" % (path, done.said)
        raise NodeError("a network namespace cannot be looked into", why, "run it again", code="addresses")
    return done.out.decode("utf-8", "replace")


def named_namespaces(host: Host) -> List[Tuple[int, str]]:
    """Return (inode, path) of the network namespaces that files keep alive, whether or not a process lives there."""
    found = []
    for directory in NETNS_DIRS:
        try:
            names = sorted(os.listdir(host.path(directory)))
        except OSError:
            continue
        for name in names:
            path = host.path(directory, name)
            try:
                found.append((os.stat(path).st_ino, path))
            except OSError:
                continue  # it went just now
    return found


def used(host: Host, look: Enter = enter) -> Dict[str, str]:
    """Return canonical address -> where it is, over all network namespaces and the host's own routes.

    Args:
        host: observed just now: its namespaces are those of that moment.
        look: enters a namespace that has no process.

    Raises:
        NodeError: one of them cannot be read; an address in it would be missed.
    """
    found: Dict[str, str] = {}
    for address in in_files(lambda name: read_text(host.path("proc/net", name), 64 << 20)):
        found[address] = "the node itself"
    spaces = list(host.sandboxes.items())
    named = named_namespaces(host)
    if len(spaces) + len(named) > _MOST:
        raise NodeError("there are more than %d network namespaces" % _MOST, code="addresses")
    seen = set()
    for inode, pid in spaces:
        base = host.path("proc", str(pid), "net")
        where = "the network namespace of process %d" % pid
        if _take(found, where, base, partial(_of_process, base)):
            seen.add(inode)
    # A namespace whose process has ended meanwhile may be kept alive by a file: then it is looked into by that.
    for path in [path for inode, path in named if inode not in seen]:
        where = "the network namespace " + os.path.basename(path)
        _take(found, where, path, partial(look, path))
    return found


def _take(found: Dict[str, str], where: str, path: str, files: Files) -> bool:
    """Add a namespace's addresses; False where it went just now. Raises NodeError where it is there and unreadable."""
    try:
        addresses = in_files(files)
    except NodeError:
        if os.path.exists(path):
            raise
        return False
    for address in addresses:
        found.setdefault(address, where)
    return True
