# SPDX-License-Identifier: Apache-2.0
"""What is kept of a node before its CNI state is rebuilt, as one archive that is fetched to the controller.

Configurations, leases, cached attachments and what the agent wrote. Files that hold keys are left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from typing import Any, Dict, Iterator, List, Tuple

from ...files import make_dir, read_bytes, write_atomic
from ...host import Host
from .record import DIRECTORY

#: Bytes of one file and of all of them; what is more is left out, and that is said.
ONE, ALL = 4 << 20, 48 << 20
_KEYS = re.compile(r"kubeconfig|wgkey|\.key\Z|\.pem\Z|token|secret|password", re.IGNORECASE)
TREES = ("/var/lib/cni", "/run/flannel")


def take(host: Host, run: str, conf_dir: str) -> Dict[str, Any]:
    """Write the archive to /var/lib/tune-nodes/rebuild/RUN.tar.gz, root only.

    Returns:
        ``path``, ``sha256``, ``bytes``, ``files`` (how many), ``left_out`` (paths that are not in it).

    Raises:
        NodeError: it cannot be written.
    """
    left_out: List[str] = []
    packed = io.BytesIO()
    count = size = 0
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        for path, status in _files(host, (conf_dir, *TREES)):
            data = None if _KEYS.search(path) or status.st_size > ONE else read_bytes(host.path(path), ONE)
            if data is None or size + len(data) > ALL:
                left_out.append(path)
                continue
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(data), status.st_mode & 0o7777, int(status.st_mtime)
            entry.uid, entry.gid = status.st_uid, status.st_gid
            tar.addfile(entry, io.BytesIO(data))
            count, size = count + 1, size + len(data)
    data = packed.getvalue()
    make_dir(host.path("/var/lib/tune-nodes"), 0o700)
    make_dir(host.path(DIRECTORY), 0o700)
    path = os.path.join(DIRECTORY, run + ".tar.gz")
    write_atomic(host.path(path), data, 0o600)
    digest = hashlib.sha256(data).hexdigest()
    return {"path": path, "sha256": digest, "bytes": len(data), "files": count, "left_out": left_out[:50]}


def _files(host: Host, trees: Tuple[str, ...]) -> Iterator[Tuple[str, os.stat_result]]:
    """Yield the plain files below some directories, as the node names them; links are not followed."""
    for tree in trees:
        base = host.path(tree)
        for top, dirs, names in os.walk(base):
            dirs.sort()
            for name in sorted(names):
                full = os.path.join(top, name)
                try:
                    status = os.lstat(full)
                except OSError:
                    continue
                if os.path.isfile(full) and not os.path.islink(full):
                    yield os.path.join(tree, os.path.relpath(full, base)), status
