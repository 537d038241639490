# SPDX-License-Identifier: Apache-2.0
"""nft tables and ipsets of a CNI, from what ``nft`` and ``ipset save`` print (pure)."""

from __future__ import annotations

from typing import Dict, List, Tuple

from .. import catalogue
from .model import Artefact, Step

NFT, IPSET = "nft", "ipset"


def parse_tables(text: str) -> List[Tuple[str, str]]:
    """Return (family, name) of ``nft list tables``' output."""
    rows = (line.split() for line in text.splitlines())
    return [(row[1], row[2]) for row in rows if len(row) == 3 and row[0] == "table"]


def owner_of_table(name: str) -> str:
    """Return the CNI that makes an nft table of this name, "" for none."""
    if catalogue.NEVER_TABLES.has(name):
        return ""
    return next((one.name for one in catalogue.CATALOGUE if one.tables.has(name)), "")


def table(family: str, name: str, listing: str) -> Artefact:
    """Return the artefact of one nft table.

    Args:
        listing: what ``nft -s list table`` prints of it: without counters, and fit to be read again by ``nft -f``.
    """
    shown = (NFT, "list", "table", family, name)
    return Artefact(
        "table",
        "%s %s" % (family, name),
        owner_of_table(name),
        tuple(listing.splitlines()),
        (Step((NFT, "delete", "table", family, name)),),
        (Step((NFT, "-f", "-"), listing + "\n", shown),),
    )


def parse_ipsets(text: str) -> Dict[str, List[str]]:
    """Return set -> its lines of ``ipset save``'s output, the one that makes it first."""
    found: Dict[str, List[str]] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 3 and parts[0] == "create":
            found[parts[1]] = [line]
        elif len(parts) >= 3 and parts[0] == "add" and parts[1] in found:
            found[parts[1]].append(line)
    return found


def owner_of_ipset(name: str) -> str:
    """Return the CNI that makes an ipset of this name, "" for none."""
    return next((one.name for one in catalogue.CATALOGUE if one.ipsets.has(name)), "")


def ipsets(text: str) -> List[Artefact]:
    """Return an artefact for each set of a CNI. A set of sets goes before those that it holds."""
    found = []
    for name, lines in parse_ipsets(text).items():
        owner = owner_of_ipset(name)
        if owner:
            entries = sorted(lines[1:])  # the kernel lists a hash in no order
            restore = Step((IPSET, "-exist", "restore"), "\n".join([lines[0], *entries]) + "\n")
            remove = Step((IPSET, "destroy", name))
            found.append(Artefact("ipset", name, owner, (lines[0], *entries), (remove,), (restore,)))
    return sorted(found, key=lambda one: " list:set" not in one.content[0])
