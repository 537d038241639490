"""Whether addresses lie in ranges (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tune_nodes.policy.judging.matching import NO, Match, all_of, any_of, said, unknown
from tune_nodes.policy.model import Cidr, Network, Peer, Pod

_UNREADABLE = unknown("an address range in it cannot be read")


@lru_cache(maxsize=65536)
def network(text: str) -> Network | None:
    """Return a range; None where the text is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def networks(peer: Peer) -> list[Network]:
    """Return a peer's addresses as ranges; [] for a pod that has none yet."""
    texts = peer.ips if isinstance(peer, Pod) else (peer.text,)
    return [one for one in map(network, texts) if one is not None]


def within(peer: Peer, cidr: Any, excepted: Any = None) -> Match:
    """Return whether a peer's addresses lie in a range.

    Args:
        peer: of a pod with an address in both families each one counts: a connection uses one of them.
        cidr: the range.
        excepted: ranges of it that do not count; None for none.
    """
    wanted = network(cidr) if isinstance(cidr, str) else None
    holes = excepted if excepted is not None else []
    if wanted is None or not isinstance(holes, list):
        return _UNREADABLE
    gaps = [network(hole) if isinstance(hole, str) else None for hole in holes]
    if None in gaps:
        return _UNREADABLE
    found = networks(peer)
    if not found:
        return unknown(f"{peer} has no address yet") if isinstance(peer, Pod) else _UNREADABLE
    same = [one for one in found if one.version == wanted.version]
    return any_of(
        all_of([_inside(one, wanted, peer), *(~_inside(one, gap, peer) for gap in gaps if gap is not None)])
        for one in same
    )


def within_any(peer: Peer, cidrs: Any) -> Match:
    """Return whether a peer's addresses lie in one of several ranges."""
    return any_of(within(peer, cidr) for cidr in cidrs) if isinstance(cidrs, list) else _UNREADABLE


def _inside(one: Network, wanted: Network, peer: Peer) -> Match:
    if one.version != wanted.version or not one.overlaps(wanted):
        return NO
    whole = one.prefixlen >= wanted.prefixlen  # of two ranges that overlap the longer prefix lies in the other
    return said(True) if whole else unknown(f"{wanted} covers only a part of the {peer}")


def touches(cidr: Cidr, addresses: Iterable[str]) -> bool:
    """Say whether one of these addresses lies in a range."""
    wanted = cidr.network
    found = (network(address) for address in addresses)
    return any(one is not None and one.version == wanted.version and one.overlaps(wanted) for one in found)
