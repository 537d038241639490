# SPDX-License-Identifier: Apache-2.0
"""What is wrong with this node's CNI, by name, and which rung of the ladder helps. Pure: all that is known comes in.

Where something is not known, nothing is said of it: a fault that is none would have an agent restarted for nothing.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from . import catalogue, flannel
from .detect import META, Cni, Conf, name_of

AGENT, ORPHANS, REBUILD = 1, 3, 4  # rungs
MOST = 50
MOST_PEERS = 1000  # nodes that a request names; beyond that their entries here are not compared
#: Programs that carry agents in themselves: no process of its own says that one is there.
EMBEDDING = frozenset(catalogue.K3S)
#: Canal is Flannel for the packets and Calico for the policies, in one pod.
_PARTS = {"canal": ("flannel", "calico")}
_NAMED = 3  # nodes that one sentence names
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Peer:
    """A node as the API has it: its podCIDRs, and what its Flannel wrote there.

    Attributes:
        managed: whether Flannel takes its subnet from the podCIDR; it may keep subnets in an etcd of its own instead.
    """

    name: str
    pod_cidrs: Tuple[str, ...] = ()
    public_ip: str = ""
    vtep_mac: str = ""
    vni: Optional[int] = None
    managed: bool = False


@dataclass(frozen=True)
class Cluster:
    """What the API says of Flannel and of agents.

    Attributes:
        own: this node; None where nobody asked.
        unready: CNIs whose agent's pods are on this node and not ready; None where nobody asked.
        peers: the other nodes.
    """

    own: Optional[Peer] = None
    unready: Optional[Sequence[str]] = None
    peers: Sequence[Peer] = ()


#: No API server was asked.
NOTHING = Cluster()


def _peer(raw: Any) -> Peer:
    row: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    told = {key: str(row.get(key) or "")[:253] for key in ("name", "public_ip", "vtep_mac")}
    cidrs = row.get("pod_cidrs")
    listed = tuple(str(one)[:64] for one in cidrs[:4]) if isinstance(cidrs, list) else ()
    vni = row.get("vni")
    known = vni if isinstance(vni, int) and not isinstance(vni, bool) else None
    return Peer(
        told["name"], listed, told["public_ip"], told["vtep_mac"].lower(), known, managed=row.get("managed") is True
    )


def cluster_of(params: Mapping[str, Any]) -> Cluster:
    """Return what a request says of the cluster."""
    own, peers = params.get("own"), params.get("peers")
    if not isinstance(own, dict):
        return NOTHING
    unready = own.get("unready")
    listed = [str(one)[:64] for one in unready] if isinstance(unready, list) else None
    return Cluster(_peer(own), listed, [_peer(one) for one in (peers or [])[:MOST_PEERS]])


@dataclass(frozen=True)
class Fault:
    """Something wrong. ``rung``: the number of the one that helps, None for none."""

    code: str
    what: str
    why: str = ""
    next: str = ""
    rung: Optional[int] = None

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """Everything that a judgement rests on.

    Attributes:
        confs: the node's configurations in the order of the runtime.
        agents: CNIs whose agents have a pod on this node in the API; None where nobody asked.
        running: names of the processes on this node.
        flannel: what Flannel has made of the node; None where it is not looked at.
    """

    cni: Cni
    confs: Sequence[Conf] = ()
    agents: Optional[Sequence[str]] = None
    running: Set[str] = field(default_factory=set)
    cluster: Cluster = NOTHING
    flannel: Optional[flannel.Seen] = None


def judge(ask: Asked) -> List[Fault]:
    """Return what is wrong with a node."""
    found = [*_agent(ask), *_configuration(ask)]
    if ask.flannel is not None and ask.cluster.own is not None and wants_flannel(ask.cni, ask.confs, ask.agents):
        found += [_by_hand(fault, ask.agents) for fault in _flannel(ask, ask.flannel, ask.cluster.own)]
    return found[:MOST]


def wants_flannel(cni: Cni, confs: Sequence[Conf], agents: Optional[Sequence[str]]) -> bool:
    """Tell whether Flannel is to be looked at: its agent has a pod here, or new pods get their network by it.

    What it left behind is nobody's: its configuration after another CNI's, or its tunnel beside Calico's devices.
    """
    if _has_flannel(agents):
        return True
    first = next((conf for conf in confs if conf.types[0] not in META), None)
    if first is not None and name_of(first.types, (), first.plugins) == "flannel":
        return True
    return cni.name == "canal" and agents is None


def _has_flannel(agents: Optional[Sequence[str]]) -> bool:
    return bool({"flannel", "canal"} & set(agents or ()))


# -- whatever the CNI --------------------------------------------------------------------------------------------------


def _has_process(name: str, running: Set[str]) -> bool:
    """Tell whether a CNI's agent may run here: k3s and RKE2 have agents in themselves."""
    parts = _PARTS.get(name, (name,))
    agents = {agent for one in catalogue.CATALOGUE if one.name in parts for agent in one.agents}
    return not agents or bool(running & (agents | EMBEDDING))


def _agent(ask: Asked) -> List[Fault]:
    found = []
    unready = ask.cluster.unready or ()
    for name in unready:
        if any(name in _PARTS.get(whole, ()) for whole in unready):
            continue  # the same pod
        found.append(
            Fault(
                "agent-not-ready",
                "the agent of %s on this node is not ready" % name,
                "the API has its pod, but not as ready",
                "its pod's events and log",
                AGENT,
            )
        )
    name = ask.cni.name
    parts = set(_PARTS.get(name, (name,)))
    if name and ask.agents is not None and not parts & set(ask.agents) and not _has_process(name, ask.running):
        what = "%s is configured, but its agent has no pod on this node" % name
        why = "%s is the configuration in use, and no process of the agent runs" % ask.cni.file
        if not _hijacked(ask):
            found.append(Fault("agent-missing", what, why, "its DaemonSet: kubectl get daemonsets -A; node selectors"))
    return found


def _hijacked(ask: Asked) -> Optional[Conf]:
    """Return the configuration that would be in use if the first were not there, None where the first is right."""
    if not ask.confs or ask.agents is None:
        return None
    first = name_of(ask.confs[0].types, (), ask.confs[0].plugins)
    if first in ask.agents or _has_process(first, ask.running):
        return None
    return next((conf for conf in ask.confs[1:] if name_of(conf.types, (), conf.plugins) in ask.agents), None)


def _configuration(ask: Asked) -> List[Fault]:
    cni, there = ask.cni, list(ask.agents or ())
    found = []
    if cni.conf_dir and not ask.confs:
        what = "there is no CNI configuration in %s" % cni.conf_dir
        why = "the agent of %s writes it when it starts" % " and ".join(there) if there else ""
        then = "" if there else "which CNI this node is to have; no agent of one is known to have a pod here"
        found.append(Fault("no-configuration", what, why, then, AGENT if there else None))
    right = _hijacked(ask)
    if right is not None:
        first = ask.confs[0]
        what = "%s comes before %s: new pods get their network by %s, whose agent is not here" % (
            first.path,
            os.path.basename(right.path),
            first.types[0],
        )
        found.append(Fault("hijacked", what, "the runtime takes the first file by name", rung=ORPHANS))
    elif cni.missing:
        known = catalogue.by_type(cni.types[0]) if cni.types else None
        own = known is not None and known.name in there and bool(set(cni.missing) & set(known.types))
        then = "the agent's init container copies them" if own else "the package or image that brings them"
        what = "plugins are missing: %s" % ", ".join(cni.missing[:8])
        found.append(Fault("no-plugin", what, "", then, AGENT if own else None))
    return found


# -- Flannel -----------------------------------------------------------------------------------------------------------


def _network(text: str) -> Optional[IPNetwork]:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _within(inner: str, outer: Sequence[str]) -> bool:
    small, large = _network(inner), [_network(text) for text in outer]
    return small is not None and any(one is not None and _covers(one, small) for one in large)


def _same(one: str, other: str) -> bool:
    """Tell whether two addresses with prefix lengths are the same."""
    try:
        return ipaddress.ip_interface(one) == ipaddress.ip_interface(other)
    except ValueError:
        return True  # what is not understood is no fault


def _covers(large: IPNetwork, small: IPNetwork) -> bool:
    same = large.version == small.version and large.prefixlen <= small.prefixlen
    return same and small.network_address in large


def _by_hand(fault: Fault, agents: Optional[Sequence[str]]) -> Fault:
    """Return a fault of Flannel as one that no rung mends, where its agent is no pod that could be started anew."""
    if fault.rung != AGENT or _has_flannel(agents):
        return fault
    return replace(fault, next="start anew what carries Flannel on this node: k3s, RKE2 or flanneld", rung=None)


def _flannel(ask: Asked, seen: flannel.Seen, own: Peer) -> List[Fault]:
    found = _subnet(seen, own, ask.cluster.peers)
    if not found and _bridges(ask.confs):  # else it comes right with the subnet, or is found afterwards
        found += _bridge(seen, own)
    if seen.links and not seen.tunnel and own.vni is not None and own.vtep_mac:
        what = "there is no flannel.%d: pods of other nodes are not reached, nor do they reach those here" % own.vni
        why = "the API tells the other nodes that this node has it; the agent makes it when it starts"
        found.append(Fault("no-tunnel", what, why, "", AGENT))
    if seen.mac and own.vtep_mac and seen.mac != own.vtep_mac:
        what = "the tunnel %s has the MAC %s, but the API tells the other nodes %s" % (
            seen.tunnel,
            seen.mac,
            own.vtep_mac,
        )
        why = "what they send to this node's pods is dropped here"
        found.append(Fault("vtep-mac", what, why, "", AGENT))
    return found + (_ways(seen, ask.cluster.peers) if own.vtep_mac else [])


def _bridges(confs: Sequence[Conf]) -> bool:
    """Tell whether pods are hung on cni0: Flannel's plugin has another one do it, the bridge plugin if nothing is said.

    With Canal nobody uses a cni0.
    """
    plugin = next((one for conf in confs for one in conf.plugins if one["type"] == "flannel"), None)
    told = None if plugin is None else plugin.get("delegate", {})
    if not isinstance(told, dict):
        return False
    return (told.get("type", "bridge"), told.get("bridge", flannel.BRIDGE)) == ("bridge", flannel.BRIDGE)


def _subnet(seen: flannel.Seen, own: Peer, peers: Sequence[Peer]) -> List[Fault]:
    if seen.env and not own.managed:
        return []  # its subnet is from elsewhere than the podCIDR, or nothing was written to this Node yet
    if not own.pod_cidrs:
        what = "the API has no podCIDR for this node"
        return [Fault("no-pod-cidr", what, "", "kube-controller-manager: --allocate-node-cidrs and the cluster CIDR")]
    if not seen.env:
        what = "there is no /run/flannel/subnet.env: no pod can get a network"
        return [Fault("no-subnet-env", what, "the agent writes it when it starts", "", AGENT)]
    found = []
    for subnet in seen.subnets:
        if not _within(subnet, own.pod_cidrs):
            whose = next((peer.name for peer in peers if _within(subnet, peer.pod_cidrs)), "")
            what = "subnet.env says %s, which is not in this node's podCIDR %s" % (subnet, ", ".join(own.pod_cidrs))
            why = "it is of the node %s: two nodes would give out the same addresses" % whose if whose else ""
            found.append(Fault("subnet-env", what, why, "", AGENT))
    return found


def _bridge(seen: flannel.Seen, own: Peer) -> List[Fault]:
    """Return a fault where cni0's first IPv4 address is not the node's own.

    The bridge plugin looks no further: where that one is another it gives no pod a network
    (containernetworking/plugins, plugins/main/bridge, ensureAddr).
    """
    subnets = [text for text in seen.subnets if ":" not in text]
    if not seen.bridge or not subnets or _same(seen.bridge[0], subnets[0]):
        return []
    what = "%s has %s, but this node's subnet is %s" % (flannel.BRIDGE, ", ".join(seen.bridge[:2]), subnets[0])
    why = "the bridge plugin refuses a bridge with another address: no pod can get a network"
    others = [text for text in seen.bridge if not _same(text, subnets[0])]
    if len(others) < len(seen.bridge):
        then = "ip address del %s dev %s, where nobody needs it" % (others[0], flannel.BRIDGE)
        return [Fault("old-bridge", what + ", which comes after it", why, then)]
    if seen.ports:
        hang = "1 pod hangs" if len(seen.ports) == 1 else "%d pods hang" % len(seen.ports)
        return [Fault("old-bridge", "%s; %s on it" % (what, hang), why, "", REBUILD)]
    if not own.managed:  # a leftover is one only by the podCIDR
        then = "ip link delete %s; the plugin makes it anew for the next pod" % flannel.BRIDGE
        return [Fault("old-bridge", what + "; no pod hangs on it", why, then)]
    return [Fault("old-bridge", what + "; no pod hangs on it", why, "", ORPHANS)]


def _ways(seen: flannel.Seen, peers: Sequence[Peer]) -> List[Fault]:
    """Return a fault where this node's entries for other nodes are not what those wrote to the API."""
    if not seen.tunnel or seen.neighbours is None or seen.forwarding is None or seen.routes is None:
        return []
    wrong = []
    for peer in peers:
        if peer.vtep_mac and peer.public_ip:
            problem = _way(seen, peer)
            if problem:
                wrong.append("%s: %s" % (peer.name, problem))
    if not wrong:
        return []
    what = "the way through %s to %d other nodes is not as they say" % (seen.tunnel, len(wrong))
    if len(wrong) == 1:
        what = "the way through %s to another node is not as it says" % seen.tunnel
    more = "; and %d more" % (len(wrong) - _NAMED) if len(wrong) > _NAMED else ""
    return [Fault("peer", "%s (%s%s)" % (what, "; ".join(wrong[:_NAMED]), more), "", "", AGENT)]


def _way(seen: flannel.Seen, peer: Peer) -> str:
    neighbours, forwarding, routes = seen.neighbours or {}, seen.forwarding or {}, seen.routes or {}
    for text in peer.pod_cidrs:
        network = _network(text)
        if network is None or network.version != 4:
            continue
        if str(network) not in routes:
            return "no route to %s" % network
        gateway, device = routes[str(network)]
        if device != seen.tunnel:
            continue  # a node of the same network is reached without the tunnel where DirectRouting is set
        mac = neighbours.get(gateway, "")
        if mac != peer.vtep_mac:
            return "%s has the MAC %s, not %s" % (gateway, mac or "none", peer.vtep_mac)
        if peer.public_ip not in forwarding.get(peer.vtep_mac, []):
            there = ", ".join(forwarding.get(peer.vtep_mac, [])[:2]) or "nowhere"
            return "%s is forwarded to %s, not to %s" % (peer.vtep_mac, there, peer.public_ip)
    return ""
