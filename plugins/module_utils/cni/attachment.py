# SPDX-License-Identifier: Apache-2.0
"""CNI DEL for a sandbox that is gone, made from the attachment that libcni cached when it was added.

It gives back more than the lease: portmap's rules, what a plugin keeps of its own. This is what libcni's GC does for
an attachment that is not in the list of valid ones (containernetworking/cni, libcni/api.go).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import NodeError
from ..files import read_bytes
from ..host import Host
from . import command
from .command import Run
from .model import Lease

RESULTS = "/var/lib/cni/results"
#: What flannel's plugin keeps of a container; its DEL needs it, and removes it.
DELEGATES = "/var/lib/cni/flannel"
TIMEOUT = 30.0  # seconds for one plugin
_TYPE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}\Z")


@dataclass(frozen=True)
class Attachment:
    """A cached attachment.

    Attributes:
        path: of the cache file.
        plugins: the network's plugins as they were configured when the sandbox was added.
    """

    path: str
    id: str
    ifname: str
    network: str
    version: str
    plugins: Tuple[Mapping[str, Any], ...]
    args: Tuple[Tuple[str, str], ...]
    capabilities: Mapping[str, Any]
    result: Mapping[str, Any]


def path_of(lease: Lease) -> str:
    """Return where libcni caches the attachment of a lease."""
    return os.path.join(RESULTS, "%s-%s-%s" % (lease.network, lease.id, lease.ifname or "eth0"))


def read(lease: Lease, host: Host) -> Optional[Attachment]:
    """Return the cached attachment of a lease, None where there is none that can be used."""
    path = path_of(lease)
    data = read_bytes(host.path(path), 4 << 20)
    found = parse(data, path) if data is not None else None
    if found is None or (found.id, found.network) != (lease.id, lease.network):
        return None
    return found if found.ifname == (lease.ifname or "eth0") else None


def parse(data: bytes, path: str = "") -> Optional[Attachment]:
    """Return an attachment of kind cniCacheV1, None for anything else."""
    document = _json(data)
    config = _json(_decoded(document.get("config")))
    texts = [document.get(name) for name in ("containerId", "ifName", "networkName")]
    if document.get("kind") != "cniCacheV1" or not all(isinstance(text, str) for text in texts):
        return None
    listed = config.get("plugins", [config])
    plugins = listed if isinstance(listed, list) else []
    if not plugins or not all(isinstance(one, dict) and _TYPE.match(str(one.get("type", ""))) for one in plugins):
        return None
    return Attachment(
        path,
        str(texts[0]),
        str(texts[1]),
        str(texts[2]),
        str(config.get("cniVersion") or "0.1.0"),
        tuple(plugins),
        _args(document.get("cniArgs")),
        _mapping(document.get("capabilityArgs")),
        _mapping(document.get("result")),
    )


def _json(data: Optional[bytes]) -> Dict[str, Any]:
    try:
        found = json.loads((data or b"").decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _args(value: Any) -> Tuple[Tuple[str, str], ...]:
    rows = value if isinstance(value, list) else []
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2 and all(isinstance(x, str) for x in row)]
    # What separates arguments in CNI_ARGS cannot stand in one.
    return tuple((key, text) for key, text in pairs if not set(";=\0") & set(key) and not set(";\0") & set(text))


def _at_least(version: str, least: Sequence[int]) -> bool:
    parts = [int(part) for part in version.split(".") if part.isdigit()]
    return parts >= list(least)


def configuration(attachment: Attachment, plugin: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a plugin is given on its standard input for DEL, as libcni composes it."""
    found = dict(plugin, name=attachment.network, cniVersion=attachment.version)
    wanted = _mapping(plugin.get("capabilities"))
    runtime = {key: attachment.capabilities[key] for key in wanted if wanted[key] and key in attachment.capabilities}
    if runtime:
        found["runtimeConfig"] = runtime
    if _at_least(attachment.version, (0, 4, 0)) and attachment.result:
        found["prevResult"] = dict(attachment.result)
    return found


def delete(attachment: Attachment, bin_dirs: Sequence[str], run: Run = command.run) -> str:
    """Run CNI DEL, the last plugin first, without a network namespace. Returns "" or why it failed.

    Args:
        bin_dirs: where the runtime looks for plugins.
    """
    programs: List[Tuple[str, Mapping[str, Any]]] = []
    for plugin in reversed(attachment.plugins):
        paths = [os.path.join(directory, str(plugin["type"])) for directory in bin_dirs]
        program = next((path for path in paths if os.access(path, os.X_OK) and os.path.isfile(path)), "")
        if not program:
            return "there is no plugin %s in %s" % (plugin["type"], ", ".join(bin_dirs))
        programs.append((program, plugin))
    surroundings = {
        "PATH": command.PATH,
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": attachment.id,
        "CNI_NETNS": "",
        "CNI_IFNAME": attachment.ifname,
        "CNI_ARGS": ";".join("%s=%s" % pair for pair in attachment.args),
        "CNI_PATH": ":".join(bin_dirs),
    }
    for program, plugin in programs:
        data = json.dumps(configuration(attachment, plugin)).encode("utf-8")
        try:
            done = run([program], TIMEOUT, data, surroundings)
        except NodeError as exc:
            return str(exc)
        if done.code:
            told = _json(done.out)
            return "%s: %s" % (os.path.basename(program), str(told.get("msg") or done.said)[:300])
    return ""
