"""A cluster's policies and what they are judged by, as plain data. Objects stay as the server returned them."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.objects import at
from tune_nodes.fleet.untrusted import one_line

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What an object of a kind is for.
POLICY, TIER, SET, STAGED = "policy", "tier", "set", "staged"


@dataclass(frozen=True)
class Kind:
    """A kind of object that has a part in deciding which connections are let through.

    Args:
        group: "networking.k8s.io".
        version: the one that is used, "v1".
        resource: "networkpolicies".
        kind: "NetworkPolicy".
        namespaced: whether its objects belong to namespaces.
        engine: whose rules judge it: "kubernetes", "admin", "calico" or "cilium".
        role: "policy"; "tier" (an order of policies); "set" (addresses that policies refer to); "staged" (a policy that
            is only logged and never enforced).
    """

    group: str
    version: str
    resource: str
    kind: str
    namespaced: bool
    engine: str
    role: str = POLICY

    @property
    def text(self) -> str:
        """The kind as it is shown: "NetworkPolicy", "NetworkPolicy.projectcalico.org" where two have that name."""
        return f"{self.kind}.{self.group}" if self.engine == "calico" else self.kind

    @property
    def qualified(self) -> str:
        """Resource and group, as kubectl takes them: "networkpolicies.networking.k8s.io"."""
        return f"{self.resource}.{self.group}"

    @property
    def api_version(self) -> str:
        """Group and version, as objects hold them."""
        return f"{self.group}/{self.version}"

    def call(self, verb: str, namespace: str = "", name: str = "") -> Call:
        """Return a call on objects of this kind; ``namespace`` counts only where they have one."""
        return Call(verb, self.resource, self.group, namespace if self.namespaced else "", name, self.version)


@dataclass(frozen=True)
class Policy:
    """One object of such a kind, also a tier or a set. ``raw``: as it was served, and not to be trusted."""

    kind: Kind
    namespace: str
    name: str
    raw: Mapping[str, Any] = field(hash=False, compare=True)

    @property
    def ref(self) -> str:
        """What it is called everywhere: "NetworkPolicy shop/deny-all", "CiliumClusterwideNetworkPolicy no-world"."""
        return f"{self.kind.text} {self.namespace}/{self.name}" if self.namespace else f"{self.kind.text} {self.name}"

    @property
    def uid(self) -> str:
        """The object's uid, "" where it has none."""
        return self._metadata("uid")

    @property
    def resource_version(self) -> str:
        """The object's resourceVersion, "" where it has none."""
        return self._metadata("resourceVersion")

    @property
    def labels(self) -> Mapping[str, str]:
        """The object's own labels."""
        return strings(at(self.raw, "metadata", "labels"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """The object's spec, {} where it has none."""
        spec = self.raw.get("spec")
        return spec if isinstance(spec, Mapping) else {}

    def _metadata(self, key: str) -> str:
        value = at(self.raw, "metadata", key)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class NamedPort:
    """A port that a container names. ``protocol``: "TCP", "UDP" or "SCTP"."""

    name: str
    number: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Pod:
    """A pod. ``ips``: as its status has them, () before it got one; ``phase``: "Running" ..."""

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    host_network: bool = False
    ports: tuple[NamedPort, ...] = ()
    service_account: str = ""
    phase: str = ""

    @property
    def ref(self) -> str:
        """ "shop/web-0"."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"pod {self.ref}"


@dataclass(frozen=True)
class Cidr:
    """Addresses: "192.0.2.0/24", or one. A range is judged as a whole: what holds for a part of it is not known."""

    text: str

    @cached_property
    def network(self) -> Network:
        """The range. Raises ValueError where the text is none."""
        return ipaddress.ip_network(self.text, strict=False)

    def __str__(self) -> str:
        one = self.network.num_addresses == 1
        return f"address {self.network.network_address}" if one else f"addresses {self.network}"


Peer = Pod | Cidr


@dataclass(frozen=True)
class Node:
    """A node. ``addresses``: of the Node object, those that its CNI gave it included."""

    name: str
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Snapshot:
    """All that a judgement rests on.

    Args:
        kinds: those that the server serves.
        policies: of all kinds, tiers and sets too; in no order.
        pods: those that were read.
        namespaces: labels by name.
        nodes: with their addresses.
        engine: who enforces: "cilium", "calico", "kube-router" ...; "" where nobody is known to.
        cni: what the cluster's network is made by, "cilium v1.20.2".
        apiservers: addresses at which the API server answers.
        settings: of whoever enforces, by name (Cilium's ConfigMap); {} where they are not known.
        not_judged: sentences on what these data do not show.
    """

    kinds: tuple[Kind, ...] = ()
    policies: tuple[Policy, ...] = ()
    pods: tuple[Pod, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    nodes: tuple[Node, ...] = ()
    engine: str = ""
    cni: tuple[str, ...] = ()
    apiservers: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    not_judged: tuple[str, ...] = ()

    def without(self, refs: Collection[str]) -> Snapshot:
        """Return this snapshot as it would be without the policies of these refs."""
        gone = set(refs)
        return replace(self, policies=tuple(policy for policy in self.policies if policy.ref not in gone))

    def plus(self, policies: Iterable[Policy]) -> Snapshot:
        """Return this snapshot as it would be with these policies too; one of the same ref is replaced."""
        more = {policy.ref: policy for policy in policies}
        return replace(self, policies=(*self.without(more).policies, *more.values()))

    @cached_property
    def sets(self) -> tuple[Policy, ...]:
        """CIDR groups and network sets."""
        return tuple(policy for policy in self.policies if policy.kind.role == SET)

    @cached_property
    def _by_place(self) -> Mapping[tuple[str, str, str], tuple[Policy, ...]]:
        found: dict[tuple[str, str, str], list[Policy]] = {}
        for policy in self.policies:
            found.setdefault((policy.kind.engine, policy.kind.role, policy.namespace), []).append(policy)
        return {key: tuple(sorted(some, key=lambda one: one.ref)) for key, some in found.items()}

    def of(self, engine: str, namespace: str = "", role: str = POLICY) -> tuple[Policy, ...]:
        """Return an engine's objects of one role in one namespace ("": those without one), by name."""
        return self._by_place.get((engine, role, namespace), ())

    @cached_property
    def _owners(self) -> Mapping[str, Pod]:
        return {ip: pod for pod in self.pods if not pod.host_network for ip in pod.ips if pod.phase in _LIVE}

    def pod_at(self, address: str) -> Pod | None:
        """Return the pod that has an address to itself."""
        return self._owners.get(address)

    @cached_property
    def node_addresses(self) -> frozenset[str]:
        """Every address of every node."""
        return frozenset(address for node in self.nodes for address in node.addresses)


_LIVE = frozenset({"Running", "Pending", "Unknown", ""})


def strings(value: Any) -> Mapping[str, str]:
    """Return those members of a mapping that are texts; {} for anything else (pure)."""
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, str)}


def policy_of(kind: Kind, raw: Mapping[str, Any]) -> Policy | None:
    """Return an object as a policy; None for one without a usable name or, where it needs one, namespace (pure)."""
    name, namespace = at(raw, "metadata", "name"), at(raw, "metadata", "namespace")
    if not isinstance(name, str) or not name:
        return None
    if kind.namespaced and not (isinstance(namespace, str) and namespace):
        return None
    return Policy(kind, one_line(namespace, 253) if kind.namespaced else "", one_line(name, 253), raw)
