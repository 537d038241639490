# SPDX-License-Identifier: Apache-2.0
"""Links, addresses and routes as rtnetlink tells them, made plain data. Pure; any bytes give an answer or None."""

from __future__ import annotations

import socket
import struct
from typing import Any, Dict, List, Optional

from .netlink import RTM_F_CLONED, attributes, number, text

IFF_UP, IFF_RUNNING = 0x1, 0x40
_AF_INET, _AF_INET6 = 2, 10

_ADDRESS, _NAME, _MTU, _LINK, _MASTER, _LINKINFO = 1, 3, 4, 5, 10, 18
_NETNSID, _MIN_MTU, _MAX_MTU, _PERM_ADDRESS = 37, 50, 51, 54
_KIND, _DATA, _PORT_KIND = 1, 2, 4

# Attributes inside IFLA_INFO_DATA, by kind (include/uapi/linux/if_link.h, if_tunnel.h).
_VXLAN = {"id": 1, "link": 3, "port": 15}
_IPTUN = ("ipip", "sit", "ip6tnl", "vti", "vti6")
_GRE = ("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan")
_GRE_CSUM, _GRE_KEY, _GRE_SEQ = 0x8000, 0x2000, 0x1000

#: What an observation says of a link's tunnel; every key is always there.
_NO_TUNNEL = {"id": 0, "local": "", "remote": "", "link": 0, "family": 0, "external": False, "options": 0}


def address(raw: Optional[bytes]) -> str:
    """Return an IPv4 or IPv6 address as text, "" for anything else and for the unspecified one."""
    if raw is None or len(raw) not in (4, 16) or not any(raw):
        return ""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def hardware(raw: Optional[bytes]) -> str:
    """Return a hardware address as colon-separated hexadecimal."""
    return ":".join("%02x" % byte for byte in raw or b"")


def decode_link(body: bytes) -> Optional[Dict[str, Any]]:
    """Decode an RTM_NEWLINK message's body; None without index and name.

    Returns:
        ``index``, ``name``, ``kind`` ("" for hardware), ``mtu`` and its bounds ``min`` and ``max`` in bytes (0: not
        told), ``up``, ``running``, ``type`` (ARPHRD), ``mac``, ``master`` and ``link`` (an index, 0: none), ``away``
        (its other end or its parent lies in another network namespace), ``port`` (what kind of master holds it) and
        ``tunnel`` (None where it is none).
    """
    if len(body) < 16:
        return None
    _family, _pad, kind_of, index, flags, _change = struct.unpack_from("=BBHiII", body)
    found = attributes(body[16:])
    name = text(found.get(_NAME))
    if index <= 0 or not name:
        return None
    info = attributes(found.get(_LINKINFO) or b"")
    kind = text(info.get(_KIND))
    return {
        "index": index,
        "name": name,
        "kind": kind,
        "mtu": number(found.get(_MTU)),
        "min": number(found.get(_MIN_MTU)),
        "max": number(found.get(_MAX_MTU)),
        "up": bool(flags & IFF_UP),
        "running": bool(flags & IFF_RUNNING),
        "type": kind_of,
        "mac": hardware(found.get(_PERM_ADDRESS) or found.get(_ADDRESS)),
        "master": number(found.get(_MASTER)),
        "link": number(found.get(_LINK)),
        "away": _NETNSID in found,
        "port": text(info.get(_PORT_KIND)),
        "tunnel": decode_tunnel(kind, attributes(info.get(_DATA) or b"")),
    }


def decode_tunnel(kind: str, data: Dict[int, bytes]) -> Optional[Dict[str, Any]]:
    """Decode IFLA_INFO_DATA of a tunnel, None for a link that is none.

    Returns:
        ``id``, ``local`` and ``remote`` (an address, "" for any), ``link`` (index of the device that carries it, 0
        where it names none), ``family`` (4, 6, or 0 where it does not say), ``external`` (each packet brings its own
        ends), ``options`` (bytes of optional headers).
    """
    if kind == "vxlan":
        return _vxlan(data)
    if kind == "geneve":
        return _geneve(data)
    if kind in _IPTUN:
        return _iptun(kind, data)
    if kind in _GRE:
        return _gre(kind, data)
    return dict(_NO_TUNNEL) if kind == "wireguard" else None


def _ends(data: Dict[int, bytes], local: List[int], remote: List[int]) -> Dict[str, Any]:
    """Return local and remote, whichever family they are of, and that family."""
    ends = {
        "local": next((address(data[n]) for n in local if address(data.get(n))), ""),
        "remote": next((address(data[n]) for n in remote if address(data.get(n))), ""),
    }
    known = ends["local"] or ends["remote"]
    return dict(ends, family=(6 if ":" in known else 4) if known else 0)


def _vxlan(data: Dict[int, bytes]) -> Dict[str, Any]:
    found = dict(_NO_TUNNEL, id=number(data.get(_VXLAN["id"])), link=number(data.get(_VXLAN["link"])))
    found.update(_ends(data, [4, 17], [2, 16]))
    found["external"] = bool(number(data.get(25)))
    return found


def _geneve(data: Dict[int, bytes]) -> Dict[str, Any]:
    found = dict(_NO_TUNNEL, id=number(data.get(1)), external=6 in data)
    found.update(_ends(data, [], [2, 7]))
    return found


def _iptun(kind: str, data: Dict[int, bytes]) -> Dict[str, Any]:
    found = dict(_NO_TUNNEL, link=number(data.get(1)), external=19 in data)
    found.update(_ends(data, [2], [3]))
    found["family"] = 6 if kind in ("ip6tnl", "vti6") else 4
    found["options"] = {0: 0, 1: 8, 2: 12}.get(number(data.get(15)), 0)  # none, FoU, GUE
    return found


def _gre(kind: str, data: Dict[int, bytes]) -> Dict[str, Any]:
    found = dict(_NO_TUNNEL, link=number(data.get(1)), external=18 in data)
    found.update(_ends(data, [6], [7]))
    found["family"] = 6 if kind.startswith("ip6") else 4
    flags = socket.ntohs(number(data.get(3)))
    found["options"] = 4 * sum(1 for bit in (_GRE_CSUM, _GRE_KEY, _GRE_SEQ) if flags & bit)
    return found


def decode_address(body: bytes) -> Optional[Dict[str, Any]]:
    """Decode an RTM_NEWADDR message's body into ``index``, ``family`` (4 or 6) and ``address``."""
    if len(body) < 8:
        return None
    family, _prefix, _flags, _scope, index = struct.unpack_from("=BBBBi", body)
    found = attributes(body[8:])
    # IFA_LOCAL is this end of a point-to-point link, IFA_ADDRESS the other.
    shown = address(found.get(2) or found.get(1))
    if family not in (_AF_INET, _AF_INET6) or not shown:
        return None
    return {"index": index, "family": 4 if family == _AF_INET else 6, "address": shown}


def decode_route(body: bytes) -> Optional[Dict[str, Any]]:
    """Decode an RTM_NEWROUTE message's body; None for other families and for what the kernel keeps for itself.

    Returns:
        ``family`` (4 or 6), ``to`` ("default" or CIDR), ``via``, ``index`` of the device (0: several, or none),
        ``metric``, ``mtu`` (0: the device's), ``locked`` (no path MTU may change it), ``advmss`` (0: from the MTU),
        ``cached`` (an entry of the path MTU cache).
    """
    if len(body) < 12:
        return None
    family, length, _src, _tos, _table, _proto, _scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    if family not in (_AF_INET, _AF_INET6) or kind != 1:  # RTN_UNICAST
        return None
    found = attributes(body[12:])
    to = address(found.get(1)) or ("0.0.0.0" if family == _AF_INET else "::")
    metrics = attributes(found.get(8) or b"")
    return {
        "family": 4 if family == _AF_INET else 6,
        "to": "default" if length == 0 else "%s/%d" % (to, length),
        "via": address(found.get(5)),
        "index": number(found.get(4)),
        "metric": number(found.get(6)),
        "mtu": number(metrics.get(2)),
        "locked": bool(number(metrics.get(1)) & (1 << 2)),
        "advmss": number(metrics.get(8)),
        "cached": bool(flags & RTM_F_CLONED),
    }
