"""What is somebody else's on a node and must be the same, byte for byte, after every rung of a recovery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kindbed.cluster import Cluster

PODMAN = "/var/lib/cni/networks/podman"
LAY = f"""
nft add table inet foreign
nft add set inet foreign s '{{ type ipv4_addr; flags interval; }}'
nft add element inet foreign s '{{ 192.0.2.0/28 }}'
ipset create foreignset hash:ip
ipset add foreignset 192.0.2.9
iptables-nft -A FORWARD -s 192.0.2.0/24 -j ACCEPT
mkdir -p {PODMAN}
printf '0123456789ab\\r\\neth0' > {PODMAN}/10.88.0.5
touch -d '3 days ago' {PODMAN}/10.88.0.5
"""
SWEEP = f"""
nft delete table inet foreign
ipset destroy foreignset
iptables-nft -D FORWARD -s 192.0.2.0/24 -j ACCEPT
rm -rf {PODMAN}
"""
SHOW = f"""
nft list table inet foreign
ipset save foreignset
iptables-nft -S FORWARD | grep 192.0.2
stat -c '%n %i %Y %a %u %g' {PODMAN} {PODMAN}/*
sha256sum {PODMAN}/*
"""


def shown(cluster: Cluster, node: str) -> str:
    """Return what the node's programs say of it. Fails where any of it is gone."""
    return cluster.ssh(node, "sh", "-e", input=SHOW).stdout


@contextmanager
def untouched(cluster: Cluster, node: str) -> Iterator[None]:
    """Lay it on a node; at the end it must be as it was."""
    try:
        cluster.ssh(node, "sh", "-e", input=LAY)
        before = shown(cluster, node)
        yield
        assert shown(cluster, node) == before
    finally:
        cluster.ssh(node, "sh", "-u", input=SWEEP, check=False)
