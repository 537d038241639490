# SPDX-License-Identifier: Apache-2.0
"""Everything the sysctl family reads from a node."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..errors import NodeError
from ..host import Host, read_text
from . import sysctld
from .catalogue import ORDERED_KEYS
from .model import Setting, normalise_value, segments
from .owners import detect

_READ_LIMIT = 1 << 16

CONGESTION = "net.ipv4.tcp_congestion_control"
QDISC = "net.core.default_qdisc"
_AVAILABLE = "net.ipv4.tcp_available_congestion_control"


def proc_path(key: str, host: Host) -> str:
    """Return the file of a canonical key below /proc/sys. Raises NodeError (usage) for anything else."""
    return host.path("proc/sys", *segments(key))


def read_key(key: str, host: Host) -> Optional[str]:
    """Return a key's canonical value, None where the node has no such key.

    Raises:
        NodeError: the key exists and cannot be read.
    """
    try:
        fd = os.open(proc_path(key, host), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NodeError("%s cannot be read" % key, os.strerror(error.errno or 0)) from error
    try:
        raw = os.read(fd, _READ_LIMIT)
    except OSError as error:
        raise NodeError("%s cannot be read" % key, os.strerror(error.errno or 0)) from error
    finally:
        os.close(fd)
    try:
        return normalise_value(key, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NodeError("%s cannot be read" % key, "it does not hold text") from error


def _observe_key(key: str, host: Host) -> Dict[str, Any]:
    path = proc_path(key, host)
    found: Dict[str, Any] = {"value": None, "exists": os.path.isfile(path), "writable": os.access(path, os.W_OK)}
    try:
        found["value"] = read_key(key, host)
    except NodeError as error:
        found["error"] = error.why
    return found


def _module_known(module: str, host: Host) -> Dict[str, Optional[bool]]:
    """Say whether a kernel module is loaded, and whether this kernel could load it (None: cannot be told)."""
    if os.path.isdir(host.path("sys/module", module)):
        return {"loaded": True, "available": True}
    names = _module_names(host)
    return {"loaded": False, "available": module in names if names else None}


def _module_names(host: Host) -> List[str]:
    """Return the modules that this kernel has on disk or built in, [] where no list is installed."""
    found: List[str] = []
    for base in ("lib/modules", "usr/lib/modules"):
        for name in ("modules.dep", "modules.builtin"):
            text = read_text(host.path(base, host.kernel, name), 1 << 24) or ""
            for line in text.splitlines():
                file = os.path.basename(line.split(":", 1)[0])
                if ".ko" in file:
                    found.append(file.split(".ko", 1)[0].replace("-", "_"))
        if found:
            break
    return found


def _kernel_config(option: str, host: Host) -> Optional[bool]:
    """Return whether the kernel was built with an option, None where it does not say."""
    text = read_text(host.path("boot", "config-" + host.kernel))
    if text is None:
        try:
            with gzip.open(host.path("proc/config.gz"), "rt", encoding="ascii", errors="replace") as handle:
                text = handle.read(1 << 20)
        except (OSError, EOFError, zlib.error):
            return None
    lines = text.splitlines()
    return option + "=y" in lines or option + "=m" in lines


def _algorithm_known(setting: Setting, host: Host) -> Optional[bool]:
    """Say whether the kernel has the wished congestion control or qdisc; None where it cannot be told."""
    if setting.key == CONGESTION:
        names = (read_key(_AVAILABLE, host) or "").split()
        if setting.value in names:
            return True
        module, option = "tcp_" + setting.value, "CONFIG_TCP_CONG_" + setting.value.upper()
    else:
        module, option = "sch_" + setting.value, "CONFIG_NET_SCH_" + setting.value.upper()
    known = _module_known(module, host)["available"]
    if known:
        return True
    built = _kernel_config(option, host)
    if built is not None:
        return built
    if setting.key == CONGESTION:
        return False  # the kernel listed what it has, and there is no module
    return known


def related_keys(settings: Sequence[Setting]) -> List[str]:
    """Return the keys that stand in an order with the wished ones, which must be read too."""
    wished = {setting.key for setting in settings}
    return [key for group in ORDERED_KEYS if wished & set(group) for key in group if key not in wished]


def observe(settings: Sequence[Setting], host: Host) -> Dict[str, Any]:
    """Read what plan() needs, in one go. The result is JSON-able.

    Returns:
        ``initial_netns``, ``root`` (may this process write), ``keys`` (value, exists, writable, error of each wished
        or related key), ``modules``, ``algorithms``, ``owners``, ``shadows`` (a sysctl.d line later than ours),
        ``boot`` (what sysctl.d without our file sets), ``procps`` (a line only procps' sysctl reads).
    """
    keys = [setting.key for setting in settings]
    files = [file for file in sysctld.load(host) if file.path != "/etc/sysctl.d/" + sysctld.FILE_NAME]
    procps = sysctld.procps_file(host)
    modules = sorted({setting.module for setting in settings if setting.module})
    return {
        "initial_netns": host.initial_netns,
        "root": os.geteuid() == 0,
        "keys": {key: _observe_key(key, host) for key in (*keys, *related_keys(settings))},
        "modules": {name: _module_known(name, host) for name in modules},
        "algorithms": {s.key: _algorithm_known(s, host) for s in settings if s.key in (CONGESTION, QDISC)},
        "owners": {key: owned.to_dict() for key, owned in detect(settings, host).items()},
        "shadows": _lines(keys, lambda key: sysctld.later_than_ours(files, key)),
        "boot": _lines(keys, lambda key: sysctld.effective(files, key)),
        "procps": _lines(keys, lambda key: sysctld.effective([procps], key) if procps else None),
    }


def _lines(keys: Sequence[str], find: Callable[[str], Optional[sysctld.Found]]) -> Dict[str, Dict[str, Any]]:
    """Return key -> the line found for it, for the keys where there is one."""
    found = {}
    for key in keys:
        line = find(key)
        if line is not None:
            found[key] = line.to_dict()
    return found
