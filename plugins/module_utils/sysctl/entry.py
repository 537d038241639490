# SPDX-License-Identifier: Apache-2.0
"""One row of the key catalogue: what is known about a sysctl, whichever node it is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

FLOOR = "floor"  # only ever raised, vectors element by element
CEILING = "ceiling"  # only ever lowered
EXACT = "exact"
CLASSES = (FLOOR, CEILING, EXACT)

NETNS = "netns"  # each network namespace has its own
HOST = "host"  # one per kernel: written only from the initial namespaces
SCOPES = (NETNS, HOST)

# How a pod, which has a network namespace of its own, comes by its value (HOST: there is only one).
INHERITED = "inherited"  # copied from the initial namespace when the pod's is made
DEFAULT = "default"  # every new namespace begins at the kernel's own default

INT = "int"
VECTOR = "vector"
STRING = "string"
BITMAP = "bitmap"  # hexadecimal CPU mask, groups of 32 bits separated by commas

INT_MAX = 2147483647
UINT_MAX = 4294967295


@dataclass(frozen=True)
class Entry:
    """A sysctl's class, scope, shape, bounds and owners.

    Attributes:
        key: canonical key; ``*`` stands for one interface name.
        minimum, maximum: what the kernel accepts or what can be meant, for each number of the value.
        length: how many numbers a vector has.
        ordered: the numbers of the vector must not decrease.
        multiple: the value is rounded by the kernel to a multiple of this.
        unlimited: the value that means "no limit", which a floor must not touch.
        owners: programs known to write the key (names of owners.OWNERS).
        module: kernel module that brings the key when it is loaded late, "" if the key is always there.
        opt_in: has a cost that a profile must accept by saying ``opt_in: true``.
        inherited: a new network namespace gets the initial one's value. So do tcp_rmem, tcp_wmem and the congestion
            control (tcp_sk_init() in net/ipv4/tcp_ipv4.c) and IPv4's conf.* (devinet_init_net() in
            net/ipv4/devinet.c; IPv6's do not, see ``devconf_inherit_init_net`` in the kernel's
            admin-guide/sysctl/net.rst). Everything else begins at a default. Tried for each row on Linux 6.18.
        node_only: acts on what the node forwards, bridges or tracks, pods' packets among it; what a pod's own
            namespace holds is of no account.
    """

    key: str
    cls: str
    scope: str
    reason: str
    source: str
    shape: str = INT
    length: int = 1
    minimum: Optional[int] = None
    maximum: Optional[int] = None
    ordered: bool = False
    multiple: int = 1
    unlimited: Optional[int] = None
    owners: Tuple[str, ...] = ()
    module: str = ""
    opt_in: bool = False
    inherited: bool = False
    node_only: bool = False

    @property
    def pods(self) -> str:
        """How pods come by it: ``host``, ``inherited`` or ``default``."""
        if self.scope == HOST:
            return HOST
        return INHERITED if self.inherited else DEFAULT
