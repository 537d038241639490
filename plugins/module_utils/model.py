# SPDX-License-Identifier: Apache-2.0
"""Plain data shared by every family: a change, and the hash of a plan."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, Iterable, List, Mapping, Optional

SCHEMA = 1

#: Every status a change can have.
STATUSES = (
    "ok",  # already right
    "pending",  # would change
    "changed",
    "unsupported",  # this node cannot
    "owned",  # left to the program that also writes it
    "foreign",  # no longer what we wrote: left alone by a rollback
    "failed",
    "reverted",
)


@dataclass
class Change:
    """One setting on one node: what it is, what it should be, and why.

    Values are canonical text: a family's ``read`` returns exactly the text that its ``plan`` puts in
    ``before`` and ``want``, so equality of text is equality of state.
    """

    family: str  # "sysctl", "nic_queues", "files"
    key: str  # "net.core.somaxconn", "eth0/channels", "/etc/sysctl.d/90-tune-nodes.conf"
    before: Optional[str]  # None: absent
    want: Optional[str]
    after: Optional[str] = None  # read back after the write
    status: str = "pending"
    requested: str = ""  # the wish as written ("floor 4096", "auto")
    reason: str = ""  # why this value is wanted
    source: str = ""  # where the value or formula comes from
    owner: str = ""  # the program that also writes this key
    note: str = ""  # why unsupported, owned, failed; a shadowing file; what to tell the owner
    scope: str = "netns"  # netns | host
    disruptive: bool = False  # may interrupt the link for a moment
    identity: Dict[str, str] = field(default_factory=dict)  # what the decision rests on (NIC mac, driver)
    persist: Optional[Dict[str, Any]] = None  # the setting to keep once confirmed; None: nothing

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping with every field."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Change:
        """Build a change from :meth:`to_dict`'s mapping; unknown keys are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in raw.items() if k in known})


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value (sorted keys, no spaces, ASCII)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """Return ``sha256:HEX`` of a value's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def plan_hash(machine_id: str, catalogue: str, changes: Iterable[Change]) -> str:
    """Hash what a plan's decisions rest on, and nothing that moves by itself.

    Args:
        machine_id: the node's /etc/machine-id.
        catalogue: version of the key catalogue the decisions were made with.
        changes: the plan; before, want, status, owner and identity of each count. Of a key that is left alone
            the values do not: its owner may move them at any time.

    Returns:
        ``sha256:HEX``.
    """
    rows: List[Any] = []
    for c in changes:
        values = (None, None) if c.status in ("owned", "unsupported") else (c.before, c.want)
        rows.append([c.family, c.key, *values, c.requested, c.status, c.owner, c.identity, c.persist])
    rows.sort(key=canonical_json)
    return digest({"schema": SCHEMA, "machine": machine_id, "catalogue": catalogue, "changes": rows})
