# SPDX-License-Identifier: Apache-2.0
"""host-local's leases: which networks have any, what they may give out, and who holds what. Reads only.

Only the networks of the configuration in use are looked at: podman and nerdctl keep theirs in the same tree.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import stat
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..host import Host, read_text
from ..mtu.cni import FLANNEL_ENV, parse_env
from .detect import META, Conf
from .model import Address, Lease, Network, Span, address_of

DATA_DIR = "/var/lib/cni/networks"
#: What host-local keeps beside the leases; never moved.
KEPT = ("lock", "last_reserved_ip.")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_MOST = 70000


def span_of(raw: Mapping[str, Any]) -> Optional[Span]:
    """Return what one range of host-local's configuration gives out, None where it cannot be told.

    Its own rules (containernetworking/plugins, ipam/host-local): from the first address after the network's to the
    last before the broadcast address; the gateway, the first address unless another is named, is not given out.
    """
    try:
        network = ipaddress.ip_network(str(raw.get("subnet", "")), strict=False)
    except ValueError:
        return None
    if network.prefixlen > network.max_prefixlen - 2:
        return None
    first: Address = network[1]
    last: Address = network[-2] if network.version == 4 else network[-1]
    start, end = address_of(raw.get("rangeStart")), address_of(raw.get("rangeEnd"))
    gateway = address_of(raw.get("gateway")) or first
    chosen = Span(start or first, end or last, gateway)
    same = chosen.first.version == chosen.last.version == network.version
    return chosen if same and int(chosen.first) <= int(chosen.last) else None


def spans_of(ipam: Mapping[str, Any]) -> Tuple[Span, ...]:
    """Return what an ``ipam`` block gives out; empty where any part of it cannot be told."""
    rows: List[Any] = [ipam] if isinstance(ipam.get("subnet"), str) else []
    ranges = ipam.get("ranges")
    for group in ranges if isinstance(ranges, list) else []:
        rows += group if isinstance(group, list) else [group]
    found = [span_of(row) if isinstance(row, dict) else None for row in rows]
    return tuple(span for span in found if span is not None) if None not in found else ()


def flannel_spans(env: Mapping[str, str]) -> Tuple[Span, ...]:
    """Return what flanneld's subnet.env gives this node."""
    subnets = [env[key] for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if env.get(key)]
    found = [span_of({"subnet": subnet}) for subnet in subnets]
    return tuple(span for span in found if span is not None) if None not in found else ()


def networks_of(conf: Conf, env: Mapping[str, str]) -> Tuple[List[Network], List[str]]:
    """Return the networks of a configuration whose leases are files on the node, and the IPAMs that are not (pure).

    Args:
        conf: the configuration in use.
        env: flanneld's subnet.env.
    """
    found: List[Network] = []
    others: List[str] = []
    for name, plugin in _with_ipam(conf):
        ipam = plugin.get("ipam")
        block: Mapping[str, Any] = ipam if isinstance(ipam, dict) else {}
        kind = str(block.get("type", ""))[:64]
        if plugin.get("type") == "flannel":
            delegate = plugin.get("delegate")
            inner = delegate.get("ipam") if isinstance(delegate, dict) else None
            block = inner if isinstance(inner, dict) else {}
            kind = str(block.get("type", "host-local"))[:64]
        if kind == "host-local" and _NAME.match(name):
            directory = block.get("dataDir")
            base = directory if isinstance(directory, str) and directory.startswith("/") else DATA_DIR
            spans = spans_of(block) or (flannel_spans(env) if plugin.get("type") == "flannel" else ())
            found.append(Network(name, os.path.join(os.path.normpath(base), name), spans, conf.path))
        elif kind:
            others.append(kind)
    return found, sorted(set(others))


def _with_ipam(conf: Conf) -> Iterable[Tuple[str, Mapping[str, Any]]]:
    """Yield (network name, plugin) of the plugins that may give out addresses, those of Multus's delegates included."""
    for plugin in conf.plugins:
        if plugin["type"] in META:
            delegates = plugin.get("delegates")
            for raw in delegates if isinstance(delegates, list) else []:
                if isinstance(raw, dict):
                    inner = raw.get("plugins", [raw])
                    for one in inner if isinstance(inner, list) else []:
                        if isinstance(one, dict) and isinstance(one.get("type"), str):
                            yield str(raw.get("name", "")), one
        else:
            yield conf.name, plugin


def read_env(host: Host) -> Dict[str, str]:
    """Return flanneld's subnet.env, {} without one."""
    return parse_env(read_text(host.path(FLANNEL_ENV), 1 << 16) or "")


def parse_lease(data: bytes) -> Tuple[str, str]:
    """Return (sandbox id, interface) of a lease file; the id is "" where it is not understood.

    The id is followed by CRLF and the interface; files of old versions hold the id alone.
    """
    try:
        lines = data.decode("ascii").strip().splitlines()
    except UnicodeDecodeError:
        return "", ""
    if not 1 <= len(lines) <= 2 or not _NAME.match(lines[0]):
        return "", ""
    ifname = lines[1].strip() if len(lines) == 2 else ""
    return (lines[0], ifname) if not ifname or re.match(r"[^\s/\x00-\x1f]{1,15}\Z", ifname) else ("", "")


def read_file(path: str) -> Optional[Tuple[bytes, os.stat_result]]:
    """Return a regular file's content and status, None where it is gone or something else. Raises NodeError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone; a link; a socket
            return None
        raise NodeError("a lease cannot be read", "%s: %s" % (path, exc.strerror), code="leases") from exc
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        return os.read(fd, 4096), status
    except OSError as exc:
        raise NodeError("a lease cannot be read", "%s: %s" % (path, exc.strerror), code="leases") from exc
    finally:
        os.close(fd)


def is_lease_name(name: str) -> bool:
    """Tell whether a file's name is that of a lease: an address in its one canonical form."""
    address = address_of(name)
    return address is not None and str(address) == name


def read_leases(network: Network, host: Host) -> Tuple[List[Lease], List[str]]:
    """Return a network's leases, and the names in its directory that are none.

    Raises:
        NodeError: code ``leases``: the directory is there and cannot be read, or is a link to somewhere else.
    """
    directory = host.path(network.directory)
    try:
        if os.path.islink(directory):
            following = "see why; what is behind a link is not touched"
            raise NodeError("the leases of %s lie behind a link" % network.name, directory, following, code="leases")
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return [], []
    except OSError as exc:
        raise NodeError("the leases of %s cannot be read" % network.name, exc.strerror or "", code="leases") from exc
    if len(names) > _MOST:
        raise NodeError("the network %s has more than %d leases" % (network.name, _MOST), code="leases")
    found, strange = [], []
    for name in names:
        if name.startswith(KEPT):
            continue
        read = read_file(os.path.join(directory, name)) if is_lease_name(name) else None
        if read is None:
            strange.append(name[:100])
            continue
        sandbox, ifname = parse_lease(read[0])
        found.append(Lease(network.name, name, sandbox, ifname, read[1].st_ino, read[1].st_mtime_ns))
    return found, strange


def capacity(network: Network, leases: Sequence[Lease]) -> Dict[str, Any]:
    """Return how full a network is: ``leases``, ``usable``, ``free`` (None where unknown), ``outside`` of its range."""
    inside = 0
    for lease in leases:
        address = address_of(lease.ip)
        if address is not None and any(span.holds(address) for span in network.spans):
            inside += 1
    usable = network.usable
    return {
        "leases": len(leases),
        "usable": usable,
        "free": None if usable is None else max(0, usable - inside),
        "outside": len(leases) - inside if network.spans else 0,
    }
