# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes, and nothing else: temporary file in the target's directory, fsync, rename, fsync."""

from __future__ import annotations

import errno
import os
from typing import Optional

from .errors import NodeError


def fsync_dir(path: str) -> None:
    """Make a directory's entries durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary_name(path: str, token: str) -> str:
    """Return the hidden name that a write of ``path`` uses; no program reads such a name in /etc/*.d."""
    head, tail = os.path.split(path)
    return os.path.join(head, ".%s.tune-nodes-%s" % (tail, token))


def write_atomic(path: str, data: bytes, mode: int = 0o644, token: str = "new") -> None:
    """Replace a file's content in one step; the old content stays whole until the new one is durable.

    Raises:
        NodeError: what could not be written, and why.
    """
    temporary = temporary_name(path, token)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        fsync_dir(os.path.dirname(path))
    except OSError as exc:
        remove(temporary)
        raise write_error(path, exc) from exc


def remove(path: str) -> bool:
    """Remove a file; True if it was there. A file that cannot be removed is left to the next resolve."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def read_bytes(path: str, limit: int = 4 << 20) -> Optional[bytes]:
    """Return a file's content, None where it is absent or unreadable."""
    # Plain system calls: half the cost of a file object, and /proc holds thousands of small files.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts, size = [], 0
    try:
        while size < limit:
            part = os.read(fd, min(65536, limit - size))
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts)


def make_dir(path: str, mode: int = 0o755) -> None:
    """Create a directory and its parents, durable. Raises NodeError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_dir(parent)
    try:
        os.mkdir(path, mode)
        fsync_dir(parent)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NodeError("cannot create %s" % path, "something that is not a directory has that name") from None
    except OSError as exc:
        raise write_error(path, exc) from exc


def write_error(path: str, exc: OSError) -> NodeError:
    """Turn an OSError on a write into what / why / next."""
    reasons = {
        errno.ENOSPC: ("the disk is full", "free some space on the node, then run again"),
        errno.EDQUOT: ("the disk quota is used up", "free some space on the node, then run again"),
        errno.EROFS: ("the file system is read-only", "see why it was remounted read-only (dmesg), then run again"),
        errno.EACCES: ("permission denied", "run as root: become"),
        errno.EPERM: ("not permitted", "run as root: become"),
    }
    why, following = reasons.get(exc.errno or 0, (exc.strerror or str(exc), ""))
    return NodeError("cannot write %s" % path, why, following)
