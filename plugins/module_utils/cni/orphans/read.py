# SPDX-License-Identifier: Apache-2.0
"""Read everything on this node that a CNI of the catalogue makes, whoever is configured. Changes nothing."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ...errors import NodeError
from ...files import read_bytes
from ...host import Host
from .. import attachment, catalogue, command, detect
from ..command import Run
from . import firewall, links, routes, sets
from .model import Artefact

LIMIT = 15.0  # seconds for one program
SAVES: Sequence[Tuple[str, str]] = (
    ("iptables-legacy-save", "iptables-legacy"),
    ("ip6tables-legacy-save", "ip6tables-legacy"),
    ("iptables-nft-save", "iptables-nft"),
    ("ip6tables-nft-save", "ip6tables-nft"),
)
PINS = "/sys/fs/bpf"
RESIDUE = "its programs are in the kernel's data path: only a reboot takes all of them away"
_MOST_PINS, _DEEP = 4096, 8
_MOST_CACHED = 4096


@dataclass
class Node:
    """What was read of a node.

    Attributes:
        artefacts: every thing that a CNI of the catalogue makes, and veths whose pods' namespaces are dead.
        tables: iptables program -> the tables that it shows.
        routes, links: all of them, whoever made them.
        dead: veth -> (name of its peer's namespace, in which no process lives; seconds since that was made).
        unread: sentences about what could not be read; what is there is not known.
    """

    artefacts: List[Artefact] = field(default_factory=list)
    tables: Dict[str, List[firewall.Table]] = field(default_factory=dict)
    routes: List[routes.Route] = field(default_factory=list)
    links: List[links.Link] = field(default_factory=list)
    dead: Dict[str, Tuple[str, float]] = field(default_factory=dict)
    unread: List[str] = field(default_factory=list)


class _Reader:
    """Asks programs; what one of them does not answer is noted, and the rest is read all the same."""

    def __init__(self, host: Host, run: Run) -> None:
        self.host, self.run = host, run
        self.node = Node()

    def ask(self, *argv: str, absent: bool = False) -> str:
        """Return what a program prints, "" where it fails. ``absent``: that the program is not there says enough."""
        if not command.find(argv[0]):
            if not absent:
                self.node.unread.append("there is no program %s" % argv[0])
            return ""
        try:
            done = self.run(list(argv), LIMIT)
        except NodeError as exc:
            self.node.unread.append(str(exc))
            return ""
        if done.code:
            self.node.unread.append("%s: %s" % (" ".join(argv[:4]), done.said))
            return ""
        return done.out.decode("utf-8", "replace")

    def rules(self) -> None:
        """Read iptables of both kinds: they are separate sets of rules, and both are in force."""
        found = [row for row in SAVES if command.find(row[0])]
        if not found:
            found = [("iptables-save", "iptables"), ("ip6tables-save", "ip6tables")]
        for save, program in found:
            tables = firewall.parse_save(self.ask(save, absent=True))
            self.node.tables[program] = tables
            self.node.artefacts += firewall.artefacts(tables, program)

    def sets(self) -> None:
        """Read the nft tables that are not iptables' own, and the ipsets."""
        for family, name in sets.parse_tables(self.ask("nft", "list", "tables", absent=True)):
            if sets.owner_of_table(name):
                listing = self.ask("nft", "-s", "list", "table", family, name)
                if listing:
                    self.node.artefacts.append(sets.table(family, name, listing.rstrip("\n")))
        self.node.artefacts += sets.ipsets(self.ask("ipset", "save", absent=True))

    def ways(self) -> None:
        """Read routes of all tables, and policy rules."""
        for family in (4, 6):
            shown = self.ask("ip", "-%d" % family, "-o", "-N", "route", "show", "table", "all")
            self.node.routes += routes.parse_routes(shown, family)
            self.node.artefacts += routes.rules(self.ask("ip", "-%d" % family, "-N", "rule", "show"), family)
        for one in self.node.routes:
            made = routes.route(one)
            # The kernel makes proto 2 with an address: such a route comes and goes with it, except Cilium's.
            if made.owner and (one.proto != "2" or one.via):
                self.node.artefacts.append(made)

    def devices(self) -> None:
        """Read network devices, their addresses, and which namespaces the peers of veths are in."""
        self.node.links = links.parse_links(self.ask("ip", "-j", "-d", "link"))
        addresses = links.parse_addresses(self.ask("ip", "-j", "addr"))
        named = links.parse_namespaces(self.ask("ip", "-j", "netns", "list-id"))
        for one in self.node.links:
            owner, namespace = links.owner_of(one), ""
            if one.kind == "veth" and one.peer_namespace is not None:
                namespace = named.get(one.peer_namespace, "")
                age = self._dead_for(namespace) if namespace else None
                if age is not None:
                    self.node.dead[one.name] = (namespace, age)
            if owner or one.name in self.node.dead:
                self.node.artefacts.append(links.artefact(one, owner, addresses.get(one.name, ()), namespace))

    def _dead_for(self, namespace: str) -> Optional[float]:
        """Return how old a namespace without a process is, None for one in which a process lives."""
        try:
            status = os.stat(self.host.path("run/netns", namespace))
        except OSError:
            return None
        return None if status.st_ino in self.host.sandboxes else time.time() - status.st_mtime

    def files(self, conf_dir: str) -> None:
        """Read the configuration files of CNIs in the directory that the runtime reads."""
        try:
            names = sorted(os.listdir(self.host.path(conf_dir)))[:256]
        except OSError:
            return
        owners = {os.path.basename(conf.path): _owner_of_conf(conf) for conf in detect.confs(conf_dir, self.host)}
        for name in names:
            path = os.path.join(conf_dir, name)
            known = catalogue.of_conf(name)
            owner = owners.get(name) or (known.name if known else "")
            digest = _digest(self.host.path(path)) if owner else ""
            if digest:
                self.node.artefacts.append(Artefact("file", path, owner, ("sha256 " + digest,), path=path))

    def programs(self) -> None:
        """Read which BPF programs and maps of a CNI are pinned, or bound to a device."""
        found: Dict[str, List[str]] = {}
        for path in _pins(self.host.path(PINS)):
            shown = PINS + path[len(self.host.path(PINS)) :]
            parts = shown[len(PINS) + 1 :].split("/")
            owner = _owner_of_pin(parts)
            if owner:
                found.setdefault(owner, []).append(shown)
        for device, name in parse_bound(self.ask("bpftool", "-j", "net", absent=True)):
            owner = _owner_of_pin([name])
            if owner:
                found.setdefault(owner, []).append("%s on %s" % (name, device))
        for owner, names in found.items():
            self.node.artefacts.append(Artefact("bpf", owner, owner, tuple(names), stuck=RESIDUE))


def _owner_of_conf(conf: detect.Conf) -> str:
    known = catalogue.by_type(conf.types[0]) if conf.types else None
    return "" if known is None or known.name == "plain" else known.name


def _owner_of_pin(parts: Sequence[str]) -> str:
    for one in catalogue.CATALOGUE:
        if any(one.pins.has(part) for part in parts):
            return one.name
    return ""


def _digest(path: str) -> str:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
    except OSError:
        return ""
    data = read_bytes(path)
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _pins(top: str) -> List[str]:
    """Return the files below a directory, sorted; links are not followed, and a huge tree is cut short."""
    found: List[str] = []
    for base, dirs, files in os.walk(top):
        dirs.sort()
        if base.count("/") - top.count("/") >= _DEEP:
            dirs.clear()
        found += [os.path.join(base, name) for name in sorted(files)]
        if len(found) >= _MOST_PINS:
            break
    return found[:_MOST_PINS]


def parse_bound(text: str) -> List[Tuple[str, str]]:
    """Return (device, program) of ``bpftool -j net``: XDP, tc and, where it knows them, tcx programs."""
    found = []
    for row in links.rows(text):
        for kind in ("xdp", "tc", "tcx"):
            told = row.get(kind)
            for one in told if isinstance(told, list) else ():
                if isinstance(one, dict) and isinstance(one.get("name"), str):
                    found.append((str(one.get("devname", "")), one["name"]))
    return found


def read(host: Host, conf_dir: str, run: Run = command.run) -> Node:
    """Return what the CNIs of the catalogue have on this node.

    Args:
        host: observed just now: its namespaces are those of that moment.
        conf_dir: where the runtime reads CNI configurations.
    """
    reader = _Reader(host, run)
    reader.rules()
    reader.sets()
    reader.ways()
    reader.devices()
    reader.files(conf_dir)
    reader.programs()
    return reader.node


def used(host: Host, node: Node, sandboxes: Mapping[str, Any]) -> Dict[str, str]:
    """Return CNI -> a sentence about who uses it now: its agent, a sandbox that it made, a pod's device.

    Args:
        host: observed after ``node`` was read.
        sandboxes: all that the runtime names, by id.
    """
    found: Dict[str, str] = {}
    for one in catalogue.CATALOGUE:
        running = sorted({name for name in one.agents if name in host.processes})
        if running:
            found[one.name] = "its agent %s runs on this node" % running[0]
    for owner, sandbox in _made(host, sandboxes):
        found.setdefault(owner, "it made the network of sandbox %s, which is there" % sandbox[:13])
    owners = {link.name: links.owner_of(link) for link in node.links}
    for link in node.links:
        elsewhere = link.kind == "veth" and link.peer_namespace is not None and link.name not in node.dead
        owner = owners.get(link.name) or owners.get(link.master, "")
        if elsewhere and owner:
            found.setdefault(owner, "%s leads into a network namespace that lives" % link.name)
    return found


def _made(host: Host, sandboxes: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Return (CNI, sandbox) for each attachment that libcni has cached of a sandbox that is there."""
    found = []
    try:
        names = sorted(os.listdir(host.path(attachment.RESULTS)))[:_MOST_CACHED]
    except OSError:
        return []
    for name in names:
        data = read_bytes(host.path(attachment.RESULTS, name), 4 << 20)
        cached = attachment.parse(data, name) if data is not None else None
        if cached is not None and cached.id in sandboxes:
            kinds = (catalogue.by_type(str(plugin.get("type"))) for plugin in cached.plugins)
            found += [(one.name, cached.id) for one in kinds if one is not None]
    return found
