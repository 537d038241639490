"""What a restore of a reset's backup puts back: what the reset deleted, and not what others have deleted since."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from backup_made import Lists, write
from policy_objects import policy

from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import compare
from tune_nodes.policy.keeping.compare import Wish

DENY, DNS = policy("NetworkPolicy", "deny"), policy("NetworkPolicy", "dns")


@pytest.mark.parametrize(
    ("only", "planned"),
    [
        (None, {DENY.ref, DNS.ref}),
        (frozenset(), set()),
        (frozenset({DENY.ref}), {DENY.ref}),
        (frozenset({"NetworkPolicy shop/never-there"}), set()),
    ],
)
def test_only_what_is_meant_is_put_back(tmp_path: Path, only: frozenset[str] | None, planned: set[str]) -> None:
    backup = write([DENY, DNS], tmp_path)
    cluster = cast("Cluster", SimpleNamespace(api=Lists([])))
    steps = compare.plan(cluster, backup, Wish(only=only))
    assert {step.ref for step in steps} == planned
    assert {step.action for step in steps} <= {compare.CREATE}
