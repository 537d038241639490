# SPDX-License-Identifier: Apache-2.0
"""The node code as one file that outlives a module's temporary directory.

The same files are found in three places: a checkout or an installed collection (a directory), AnsiballZ's
payload (a zip) and the bundle itself (a zip). Whatever the place, the same code gives the same name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import marshal
import os
import sys
from typing import Dict, Optional, Tuple

from .errors import NodeError
from .files import make_dir, write_atomic
from .host import Host

PACKAGE = "tune_nodes_node"
CODE_DIR = "/var/lib/tune-nodes/code"
BOOT_LINK = "/var/lib/tune-nodes/boot.pyz"
KEEP = 5  # versions kept beside those a transaction still names
#: Sub-packages that travel. Recovery code has bundles of its own.
_PARTS = ("sysctl", "nic", "mtu", "paths", "transaction")
_LEFT_OUT = ("ansible_glue.py",)
_MAIN = "from %s.node import main\nmain()\n" % PACKAGE


def _wanted(name: str) -> bool:
    head, sep, tail = name.partition("/")
    if not name.endswith(".py"):
        return False
    return (head in _PARTS and "/" not in tail) if sep else head not in _LEFT_OUT


def sources() -> Dict[str, bytes]:
    """Return the node code: path below module_utils -> source. Raises NodeError where it cannot be read."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = _from_directory(here) if os.path.isdir(here) else _from_zip(here)
    if "node.py" not in found:
        raise NodeError("the node code cannot be read from %s" % here, "it is neither a directory nor a zip archive")
    return found


def _from_directory(here: str) -> Dict[str, bytes]:
    found = {}
    for part in ("", *_PARTS):
        directory = os.path.join(here, part)
        for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            name = os.path.join(part, entry) if part else entry
            if _wanted(name):
                with open(os.path.join(directory, entry), "rb") as handle:
                    found[name] = handle.read()
    return found


def _from_zip(here: str) -> Dict[str, bytes]:
    import zipfile  # seldom needed, and dear to load on every start

    archive = here
    while archive != "/" and not os.path.exists(archive):
        archive = os.path.dirname(archive)
    prefix = os.path.relpath(here, archive) + "/"
    found = {}
    try:
        with zipfile.ZipFile(archive) as payload:
            for name in payload.namelist():
                if name.startswith(prefix) and _wanted(name[len(prefix) :]):
                    found[name[len(prefix) :]] = payload.read(name)
    except (OSError, zipfile.BadZipFile) as exc:
        raise NodeError("the node code cannot be read from %s" % archive, str(exc)) from exc
    return found


def content_hash(files: Dict[str, bytes]) -> str:
    """Return the name of the code: a hash over paths and contents, the same however they are packed."""
    whole = hashlib.sha256()
    for name in sorted(files):
        # AnsiballZ writes empty packages its own way.
        body = b"" if name.endswith("__init__.py") else files[name]
        whole.update(name.encode() + b"\0" + hashlib.sha256(body).digest())
    return whole.hexdigest()[:32]


def build(files: Optional[Dict[str, bytes]] = None) -> Tuple[str, bytes]:
    """Return (content hash, bytes of a runnable zip archive)."""
    import zipfile

    found = sources() if files is None else files
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(found):
            body = b"" if name.endswith("__init__.py") else found[name]
            archive.writestr(zipfile.ZipInfo("%s/%s" % (PACKAGE, name)), body, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
    return content_hash(found), packed.getvalue()


def install(host: Host, code: Optional[Tuple[str, bytes]] = None) -> str:
    """Put the code on the node, root-owned, under its hash; does nothing where it is there already.

    Returns:
        The path as the reverter will use it.

    Raises:
        NodeError: it cannot be written.
    """
    name, data = build() if code is None else code
    path = os.path.join(CODE_DIR, name + ".pyz")
    target = host.path(path)
    if not os.path.isfile(target):
        make_dir(host.path(CODE_DIR), 0o755)
        write_atomic(target, data, 0o644, token=str(os.getpid()))
    compiled = host.path(CODE_DIR, compiled_name(name))
    if not os.path.isfile(compiled):
        with contextlib.suppress(NodeError):  # it only saves time
            write_atomic(compiled, compile_archive(data), 0o600, token=str(os.getpid()))
    return target


def compiled_name(name: str) -> str:
    """Return the file name of compiled code: code objects are of one interpreter version only."""
    return "%s.%s.bin" % (name, sys.implementation.cache_tag)


def compile_archive(data: bytes) -> bytes:
    """Return an archive's modules compiled: SHA-256 of the rest, then marshalled ``{name: (is package, code)}``.

    Loading it takes a third of the time of compiling the archive anew at every start.
    """
    import zipfile

    modules = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for path in archive.namelist():
            name, package = path[: -len(".py")].replace("/", "."), path.endswith("/__init__.py")
            if name.startswith(PACKAGE):
                name = name[: -len(".__init__")] if package else name
                modules[name] = (package, compile(archive.read(path), path, "exec", dont_inherit=True))
    packed = marshal.dumps(modules)
    return hashlib.sha256(packed).digest() + packed


def prune(host: Host, named: Tuple[str, ...]) -> None:
    """Drop code that no transaction, and not the boot unit, names any more (the newest KEEP stay)."""
    directory = host.path(CODE_DIR)
    kept = {os.path.basename(name) for name in named}
    boot = host.path(BOOT_LINK)
    if os.path.islink(boot):
        kept.add(os.path.basename(os.readlink(boot)))
    try:
        files = [os.path.join(directory, n) for n in os.listdir(directory) if n.endswith(".pyz")]
        files.sort(key=os.path.getmtime, reverse=True)
        gone = {os.path.basename(p).split(".")[0] for p in files[KEEP:] if os.path.basename(p) not in kept}
        for name in os.listdir(directory):
            if name.split(".")[0] in gone:
                os.unlink(os.path.join(directory, name))
    except OSError:
        return  # housekeeping only; the next request tries again
