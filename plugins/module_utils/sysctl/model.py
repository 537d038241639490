# SPDX-License-Identifier: Apache-2.0
"""Plain data of the sysctl family: one wish, its key in the one canonical form, its value as canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import NodeError
from .catalogue import lookup, suggestions
from .entry import BITMAP, CLASSES, EXACT, INT, NETNS, SCOPES, STRING, VECTOR, Entry

_KEY_LIMIT = 255
_VALUE_LIMIT = 2048  # a write must fit one page, with room to spare
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")
_MASK = re.compile(r"[0-9a-fA-F]{1,8}(,[0-9a-fA-F]{1,8}){0,255}")
# Printable, and nothing that sysctl.d would read as a glob, a comment or an assignment.
_SEGMENT = re.compile(r"[A-Za-z0-9_.:@%+,~^!&$-]+")
_FIELDS = frozenset(
    ("key", "value", "class", "scope", "owners", "take", "module", "opt_in", "reason", "source"),
)


@dataclass(frozen=True)
class Setting:
    """One wish, checked: what :func:`parse_setting` returns.

    Attributes:
        key: canonical key (dots; a dot inside an interface name is written ``/``).
        value: canonical text.
        owners: programs whose live presence makes the key theirs.
        take: set the key though it has an owner.
    """

    key: str
    value: str
    cls: str
    scope: str = NETNS
    shape: str = ""  # "" where the catalogue does not know the key
    owners: Tuple[str, ...] = ()
    take: bool = False
    module: str = ""
    opt_in: bool = False
    reason: str = ""
    source: str = ""

    @property
    def requested(self) -> str:
        """The wish as a person would say it: ``floor 4096``."""
        return "%s %s" % (self.cls, self.value)

    def to_raw(self) -> Dict[str, Any]:
        """Return the mapping that :func:`parse_setting` takes, complete, for keeping on the node."""
        raw: Dict[str, Any] = {
            "key": self.key,
            "value": self.value,
            "class": self.cls,
            "scope": self.scope,
            "owners": list(self.owners),
            "reason": self.reason,
            "source": self.source,
        }
        if self.take:
            raw["take"] = True
        if self.opt_in:
            raw["opt_in"] = True
        if self.module:
            raw["module"] = self.module
        return raw


def _usage(what: str, why: str = "", next: str = "") -> NodeError:
    return NodeError(what, why, next, code="usage")


def normalise_path(key: str) -> str:
    """Return a key as systemd-sysctl normalises it: a path below /proc/sys, not checked in any way.

    The first separator decides: after a dot, dots are separators and slashes are dots within a name; after a
    slash, the key is a path already (sysctl.d(5), sysctl_normalize() of systemd). Empty and ``.`` segments go.
    """
    first = re.search(r"[./]", key)
    if first and first.group() == ".":
        key = key.translate({ord("."): "/", ord("/"): "."})
    return "/".join(part for part in key.split("/") if part not in ("", "."))


def segments(key: str) -> Tuple[str, ...]:
    """Return the path segments of a key below /proc/sys.

    Raises:
        NodeError: code ``usage``, where the key could name anything but one file below /proc/sys.
    """
    shown = key[:80]
    if not key or len(key) > _KEY_LIMIT:
        raise _usage("%r is not a sysctl key" % shown, "a key has 1 to %d characters" % _KEY_LIMIT)
    first = re.search(r"[./]", key)
    if first is None:
        raise _usage("%r is not a sysctl key" % shown, "it has no separator, as in net.core.somaxconn")
    path = key.translate({ord("."): "/", ord("/"): "."}) if first.group() == "." else key
    parts = tuple(path.split("/"))
    for part in parts:
        if part in ("", ".", "..") or not _SEGMENT.fullmatch(part):
            raise _usage(
                "%r is not a sysctl key" % shown,
                "the part %r cannot be a name below /proc/sys" % part[:40],
                "name one key, without globs, as in net.ipv4.conf.eth0/100.forwarding",
            )
    if len(parts) < 2 or "." in parts[0] or parts[0].startswith(("-", "#", ";")):
        raise _usage("%r is not a sysctl key" % shown, "it does not begin with a directory of /proc/sys")
    return parts


def canonical_key(key: str) -> str:
    """Return the one spelling of a key: dots, and ``/`` for a dot inside a name. Raises NodeError (usage)."""
    return ".".join(part.replace(".", "/") for part in segments(key))


def canonical_mask(text: str) -> Optional[str]:
    """Return a hexadecimal CPU mask as groups of 32 bits without leading zeros, None if it is none."""
    if not _MASK.fullmatch(text):
        return None
    number = 0
    for group in text.split(","):
        number = (number << 32) | int(group, 16)
    groups: List[str] = []
    while True:
        groups.insert(0, "%08x" % (number & 0xFFFFFFFF))
        number >>= 32
        if not number:
            break
    groups[0] = groups[0].lstrip("0") or "0"
    return ",".join(groups)


def numbers(text: str) -> Optional[List[int]]:
    """Return the whole numbers of a value, None if it is anything else."""
    tokens = text.split()
    if not tokens or not all(_NUMBER.fullmatch(token) for token in tokens):
        return None
    return [int(token) for token in tokens]


def normalise_value(key: str, text: str) -> str:
    """Return the canonical text of a value: numbers with single spaces, masks in groups, else as it stands."""
    entry = lookup(key)
    text = text.strip()
    if entry is not None and entry.shape == STRING:
        return text
    if entry is not None and entry.shape == BITMAP:
        return canonical_mask(text) or text
    found = numbers(text)
    return " ".join(str(number) for number in found) if found else text


def _raw_text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        raise _usage("%s: %r is not a value" % (key, value), "on and off are numbers here", "write 1 or 0")
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise _usage("%s: a value is a number or a text, not %s" % (key, type(value).__name__))
    text = value.strip()
    if len(text) > _VALUE_LIMIT or not text.isprintable():
        # Tabs between numbers are what /proc prints; nothing else that cannot be printed has a meaning.
        text = text.replace("\t", " ")
        if len(text) > _VALUE_LIMIT or not text.isprintable():
            raise _usage("%s: the value is too long or holds control characters" % key)
    for token in text.split():
        if re.fullmatch(r"[+-]?0[0-9]+", token):
            raise _usage(
                "%s: %r is ambiguous" % (key, token), "the kernel would read it as octal", "drop the leading zero"
            )
    return text


def _check_number(entry: Entry, number: int) -> None:
    low, high = entry.minimum, entry.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        raise _usage(
            "%s: %d is impossible" % (entry.key, number),
            "it takes %s to %s" % ("anything" if low is None else low, "anything" if high is None else high),
        )
    if number % entry.multiple:
        raise _usage(
            "%s: %d is impossible" % (entry.key, number),
            "the kernel rounds it to a multiple of %d" % entry.multiple,
        )


def _check_shape(key: str, entry: Entry, text: str) -> None:
    """Refuse a value that the key cannot hold. Raises NodeError (usage)."""
    if entry.shape == STRING:
        return
    if entry.shape == BITMAP:
        if canonical_mask(text) is None:
            raise _usage("%s: %r is not a hexadecimal CPU mask" % (key, text[:40]))
        return
    found = numbers(text)
    want = entry.length if entry.shape == VECTOR else 1
    if found is None or len(found) != want:
        raise _usage(
            "%s: %r is not %s" % (key, text[:40], "a whole number" if want == 1 else "%d whole numbers" % want)
        )
    for number in found:
        _check_number(entry, number)
    if entry.ordered and found != sorted(found):
        raise _usage("%s: %r is impossible" % (key, text[:40]), "the numbers must not decrease")


def _texts(raw: Mapping[str, Any], key: str, name: str, default: str) -> str:
    value = raw.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise _usage("%s: %s is a text" % (key, name))
    return value.strip()


def _flag(raw: Mapping[str, Any], key: str, name: str) -> bool:
    value = raw.get(name, False)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _usage("%s: %s is true or false" % (key, name))
    return value


def _owners(raw: Mapping[str, Any], key: str, entry: Optional[Entry]) -> Tuple[str, ...]:
    value = raw.get("owners")
    if value is None:
        return entry.owners if entry else ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
        raise _usage("%s: owners is a list of program names" % key)
    return tuple(value)


def _class(raw: Mapping[str, Any], key: str, entry: Optional[Entry]) -> str:
    cls = _texts(raw, key, "class", entry.cls if entry else "")
    if not cls:
        near = suggestions(key)
        raise _usage(
            "%s is not in the key catalogue" % key,
            "so its class is not known",
            "did you mean %s?" % ", ".join(near) if near else "give class: floor, ceiling or exact",
        )
    if cls not in CLASSES:
        raise _usage("%s: %r is not a class" % (key, cls[:40]), "", "use floor, ceiling or exact")
    if cls != EXACT and entry is not None and entry.shape in (STRING, BITMAP):
        raise _usage("%s: %s needs numbers" % (key, cls), "", "use class: exact")
    return cls


def _value(raw: Mapping[str, Any], key: str, entry: Optional[Entry], cls: str) -> str:
    """Return the wish's canonical value, checked. Raises NodeError (usage)."""
    if "value" not in raw:
        raise _usage("%s has no value" % key)
    text = _raw_text(key, raw["value"])
    if not text and (entry is None or entry.shape != STRING):
        raise _usage("%s has no value" % key)
    if entry is not None:
        _check_shape(key, entry, text)
    elif cls != EXACT and numbers(text) is None:
        raise _usage("%s: %s needs numbers, not %r" % (key, cls, text[:40]))
    return normalise_value(key, text)


def _check_opt_in(raw: Mapping[str, Any], key: str, entry: Optional[Entry]) -> bool:
    """Return whether the key is opt-in; refuse it where the profile has not said so."""
    said = _flag(raw, key, "opt_in")
    if entry is not None and entry.opt_in and not said:
        raise _usage(
            "%s must be asked for by name" % key, entry.reason, "add opt_in: true to the setting if that is wanted"
        )
    return said


def parse_setting(raw: Mapping[str, Any]) -> Setting:
    """Check one setting as it stands in a request and complete it from the catalogue.

    Args:
        raw: ``key``, ``value`` and, optionally, ``class``, ``scope``, ``owners``, ``take``, ``module``, ``opt_in``,
            ``reason``, ``source``.

    Raises:
        NodeError: code ``usage``: unknown field, impossible key or value, unknown key without a class.
    """
    if not isinstance(raw, Mapping):
        raise _usage("a sysctl setting is a mapping, not %s" % type(raw).__name__)
    unknown = sorted(str(name) for name in raw if name not in _FIELDS)
    if unknown:
        raise _usage("a sysctl setting has no field %r" % unknown[0][:40], "", "it has %s" % ", ".join(sorted(_FIELDS)))
    if not isinstance(raw.get("key"), str):
        raise _usage("a sysctl setting has no key")
    key = canonical_key(raw["key"])
    entry = lookup(key)
    cls = _class(raw, key, entry)
    scope = _texts(raw, key, "scope", entry.scope if entry else _scope_of(key))
    if scope not in SCOPES:
        raise _usage("%s: %r is not a scope" % (key, scope[:40]), "", "use netns or host")
    return Setting(
        key=key,
        value=_value(raw, key, entry, cls),
        cls=cls,
        scope=scope,
        shape=(entry.shape or INT) if entry else "",
        owners=_owners(raw, key, entry),
        take=_flag(raw, key, "take"),
        module=_texts(raw, key, "module", entry.module if entry else ""),
        opt_in=_check_opt_in(raw, key, entry),
        reason=_texts(raw, key, "reason", entry.reason if entry else ""),
        source=_texts(raw, key, "source", entry.source if entry else ""),
    )


def _scope_of(key: str) -> str:
    """Guess the scope of a key the catalogue does not know: only net.* can belong to a network namespace."""
    return NETNS if key.startswith("net.") else "host"
