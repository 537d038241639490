"""Objects of a real API server, as its answers hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tune_nodes.cluster.api import members

FIXTURES = Path(__file__).parents[2] / "fixtures" / "cluster"


def load(kind: str) -> list[dict[str, Any]]:
    """Return the objects of one kind: nodes, pods, daemonsets, leases."""
    return members(json.loads((FIXTURES / f"{kind}.json").read_text(encoding="utf-8")))
