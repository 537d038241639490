# SPDX-License-Identifier: Apache-2.0
"""The key catalogue: class, scope, owners, reason and source of every sysctl this tool knows.

``lookup`` answers for per-interface keys too (``net.ipv4.conf.eth0.rp_filter``).
"""

from __future__ import annotations

import difflib
from typing import Dict, List, Optional, Tuple

from . import keys_core, keys_host, keys_ip, keys_shared, keys_tcp
from .entry import Entry

#: Raised whenever a row changes what a plan would decide; part of a plan's hash.
CATALOGUE_VERSION = "1"

ENTRIES: Dict[str, Entry] = {
    entry.key: entry
    for rows in (
        keys_core.CORE,
        keys_tcp.TCP,
        keys_ip.IP,
        keys_ip.NEIGH,
        keys_shared.CONNTRACK,
        keys_shared.FORWARDING,
        keys_host.FS,
        keys_host.VM,
        keys_host.KERNEL,
    )
    for entry in rows
}

#: Keys of which each must stay at or below the next (the first number of a vector counts). The kernel refuses
#: some of these (ipfrag, port range), and runs badly with the others.
ORDERED_KEYS: Tuple[Tuple[str, ...], ...] = (
    tuple("net.ipv4.neigh.default.gc_thresh%d" % level for level in (1, 2, 3)),
    tuple("net.ipv6.neigh.default.gc_thresh%d" % level for level in (1, 2, 3)),
    ("net.ipv4.ipfrag_low_thresh", "net.ipv4.ipfrag_high_thresh"),
    ("net.ipv6.ip6frag_low_thresh", "net.ipv6.ip6frag_high_thresh"),
    ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_port_range"),
)


def pattern_of(key: str) -> Optional[str]:
    """Return the per-interface row that would hold a canonical key, None if it is not such a key."""
    parts = key.split(".")
    if len(parts) == 5 and parts[0] == "net" and parts[1] in ("ipv4", "ipv6") and parts[2] in ("conf", "neigh"):
        return ".".join((*parts[:3], "*", parts[4]))
    return None


def lookup(key: str) -> Optional[Entry]:
    """Return the row of a canonical key, None if the catalogue does not know it."""
    found = ENTRIES.get(key)
    if found is None:
        pattern = pattern_of(key)
        found = ENTRIES.get(pattern) if pattern else None
    return found


def suggestions(key: str, limit: int = 3) -> List[str]:
    """Return the known keys whose names are nearest to a mistyped one."""
    return difflib.get_close_matches(key, list(ENTRIES), n=limit, cutoff=0.75)
