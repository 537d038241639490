# SPDX-License-Identifier: Apache-2.0
"""What every NIC of this node should be, as changes in the order they must be applied. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..model import Change
from .decide import FAMILY_NAME, Nic, change
from .model import NicSetting, format_counts, format_wish, parse_counts
from .plan_channels import plan_channels, receive_queues, transmit_queues
from .plan_steering import plan_steering, plan_vanishing
from .targets import in_order, resolve


class Wish(NamedTuple):
    """The setting that decides one aspect of one interface, and how the interface was found."""

    setting: NicSetting
    note: str


def plan(settings: Sequence[NicSetting], observation: Mapping[str, Any]) -> List[Change]:
    """Decide what to change.

    Where several settings speak of the same aspect of an interface, the last one counts. Bond ports come one
    after the other, the one in use last; a write ends only when the link is back.

    Args:
        settings: parsed settings, in the order of the profile's layers.
        observation: what read.observe() returned.
    """
    changes, wishes = _assign(settings, observation)
    for name, wanted in wishes.items():
        error = observation["nics"][name].get("error")
        if error:
            changes.extend(_nothing(wish.setting, name, error, (aspect,)) for aspect, wish in wanted.items())
            continue
        nic = Nic(
            name,
            observation["interfaces"][name],
            observation["nics"][name],
            observation["cpus"],
            observation["kernel"],
        )
        changes.extend(_plan_nic(nic, wanted))
    return changes


def _assign(
    settings: Sequence[NicSetting], observation: Mapping[str, Any]
) -> Tuple[List[Change], Dict[str, Dict[str, Wish]]]:
    """Return changes for what matched nothing, and interface -> aspect -> wish in the order to change them."""
    missing: Dict[str, Change] = {}
    wishes: Dict[str, Dict[str, Wish]] = {}
    order: List[str] = []
    for setting in settings:
        targets = resolve(setting.interfaces, observation["interfaces"], observation["default_routes"])
        for pattern, why in targets.missing:
            change_ = _nothing(setting, pattern, why)
            missing.setdefault(change_.key, change_)
        for name in targets.names:
            if name in observation["nics"]:
                order.append(name)
                for aspect in setting.aspects():
                    wishes.setdefault(name, {})[aspect] = Wish(setting, targets.notes.get(name, ""))
    names = in_order(order, observation["interfaces"])
    return list(missing.values()), {name: wishes[name] for name in names}


def _nothing(setting: NicSetting, pattern: str, why: str, aspects: Sequence[str] = ()) -> Change:
    aspect = [*aspects, *setting.aspects()][0]
    key = "%s/%s" % (pattern, aspect)
    return Change(
        family=FAMILY_NAME,
        key=key if aspect in ("channels", "rings") else "%s/%s-0" % (key, "rx" if aspect == "rps" else "tx"),
        before=None,
        want=None,
        status="unsupported",
        requested=format_wish(setting.wish(aspect)),
        reason=setting.reason,
        source=setting.source,
        note="%s: %s" % (pattern, why),
    )


def _plan_nic(nic: Nic, wishes: Mapping[str, Wish]) -> List[Change]:
    """Return one NIC's changes: masks of queues that vanish, channels, rings, then masks of those that stay."""
    changes: List[Change] = []
    after = _queues(nic, None)
    if "channels" in wishes:
        channels = plan_channels(nic, wishes["channels"].setting)
        after = _queues(nic, channels)
        for aspect in ("rps", "xps"):
            changes.extend(plan_vanishing(nic, wishes["channels"].setting, aspect, after[aspect]))
        changes.append(_noted(channels, wishes["channels"].note))
    if "rings" in wishes:
        changes.append(_noted(plan_rings(nic, wishes["rings"].setting), wishes["rings"].note))
    for aspect in ("rps", "xps"):
        if aspect in wishes:
            changes.extend(plan_steering(nic, wishes[aspect].setting, aspect, after[aspect]))
    return changes


def _noted(planned: Change, note: str) -> Change:
    planned.note = "; ".join(n for n in (planned.note, note) if n)
    return planned


def _queues(nic: Nic, channels: Optional[Change]) -> Dict[str, List[str]]:
    """Return the queues there will be, by aspect: those there are, more or fewer as the channels change says."""
    now = {side: len(nic.detail["queues"][side]) for side in ("rx", "tx")}
    if channels is not None and channels.status == "pending":
        before, want = _counts(channels.before), _counts(channels.want)
        now["rx"] = max(1, now["rx"] + receive_queues(want) - receive_queues(before))
        now["tx"] = max(1, now["tx"] + transmit_queues(want) - transmit_queues(before))
    return {
        "rps": ["rx-%d" % n for n in range(now["rx"])],
        "xps": ["tx-%d" % n for n in range(now["tx"])],
    }


def _counts(text: Optional[str]) -> Dict[str, int]:
    return parse_counts(text or "none")


def plan_rings(nic: Nic, setting: NicSetting) -> Change:
    """Return the change of a NIC's ring sizes: clamped to the device, a power of two below its maximum."""
    key = nic.name + "/rings"
    rings = nic.detail["rings"]
    if rings is None or not any(rings["max"].values()):
        return change(nic, setting, key, None, None, ["%s has no rings to set" % nic.driver], "unsupported")
    now, most = rings["now"], rings["max"]
    wish = setting.rings
    want, notes = dict(now), []
    for side in ("rx", "tx"):
        asked = wish.get(side) if isinstance(wish, dict) else most[side] if wish == "max" else wish
        if not most[side] or asked is None:
            continue
        want[side], note = _ring(side, int(asked), most[side])
        notes.append(note)
    return change(nic, setting, key, format_counts(now), format_counts(want), notes)


def _ring(side: str, asked: int, most: int) -> Tuple[int, str]:
    """Return (size, note). Many drivers round by themselves; a power of two is what they all keep."""
    if asked >= most:
        over = "%d %s descriptors asked for, the device has at most %d" % (asked, side, most)
        return most, over if asked > most else ""
    size = 1 << (asked.bit_length() - 1)
    return size, "" if size == asked else "%s ring rounded down to a power of two" % side
