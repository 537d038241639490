# SPDX-License-Identifier: Apache-2.0
"""Which CNI is truly in use on this node, and what others have left behind. Reads only."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Sequence, Set

from ..host import Host, read_text
from ..mtu.cni import parse_conf
from . import catalogue, command, cri
from .command import Run

_SUFFIXES = (".conf", ".conflist", ".json")  # what libcni reads
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")  # libcni's rule for a network's name
_MOST = 256
#: Only stands before another: the networks are those it delegates to.
META = ("multus", "multus-shim")


@dataclass
class Conf:
    """One CNI configuration file: its network's name and its plugins, the main one first."""

    path: str
    name: str
    plugins: List[Dict[str, Any]]
    version: str = ""

    @property
    def types(self) -> List[str]:
        """The plugins' types."""
        return [str(plugin["type"])[:64] for plugin in self.plugins]


@dataclass
class Cni:
    """What is in use.

    Attributes:
        name: of the CNI, "" where there is no configuration, "unknown" for one that is not in the catalogue.
        file, network, types: of the configuration that the runtime takes: the first by name.
        loaded: the network that the runtime has in use now; "" where it does not say.
        learned: how the directories are known.
        missing: binaries that the configuration names and that are in none of the directories.
        leftovers: sentences about what other CNIs left behind.
    """

    name: str = ""
    file: str = ""
    network: str = ""
    types: List[str] = field(default_factory=list)
    loaded: str = ""
    network_ready: Any = None
    reason: str = ""
    conf_dir: str = ""
    bin_dirs: List[str] = field(default_factory=list)
    learned: str = ""
    missing: List[str] = field(default_factory=list)
    leftovers: List[str] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)


def read_conf(path: str, text: str) -> Any:
    """Return a configuration file's :class:`Conf`, None for what is none (pure)."""
    plugins = parse_conf(text)
    if not plugins:
        return None
    document = _document(text)
    told, version = document.get("name"), document.get("cniVersion")
    network = told if isinstance(told, str) else ""
    return Conf(path, network if _NAME.match(network) else "", plugins, version if isinstance(version, str) else "")


def _document(text: str) -> Dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def confs(directory: str, host: Host) -> List[Conf]:
    """Return the directory's CNI configurations in the order of the runtime: by name."""
    try:
        names = sorted(os.listdir(host.path(directory)))[:_MOST]
    except OSError:
        return []
    found = []
    for name in names:
        if name.endswith(_SUFFIXES):
            path = os.path.join(directory, name)
            conf = read_conf(path, read_text(host.path(path)) or "")
            if conf is not None:
                found.append(conf)
    return found


def name_of(types: Sequence[str], links: Sequence[str], plugins: Sequence[Dict[str, Any]]) -> str:
    """Return the CNI's name by its configuration's plugins and by links that are unmistakable (pure)."""
    if not types:
        return ""
    main = types[0]
    bridge = str(plugins[0].get("bridge", "")) if plugins else ""
    if main == "bridge" and "kube-bridge" in (bridge, *links):
        return "kube-router"
    if main == "calico" and any(name.startswith("flannel.") for name in links):
        return "canal"
    known = catalogue.by_type(main)
    return known.name if known else "unknown"


def observe(host: Host, run: Run = command.run) -> Cni:
    """Return what is in use and what is left over."""
    info, way = cri.info(host, run)
    links = _listed(host.path("sys/class/net"))
    found = Cni(
        loaded=info.loaded,
        network_ready=info.network_ready,
        reason=info.reason,
        conf_dir=info.conf_dir,
        bin_dirs=info.bin_dirs,
        learned=way,
    )
    rows = confs(info.conf_dir, host)
    if rows:
        first = rows[0]
        found.file, found.network, found.types = first.path, first.name, first.types
        found.name = name_of(first.types, links, first.plugins)
        binaries = {name for directory in info.bin_dirs for name in _listed(host.path(directory))}
        found.missing = sorted({kind for kind in first.types if kind not in binaries})
    found.leftovers = leftovers(found, rows, links, host)
    return found


def _listed(path: str) -> List[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def leftovers(cni: Cni, rows: Sequence[Conf], links: Sequence[str], host: Host) -> List[str]:
    """Return a sentence for each thing of a CNI that is not the configured one."""
    ours = _own(cni.name, rows[:1])
    found = []
    for conf in rows[1:]:
        found.append("%s stands after %s and is not used" % (conf.path, os.path.basename(cni.file)))
    for one in catalogue.CATALOGUE:
        if one.name in ours or one.name == "plain":
            continue
        devices = [name for name in links if (catalogue.of_link(name) is one)]
        if devices:
            more = " and %d more" % (len(devices) - 3) if len(devices) > 3 else ""
            found.append("network devices of %s: %s%s" % (one.name, ", ".join(devices[:3]), more))
        dirs = [path for path in one.dirs if os.path.exists(host.path(path))]
        if dirs:
            found.append("files of %s: %s" % (one.name, ", ".join(dirs)))
    return found[:50]


def _own(name: str, rows: Sequence[Conf]) -> Set[str]:
    found = {name}
    if name == "canal":
        found |= {"flannel", "calico"}
    for conf in rows:
        for kind in conf.types:
            known = catalogue.by_type(kind)
            if known:
                found.add(known.name)
    if name in ("plain", "unknown"):
        found.add("flannel")  # cni0 is the usual name of any bridge
    return found
