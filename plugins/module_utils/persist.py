# SPDX-License-Identifier: Apache-2.0
"""What of ours outlives a reboot, and the files that say so.

``/etc/tune-nodes/settings.json`` holds every confirmed setting with its class. systemd-sysctl gets the exact
keys only (90-tune-nodes.conf): a floor there would lower the higher default of a newer kernel. The boot unit
applies the rest, after deciding anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from .bundle import BOOT_LINK
from .errors import NodeError
from .files import fsync_dir, make_dir, read_bytes, remove, temporary_name, write_atomic, write_error
from .host import Host
from .model import SCHEMA, Change
from .mtu import keeper as mtu
from .sysctl.sysctld import render_sysctl_d

SETTINGS = "/etc/tune-nodes/settings.json"
SYSCTL_D = "/etc/sysctl.d/90-tune-nodes.conf"
BOOT_UNIT = "/etc/systemd/system/tune-nodes-boot.service"
BOOT_WANTS = "/etc/systemd/system/multi-user.target.wants/tune-nodes-boot.service"
LATE_RULE = "/etc/udev/rules.d/90-tune-nodes.rules"
#: The order to install in: once the boot unit is wanted it finishes the rest, so nothing that a boot reads by itself
#: comes before it, and a power cut leaves a node that boots wholly old or wholly new.
_ORDER = (SETTINGS, BOOT_UNIT, BOOT_WANTS, SYSCTL_D, LATE_RULE)
_MIN_FREE = 1 << 20

Settings = Dict[str, Dict[str, Dict[str, Any]]]  # family -> change key -> setting


@dataclass(frozen=True)
class Wanted:
    """What a path should hold: a file, a link, or nothing."""

    content: Optional[bytes] = None
    link: Optional[str] = None
    mode: int = 0o644

    def text(self) -> Optional[str]:
        """Return the canonical value, None for absent."""
        if self.link is not None:
            return "link " + self.link
        if self.content is None:
            return None
        return "sha256:%s %04o" % (hashlib.sha256(self.content).hexdigest()[:16], self.mode)


def load(host: Host) -> Settings:
    """Return the settings kept on this node. Raises NodeError where the file is not ours or damaged."""
    raw = read_bytes(host.path(SETTINGS))
    if raw is None:
        return {}
    try:
        document = json.loads(raw.decode("utf-8"))
        if document["schema"] != SCHEMA:
            raise NodeError(
                "%s was written by another version" % SETTINGS,
                "its schema is %r, this version knows %d" % (document["schema"], SCHEMA),
                "use the tune-nodes version that wrote it",
            )
        return {str(f): {str(k): dict(v) for k, v in kept.items()} for f, kept in document["settings"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise NodeError(
            "%s cannot be read" % SETTINGS,
            "it was edited by hand or damaged",
            "move it aside; the next confirmed run writes it anew",
        ) from exc


def merge(kept: Settings, changes: Iterable[Change]) -> Settings:
    """Return the settings to keep once these changes are confirmed (pure)."""
    merged = {family: dict(settings) for family, settings in kept.items()}
    for change in changes:
        if change.persist is not None:
            merged.setdefault(change.family, {})[change.key] = dict(change.persist)
    return {family: settings for family, settings in merged.items() if settings}


def undo(kept: Settings, before: Settings, changes: Iterable[Change]) -> Settings:
    """Return the settings to keep after rolling changes back (pure).

    A key that was set otherwise since stays as it is.
    """
    merged = {family: dict(settings) for family, settings in kept.items()}
    for change in changes:
        family = merged.get(change.family, {})
        if change.persist is None or family.get(change.key) != change.persist:
            continue
        earlier = before.get(change.family, {}).get(change.key)
        if earlier is None:
            del family[change.key]
        else:
            family[change.key] = dict(earlier)
    return {family: settings for family, settings in merged.items() if settings}


def render(settings: Settings, host: Host) -> Dict[str, Wanted]:
    """Return every path of ours with what it should hold (reads only which of them are there)."""
    nothing = Wanted()
    sysctls = list(settings.get("sysctl", {}).values())
    exact = [s for s in sysctls if s.get("class") == "exact"]
    boots = host.init == "systemd" and bool(settings)
    others = dict.fromkeys(mtu.present(host), nothing)
    for path, (content, mode) in mtu.files(settings.get("mtu", {}).values()).items():
        others[path] = Wanted(content, mode=mode)
    late = sorted({str(s["module"]) for s in sysctls if s.get("module")})
    return {
        **others,
        SETTINGS: Wanted(_settings_text(settings)) if settings else nothing,
        SYSCTL_D: Wanted(render_sysctl_d(exact).encode("utf-8")) if exact else nothing,
        BOOT_UNIT: Wanted(_unit_text(host).encode("utf-8")) if boots else nothing,
        BOOT_WANTS: Wanted(link=BOOT_UNIT) if boots else nothing,
        LATE_RULE: Wanted(_rule_text(late).encode("utf-8")) if boots and late else nothing,
    }


def in_order(wanted: Mapping[str, Wanted]) -> List[Tuple[str, Wanted]]:
    """Return paths in the order to install them, then those to remove, the other way round (pure)."""
    rank = {path: number for number, path in enumerate(_ORDER)}
    ranked = sorted(wanted.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0]))
    return [i for i in ranked if i[1].text() is not None] + [i for i in reversed(ranked) if i[1].text() is None]


def _settings_text(settings: Settings) -> bytes:
    document = {"schema": SCHEMA, "settings": settings}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _unit_text(host: Host) -> str:
    return (
        "# Written by tune-nodes; removed by its rollback.\n"
        "[Unit]\n"
        "Description=Apply this node's confirmed tune-nodes settings\n"
        "Wants=network-online.target\n"
        "After=systemd-sysctl.service systemd-modules-load.service network-online.target\n"
        "Before=containerd.service crio.service docker.service kubelet.service\n"
        "ConditionPathExists=%s\n\n"
        "[Service]\nType=oneshot\nTimeoutStartSec=90\n"
        "ExecStart=%s -I -S %s boot\n\n"
        "[Install]\nWantedBy=multi-user.target\n" % (SETTINGS, host.python or "/usr/bin/python3", BOOT_LINK)
    )


def _rule_text(modules: List[str]) -> str:
    lines = ["# Written by tune-nodes: keys of these modules appear only when the module is loaded."]
    lines.extend(
        'ACTION=="add", SUBSYSTEM=="module", KERNEL=="%s", '
        'RUN+="/bin/systemctl --no-block start tune-nodes-boot.service"' % module
        for module in modules
        if module.replace("_", "").isalnum()
    )
    return "\n".join(lines) + "\n"


def read_path(path: str) -> Optional[str]:
    """Return the canonical value of a path as :meth:`Wanted.text` would give it, None if absent."""
    try:
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            return "link " + os.readlink(path)
        with open(path, "rb") as handle:
            return Wanted(handle.read(), mode=stat.S_IMODE(info.st_mode)).text()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise NodeError("cannot read %s" % path, exc.strerror or str(exc)) from exc


def plan(settings: Settings, host: Host) -> List[Change]:
    """Return one change for each of our files that differs from what it should be."""
    changes = []
    for path, wanted in sorted(render(settings, host).items()):
        before, want = read_path(host.path(path)), wanted.text()
        if before != want:
            reason = "kept over a reboot" if want is not None else "nothing of ours is left to keep"
            changes.append(Change("files", path, before, want, reason=reason, source="tune-nodes", scope="host"))
    return changes


def check_writable(changes: Iterable[Change], host: Host) -> None:
    """Refuse before the first write what could not be kept afterwards. Raises NodeError."""
    for change in changes:
        directory = os.path.dirname(host.path(change.key))
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        try:
            state = os.statvfs(directory)
        except OSError as exc:
            raise write_error(directory, exc) from exc
        why = ""
        if state.f_flag & os.ST_RDONLY:
            why = "the file system is read-only"
        elif state.f_bavail * state.f_frsize < _MIN_FREE or (state.f_files and not state.f_favail):
            why = "the disk is full"
        elif not os.access(directory, os.W_OK):
            why = "permission denied"
        if why:
            raise NodeError(
                "%s could not be kept over a reboot" % change.key,
                "%s: %s" % (directory, why),
                "mend that first; nothing was changed",
                code="not-persistable",
            )


def put(path: str, wanted: Wanted, token: str) -> None:
    """Make a path hold what it should, atomically; does nothing where it does. Raises NodeError."""
    if read_path(path) == wanted.text():
        return
    if wanted.content is None and wanted.link is None:
        remove(path)
        _drop_our_empty_dir(os.path.dirname(path))
        return
    make_dir(os.path.dirname(path))
    if wanted.content is not None:
        write_atomic(path, wanted.content, wanted.mode, token)
        return
    temporary = temporary_name(path, token)
    remove(temporary)
    try:
        os.symlink(str(wanted.link), temporary)
        os.rename(temporary, path)
        fsync_dir(os.path.dirname(path))
    except OSError as exc:
        raise write_error(path, exc) from exc


def _drop_our_empty_dir(directory: str) -> None:
    try:
        fsync_dir(directory)
        if os.path.basename(directory) == os.path.basename(os.path.dirname(SETTINGS)) or mtu.is_drop_in_dir(directory):
            os.rmdir(directory)
    except OSError:
        return  # not empty, or gone already
