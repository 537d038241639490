"""What recoveries ask of a cluster is what the account for them may."""

from __future__ import annotations

import re
from pathlib import Path

from tune_nodes import recovery
from tune_nodes.cluster import rights

SOURCE = Path(recovery.__file__).parent
OURS = ("guard", "lock", "matrix", "pause", "probepods", "slots", "view")
_CALL = re.compile(r'Call\(\s*"([a-z]+)",\s*"([a-z/]+)"')


def test_every_call_of_a_recovery_is_granted() -> None:
    used = {found for name in OURS for found in _CALL.findall((SOURCE / f"{name}.py").read_text(encoding="utf-8"))}
    assert {("create", "leases"), ("delete", "configmaps"), ("create", "pods"), ("list", "events")} <= used
    assert used <= {(right.call.verb, right.call.resource) for right in rights.required("recover")}


def test_leases_and_configmaps_are_touched_in_our_own_namespace_only() -> None:
    found = [right.call for right in rights.required("recover") if right.call.verb in ("create", "patch", "delete")]
    assert {call.namespace for call in found if call.resource in ("leases", "configmaps")} == {"tune-nodes"}
    (name,) = {call.name for call in found if (call.verb, call.resource) == ("delete", "configmaps")}
    assert name == "recovery-paused"
