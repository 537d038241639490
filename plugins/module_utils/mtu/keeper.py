# SPDX-License-Identifier: Apache-2.0
"""Who keeps an interface's MTU over a reboot, and the file that tells it so.

Exactly one program configures an interface; the MTU goes where that one reads it. A ``.link`` file is never written:
udev takes the first that matches, so ours would hide the distribution's. Sources: systemd.network(5), netplan's
"netplan-yaml" reference, interfaces(5), NetworkManager's device state files (src/core/nm-config.c).
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..host import Host, read_text
from .cni import parse_env, size

NETWORKD, NETPLAN, OURS = "networkd", "netplan", "tune-nodes"
#: Those whose files we write; OURS is the boot unit, where no program configures the interface.
WRITTEN = (NETWORKD, NETPLAN, OURS)

NETPLAN_FILE = "/etc/netplan/90-tune-nodes.yaml"
NETWORKD_DIR = "/etc/systemd/network"
DROP_IN = "90-tune-nodes.conf"
_GENERATED = re.compile(r"10-netplan-(.+)\.network\Z")
_NETWORK_DIRS = ("etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network", "lib/systemd/network")
_NETPLAN_TYPES = {"": "ethernets", "veth": "ethernets", "bond": "bonds", "vlan": "vlans", "bridge": "bridges"}
_HEAD = "# Written by tune-nodes; removed by its rollback.\n"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*\Z")  # what stands in YAML as it is


def observe(links: Iterable[Mapping[str, Any]], host: Host) -> Dict[str, Dict[str, str]]:
    """Return who keeps the MTU of each of these links.

    Returns:
        name -> ``by`` (a program; "several" where two claim it), ``file`` (the one it reads the link's configuration
        from), ``id`` and ``type`` (netplan's names for it), ``dhcp`` (the MTU that its lease brings and it obeys).
    """
    return {str(link["name"]): _observe_one(link, host) for link in links}


def _observe_one(link: Mapping[str, Any], host: Host) -> Dict[str, str]:
    claims = [c for c in (_networkd(link, host), _network_manager(link, host), _ifupdown(link, host)) if c]
    if len(claims) > 1:
        return _claim("several", " and ".join(claim["by"] for claim in claims))
    return claims[0] if claims else _scripts(link, host) or _claim(OURS)


def _claim(by: str, file: str = "", id: str = "", type: str = "", dhcp: str = "") -> Dict[str, str]:
    return {"by": by, "file": file, "id": id, "type": type, "dhcp": dhcp}


def _networkd(link: Mapping[str, Any], host: Host) -> Optional[Dict[str, str]]:
    state = parse_env(read_text(host.path("run/systemd/netif/links/%d" % link["index"]), 1 << 16) or "")
    file = state.get("NETWORK_FILE", "")
    if not file or state.get("ADMIN_STATE", "") in ("unmanaged", "linger", ""):
        return None
    base = os.path.basename(file)
    lease = parse_env(read_text(host.path("run/systemd/netif/leases/%d" % link["index"]), 1 << 16) or "")
    dhcp = lease.get("MTU", "") if _obeys_lease(_network_settings(file, host)) else ""
    generated = _GENERATED.match(base)
    if generated:
        return _claim(NETPLAN, NETPLAN_FILE, generated.group(1), _NETPLAN_TYPES.get(str(link["kind"]), ""), dhcp)
    return _claim(NETWORKD, os.path.join(NETWORKD_DIR, base + ".d", DROP_IN), dhcp=dhcp)


def _network_settings(file: str, host: Host) -> Dict[Tuple[str, str], str]:
    """Return what a .network file and its drop-ins say, but for ours: (section, key) -> value, the last one."""
    files, drop_ins = [host.path(file)], {}
    for directory in reversed(_NETWORK_DIRS):
        path = host.path(directory, os.path.basename(file) + ".d")
        try:
            drop_ins.update({name: os.path.join(path, name) for name in os.listdir(path) if name.endswith(".conf")})
        except OSError:
            continue
    files += [path for name, path in sorted(drop_ins.items()) if name != DROP_IN]
    found: Dict[Tuple[str, str], str] = {}
    for path in files:
        found.update(parse_ini(read_text(path, 1 << 18) or ""))
    return found


def parse_ini(text: str) -> Dict[Tuple[str, str], str]:
    """Return (section, key) -> value of systemd's and NetworkManager's files; the last one counts."""
    found: Dict[Tuple[str, str], str] = {}
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;":
            key, sep, value = line.partition("=")
            if sep:
                found[section, key.strip()] = value.strip()
    return found


def _obeys_lease(settings: Mapping[Tuple[str, str], str]) -> bool:
    """Tell whether networkd takes its MTU from a DHCP lease: only if told to, and not where MTUBytes is set."""
    if settings.get(("Link", "MTUBytes")):
        return False
    words = [settings.get((section, "UseMTU"), "") for section in ("DHCP", "DHCPv4")]
    return any(word.lower() in ("1", "yes", "true", "on", "y", "t") for word in words)


def _network_manager(link: Mapping[str, Any], host: Host) -> Optional[Dict[str, str]]:
    state = parse_ini(read_text(host.path("run/NetworkManager/devices/%d" % link["index"]), 1 << 16) or "")
    if state.get(("device", "managed"), "").lower() not in ("true", "1", "yes"):
        return None
    return _claim("NetworkManager")


def _ifupdown(link: Mapping[str, Any], host: Host) -> Optional[Dict[str, str]]:
    if not any(os.path.exists(host.path(path)) for path in ("sbin/ifup", "usr/sbin/ifup")):
        return None
    for path in _interfaces_files(host):
        for line in (read_text(path, 1 << 18) or "").splitlines():
            words = line.split()
            if words[:2] == ["iface", link["name"]]:
                return _claim("ifupdown", path)
    return None


def _interfaces_files(host: Host) -> List[str]:
    files, directory = [host.path("etc/network/interfaces")], host.path("etc/network/interfaces.d")
    try:
        files += [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    except OSError:
        return files
    return files


def _scripts(link: Mapping[str, Any], host: Host) -> Optional[Dict[str, str]]:
    """Recognise what is older than NetworkManager on Red Hat's systems, and SUSE's."""
    for by, path in (
        ("network-scripts", "etc/sysconfig/network-scripts/ifcfg-%(name)s" % link),
        ("wicked", "etc/sysconfig/network/ifcfg-%(name)s" % link),
    ):
        if os.path.exists(host.path(path)):
            return _claim(by, "/" + path)
    return None


#: What a person types or edits where the file is not ours to write.
TELL = {
    "NetworkManager": "nmcli connection modify PROFILE 802-3-ethernet.mtu BYTES",
    "ifupdown": "put a line mtu BYTES below iface NAME in /etc/network/interfaces",
    "network-scripts": "put MTU=BYTES in its ifcfg file",
    "wicked": "put MTU=BYTES in its ifcfg file",
    "several": "leave the interface to one of them",
    "DHCP": "set the interface MTU in the DHCP server, or tell the client not to use it",
}


def refusal(keeper: Mapping[str, str], name: str) -> Tuple[str, str]:
    """Return (owner, why) where an interface's MTU cannot be kept, ("", "") where it can (pure)."""
    by = keeper["by"]
    if size(keeper["dhcp"]) is not None:
        return "DHCP", "its lease brings %s: %s" % (keeper["dhcp"], TELL["DHCP"])
    if by == NETPLAN and not (keeper["type"] and _PLAIN.match(keeper["id"])):
        return by, "netplan has no mtu for this kind of interface, or a name that cannot be written safely"
    if by in WRITTEN:
        return "", ""
    if by == "several":
        return by, "%s both configure %s: %s" % (keeper["file"], name, TELL[by])
    return by, "%s keeps it: %s" % (by, TELL[by])


def files(kept: Iterable[Mapping[str, Any]]) -> Dict[str, Tuple[bytes, int]]:
    """Return the files that keep these settings: path -> (content, mode) (pure).

    Args:
        kept: raw settings as a change's ``persist`` held them; those of other keepers bring no file.
    """
    found: Dict[str, Tuple[bytes, int]] = {}
    netplan: Dict[str, Dict[str, int]] = {}
    for setting in kept:
        keeper, mtu = setting.get("keeper") or {}, size(setting.get("underlay"))
        if mtu is None or not isinstance(keeper, Mapping):
            continue
        if keeper.get("by") == NETWORKD and _is_drop_in(str(keeper.get("file"))):
            found[keeper["file"]] = (("%s[Link]\nMTUBytes=%d\n" % (_HEAD, mtu)).encode("ascii"), 0o644)
        named = keeper.get("type") in _NETPLAN_TYPES.values() and _PLAIN.match(str(keeper.get("id")))
        if keeper.get("by") == NETPLAN and named:
            netplan.setdefault(keeper["type"], {})[keeper["id"]] = mtu
    if netplan:
        found[NETPLAN_FILE] = (_netplan_text(netplan).encode("ascii"), 0o600)
    return found


def _netplan_text(wanted: Mapping[str, Mapping[str, int]]) -> str:
    lines = [_HEAD + "network:", "  version: 2"]
    for kind in sorted(wanted):
        lines.append("  %s:" % kind)
        for name, mtu in sorted(wanted[kind].items()):
            lines += ["    %s:" % _quoted(name), "      mtu: %d" % mtu]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return '"%s"' % name


def _is_drop_in(path: str) -> bool:
    """Tell whether a path is a drop-in of ours, and nothing else that a damaged setting might name."""
    head, tail = os.path.split(path)
    return tail == DROP_IN and os.path.dirname(head) == NETWORKD_DIR and is_drop_in_dir(head)


def is_drop_in_dir(path: str) -> bool:
    """Tell whether a directory is one that holds drop-ins of a .network file in /etc: empty, it means nothing."""
    return path.endswith(".network.d") and NETWORKD_DIR + "/" in path


def present(host: Host) -> List[str]:
    """Return the files of ours that lie on the node now, wanted or not."""
    found = [NETPLAN_FILE] if os.path.lexists(host.path(NETPLAN_FILE)) else []
    try:
        names = os.listdir(host.path(NETWORKD_DIR))
    except OSError:
        return found
    paths = [os.path.join(NETWORKD_DIR, name, DROP_IN) for name in sorted(names) if name.endswith(".network.d")]
    return found + [path for path in paths if os.path.lexists(host.path(path))]
