# SPDX-License-Identifier: Apache-2.0
"""Which layers of a profile hold on this node, and what they come to (pure but for :func:`link_speed`).

A layer is ``{"profile": name, "match": {...} | None, "sysctl": [raw...], "nic_queues": [raw...],
"mtu": [raw...]}``. A match
holds when every condition in it does:

==================  ==============================================================================
link_speed_mbps     number of the default route's interface; an unknown speed never holds
cpus, memory_mib    number
kernel              version, compared as far as the condition names it (``5.10`` is any 5.10.x)
role, os_id         word, or a list of which one must fit
groups              inventory group, or a list of which one must fit
labels              mapping; every label must have its value (or one of a list)
all_of              list of matches which must all hold (a variant's own below its profile's)
==================  ==============================================================================

Numbers and versions are written ``8``, ``">=8"``, ``"<8"``, ``"!=8"``, ``"8..16"``, ``"8.."`` or ``"..16"``.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .errors import NodeError
from .host import Host, read_text
from .sysctl.model import canonical_key

NUMBERS = ("link_speed_mbps", "cpus", "memory_mib")
WORDS = ("role", "os_id", "groups")
KEYS = (*NUMBERS, "kernel", *WORDS, "labels", "all_of")

_LIMIT = 64  # a condition longer than this is no condition
_DEPTH = 4
_OPERATOR = re.compile(r"(>=|<=|!=|==|=|>|<)\s*(.+)\Z", re.S)
_RANGE = re.compile(r"(.*?)\s*\.\.\s*(.*)\Z", re.S)
_NUMBER = re.compile(r"[0-9]{1,12}\Z")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}\Z")
_KERNEL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")

Value = Tuple[int, ...]
#: One bound: operator and operand; all bounds of a condition must hold.
Bound = Tuple[str, Value]

_COMPARE: Dict[str, Callable[[Value, Value], bool]] = {
    ">=": lambda have, want: have >= want,
    "<=": lambda have, want: have <= want,
    ">": lambda have, want: have > want,
    "<": lambda have, want: have < want,
    "=": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
}


def _bad(what: str, why: str = "") -> NodeError:
    return NodeError(what, why, code="usage")


def _number(text: str) -> Optional[Value]:
    return (int(text),) if _NUMBER.match(text) else None


def _version(text: str) -> Optional[Value]:
    return tuple(int(part) for part in text.split(".")) if _VERSION.match(text) else None


def parse_condition(key: str, raw: Any) -> List[Bound]:
    """Parse a number or version condition into the bounds that must all hold.

    Args:
        key: the fact's name, one of NUMBERS or "kernel".
        raw: int or text as the module's docstring has it.

    Raises:
        NodeError: code "usage", naming key and text.
    """
    operand = _version if key == "kernel" else _number
    text = str(raw).strip()
    shape = "a version such as >=5.10" if key == "kernel" else "a number such as 8, >=8 or 8..16"
    error = _bad("%s: %r is not a condition" % (key, text[:_LIMIT]), "wanted " + shape)
    if isinstance(raw, bool) or not isinstance(raw, (int, str)) or not text or len(text) > _LIMIT:
        raise error
    pairs: List[Tuple[str, str]] = [("=", text)]
    operator, span = _OPERATOR.match(text), _RANGE.match(text)
    if operator:
        pairs = [(operator.group(1).replace("==", "="), operator.group(2).strip())]
    elif span:
        pairs = [pair for pair in ((">=", span.group(1)), ("<=", span.group(2))) if pair[1]]
    bounds: List[Bound] = []
    for sign, word in pairs:
        value = operand(word)
        if value is None:
            raise error
        bounds.append((sign, value))
    if not bounds or (len(bounds) == 2 and bounds[0][1] > bounds[1][1]):
        raise error
    return bounds


def _holds(bound: Bound, have: Value) -> bool:
    """Compare as far as the bound is written: 5.10.3 against 5.10 is 5.10 against 5.10."""
    sign, want = bound
    have = (have + (0,) * len(want))[: len(want)]
    return _COMPARE[sign](have, want)


def _words(key: str, raw: Any) -> List[str]:
    """Return the words one of which must fit. Raises NodeError(code="usage")."""
    listed = raw if isinstance(raw, (list, tuple)) else [raw]
    if not listed or not all(isinstance(word, (str, int)) and not isinstance(word, bool) for word in listed):
        raise _bad("%s: wanted a word or a list of words" % key)
    words = [str(word) for word in listed]
    if not all(words):
        raise _bad("%s: an empty word fits nothing" % key)
    return words


def check(match: Any, depth: int = 0) -> None:
    """Validate a match. Raises NodeError(code="usage") naming the key and what is wrong with it."""
    if match is None:
        return
    if not isinstance(match, Mapping):
        raise _bad("match: wanted a mapping of conditions")
    for key, raw in match.items():
        _check_condition(key, raw, depth)


def _check_condition(key: Any, raw: Any, depth: int) -> None:
    if key == "all_of":
        if depth >= _DEPTH or not isinstance(raw, (list, tuple)):
            raise _bad("all_of: wanted a list of matches, at most %d deep" % _DEPTH)
        for inner in raw:
            check(inner, depth + 1)
    elif key == "labels":
        if not isinstance(raw, Mapping):
            raise _bad("labels: wanted a mapping of label to value")
        for label, value in raw.items():
            _words("labels.%s" % label, value)
    elif key in WORDS:
        _words(key, raw)
    elif key in NUMBERS or key == "kernel":
        parse_condition(key, raw)
    else:
        raise _bad("%s: unknown condition" % key, "known are " + ", ".join(k for k in KEYS if k != "all_of"))


def _fits_number(key: str, raw: Any, have: Any) -> str:
    """Return "" where the condition holds, else why it does not."""
    value: Optional[Value] = None
    if key == "kernel":
        found = _KERNEL.match(str(have or ""))
        value = _version(found.group(0)) if found else None
    elif isinstance(have, int):
        value = (have,)
    if value is None:
        return "%s is unknown here (wanted %s)" % (key, raw)
    if all(_holds(bound, value) for bound in parse_condition(key, raw)):
        return ""
    return "%s is %s (wanted %s)" % (key, have, raw)


def _fits_word(key: str, raw: Any, have: Any) -> str:
    words = _words(key, raw)
    present = [str(item) for item in (have if isinstance(have, (list, tuple)) else [have]) if item not in (None, "")]
    if set(words) & set(present):
        return ""
    return "%s is %s (wanted %s)" % (key, ", ".join(present) or "none", " or ".join(words))


def _fits_labels(raw: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    for label, value in sorted(raw.items()):
        missing = _fits_word("label %s" % label, value, have.get(label))
        if missing:
            return missing
    return ""


def refusal(match: Optional[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return "" where the match holds, else why not in one plain line.

    Args:
        match: None (always holds) or conditions.
        facts: as :func:`facts` returns them; a fact left out counts as unknown.

    Raises:
        NodeError: code "usage" for a match that is none.
    """
    check(match)
    return _refusal(match, facts)


def _refusal(match: Optional[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    for key, raw in (match or {}).items():
        if key == "all_of":
            why = next((w for w in (_refusal(inner, facts) for inner in raw) if w), "")
        elif key == "labels":
            why = _fits_labels(raw, facts.get("labels") or {})
        elif key in WORDS:
            why = _fits_word(key, raw, facts.get(key))
        else:
            why = _fits_number(key, raw, facts.get(key))
        if why:
            return why
    return ""


def _layer(raw: Any) -> Tuple[str, Any, List[List[Dict[str, Any]]]]:
    """Take a layer apart. Raises NodeError(code="usage")."""
    if not isinstance(raw, Mapping):
        raise _bad("layers: wanted a list of mappings")
    lists = []
    for family in FAMILIES:
        settings = raw.get(family) or []
        if not isinstance(settings, (list, tuple)) or not all(isinstance(s, Mapping) for s in settings):
            raise _bad("layers: %s must be a list of settings" % family)
        lists.append([dict(s) for s in settings])
    return str(raw.get("profile") or "unnamed"), raw.get("match"), lists


#: What a layer may hold.
FAMILIES = ("sysctl", "nic_queues", "mtu")
#: Fields of a NIC or MTU setting that are wishes of their own, overridden one by one.
WISHES = {"nic_queues": ("channels", "rings", "rps", "xps"), "mtu": ("underlay", "pods")}


def _override(family: str, chosen: List[Dict[str, Any]], later: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Take from earlier settings for the same interfaces what the later one asks for itself; keep the order."""
    kept = []
    for setting in chosen:
        if setting.get("interfaces") != later.get("interfaces"):
            kept.append(setting)
            continue
        rest = {k: v for k, v in setting.items() if k not in WISHES[family] or later.get(k) is None}
        if any(rest.get(k) is not None for k in WISHES[family]):
            kept.append(rest)
    kept.append(later)
    return kept


def select(
    layers: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> Tuple[Dict[str, List[Dict[str, Any]]], List[str]]:
    """Return the settings that hold on a node, and why (pure).

    A later layer overrides an earlier one: a sysctl by its key, as a whole (``{"key": K, "drop": true}``
    takes the key out); a NIC or MTU setting by its interfaces, wish by wish.

    Args:
        layers: as in a request, in order.
        facts: as :func:`facts` returns them.

    Returns:
        ``{"sysctl": [raw...], "nic_queues": [raw...], "mtu": [raw...]}`` for the families' ``parse``, and a line per
        layer.

    Raises:
        NodeError: code "usage" for layers or matches that are none.
    """
    sysctls: Dict[str, Dict[str, Any]] = {}
    devices: Dict[str, List[Dict[str, Any]]] = {"nic_queues": [], "mtu": []}
    lines = []
    for raw in layers:
        name, match, (wishes, *of_devices) = _layer(raw)
        why = refusal(match, facts)
        lines.append("%s: %s" % (name, "left out: " + why if why else "applies"))
        if why:
            continue
        for wish in wishes:
            key = wish.get("key")
            if not isinstance(key, str) or not key:
                raise _bad("%s: a sysctl setting without a key" % name)
            name_of_key = canonical_key(key)  # net/core/x and net.core.x are one wish
            if wish.get("drop"):
                sysctls.pop(name_of_key, None)
            else:
                sysctls[name_of_key] = wish
        for family, settings in zip(devices, of_devices):
            for setting in settings:
                devices[family] = _override(family, devices[family], setting)
    return {"sysctl": list(sysctls.values()), **devices}, lines  # in the order in which they are changed


def _default_interface(root: str) -> str:
    """Return the interface of the default route of lowest metric (IPv4 first), "" where there is none."""
    found = []
    for line in (read_text(os.path.join(root, "proc/net/route")) or "").splitlines()[1:]:
        words = line.split()
        if len(words) >= 8 and words[1] == "00000000" and words[7] == "00000000" and words[6].isdigit():
            found.append((int(words[6]), words[0]))
    if found:
        return min(found)[1]
    for line in (read_text(os.path.join(root, "proc/net/ipv6_route")) or "").splitlines():
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            try:
                found.append((int(words[5], 16), words[9]))
            except ValueError:
                continue
    return min(found)[1] if found else ""


def link_speed(root: str = "/") -> Optional[int]:
    """Return the Mbit/s of the default route's interface as the kernel states it, None where it does not.

    Reads /proc/net/route, /proc/net/ipv6_route and /sys/class/net/NAME/speed; virtual devices often have none.
    """
    name = _default_interface(root)
    if not name or "/" in name:
        return None
    text = (read_text(os.path.join(root, "sys/class/net", name, "speed"), 64) or "").strip()
    return int(text) if _NUMBER.match(text) and int(text) > 0 else None


def facts(
    host: Host,
    labels: Optional[Mapping[str, str]] = None,
    groups: Optional[Sequence[str]] = None,
    link_speed_mbps: Optional[int] = None,
) -> Dict[str, Any]:
    """Return what matches are held against: the host's own facts, and what the request says of the node."""
    return {
        "link_speed_mbps": link_speed_mbps,
        "cpus": host.cpus,
        "memory_mib": host.memory_mib,
        "kernel": host.kernel,
        "role": list(host.roles),
        "os_id": host.os_id,
        "labels": dict(labels or {}),
        "groups": list(groups or []),
    }
