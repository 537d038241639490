# SPDX-License-Identifier: Apache-2.0
"""How many queues a NIC should have, and what forbids fewer. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..model import Change
from .decide import Nic, change, count
from .model import Count, NicSetting, format_counts

Counts = Dict[str, int]


class Wanted(NamedTuple):
    """The counts to set (None: this device cannot) and what a person should know."""

    counts: Optional[Counts]
    notes: List[str]


def plan_channels(nic: Nic, setting: NicSetting) -> Change:
    """Return the change of a NIC's queue counts."""
    key = nic.name + "/channels"
    channels = nic.detail["channels"]
    if channels is None or not any(channels["max"].values()):
        note = "%s has %s and its driver %s cannot set that" % (nic.name, _queues_now(nic), nic.driver)
        return change(nic, setting, key, None, None, [note], "unsupported")
    now: Counts = channels["now"]
    before = format_counts(now)
    wanted = _wanted(nic, setting.channels, channels["max"], now)
    if wanted.counts is None:
        return change(nic, setting, key, before, None, wanted.notes, "unsupported")
    want = format_counts(wanted.counts)
    owner, why = _holder(nic, now, wanted.counts)
    if owner:
        return change(nic, setting, key, before, want, [why, *wanted.notes], "owned", owner)
    return change(nic, setting, key, before, want, [*wanted.notes, _growth_note(nic, now, wanted.counts)])


def receive_queues(counts: Mapping[str, int]) -> int:
    """Return how many receive queues these counts make."""
    return counts["combined"] + counts["rx"]


def transmit_queues(counts: Mapping[str, int]) -> int:
    """Return how many transmit queues these counts make."""
    return counts["combined"] + counts["tx"]


def _queues_now(nic: Nic) -> str:
    queues = nic.detail["queues"]["rx"]
    return count(len(queues), "receive queue") if queues else "a fixed number of queues"


def _wanted(nic: Nic, wish: Count, most: Counts, now: Counts) -> Wanted:
    """Turn a wish into counts of the kind this device has: combined, or rx and tx apart."""
    if isinstance(wish, dict):
        return _wanted_sides(wish, most, now)
    sides = ["combined"] if _is_combined(most, now) else [s for s in ("rx", "tx") if most[s]]
    counts, notes = dict(now), []
    if wish == "auto":
        picks = {side: _automatic(nic, most[side], now[side]) for side in sides}
        counts.update({side: number for side, (number, _note) in picks.items()})
        return Wanted(counts, sorted({note for _number, note in picks.values()}))
    for side in sides:
        number = most[side] if wish == "max" else int(wish or 0)
        counts[side] = min(number, most[side])
        if counts[side] < number:
            notes.append(_clamped(side, number, most[side]))
    if "combined" not in sides and wish != "max":
        notes.append("this device has no combined queues: %s" % format_counts(counts))
    return Wanted(counts, notes)


def _is_combined(most: Counts, now: Counts) -> bool:
    """Tell which kind a device that knows both is using."""
    return bool(most["combined"] and (now["combined"] or not (now["rx"] or now["tx"])))


def _wanted_sides(wish: Counts, most: Counts, now: Counts) -> Wanted:
    """Meet a wish for rx and tx apart."""
    asked = {side: wish.get(side, now[side] or now["combined"]) for side in ("rx", "tx")}
    if not (most["rx"] and most["tx"]):
        return _wanted_alike(asked, most, now)
    counts, notes = {"combined": 0, "rx": 0, "tx": 0}, []
    for side, number in asked.items():
        counts[side] = min(number, most[side])
        if counts[side] < number:
            notes.append(_clamped(side, number, most[side]))
    return Wanted(counts, notes)


def _wanted_alike(asked: Counts, most: Counts, now: Counts) -> Wanted:
    """Meet a wish for rx and tx apart on a device without both."""
    if not most["combined"]:
        side = "rx" if most["rx"] else "tx"
        return Wanted(None, ["this device sets %s queues only: ask for a number" % side])
    if asked["rx"] != asked["tx"]:
        return Wanted(None, ["this device has combined queues only: rx and tx cannot differ, ask for a number"])
    number = min(asked["rx"], most["combined"])
    notes = ["this device has combined queues only: combined=%d" % number]
    if number < asked["rx"]:
        notes.append(_clamped("combined", asked["rx"], most["combined"]))
    return Wanted(dict(now, combined=number), notes)


def _clamped(side: str, asked: int, most: int) -> str:
    name = "queues" if side == "combined" else side + " queues"
    return "%d %s asked for, the device has at most %d" % (asked, name, most)


def _automatic(nic: Nic, most: int, now: int) -> Tuple[int, str]:
    """Return (queues, why) for "auto": one for each core near the NIC, as far as the device goes.

    A device that already has between one for each core and one for each CPU is left: the difference is not
    worth an interruption.
    """
    cores, threads = nic.usable_cores(), len(nic.usable_cpus())
    number = min(most, cores)
    if cores < threads and number < now <= min(most, threads):
        why = "%s on %s, %s: more queues than cores bring nothing, but fewer are not worth an interruption"
        return now, why % (count(threads, "CPU"), nic.where(), count(cores, "core"))
    why = "%s on %s, the device has at most %s"
    return number, why % (count(cores, "core"), nic.where(), count(most, "queue"))


def _holder(nic: Nic, now: Counts, want: Counts) -> Tuple[str, str]:
    """Return (owner, why) of what keeps queues from vanishing, ("", "") where nothing does."""
    receive, transmit = receive_queues(want), transmit_queues(want)
    fewer_receive = receive < receive_queues(now)
    if not fewer_receive and transmit >= transmit_queues(now):
        return "", ""
    users: Mapping[str, Any] = nic.detail["users"]
    if fewer_receive:
        table = users["rss"] or []
        if is_user_set(table, receive_queues(now)) and max(table) >= receive:
            return "rss-table", "a hand-set RSS table sends packets to queue %d" % max(table)
        for queues, owner, what in (
            (users["contexts"], "rss-table", "an RSS context sends packets"),
            (users["ntuple"], "ntuple", "a receive flow rule (ntuple) sends packets"),
        ):
            if queues and max(queues) >= receive:
                return owner, "%s to queue %d" % (what, max(queues))
        if users["unknown"].get("ntuple"):
            return "ntuple", "fewer queues are not set blindly: %s" % users["unknown"]["ntuple"]
    used = [q for q in users["xdp"] if q >= min(receive, transmit)]
    if used:
        return "af_xdp", "an AF_XDP socket is bound to queue %d" % max(used)
    if users["unknown"].get("xdp"):
        return "af_xdp", "AF_XDP sockets are open, and which queues they use is unknown: %s" % users["unknown"]["xdp"]
    return "", ""


def is_user_set(table: Sequence[int], queues: int) -> bool:
    """Tell whether an RSS table prefers some queues: the kernel's and drivers' own give each the same share.

    The kernel does not say who wrote the table. One by hand that treats all queues alike looks like the
    default; the kernel then refuses to take its queues away, and the change fails instead of being planned so.
    """
    shares = Counter(table)
    counts = [shares.pop(queue, 0) for queue in range(queues)]
    return bool(table) and (bool(shares) or max(counts, default=0) - min(counts, default=0) > 1)


def _growth_note(nic: Nic, now: Counts, want: Counts) -> str:
    table = nic.detail["users"]["rss"] or []
    if receive_queues(want) > receive_queues(now) and is_user_set(table, receive_queues(now)):
        return "the hand-set RSS table is kept: it gives the new queues no packets (ethtool -X NIC default resets it)"
    return ""
