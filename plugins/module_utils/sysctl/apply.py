# SPDX-License-Identifier: Apache-2.0
"""The one write of the sysctl family."""

from __future__ import annotations

import errno
import os
from typing import Dict, Tuple

from ..errors import NodeError
from ..host import Host
from .read import proc_path, read_key

# errno -> (why, next, code)
_REASONS: Dict[int, Tuple[str, str, str]] = {
    errno.ENOENT: ("this kernel has no such key, or no such algorithm", "", "unsupported"),
    errno.ENOTDIR: ("this kernel has no such key", "", "unsupported"),
    errno.EINVAL: ("the kernel refuses this value", "look at the key's range in the kernel's documentation", "failed"),
    errno.ERANGE: ("the kernel refuses this value: out of range", "", "failed"),
    errno.EOVERFLOW: ("the kernel refuses this value: too large", "", "failed"),
    errno.EPERM: ("not permitted: it needs root, and CAP_NET_ADMIN or CAP_SYS_ADMIN", "", "failed"),
    errno.EACCES: ("not permitted: read-only here, or this process is not root", "", "failed"),
    errno.EROFS: ("/proc/sys is read-only here", "run on the host, not in a container", "unsupported"),
    errno.EBUSY: ("the kernel is busy with it", "try again", "failed"),
}


def _error(key: str, value: str, error: OSError) -> NodeError:
    why, next_step, code = _REASONS.get(error.errno or 0, (os.strerror(error.errno or 0), "", "failed"))
    return NodeError(
        "%s could not be set to %s" % (key, value or "nothing"),
        why,
        next_step,
        code,
        {"errno": error.errno, "key": key},
    )


def write_key(key: str, value: str, host: Host) -> None:
    """Write canonical text to a key in one write call.

    Of a vector the kernel keeps the numbers before the one it refuses, so a refused vector is put back.

    Raises:
        NodeError: the kernel has no such key, or refuses the value.
    """
    held = read_key(key, host) if " " in value else None
    try:
        _write(key, value, host)
    except NodeError:
        if held is not None and read_key(key, host) != held:
            _write(key, held, host)
        raise


def _write(key: str, value: str, host: Host) -> None:
    data = (value + "\n").encode("utf-8")
    try:
        # No O_CREAT: where the key is absent nothing may come into being.
        fd = os.open(proc_path(key, host), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError as error:
        raise _error(key, value, error) from error
    try:
        written = os.write(fd, data)
    except OSError as error:
        raise _error(key, value, error) from error
    finally:
        os.close(fd)
    if written != len(data):
        raise NodeError(
            "%s could not be set to %s" % (key, value),
            "the kernel took %d of %d bytes" % (written, len(data)),
            data={"key": key},
        )
