# SPDX-License-Identifier: Apache-2.0
"""Decide, from an observation and the wishes, what would change. Pure: no I/O."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..model import Change
from .catalogue import ORDERED_KEYS, lookup
from .entry import EXACT, FLOOR, HOST
from .model import Setting, normalise_value, numbers

# Writing one of these sets every interface too, so they go first.
_FAN_OUT = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding")
_FAN_OUT_V6 = "net.ipv6.conf.all.disable_ipv6"


def target(setting: Setting, current: str) -> Optional[str]:
    """Return the value the key should hold, given the value it holds (both canonical).

    A floor raises, a ceiling lowers, each number of a vector by itself.

    Returns:
        None where the two cannot be compared: not numbers, or not as many of them.
    """
    have, wish = numbers(current), numbers(setting.value)
    if setting.cls == EXACT:
        if have is not None and wish is not None and len(have) != len(wish):
            return None
        return setting.value
    if have is None or wish is None or len(have) != len(wish):
        return None
    entry = lookup(setting.key)
    if entry is not None and entry.unlimited is not None and have == [entry.unlimited]:
        return current if setting.cls == FLOOR else setting.value
    pick = max if setting.cls == FLOOR else min
    return " ".join(str(pick(pair)) for pair in zip(have, wish))


def _place(line: Mapping[str, Any]) -> str:
    return "%s:%d" % (line["file"], line["line"])


def _boot_note(setting: Setting, want: str, observation: Mapping[str, Any]) -> str:
    """Return what sysctl.d would do to the key at the next boot, "" where it agrees."""
    if setting.cls == EXACT:
        line = observation.get("shadows", {}).get(setting.key)
        if line is None:
            return ""
        if line["value"] is None:
            return "%s excludes it, so it will not be set at boot: remove that line" % _place(line)
        held = normalise_value(setting.key, line["value"])
        return "" if held == want else "%s sets it to %s at boot, after ours: remove that line" % (_place(line), held)
    line = observation.get("boot", {}).get(setting.key)
    if line is None or line["value"] is None:
        return ""
    held = normalise_value(setting.key, line["value"])
    if target(setting, held) in (held, None):
        return ""
    return "%s sets it to %s at boot; tune-nodes-boot.service corrects that afterwards" % (_place(line), held)


def _procps_note(setting: Setting, want: str, observation: Mapping[str, Any]) -> str:
    line = observation.get("procps", {}).get(setting.key)
    if line is None or line["value"] is None:
        return ""
    held = normalise_value(setting.key, line["value"])
    harmless = held == want if setting.cls == EXACT else target(setting, held) in (held, None)
    if harmless:
        return ""
    return "%s sets it to %s whenever `sysctl --system` or `sysctl -p` runs" % (_place(line), held)


def _fan_out_note(setting: Setting) -> str:
    return "it also sets every interface" if setting.key in (*_FAN_OUT, _FAN_OUT_V6) else ""


def _take_note(setting: Setting, observation: Mapping[str, Any]) -> str:
    owner = observation.get("owners", {}).get(setting.key)
    if owner is None:
        return ""
    return "taken from %s (%s): %s, or it will write its own value" % (
        owner["owner"],
        owner["evidence"],
        owner["how_to_tell"],
    )


def _absent(change: Change, setting: Setting, observation: Mapping[str, Any]) -> Change:
    module = observation.get("modules", {}).get(setting.module) if setting.module else None
    if module is None or module["loaded"]:
        change.note = "this kernel has no such key"
    elif module["available"] is False:
        change.note = "this kernel has no module %s" % setting.module
    else:
        change.note = "module %s is not loaded yet: kept, and applied when it loads" % setting.module
        change.persist = setting.to_raw()
    change.status = "unsupported"
    return change


def _refusal(setting: Setting, state: Mapping[str, Any], observation: Mapping[str, Any]) -> str:
    """Return why a key that exists cannot be changed, "" where it can (as far as can be told beforehand)."""
    if not state["writable"]:
        if not observation["root"]:
            return "changing it needs root"
        return "read-only here"
    known = observation.get("algorithms", {})
    if setting.key in known and not known[setting.key]:
        if known[setting.key] is None:
            return "it cannot be told whether this kernel has %s" % setting.value
        return "this kernel has no %s" % setting.value
    return ""


def _decide(setting: Setting, observation: Mapping[str, Any]) -> Change:
    state = observation["keys"][setting.key]
    current = state["value"]
    change = Change(
        family="sysctl",
        key=setting.key,
        before=current,
        want=setting.value,
        requested=setting.requested,
        reason=setting.reason,
        source=setting.source,
        scope=setting.scope,
        status="unsupported",
    )
    if setting.scope == HOST and not observation["initial_netns"]:
        change.note = "one value for the whole kernel: set it on the host, not from a namespace"
        return change
    owner = observation.get("owners", {}).get(setting.key)
    if owner is not None:
        change.owner = owner["owner"]
        if not setting.take:
            return _owned(change, setting, owner)
    if not state["exists"]:
        return _absent(change, setting, observation)
    if current is None:
        change.note = "it cannot be read, so it could not be put back: %s" % state.get("error", "unknown reason")
        return change
    if not current.isprintable():
        change.note = "it holds a value that could not be put back faithfully"
        return change
    want = target(setting, current)
    if want is None:
        change.note = "the wish %s does not fit what the node holds: %s" % (setting.value, current[:80])
        return change
    return _settle(change, setting, want, observation)


def _owned(change: Change, setting: Setting, owner: Mapping[str, str]) -> Change:
    """Leave a key to its owner; say so where what it holds is not what was wished."""
    change.status = "owned"
    want = target(setting, change.before) if change.before is not None else None
    change.want = setting.value if want is None else want
    change.note = "left to %s (%s)" % (owner["owner"], owner["evidence"])
    if change.before != change.want:
        held = "is absent" if change.before is None else "holds %s" % change.before[:80]
        change.note += "; it %s: %s, or say take: true" % (held, owner["how_to_tell"])
    return change


def _settle(change: Change, setting: Setting, want: str, observation: Mapping[str, Any]) -> Change:
    """Finish the change of a key that exists and has no owner in the way."""
    change.want = want
    notes = [_boot_note(setting, want, observation), _procps_note(setting, want, observation)]
    if want != change.before:
        refusal = _refusal(setting, observation["keys"][setting.key], observation)
        if refusal:
            change.note = refusal
            return change
        notes.insert(0, _fan_out_note(setting))
    notes.insert(0, _take_note(setting, observation))
    change.status = "ok" if want == change.before else "pending"
    change.persist = setting.to_raw()
    change.note = "; ".join(note for note in notes if note)
    return change


def _first(value: Optional[str]) -> Optional[int]:
    found = numbers(value) if value else None
    return found[0] if found else None


def _refuse_disorder(changes: Dict[str, Change], observation: Mapping[str, Any]) -> None:
    """Refuse the pending changes that would leave two keys in the wrong order (gc_thresh2 above gc_thresh3)."""
    again = True
    while again:
        again = False
        for group in ORDERED_KEYS:
            for low, high in zip(group, group[1:]):
                again = _refuse_pair(changes, low, high, observation) or again


def _refuse_pair(changes: Dict[str, Change], low: str, high: str, observation: Mapping[str, Any]) -> bool:
    pair = [changes.get(low), changes.get(high)]
    pending = [change for change in pair if change is not None and change.status == "pending"]
    ends = []
    for key, change in zip((low, high), pair):
        state = observation["keys"].get(key, {})
        ends.append(_first(change.want if change in pending and change is not None else state.get("value")))
    if not pending or ends[0] is None or ends[1] is None or ends[0] <= ends[1]:
        return False
    for change in pending:
        change.status, change.persist = "unsupported", None
        change.note = "%s (%d) would be above %s (%d): set both" % (low, ends[0], high, ends[1])
    return True


def _in_order(changes: List[Change]) -> List[Change]:
    """Return changes in the order they must be written.

    Keys that set every interface come first. Of keys that stand in an order, those that rise are written from the
    top, then those that fall from the bottom: then no state in between has two of them crossed, nor has the same way
    backwards.
    """
    ordered = sorted(changes, key=lambda change: change.key not in (*_FAN_OUT, _FAN_OUT_V6))
    for group in ORDERED_KEYS:
        places = [i for i, change in enumerate(ordered) if change.key in group and change.status == "pending"]
        members = sorted((ordered[i] for i in places), key=lambda change: _write_rank(change, group))
        for place, member in zip(places, members):
            ordered[place] = member
    return ordered


def _write_rank(change: Change, group: Sequence[str]) -> Any:
    level = group.index(change.key)
    rises = (_first(change.want) or 0) > (_first(change.before) or 0)
    return (0, -level) if rises else (1, level)


def plan(settings: Sequence[Setting], observation: Mapping[str, Any]) -> List[Change]:
    """Decide what each wish means on this node.

    Args:
        settings: what parse() returned.
        observation: what read.observe() returned for them.

    Returns:
        One change for each setting, in the order they must be applied.
    """
    changes = {setting.key: _decide(setting, observation) for setting in settings}
    _refuse_disorder(changes, observation)
    return _in_order(list(changes.values()))
