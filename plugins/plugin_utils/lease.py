# SPDX-License-Identifier: Apache-2.0
"""Waiting until a node's Lease was renewed after its change: its kubelet lives then, and reaches the API server.

The controller watches the Leases and keeps a file; all of this stays on the controller's machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Larger files are not ours: 5,000 nodes are 400 KiB.
MAX_BYTES = 8 << 20
#: Seconds without an update after which the API server counts as silent.
SILENT = 10.0
#: Seconds between two looks at the file.
LOOK = 0.25


@dataclass(frozen=True)
class Seen:
    """What the file says of one node. Seconds are ``time.monotonic()`` of this machine; 0.0: never."""

    updated: float
    renewed: float
    error: str = ""


@dataclass(frozen=True)
class Wait:
    """How a wait ended. ``seconds``: from the change to the renewal, None where there was none."""

    ok: bool
    seconds: float | None
    why: str

    def probe(self, name: str) -> dict[str, Any]:
        """Return the wait as a probe stands in a result."""
        detail = f"renewed {self.seconds:.0f} s after the change" if self.seconds is not None else self.why
        ms = None if self.seconds is None else round(self.seconds * 1000, 1)
        return {"id": "lease", "kind": "lease", "target": name, "ok": self.ok, "detail": detail, "ms": ms}


def read(path: str, name: str) -> Seen | None:
    """Return what the file says of a node, None where it cannot be read."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            return None
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
        if not isinstance(found, dict) or found.get("schema") != 1:
            return None
        renewed = found.get("renewed")
        when = renewed.get(name) if isinstance(renewed, dict) else None
        return Seen(float(found["updated"]), float(when or 0.0), str(found.get("error") or ""))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class Lease:
    """A node's Lease as a request asks for it.

    Args:
        spec: ``file``, ``name`` of the Node object, ``limit`` in seconds.
        clock: ``time``, or what stands for it in a test.
    """

    def __init__(self, spec: Mapping[str, Any], clock: Any) -> None:
        self.path = str(spec["file"])
        self.name = str(spec["name"])
        self.limit = float(spec.get("limit") or 15.0)
        self.clock = clock

    def wait(self, changed: float, until: float) -> Wait:
        """Wait for a renewal.

        Args:
            changed: when the node said that it was changed.
            until: when the window leaves no more time, whatever the limit.
        """
        end = min(changed + self.limit, until)
        while True:
            seen = read(self.path, self.name)
            if seen is not None and seen.renewed > changed:
                return Wait(True, seen.renewed - changed, "")
            left = end - self.clock.monotonic()
            if left <= 0:
                return Wait(False, None, self._why(seen, end - changed))
            self.clock.sleep(min(LOOK, left))

    def _why(self, seen: Seen | None, waited: float) -> str:
        if seen is None or seen.error or self.clock.monotonic() - seen.updated > SILENT:
            said = f" ({seen.error})" if seen is not None and seen.error else ""
            return f"the API server has not answered since the change{said}: nobody can tell if the kubelet lives"
        return (
            f"the Lease of {self.name} was not renewed within {max(0.0, waited):.0f} s of the change: "
            "its kubelet is stopped or cut off"
        )
