"""Which other nodes a node pings to prove that it is reachable (pure)."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping


def usable(address: str) -> bool:
    """Say whether a peer can be pinged under this address: set, and not this machine's own loopback."""
    if not address or address == "localhost":
        return False
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return True  # a name: the node resolves it
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast)


def choose(node: str, wave: Iterable[str], addresses: Mapping[str, str], count: int = 2) -> list[str]:
    """Choose peers outside the wave.

    The choice is the same on every run, and spread: each node ranks the others by a hash of both names.

    Args:
        node: who pings.
        wave: nodes changed at the same time; never chosen.
        addresses: name to address of the nodes known to be reachable.
        count: how many.

    Returns:
        Addresses, at most ``count``, none of them the node's own.
    """
    busy = set(wave) | {node}
    own = addresses.get(node, "")
    ranked = sorted(
        (hashlib.sha256(f"{node}\0{name}".encode()).digest(), address)
        for name, address in addresses.items()
        if name not in busy and address != own and usable(address)
    )
    return [address for _, address in ranked[:count]]
