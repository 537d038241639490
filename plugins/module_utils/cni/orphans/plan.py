# SPDX-License-Identifier: Apache-2.0
"""Which artefacts are orphans, with the proof, and which of them stay all the same. Pure: all that is known comes in.

An orphan belongs to no configured CNI and to no live sandbox. Whatever is not certain is none.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Sequence, Set, Tuple, Union

from .. import catalogue
from ..detect import META, Conf, name_of
from ..model import Refusal, Sandbox
from . import firewall, routes
from .model import KINDS, Artefact, Orphan
from .path import NONE, Path
from .read import RESIDUE, Node

GRACE = 900.0  # seconds: a sandbox's namespace is there before its first process is
BRIDGE = "cni0"
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Facts:
    """What the API server says.

    Attributes:
        agents: CNIs whose agents' pods run on this node; None where nobody asked.
        pod_cidrs: of all nodes; None where nobody asked.
        node_ips: addresses of all nodes.
        own_cidrs: this node's podCIDRs; () where nobody asked.
    """

    agents: Optional[Sequence[str]] = None
    pod_cidrs: Optional[Sequence[str]] = None
    node_ips: Sequence[str] = ()
    own_cidrs: Sequence[str] = ()


#: No API server was asked.
NOTHING = Facts()


def facts_of(params: Mapping[str, Any]) -> Facts:
    """Return what a request says of the cluster."""
    told = {name: params.get(name) for name in ("agents", "pod_cidrs", "node_ips")}
    lists = {name: None if value is None else [str(one) for one in value] for name, value in told.items()}
    own = params.get("own")
    cidrs = params.get("own_cidrs") or (own.get("pod_cidrs") if isinstance(own, dict) else None)
    own_cidrs = [str(one) for one in cidrs] if isinstance(cidrs, list) else []
    return Facts(lists["agents"], lists["pod_cidrs"], lists["node_ips"] or (), own_cidrs)


@dataclass
class Plan:
    """The orphans, and why nothing is removed at all where there are refusals."""

    orphans: List[Orphan] = field(default_factory=list)
    refusals: List[Refusal] = field(default_factory=list)
    not_checked: List[str] = field(default_factory=list)
    configured: Set[str] = field(default_factory=set)

    @property
    def removable(self) -> List[Artefact]:
        """Return what may go, in the order in which it goes."""
        found = [one.artefact for one in self.orphans if not one.refused]
        return sorted(found, key=lambda one: KINDS.index(one.kind))


@dataclass(frozen=True)
class Asked:
    """Everything that a decision rests on.

    Attributes:
        confs: the node's CNI configurations in the order of the runtime.
        used: CNI -> who uses it, as :func:`.read.used` says.
        sandboxes: all that the runtime names; None where it does not answer.
        network: networks of the configured Flannel, for routes through the nodes themselves.
        subnets: what flanneld hands out on this node.
    """

    node: Node
    confs: Sequence[Conf]
    used: Mapping[str, str]
    sandboxes: Optional[Mapping[str, Sandbox]]
    facts: Facts = NOTHING
    path: Path = NONE
    network: Sequence[str] = ()
    subnets: Sequence[str] = ()


def configured(ask: Asked) -> Tuple[Set[str], Optional[Conf]]:
    """Return the names of the CNIs that are configured, and the configuration that counts; None where none does.

    The runtime takes the first file. One whose agent is proved to be gone, before another whose agent is there, is a
    leftover: it is not what this node's pods are to have.
    """
    names = [link.name for link in ask.node.links]
    kinds = [name_of(conf.types, names, conf.plugins) for conf in ask.confs]
    live = [index for index, kind in enumerate(kinds) if kind in (ask.facts.agents or ())]
    for index, (conf, kind) in enumerate(zip(ask.confs, kinds)):
        if _gone(kind, ask) and any(other > index for other in live):
            continue
        meta = conf.types[0] in META
        rows = ask.confs[index:] if meta else [conf]
        own = {name_of(one.types, names, one.plugins) for one in rows}
        own |= {known.name for one in rows for known in map(catalogue.by_type, one.types) if known is not None}
        if "canal" in own:
            own |= {"calico", "flannel"}
        if own & {"plain", "unknown"}:
            own.add("flannel")  # cni0 is the usual name of any bridge
        return own, conf
    return set(), None


def _gone(owner: str, ask: Asked) -> bool:
    """Tell whether the API names no agent of a CNI on this node, and none of it runs or has made a live sandbox."""
    known = next((one for one in catalogue.CATALOGUE if one.name == owner), None)
    if known is None or known.name == "plain" or not known.agents:
        return False
    return ask.facts.agents is not None and owner not in ask.facts.agents and owner not in ask.used


def judge(ask: Asked) -> Plan:
    """Return the orphans of a node, or why none is named."""
    own, conf = configured(ask)
    plan = Plan(configured=own)
    plan.refusals = _refusals(ask, own, conf)
    plan.not_checked = list(ask.node.unread)
    if ask.facts.agents is None:
        plan.not_checked.append("agents in the API: no cluster was asked; what other CNIs left is only named")
    if plan.refusals or conf is None:
        return plan
    residue = {one.owner for one in ask.node.artefacts if one.kind == "bpf"}
    in_use = "%s is the configuration in use: %s" % (conf.path, "/".join(sorted(own)))
    for artefact in ask.node.artefacts:
        owner = artefact.owner
        if artefact.kind == "link" and artefact.name in ask.node.dead:
            plan.orphans += _dead_veth(artefact, ask)
        elif _is_foreign(owner, own, ask) and not (artefact.kind == "file" and not _gone(owner, ask)):
            proof = (in_use, *_absence(owner, ask))
            plan.orphans.append(Orphan(artefact, proof, _refused(artefact, ask, residue)))
    plan.orphans += _vanished(ask, own, plan)
    plan.orphans += _old_bridge(ask, own)
    return plan


def _refusals(ask: Asked, own: Set[str], conf: Optional[Conf]) -> List[Refusal]:
    if ask.sandboxes is None:
        return [
            Refusal(
                "cri",
                "which sandboxes live is not known",
                "the container runtime does not answer",
                "systemctl status containerd (or crio, k3s)",
            )
        ]
    if not ask.sandboxes:
        what = "the container runtime names no sandbox at all"
        return [Refusal("no-sandboxes", what, "with an empty list everything would look unused", "crictl pods")]
    if conf is None or own & {"", "unknown"}:
        what = "which CNI this node is to have is not known"
        why = "%s is of none in the catalogue" % conf.path if conf else "there is no CNI configuration"
        return [Refusal("no-cni", what, why, "without it no leftover can be told from what is in use")]
    return []


def _is_foreign(owner: str, own: Set[str], ask: Asked) -> bool:
    here = owner in own or owner in ask.used or owner in (ask.facts.agents or ())
    return bool(owner) and owner != "plain" and not here


def _absence(owner: str, ask: Asked) -> List[str]:
    known = next(one for one in catalogue.CATALOGUE if one.name == owner)
    found = []
    if known.agents:
        told = " and the API names none of its pods here" if ask.facts.agents is not None else ""
        found.append("no agent of %s runs on this node (%s)%s" % (owner, known.agents[0], told))
    count = len(ask.sandboxes or ())
    found.append("it made none of the %d sandboxes, and none of its devices leads into a live namespace" % count)
    return found


def _refused(artefact: Artefact, ask: Asked, residue: Set[str]) -> str:
    """Return why an orphan stays, "" where it may go."""
    if artefact.stuck:
        return artefact.stuck
    if ask.facts.agents is None:
        # Rules of a policy engine whose agent is just starting anew look the same, and they keep pods apart.
        return "whether an agent of %s belongs on this node is not known: no cluster was asked" % artefact.owner
    if artefact.owner in residue:
        return "%s has left BPF programs: %s" % (artefact.owner, RESIDUE)
    if artefact.kind == "link":
        return ask.path.holds_link(artefact.name)
    if artefact.kind == "route":
        return _holds_route(artefact, ask.path)
    if artefact.kind == "rule":
        return _holds_rule(artefact, ask)
    if artefact.kind == "chains":
        return _holds_chains(artefact, ask)
    return ""


def _holds_route(artefact: Artefact, path: Path) -> str:
    parsed = routes.parse_route(" ".join(artefact.content), 4)
    return path.holds_destination(parsed.dst if parsed else "")


def _holds_rule(artefact: Artefact, ask: Asked) -> str:
    table = routes.after(artefact.content, "lookup")
    for route in ask.node.routes:
        if route.table == table and ask.path.holds_destination(route.dst):
            return "our own connection may go by table %s" % table
    return "" if ask.path.known else "which way our own connection goes could not be told"


def _holds_chains(artefact: Artefact, ask: Asked) -> str:
    for program, tables in ask.node.tables.items():
        for table in tables:
            if artefact.name == firewall.name_of(program, table.name, artefact.owner):
                return firewall.holds_out(table, artefact.owner)
    return "its table is no longer there"


def _dead_veth(artefact: Artefact, ask: Asked) -> List[Orphan]:
    """Judge a veth whose other end is in a namespace without a process; only one that a CNI made."""
    namespace, age = ask.node.dead[artefact.name]
    link = next(one for one in ask.node.links if one.name == artefact.name)
    bridge = catalogue.of_link(link.master) if link.master else None
    owner = artefact.owner or (bridge.name if bridge else "")
    if not owner or age < GRACE:
        return []
    stopped = [one for one in (ask.sandboxes or {}).values() if not one.ready]
    if stopped:
        return []  # a stopped sandbox keeps its namespace, without a process, until its CNI DEL is done
    proof = (
        "its other end is in the network namespace %s, in which no process lives" % namespace,
        "that namespace is %d s old, and none of the %d sandboxes is stopped" % (age, len(ask.sandboxes or ())),
    )
    return [Orphan(artefact, proof, artefact.stuck or ask.path.holds_link(artefact.name))]


def _vanished(ask: Asked, own: Set[str], plan: Plan) -> List[Orphan]:
    """Return routes of the configured Flannel to pods of nodes that are no longer in the cluster."""
    if "flannel" not in own or not own & {"flannel", "canal"}:
        return []
    if ask.facts.pod_cidrs is None:
        plan.not_checked.append("routes to nodes that are gone: no cluster was asked")
        return []
    there = _networks(ask.facts.pod_cidrs)
    if not there:
        return []
    found = []
    for route in ask.node.routes:
        leads = _leads(route, ask)
        if leads and not any(_overlap(one, net) for one in _networks([route.dst]) for net in there):
            artefact = routes.route(route, "flannel")
            proof = ("no node of the cluster has %s as its podCIDR" % route.dst, leads)
            found.append(Orphan(artefact, proof, _holds_route(artefact, ask.path)))
    return found


def _old_bridge(ask: Asked, own: Set[str]) -> List[Orphan]:
    """Return Flannel's bridge where it has an address of an earlier subnet and no pod hangs on it.

    The bridge plugin refuses such a bridge, and makes a new one where there is none. A subnet that is not in the
    node's podCIDR is what is wrong itself: then the bridge may be right.
    """
    mine, subnets = _networks(ask.facts.own_cidrs), [net for net in _networks(ask.subnets) if net.version == 4]
    if not own & {"flannel", "canal"} or not subnets or not all(_inside(net, mine) for net in subnets):
        return []
    found = []
    for artefact in ask.node.artefacts:
        addresses = [net for net in _networks(artefact.content[1:]) if net.version == 4]
        if artefact.key != ("link", BRIDGE) or not addresses or any(_inside(net, subnets) for net in addresses):
            continue
        if any(link.master == BRIDGE for link in ask.node.links):
            continue
        proof = (
            "it has %s, and this node's subnet is %s" % (", ".join(artefact.content[1:3]), subnets[0]),
            "nothing hangs on it; the bridge plugin makes it anew for the next pod",
        )
        found.append(Orphan(artefact, proof, artefact.stuck or ask.path.holds_link(BRIDGE)))
    return found


def _inside(network: IPNetwork, others: Sequence[IPNetwork]) -> bool:
    return any(_overlap(network, other) and network.prefixlen >= other.prefixlen for other in others)


def _leads(route: routes.Route, ask: Asked) -> str:
    """Return where a route that flanneld made leads to, "" for one that it did not make."""
    networks = _networks([route.dst])
    if route.kind != "unicast" or not route.via or not networks:
        return ""
    known = catalogue.of_link(route.dev)
    if known is not None and known.name == "flannel":
        return "it leads through %s to %s" % (route.dev, route.via)
    pods = _networks(ask.network)
    inside = any(_overlap(networks[0], net) and networks[0].prefixlen > net.prefixlen for net in pods)
    if inside and ask.facts.node_ips and route.via not in ask.facts.node_ips:
        return "it leads to %s, which is the address of no node" % route.via
    return ""


def _networks(texts: Sequence[str]) -> List[IPNetwork]:
    found: List[IPNetwork] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)
