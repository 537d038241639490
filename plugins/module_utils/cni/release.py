# SPDX-License-Identifier: Apache-2.0
"""Give stale leases back: CNI DEL from the cached attachment where there is one, else the file alone.

No lease goes before a durable copy and the manifest are there. A file goes only under host-local's own lock, and only
if it is still the one that was judged: same id, inode and time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ..errors import NodeError
from ..files import write_error
from ..host import Host
from . import attachment, command
from .command import Run
from .leases import parse_lease, read_file
from .model import Lease, Network
from .quarantine import DIRECTORY, Item, Quarantine, Saved

LOCK_WAIT = 15.0  # seconds for host-local's lock
LIMIT = 480.0  # seconds for a whole release; what is left then stays and is said


@dataclass
class Released:
    """What became of one lease.

    Attributes:
        how: ``del`` (the plugins gave it back), ``file`` (its file was moved), ``gone`` (somebody gave it back just
            now), ``kept`` (it is not the lease that was judged, or the time was over).
        note: why, where there is something to say.
    """

    lease: Lease
    how: str
    note: str = ""


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold host-local's lock of a network.

    Raises:
        NodeError: code ``busy`` after LOCK_WAIT seconds.
    """
    path = os.path.join(directory, "lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise write_error(path, exc) from exc
    try:
        limit = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if exc.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise write_error(path, exc) from exc
            if time.monotonic() >= limit:
                raise NodeError(
                    "the leases of this node are being changed by somebody else",
                    "host-local's lock %s is held" % path,
                    "see who holds it: fuser -v %s" % path,
                    code="busy",
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(fd)


def check_place(networks: Sequence[Network], host: Host) -> None:
    """Refuse a network whose directory would hold the quarantine: host-local looks for ids in all of its tree."""
    place = os.path.realpath(host.path(DIRECTORY))
    for network in networks:
        base = os.path.realpath(os.path.dirname(host.path(network.directory)))
        if place == base or place.startswith(base.rstrip("/") + "/"):
            raise NodeError(
                "the leases of %s cannot be moved" % network.name,
                "%s would hold the quarantine %s" % (base, DIRECTORY),
                code="unsupported",
            )


def is_same(path: str, lease: Lease) -> bool:
    """Tell whether a file is the very lease that was judged. Raises NodeError."""
    read = read_file(path)
    if read is None:
        return False
    sandbox, ifname = parse_lease(read[0])
    now = (sandbox, ifname, read[1].st_ino, read[1].st_mtime_ns)
    return now == (lease.id, lease.ifname, lease.inode, lease.mtime_ns)


def release(
    quarantine: Quarantine,
    networks: Sequence[Network],
    stale: Sequence[Lease],
    bin_dirs: Sequence[str],
    run: Run = command.run,
    limit: float = LIMIT,
) -> List[Released]:
    """Move stale leases to the quarantine.

    Args:
        quarantine: of this run; its directory is made here.
        networks: which the leases belong to.
        stale: what both scans agreed on.
        bin_dirs: where the plugins are.
        limit: seconds for all of it.

    Returns:
        One row for each lease, in the order given.

    Raises:
        NodeError: nothing was moved (code ``usage``, ``unsupported``, or the copies could not be written).
    """
    host = quarantine.host
    check_place(networks, host)
    quarantine.create()
    by_name = {network.name: network for network in networks}
    for lease in stale:
        item = _save(quarantine, by_name[lease.network], lease, host)
        if item is not None:
            quarantine.items.append(item)
    quarantine.seal()
    saved = {item.lease.key: item for item in quarantine.items}
    until = time.monotonic() + limit
    said: Dict[Tuple[str, str, str], str] = {}
    rows = []
    for lease in stale:
        item = saved.get(lease.key)
        if item is None:
            rows.append(Released(lease, "kept", "it changed just now"))
        elif time.monotonic() > until:
            rows.append(Released(lease, "kept", "the time for a release was over; run it again"))
        else:
            rows.append(_release(quarantine, item, by_name[lease.network], bin_dirs, run, said))
    return rows


def _save(quarantine: Quarantine, network: Network, lease: Lease, host: Host) -> Any:
    path = os.path.join(network.directory, lease.ip)
    if not is_same(host.path(path), lease):
        return None
    saved = quarantine.save(path, os.path.join(network.name, lease.ip))
    if saved is None or saved.mtime_ns != lease.mtime_ns:
        return None
    item = Item(lease, saved)
    if attachment.read(lease, host) is not None:
        for extra in (attachment.path_of(lease), os.path.join(attachment.DELEGATES, lease.id)):
            copy = os.path.join("attachments", "%s-%s" % (lease.ip, os.path.basename(extra)))
            kept = quarantine.save(extra, copy)
            item.extras += [] if kept is None else [kept]
    return item


def _release(
    quarantine: Quarantine,
    item: Item,
    network: Network,
    bin_dirs: Sequence[str],
    run: Run,
    said: Dict[Tuple[str, str, str], str],
) -> Released:
    """Release one lease. ``said``: what DEL said of each sandbox so far; two addresses of one sandbox take one DEL."""
    lease, host = item.lease, quarantine.host
    path = host.path(item.saved.path)
    quarantine.note(t="begin", network=lease.network, ip=lease.ip)
    who = (lease.network, lease.id, lease.ifname)
    note, how = "", "file"
    cached = attachment.read(lease, host) if who not in said else None
    if cached is not None:
        if not is_same(path, lease):
            return _noted(quarantine, Released(lease, "kept", "it changed just now"))
        said[who] = attachment.delete(cached, bin_dirs, run)
        if not said[who]:
            _forget(item.extras, host)
    if who in said:
        note = "CNI DEL failed: " + said[who] if said[who] else ""
        how = "file" if note else "del"
    with locked(host.path(network.directory)):
        if read_file(path) is None:
            return _noted(quarantine, Released(lease, "del" if how == "del" else "gone", note))
        if not is_same(path, lease):
            return _noted(quarantine, Released(lease, "kept", "it is another lease now"))
        try:
            os.unlink(path)
        except OSError as exc:
            raise write_error(path, exc) from exc
    return _noted(quarantine, Released(lease, "file", note))


def _noted(quarantine: Quarantine, row: Released) -> Released:
    quarantine.note(t="end", network=row.lease.network, ip=row.lease.ip, how=row.how, note=row.note)
    return row


def _forget(extras: Sequence[Saved], host: Host) -> None:
    """Remove the cached attachment after its DEL, as libcni does: the copy is in quarantine."""
    for extra in extras:
        if extra.path.startswith(attachment.RESULTS + "/"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(host.path(extra.path))


def counted(rows: Sequence[Released]) -> Mapping[str, int]:
    """Return how many leases went which way."""
    found: Dict[str, int] = {}
    for row in rows:
        found[row.how] = found.get(row.how, 0) + 1
    return found
