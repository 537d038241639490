# SPDX-License-Identifier: Apache-2.0
"""Apply what a node keeps: after a boot, when a late module was loaded, or when a commit was cut off by a boot.

Everything is decided anew: a floor never lowers what a newer kernel brings, and NIC settings apply only where
kernel and driver are those they were confirmed with.
"""

from __future__ import annotations

import time
from typing import Any, List, Mapping, Sequence, Tuple

from . import persist
from .errors import NodeError
from .family import Family
from .host import Host
from .model import Change
from .mtu.family import FAMILY as MTU
from .nic.family import FAMILY as NIC_QUEUES
from .probe import gateways, ping_gateway

GATEWAY_WAIT = 20.0  # seconds for the gateway to answer again after a change of a network device
#: Families of network devices: applied only to those they were confirmed on, and undone where they cut the node off.
DEVICES = (NIC_QUEUES, MTU)


def apply_settings(settings: persist.Settings, families: Sequence[Family], host: Host) -> List[Change]:
    """Plan and write what a node keeps; one failing setting does not keep the others from being applied."""
    done: List[Change] = []
    for family in families:
        kept = list(settings.get(family.name, {}).values())
        if not kept:
            continue
        try:
            parsed = family.parse(_fitting(family, kept, host, done))
            changes = family.plan(parsed, family.observe(parsed, host)) if parsed else []
        except NodeError as exc:
            done.append(Change(family.name, "*", None, None, status="failed", note=str(exc)))
            continue
        answered = _answering_gateways(host) if family in DEVICES else []
        written = [change for change in changes if change.status == "pending" and _write(family, change, host)]
        done.extend(changes)
        if written and answered:
            _undo_unless_gateway(family, written, answered, host)
    return done


def _fitting(
    family: Family, kept: Sequence[Mapping[str, Any]], host: Host, done: List[Change]
) -> List[Mapping[str, Any]]:
    """Leave out settings of another kernel, driver or card."""
    of_devices = next((known for known in DEVICES if known is family), None)
    if of_devices is None:
        return list(kept)
    fitting = []
    for setting in kept:
        same, why = of_devices.same_device(setting, host)
        if same:
            fitting.append(setting)
        else:
            key = ",".join(str(name) for name in setting.get("interfaces", []))
            done.append(Change(family.name, key, None, None, status="unsupported", note=why))
    return fitting


def _write(family: Family, change: Change, host: Host) -> bool:
    try:
        family.write(change.key, str(change.want), host)
        change.after = family.read(change.key, host)
    except NodeError as exc:
        change.status, change.note = "failed", str(exc)
        return False
    change.status = "changed" if change.after == change.want else "failed"
    return True


def _answering_gateways(host: Host) -> List[Tuple[str, str]]:
    """Return the default gateways that answer now: many never do, and those prove nothing."""
    return [(name, address) for name, address in gateways(host) if ping_gateway(name, address, tries=1)["ok"]]


def _undo_unless_gateway(
    family: Family, written: Sequence[Change], answered: Sequence[Tuple[str, str]], host: Host
) -> None:
    limit = time.monotonic() + GATEWAY_WAIT
    while time.monotonic() < limit:
        if any(ping_gateway(name, address, tries=1)["ok"] for name, address in answered):
            return
        time.sleep(1.0)
    for change in reversed(written):
        if change.before is not None:
            try:
                family.write(change.key, change.before, host)
                change.status, change.note = "reverted", "the gateway did not answer after it"
            except NodeError as exc:
                change.status, change.note = "failed", str(exc)
