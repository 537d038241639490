# SPDX-License-Identifier: Apache-2.0
"""NIC settings as plain data: how a wish is written, and the canonical text of every value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ..errors import NodeError
from . import cpus

#: Interface keywords: every physical NIC, or what the default routes leave through.
PHYSICAL = "physical"
DEFAULT_ROUTE = "default-route"
KEYWORDS = (PHYSICAL, DEFAULT_ROUTE)

#: What can be set, in the order it must be applied.
ASPECTS = ("channels", "rings", "rps", "xps")

#: Which queues the masks belong to: RPS to receive queues, XPS to transmit queues.
SIDES = {"rps": "rx", "xps": "tx"}

#: A channels or rings wish: None, "auto", "max", a number, or {"rx": n, "tx": n}.
Count = Union[None, str, int, Dict[str, int]]

#: No device has more queues or descriptors than this.
MAX_CHANNELS = 4096
MAX_RING = 1 << 20

_FIELDS = {"interfaces", "channels", "rings", "rps", "xps", "reason", "source", "identity"}
_QUEUE = re.compile(r"(?:rx|tx)-(?:0|[1-9][0-9]{0,4})\Z")


@dataclass(frozen=True)
class NicSetting:
    """One wish for some interfaces. ``interfaces`` holds one keyword, or exact names and globs."""

    interfaces: Tuple[str, ...]
    channels: Count = None
    rings: Count = None
    rps: Optional[str] = None
    xps: Optional[str] = None
    reason: str = ""
    source: str = ""
    identity: Dict[str, str] = field(default_factory=dict)  # only in settings kept on a node

    def wish(self, aspect: str) -> Any:
        """Return what is asked of one of :data:`ASPECTS`, None for nothing."""
        return getattr(self, aspect)

    def aspects(self) -> List[str]:
        """Return the aspects this setting asks for."""
        return [a for a in ASPECTS if self.wish(a) is not None]


class Key(NamedTuple):
    """A change's key in parts; ``queue`` is "" for channels and rings."""

    interface: str
    aspect: str
    queue: str


def parse_key(text: str) -> Key:
    """Split "eth0/channels" or "eth0/rps/rx-0". Raises NodeError(code="usage")."""
    parts = text.split("/")
    if len(parts) == 2 and parts[1] in ("channels", "rings") and parts[0]:
        return Key(parts[0], parts[1], "")
    if len(parts) == 3 and parts[0] and _QUEUE.match(parts[2]) and SIDES.get(parts[1]) == parts[2][:2]:
        return Key(parts[0], parts[1], parts[2])
    raise _usage("%r is not the key of a NIC setting" % text, "for example eth0/channels or eth0/rps/rx-0")


def is_interface_name(name: str) -> bool:
    """Tell whether the kernel could have an interface of this name."""
    return (
        0 < len(name.encode("utf-8", "replace")) < 16 and name not in (".", "..") and not re.search(r"[\s/:\0]", name)
    )


def format_counts(counts: Mapping[str, int]) -> str:
    """Return "combined=4" or "rx=2 tx=2": the counts that are not 0, "none" if all are."""
    parts = ["%s=%d" % (k, counts[k]) for k in ("combined", "rx", "tx") if counts.get(k)]
    return " ".join(parts) or "none"


def parse_counts(text: str) -> Dict[str, int]:
    """Parse what :func:`format_counts` wrote. Raises NodeError(code="usage")."""
    counts = {"combined": 0, "rx": 0, "tx": 0}
    for word in [] if text == "none" else text.split():
        name, sep, value = word.partition("=")
        if name not in counts or not sep or not (value.isascii() and value.isdigit()) or len(value) > 9:
            raise _usage("%r is not a count of queues or descriptors" % text, "for example combined=4 or rx=2 tx=2")
        counts[name] = int(value)
    return counts


def format_wish(wish: Any) -> str:
    """Return a wish as a person writes it: "auto", "4", "rx=2 tx=2"."""
    return format_counts(wish) if isinstance(wish, dict) else str(wish)


def parse_setting(raw: Mapping[str, Any]) -> NicSetting:
    """Validate one raw setting (see the collection's nic_queues module). Raises NodeError(code="usage")."""
    if not isinstance(raw, Mapping):
        raise _usage("a NIC setting must be a mapping", "got %s" % type(raw).__name__)
    unknown = sorted(str(k) for k in raw if k not in _FIELDS)
    if unknown:
        raise _usage("unknown NIC setting %s" % ", ".join(unknown), "known: " + ", ".join(sorted(_FIELDS)))
    setting = NicSetting(
        interfaces=_interfaces(raw.get("interfaces")),
        channels=_count("channels", raw.get("channels"), ("auto", "max"), MAX_CHANNELS),
        rings=_count("rings", raw.get("rings"), ("max",), MAX_RING),
        rps=_steering("rps", raw.get("rps")),
        xps=_steering("xps", raw.get("xps")),
        reason=_text("reason", raw.get("reason")),
        source=_text("source", raw.get("source")),
        identity=_identity(raw.get("identity")),
    )
    if not setting.aspects():
        raise _usage("a NIC setting asks for nothing", "give channels, rings, rps or xps")
    return setting


def _interfaces(value: Any) -> Tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise _usage("interfaces is missing", "give physical, default-route, or a list of names or globs")
    for name in names:
        if not isinstance(name, str) or not is_interface_name(_without_globs(name)):
            raise _usage("%r is not an interface name or glob" % (name,), "names have at most 15 characters")
    if len(names) > 1 and any(n in KEYWORDS for n in names):
        raise _usage("interfaces takes one keyword or a list of names, not both", "got " + ", ".join(names))
    return tuple(names)


def _without_globs(name: str) -> str:
    """Return a name that stands for a pattern: keywords are fine, and globs may be longer than a name."""
    if name in KEYWORDS:
        return "keyword"
    return re.sub(r"\[[^\]]*\]", "x", name).replace("*", "").replace("?", "x") or "x"


def _count(name: str, value: Any, words: Tuple[str, ...], most: int) -> Count:
    if value is None:
        return None
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_range(name, value, most)
    if isinstance(value, Mapping) and value and set(value) <= {"rx", "tx"}:
        sides: Dict[str, int] = {}
        for side in sorted(value):
            count = _count(name, value[side], (), most)
            if not isinstance(count, int):
                raise _usage("%s.%s must be a number" % (name, side), "got %r" % (value[side],))
            sides[side] = count
        return sides
    allowed = ", ".join([*words, "a number", "or a mapping of rx and tx"])
    raise _usage("%s: %r is not understood" % (name, value), "allowed: " + allowed)


def _in_range(name: str, value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise _usage("%s: %d is out of range" % (name, value), "allowed: 1 to %d" % most)
    return value


def _steering(name: str, value: Any) -> Optional[str]:
    if value is None or value in ("auto", "off"):
        return value if value is None else str(value)
    if value is False:  # YAML 1.1 reads a bare off as false
        return "off"
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    listed = cpus.parse_list(value) if isinstance(value, str) else None
    if not listed:
        raise _usage("%s: %r is not understood" % (name, value), "allowed: auto, off, or a CPU list such as 0-3,8")
    return cpus.format_list(listed)


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _usage("%s must be text" % name, "got %s" % type(value).__name__)
    return value


def _identity(value: Any) -> Dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise _usage("identity must be a mapping of text", "it is written by the node itself")
    return dict(value)


def _usage(what: str, why: str) -> NodeError:
    return NodeError(what, why, code="usage")
