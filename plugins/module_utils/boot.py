# SPDX-License-Identifier: Apache-2.0
"""The boot unit's work: finish what is due, then apply the confirmed settings. Also when a late module was loaded."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Dict, FrozenSet, List, Set, Tuple

from . import persist
from .families import TUNING
from .host import Host, observe_host
from .kept import apply_settings
from .model import Change
from .nic.read import interface_names
from .sysctl.read import proc_path
from .transaction.restore import resolve
from .transaction.store import Store

#: Seconds a kept interface may take to appear: drivers load beside the boot unit, and nobody waits for all of them.
INTERFACE_WAIT = 15.0
_ROUNDS = 3


def run_boot(root: str = "/") -> int:
    """Finish what is due, then apply the confirmed settings. Prints one JSON line for the journal.

    Returns:
        0, or 1 where a setting failed.
    """
    host = observe_host(root)
    store = Store(host)
    report: Dict[str, Any] = {"resolved": []}
    if store.unfinished():
        with store.lock_for_resolve():
            report["resolved"] = [{"id": row["id"], "state": row["state"]} for row in resolve(store, TUNING, host)]
    settings = persist.load(host)
    await_interfaces(settings, host)
    changes = apply_late(settings, host)
    report["changes"] = [
        {"key": c.key, "status": c.status, "before": c.before, "after": c.after, "note": c.note}
        for c in changes
        if c.status != "ok"
    ]
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if any(c.status == "failed" for c in changes) else 0


def await_interfaces(settings: persist.Settings, host: Host) -> None:
    """Wait, within bounds, until the interfaces that settings are kept for are there."""
    wanted: Set[str] = set()
    for family in ("nic_queues", "mtu"):
        for setting in settings.get(family, {}).values():
            wanted.update(str(name) for name in setting.get("interfaces", []))
    limit = time.monotonic() + INTERFACE_WAIT
    while not wanted <= set(interface_names(host)) and time.monotonic() < limit:
        time.sleep(0.2)


def apply_late(settings: persist.Settings, host: Host) -> List[Change]:
    """Apply settings; again where a module brought more keys meanwhile, for systemd starts no unit that is at work."""
    found: Dict[Tuple[str, str], Change] = {}
    for _ in range(_ROUNDS):
        there = _late_keys(settings, host)
        for change in apply_settings(settings, TUNING, host):
            if change.status != "ok" or (change.family, change.key) not in found:
                found[change.family, change.key] = change
        if _late_keys(settings, host) <= there:
            break
    return list(found.values())


def _late_keys(settings: persist.Settings, host: Host) -> FrozenSet[str]:
    """Return the kept keys of late modules that are there."""
    kept = settings.get("sysctl", {}).values()
    keys = [str(setting["key"]) for setting in kept if setting.get("module") and setting.get("key")]
    return frozenset(key for key in keys if os.path.exists(proc_path(key, host)))
