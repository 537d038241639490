# SPDX-License-Identifier: Apache-2.0
"""MTU settings as plain data: how a wish is written, keys, and what each encapsulation costs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple, Union

from ..errors import NodeError
from ..model import Change
from ..nic.model import is_interface_name

FAMILY_NAME = "mtu"

#: Interface keyword: what carries the tunnels to other nodes, else the default route.
AUTO = "auto"
KEEP = "keep"

#: Every IPv6 link must take this much (RFC 8200, section 5): below it the kernel takes IPv6 off the interface.
IPV6_MINIMUM = 1280
#: The least that every IPv4 host must take (RFC 791); smaller asks are taken for a slip of the pen.
SMALLEST, LARGEST = 576, 65535

#: Of a change in two rounds the first: packets stay as small as they were, or become it, whatever the links take.
HOLD = "hold"

#: What a key speaks of: a link's own MTU, or the one that its routes are pinned at.
MTU, ROUTE_MTU = "mtu", "route-mtu"

_FIELDS = {"interfaces", "underlay", "pods", "pin", "pins", "reason", "source", "identity", "keeper"}

#: Bytes that a tunnel puts before each packet: kind -> (IPv4 underlay, IPv6 underlay); 0: there is no such thing.
#: Outer IP (20 or 40), then: UDP 8 + VXLAN or Geneve 8 + inner Ethernet 14; GRE 4 (+ Ethernet 14); WireGuard's UDP
#: 8 + header 16 + tag 16. Sources: RFC 7348, RFC 8926, RFC 2784, WireGuard's paper; Calico's Felix has the same.
OVERHEAD: Dict[str, Tuple[int, int]] = {
    "vxlan": (50, 70),
    "geneve": (50, 70),
    "wireguard": (60, 80),
    "ipip": (20, 0),
    "sit": (20, 0),
    "ip6tnl": (0, 40),
    "gre": (24, 0),
    "ip6gre": (0, 44),
    "gretap": (38, 0),
    "ip6gretap": (0, 58),
    "vti": (73, 0),
    "vti6": (0, 93),
    "erspan": (50, 0),
    "ip6erspan": (0, 70),
}

#: The most a cloud's network carries, by what the machine's firmware says of its maker. Sources: Amazon EC2 User
#: Guide, "Network maximum transmission unit"; Google VPC documentation, "Maximum transmission unit".
CLOUD_LIMITS = {"Amazon EC2": 9001, "Google": 8896}


@dataclass(frozen=True)
class MtuSetting:
    """One wish. ``interfaces`` is (AUTO,) or exact names; None in ``underlay`` or ``pods`` asks for nothing."""

    interfaces: Tuple[str, ...] = (AUTO,)
    underlay: Union[str, int, None] = None  # "keep" or bytes
    pods: Union[str, int, None] = None  # "auto" or bytes
    pin: str = ""  # HOLD: the first of two rounds
    pins: Dict[str, int] = field(default_factory=dict)  # only in settings kept on a node: link -> what it is pinned at
    reason: str = ""
    source: str = ""
    identity: Dict[str, str] = field(default_factory=dict)  # only in settings kept on a node
    keeper: Dict[str, str] = field(default_factory=dict)  # the same: who keeps it over a reboot, and in which file


def parse_key(key: str) -> Tuple[str, str]:
    """Return (interface, aspect) of a key such as "eth0/mtu" or "eth0/route-mtu". Raises NodeError(code="usage")."""
    name, _, aspect = key.partition("/")
    if aspect not in (MTU, ROUTE_MTU) or not is_interface_name(name):
        raise usage("%r is not the key of an MTU" % key, "for example eth0/mtu")
    return name, aspect


def parse_mtu(value: str) -> int:
    """Return the bytes in a canonical value such as "1500". Raises NodeError(code="usage")."""
    if not re.match(r"[1-9][0-9]{0,5}\Z", value):
        raise usage("%r is not an MTU" % value, "wanted a number of bytes such as 1500")
    return int(value)


def parse_setting(raw: Mapping[str, Any]) -> MtuSetting:
    """Validate one raw setting (see the collection's mtu module). Raises NodeError(code="usage")."""
    if not isinstance(raw, Mapping):
        raise usage("an MTU setting must be a mapping", "got %s" % type(raw).__name__)
    unknown = sorted(str(k) for k in raw if k not in _FIELDS)
    if unknown:
        raise usage("unknown MTU setting %s" % ", ".join(unknown), "known: " + ", ".join(sorted(_FIELDS)))
    setting = MtuSetting(
        interfaces=_interfaces(raw.get("interfaces", AUTO)),
        underlay=_size("underlay", raw.get("underlay"), KEEP),
        pods=_size("pods", raw.get("pods"), AUTO),
        pin=_pin(raw.get("pin")),
        pins=_pins(raw.get("pins")),
        reason=_text("reason", raw.get("reason")),
        source=_text("source", raw.get("source")),
        identity=_texts("identity", raw.get("identity")),
        keeper=_texts("keeper", raw.get("keeper")),
    )
    if setting.underlay is None and setting.pods is None:
        raise usage("an MTU setting asks for nothing", "give underlay, pods or both")
    return setting


def _interfaces(value: Any) -> Tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise usage("interfaces is not understood", "give auto, or a list of names")
    for name in names:
        if not isinstance(name, str) or not is_interface_name(name):
            raise usage("%r is not an interface name" % (name,), "names have at most 15 characters")
    if len(names) > 1 and AUTO in names:
        raise usage("interfaces takes auto or a list of names, not both", "got " + ", ".join(names))
    return tuple(names)


def _size(name: str, value: Any, word: str) -> Union[str, int, None]:
    if value is None or value == word:
        return value if value is None else word
    if isinstance(value, str) and re.match(r"[0-9]{1,6}\Z", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise usage("%s: %r is not understood" % (name, value), "allowed: %s, or a number of bytes" % word)
    if not SMALLEST <= value <= LARGEST:
        raise usage("%s: %d is out of range" % (name, value), "allowed: %d to %d" % (SMALLEST, LARGEST))
    return value


def _pin(value: Any) -> str:
    if value not in (None, "", HOLD):
        raise usage("pin: %r is not understood" % (value,), "allowed: %s, or nothing" % HOLD)
    return value or ""


def _pins(value: Any) -> Dict[str, int]:
    rows = {} if value is None else value
    if not isinstance(rows, Mapping) or not all(
        isinstance(name, str) and is_interface_name(name) and isinstance(pin, int) and SMALLEST <= pin <= LARGEST
        for name, pin in rows.items()
    ):
        raise usage("pins must be a mapping of link to bytes", "it is written by the node itself")
    return dict(rows)


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise usage("%s must be text" % name, "got %s" % type(value).__name__)
    return value


def _texts(name: str, value: Any) -> Dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise usage("%s must be a mapping of text" % name, "it is written by the node itself")
    return dict(value)


def grows(changes: Iterable[Change]) -> bool:
    """Say whether a plan lets this node send or take larger packets to and from others (pure)."""
    for change in changes:
        if change.family != FAMILY_NAME or change.status != "pending":
            continue
        if change.key.endswith("/" + ROUTE_MTU) and change.want == "none":
            return True
        if "mac" in change.identity and int(change.want or 0) > int(change.before or 0):
            return True
    return False


def overhead(kind: str, family: int, options: int = 0) -> Optional[int]:
    """Return the bytes a tunnel of this kind costs on an IPv4 (4) or IPv6 (6) underlay, None where it is not known."""
    row = OVERHEAD.get(kind)
    cost = row[0 if family == 4 else 1] if row and family in (4, 6) else 0
    return cost + options if cost else None


def usage(what: str, why: str) -> NodeError:
    """Return the error for a setting that is none."""
    return NodeError(what, why, code="usage")
