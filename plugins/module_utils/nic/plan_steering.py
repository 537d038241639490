# SPDX-License-Identifier: Apache-2.0
"""Which CPUs work for which queue: RPS masks of receive queues, XPS masks of transmit queues. Pure."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from ..model import Change
from .cpus import format_list, format_mask, parse_list, parse_mask
from .decide import Nic, change, count
from .model import SIDES, NicSetting

_NONE = "0"


class Wanted(NamedTuple):
    """Queue -> mask, what a person should know, and whether an unchanged device is told in one line."""

    masks: Dict[str, str]
    notes: List[str]
    brief: bool = False


def plan_steering(nic: Nic, setting: NicSetting, aspect: str, queues: Sequence[str]) -> List[Change]:
    """Return the changes of a NIC's RPS or XPS masks.

    Args:
        aspect: "rps" or "xps".
        queues: the queues the device will have once its channels are as planned.
    """
    first = "%s/%s/%s-0" % (nic.name, aspect, SIDES[aspect])
    held: Mapping[str, Optional[str]] = nic.detail[aspect]
    obstacle = _obstacle(nic, aspect, held)
    if obstacle:
        return [change(nic, setting, first, held.get(SIDES[aspect] + "-0"), None, [obstacle], "unsupported")]
    wanted = _wanted_rps(nic, setting, queues) if aspect == "rps" else _wanted_xps(nic, setting, queues, held)
    if not wanted.masks:
        return [change(nic, setting, first, held.get(SIDES[aspect] + "-0"), None, wanted.notes, "unsupported")]
    changes: List[Change] = []
    for queue in queues:
        before = held.get(queue, _default(nic, aspect))  # a queue to come is born with the default
        made = change(nic, setting, "%s/%s/%s" % (nic.name, aspect, queue), before, wanted.masks[queue], wanted.notes)
        if changes:
            made.persist = None  # the first queue's keeps the whole wish
        if not (wanted.brief and changes and made.status == "ok"):
            changes.append(made)
    return changes


def _default(nic: Nic, aspect: str) -> str:
    return str(nic.detail["rps_default"]) if aspect == "rps" else _NONE


def _obstacle(nic: Nic, aspect: str, held: Mapping[str, Optional[str]]) -> str:
    """Return why masks cannot be set on this NIC, "" where they can."""
    if nic.detail["sysfs"] == "foreign":
        return "/sys does not show this network namespace: queue masks are out of reach"
    if nic.detail["sysfs"] == "ro":
        return "/sys is read-only here: queue masks cannot be set"
    if not held:
        return "%s shows no queues in /sys" % nic.name
    if any(mask is None for mask in held.values()):
        return "the device has one transmit queue: nothing to choose" if aspect == "xps" else "the kernel has no RPS"
    return ""


def _wanted_rps(nic: Nic, setting: NicSetting, queues: Sequence[str]) -> Wanted:
    if setting.rps == "off":
        return Wanted(dict.fromkeys(queues, _NONE), [], brief=True)
    if setting.rps == "auto":
        cores = nic.usable_cores()
        if len(queues) >= cores:
            note = "%s for %s on %s: steering by software is redundant"
            text = note % (count(len(queues), "receive queue"), count(cores, "core"), nic.where())
            return Wanted(dict.fromkeys(queues, _NONE), [text], brief=True)
        note = "%s for %s on %s" % (count(len(queues), "receive queue"), count(cores, "core"), nic.where())
        return Wanted(dict.fromkeys(queues, format_mask(nic.usable_cpus())), [note])
    return _listed(setting.rps or "", nic, queues, set(nic.cpus["online"]) - set(nic.cpus["isolated"]))


def _listed(text: str, nic: Nic, queues: Sequence[str], allowed: Set[int]) -> Wanted:
    """Give every queue the CPUs of a list, as far as they are there: the kernel drops others without a word."""
    asked = set(parse_list(text) or [])
    kept = asked & allowed
    notes = []
    if kept != asked:
        notes.append("CPUs %s are not online or are isolated: left out" % format_list(asked - kept))
    return Wanted(dict.fromkeys(queues, format_mask(kept)) if kept else {}, notes)


def _wanted_xps(nic: Nic, setting: NicSetting, queues: Sequence[str], held: Mapping[str, Optional[str]]) -> Wanted:
    online: List[int] = nic.cpus["online"]
    if setting.xps == "off":
        return Wanted(dict.fromkeys(queues, _NONE), [], brief=True)
    if setting.xps != "auto":
        return _listed(setting.xps or "", nic, queues, set(online))
    if len(queues) == 1:
        kept = {queues[0]: held.get(queues[0]) or _NONE}
        return Wanted(kept, ["one transmit queue: every CPU sends through it"], brief=True)
    present = {queue: held.get(queue) or _NONE for queue in queues}
    if is_spread(list(present.values()), online):
        return Wanted(present, ["every CPU already has its queue"], brief=True)
    return Wanted(spread(queues, online, nic.cpus["cores"]), [])


def is_spread(masks: Sequence[str], online: Sequence[int]) -> bool:
    """Tell whether every online CPU stands in exactly one mask and the CPUs use as many queues as they can."""
    owners: List[int] = []
    used = 0
    for mask in masks:
        members = [c for c in parse_mask(mask) or [] if c in online]
        owners.extend(members)
        used += bool(members)
    return sorted(owners) == sorted(online) and used == min(len(masks), len(online))


def spread(queues: Sequence[str], online: Sequence[int], cores: Sequence[Sequence[int]]) -> Dict[str, str]:
    """Give each CPU one queue; where queues are fewer, the threads of a core share theirs."""
    groups = [[cpu] for cpu in online] if len(queues) >= len(online) else [list(core) for core in cores]
    if len(queues) > len(groups):
        groups = [[cpu] for cpu in online]
    masks: Dict[str, List[int]] = {queue: [] for queue in queues}
    for index, group in enumerate(groups):
        masks[queues[index % len(queues)]].extend(group)
    return {queue: format_mask(members) for queue, members in masks.items()}


def plan_vanishing(nic: Nic, setting: NicSetting, aspect: str, queues: Sequence[str]) -> List[Change]:
    """Return changes that clear the masks of queues about to vanish, to be applied before the channels.

    The kernel forgets the mask of a queue that goes away, so only a change of its own lets a rollback put it
    back. Drivers set XPS of real devices by themselves, so XPS is cleared only on virtual ones.
    """
    if nic.detail["sysfs"] != "rw" or (aspect == "xps" and nic.outline["device"]):
        return []
    default = _default(nic, aspect)
    changes = []
    for queue, mask in sorted(nic.detail[aspect].items()):
        if queue in queues or mask in (None, default):
            continue
        cleared = change(nic, setting, "%s/%s/%s" % (nic.name, aspect, queue), mask, default, [])
        cleared.reason = "this queue goes away; its mask is kept for a rollback"
        cleared.source, cleared.requested, cleared.persist = "%s/channels" % nic.name, "", None
        changes.append(cleared)
    return changes
