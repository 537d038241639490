# SPDX-License-Identifier: Apache-2.0
"""Network device settings by the kernel's ethtool ioctl (SIOCETHTOOL), without the ethtool program.

The numbers and layouts are those of the kernel's include/uapi/linux/ethtool.h. ``decode_*`` functions are
pure and survive any bytes; a request the driver does not know returns None, for that is data, not an error.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Type

from ..errors import NodeError

SIOCETHTOOL = 0x8946
SIOCGIFFLAGS = 0x8913
SIOCGIFHWADDR = 0x8927
IFF_UP = 0x1
IFF_RUNNING = 0x40

GDRVINFO = 0x03
GRINGPARAM = 0x10
SRINGPARAM = 0x11
GPERMADDR = 0x20
GRXCLSRLCNT = 0x2E
GRXCLSRULE = 0x2F
GRXCLSRLALL = 0x30
GRXFHINDIR = 0x38
SRXFHINDIR = 0x39
GCHANNELS = 0x3C
SCHANNELS = 0x3D
GRSSH = 0x46
SRSSH = 0x47
GLINKSETTINGS = 0x4C

#: The most table entries, key bytes and rules believed; more is a driver talking nonsense.
_MAX_TABLE = 1 << 14
_MAX_KEY = 1 << 10
_MAX_RULES = 1 << 14
_KEEP_TABLE = 0xFFFFFFFF
_DISCARD = (0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE)  # RX_CLS_FLOW_DISC, RX_CLS_FLOW_WAKE
_FLOW_RSS = 0x20000000

_RXNFC_SIZE = 192  # struct ethtool_rxnfc up to rule_locs, on every ABI with 8-byte aligned u64
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS)

#: Why the kernel or a driver refuses a write, in plain words.
_REASONS = {
    errno.EPERM: "root or CAP_NET_ADMIN is needed",
    errno.EACCES: "root or CAP_NET_ADMIN is needed",
    errno.EBUSY: "the device is busy with a reset or another change",
    errno.EOPNOTSUPP: "the driver cannot change this",
    errno.ENOMEM: "no memory for the new queues",
    errno.ENOSPC: "the device has no room for that many",
    errno.ERANGE: "the number is out of the device's range",
    errno.EINVAL: "the driver or kernel refuses this combination (the kernel's log may say why)",
    errno.ENETDOWN: "the interface is down and this driver changes it only while up",
}


class Channels(NamedTuple):
    """Queue counts of a device, in the order of struct ethtool_channels after its command."""

    max_rx: int
    max_tx: int
    max_other: int
    max_combined: int
    rx: int
    tx: int
    other: int
    combined: int


class Rings(NamedTuple):
    """Descriptor ring sizes, in the order of struct ethtool_ringparam after its command."""

    max_rx: int
    max_mini: int
    max_jumbo: int
    max_tx: int
    rx: int
    mini: int
    jumbo: int
    tx: int


class Rss(NamedTuple):
    """An RSS context: which queue each hash bucket goes to, the key, and what only the driver reads."""

    table: Tuple[int, ...]
    key: bytes
    hfunc: int
    input_xfrm: int


class Rules(NamedTuple):
    """What the receive flow rules ("ntuple") point at; ``complete`` is False if some could not be read."""

    number: int
    queues: Tuple[int, ...]
    contexts: Tuple[int, ...]
    complete: bool


def decode_channels(data: bytes) -> Optional[Channels]:
    """Decode struct ethtool_channels, None if it is too short."""
    return Channels(*struct.unpack_from("=8I", data, 4)) if len(data) >= 36 else None


def decode_rings(data: bytes) -> Optional[Rings]:
    """Decode struct ethtool_ringparam, None if it is too short."""
    return Rings(*struct.unpack_from("=8I", data, 4)) if len(data) >= 36 else None


def decode_driver(data: bytes) -> str:
    """Return the driver's name in struct ethtool_drvinfo, "" if there is none."""
    return data[4:36].split(b"\0", 1)[0].decode("ascii", "replace")


def decode_rss(data: bytes) -> Optional[Rss]:
    """Decode struct ethtool_rxfh with its table and key, None if it is cut short."""
    if len(data) < 24:
        return None
    _cmd, _context, indir, key, hfunc, xfrm = struct.unpack_from("=4IBB", data)
    if indir > _MAX_TABLE or key > _MAX_KEY or len(data) < 24 + 4 * indir + key:
        return None
    table = struct.unpack_from("=%dI" % indir, data, 24)
    return Rss(tuple(table), data[24 + 4 * indir : 24 + 4 * indir + key], hfunc, xfrm)


def encode_rss(rss: Rss) -> bytes:
    """Return the struct ethtool_rxfh that puts this table and key in force."""
    head = struct.pack("=4IBB6x", SRSSH, 0, len(rss.table) or _KEEP_TABLE, len(rss.key), 0, rss.input_xfrm)
    return head + struct.pack("=%dI" % len(rss.table), *rss.table) + rss.key


def decode_rule(data: bytes) -> Tuple[Optional[int], Optional[int]]:
    """Return (queue, RSS context) a struct ethtool_rxnfc holding one rule points at, None for neither."""
    if len(data) < _RXNFC_SIZE:
        return None, None
    cookie = struct.unpack_from("=Q", data, 168)[0]
    flow_type = struct.unpack_from("=I", data, 16)[0]
    if cookie in _DISCARD or (cookie >> 32) & 0xFF:  # dropped, or another function's queue
        return None, None
    if flow_type & _FLOW_RSS:
        return None, int(struct.unpack_from("=I", data, 184)[0])
    return int(cookie & 0xFFFFFFFF), None


def decode_locations(data: bytes, count: int) -> List[int]:
    """Return the rule locations that follow a struct ethtool_rxnfc; fewer if it is cut short."""
    count = max(0, min(count, (len(data) - 188) // 4))
    return list(struct.unpack_from("=%dI" % count, data, 188)) if count else []


class Ethtool:
    """One socket to ask the kernel through; use as a context manager.

    Every method raises NodeError: code ``gone`` where the interface does not exist, ``unsupported`` where a
    write is not possible here, ``failed`` for the rest.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)

    def __enter__(self) -> Ethtool:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[Any]
    ) -> None:
        self._socket.close()

    def _ioctl(self, request: int, name: str, payload: bytes) -> bytes:
        """Run an ioctl on struct ifreq and return it; OSError as it comes."""
        raw = os.fsencode(name)
        if not 0 < len(raw) < 16 or b"\0" in raw:
            raise OSError(errno.ENODEV, "no such interface")
        return fcntl.ioctl(self._socket.fileno(), request, struct.pack("16s24s", raw, payload))

    def _call(self, name: str, data: bytes) -> bytes:
        """Send an ethtool structure and return what the kernel made of it; OSError as it comes."""
        buffer = array.array("B", data)
        self._ioctl(SIOCETHTOOL, name, struct.pack("P", buffer.buffer_info()[0]))
        return buffer.tobytes()

    def _get(self, name: str, data: bytes) -> Optional[bytes]:
        """Return the answer to a question, None where the device has none. A device that errs raises."""
        try:
            return self._call(name, data)
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                raise _gone(name) from exc
            if exc.errno in _UNSUPPORTED or exc.errno == errno.EINVAL:
                return None
            raise NodeError(
                "%s does not answer" % name,
                _REASONS.get(exc.errno or 0, os.strerror(exc.errno or 0)),
                data={"interface": name, "errno": exc.errno},
            ) from exc

    def _set(self, name: str, data: bytes, what: str) -> None:
        try:
            self._call(name, data)
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                raise _gone(name) from exc
            code = exc.errno or 0
            raise NodeError(
                "%s of %s cannot be set" % (what, name),
                "%s (%s)" % (_REASONS.get(code, os.strerror(code)), errno.errorcode.get(code, str(code))),
                code="unsupported" if code in _UNSUPPORTED else "failed",
                data={"interface": name, "errno": code},
            ) from exc

    def driver(self, name: str) -> str:
        """Return the driver's name, "" where it has none."""
        return decode_driver(self._get(name, struct.pack("=I192x", GDRVINFO)) or b"")

    def channels(self, name: str) -> Optional[Channels]:
        """Return the queue counts, None where the driver has no notion of them."""
        return decode_channels(self._get(name, struct.pack("=I32x", GCHANNELS)) or b"")

    def set_channels(self, name: str, wanted: Channels) -> None:
        """Set the queue counts; the maxima in ``wanted`` are ignored by the kernel."""
        self._set(name, struct.pack("=9I", SCHANNELS, *wanted), "the number of queues")

    def rings(self, name: str) -> Optional[Rings]:
        """Return the ring sizes, None where the driver has none."""
        return decode_rings(self._get(name, struct.pack("=I32x", GRINGPARAM)) or b"")

    def set_rings(self, name: str, wanted: Rings) -> None:
        """Set the ring sizes."""
        self._set(name, struct.pack("=9I", SRINGPARAM, *wanted), "the ring size")

    def rss(self, name: str, context: int = 0) -> Optional[Rss]:
        """Return an RSS context's table and key, None where the device has no table."""
        sizes = self._get(name, struct.pack("=4I8x", GRSSH, context, 0, 0))
        if sizes is None or len(sizes) < 24:
            return None if context else self._old_table(name)
        indir, key = struct.unpack_from("=II", sizes, 8)
        if not 0 < indir <= _MAX_TABLE or key > _MAX_KEY:
            return None
        head = struct.pack("=4I8x", GRSSH, context, indir, key)
        return decode_rss(self._get(name, head + bytes(4 * indir + key)) or b"")

    def _old_table(self, name: str) -> Optional[Rss]:
        """Return the table by the older request, for kernels and drivers without the newer one."""
        sizes = self._get(name, struct.pack("=II", GRXFHINDIR, 0))
        size = struct.unpack_from("=I", sizes, 4)[0] if sizes else 0
        if not 0 < size <= _MAX_TABLE:
            return None
        data = self._get(name, struct.pack("=II", GRXFHINDIR, size) + bytes(4 * size))
        return Rss(tuple(struct.unpack_from("=%dI" % size, data, 8)), b"", 0, 0) if data else None

    def set_rss(self, name: str, rss: Rss) -> None:
        """Put a table and key back as :meth:`rss` returned them."""
        if rss.key or not rss.table:
            self._set(name, encode_rss(rss), "the RSS table")
        else:
            data = struct.pack("=II%dI" % len(rss.table), SRXFHINDIR, len(rss.table), *rss.table)
            self._set(name, data, "the RSS table")

    def reset_rss(self, name: str) -> None:
        """Let the driver spread its table over all queues again."""
        self._set(name, struct.pack("=II", SRXFHINDIR, 0), "the RSS table")

    def rules(self, name: str) -> Optional[Rules]:
        """Return what the receive flow rules point at, None where the device has no such rules."""
        answer = self._get(name, struct.pack("=I188x", GRXCLSRLCNT))
        if answer is None:
            return None
        count = struct.unpack_from("=I", answer, 184)[0]
        if count == 0:
            return Rules(0, (), (), True)
        if count > _MAX_RULES:
            return Rules(count, (), (), False)
        head = bytearray(_RXNFC_SIZE - 4 + 4 * count)
        struct.pack_into("=I", head, 0, GRXCLSRLALL)
        struct.pack_into("=I", head, 184, count)
        data = self._get(name, bytes(head))
        return self._rules_at(name, count, decode_locations(data or b"", count))

    def _rules_at(self, name: str, count: int, locations: List[int]) -> Rules:
        queues: Set[int] = set()
        contexts: Set[int] = set()
        complete = len(locations) == count
        for location in locations:
            request = bytearray(_RXNFC_SIZE)
            struct.pack_into("=I", request, 0, GRXCLSRULE)
            struct.pack_into("=I", request, 176, location)
            rule = self._get(name, bytes(request))
            if rule is None:
                complete = False
                continue
            queue, context = decode_rule(rule)
            if queue is not None:
                queues.add(queue)
            if context is not None:
                contexts.add(context)
        return Rules(count, tuple(sorted(queues)), tuple(sorted(contexts)), complete)

    def permanent_mac(self, name: str) -> str:
        """Return the address burnt into the device, "" where there is none."""
        data = self._get(name, struct.pack("=II32x", GPERMADDR, 32))
        return decode_mac(data[8:14]) if data and struct.unpack_from("=I", data, 4)[0] == 6 else ""

    def mac(self, name: str) -> str:
        """Return the address in use, "" for a device without an Ethernet address."""
        return decode_mac(self._plain(SIOCGIFHWADDR, name)[18:24])

    def flags(self, name: str) -> int:
        """Return the interface's IFF_* flags."""
        return int(struct.unpack_from("=H", self._plain(SIOCGIFFLAGS, name), 16)[0])

    def _plain(self, request: int, name: str) -> bytes:
        try:
            return self._ioctl(request, name, b"")
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                raise _gone(name) from exc
            raise NodeError("%s cannot be read" % name, os.strerror(exc.errno or 0)) from exc

    def speed(self, name: str) -> Optional[int]:
        """Return the link's speed in Mbit/s, None where it is unknown or the link is down."""
        data = self._get(name, struct.pack("=I44x", GLINKSETTINGS))
        speed = struct.unpack_from("=I", data, 4)[0] if data else 0
        if data and speed == 0:  # the first answer only says how many mask words (here negative) the kernel has
            words = abs(struct.unpack_from("=b", data, 15)[0])
            request = struct.pack("=IIBBBBBBBb32x", GLINKSETTINGS, 0, 0, 0, 0, 0, 0, 0, 0, words)
            data = self._get(name, request + bytes(12 * words))
            speed = struct.unpack_from("=I", data, 4)[0] if data else 0
        return int(speed) if 0 < speed < 0x7FFFFFFF else None


def decode_mac(data: bytes) -> str:
    """Return "aa:bb:cc:dd:ee:ff", "" for no bytes or only zeros."""
    return ":".join("%02x" % b for b in data) if len(data) == 6 and any(data) else ""


def _gone(name: str) -> NodeError:
    return NodeError("%s is gone" % name, "no such interface in this network namespace", code="gone")


def as_dict(values: Channels) -> Dict[str, Dict[str, int]]:
    """Return the counts as {"max": {rx, tx, combined}, "now": {...}}."""
    return {
        "max": {"rx": values.max_rx, "tx": values.max_tx, "combined": values.max_combined},
        "now": {"rx": values.rx, "tx": values.tx, "combined": values.combined},
    }
