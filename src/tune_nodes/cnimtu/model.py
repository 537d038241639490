"""What is known and what is wanted of a cluster's MTUs: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.objects import name_of, text

OK, PENDING, UNSUPPORTED = "ok", "pending", "unsupported"


@dataclass(frozen=True)
class Layer:
    """One interface or tunnel of a node: its MTU now and the one it should have, in bytes.

    Args:
        name: of the link.
        kind: "" for an interface, else of the tunnel: "vxlan", "wireguard" ...
        now: what it has.
        want: what it should have.
        pending: whether the node's own part still has to set it.
    """

    name: str
    kind: str
    now: int
    want: int
    pending: bool = False


@dataclass(frozen=True)
class NodeStack:
    """What one node said of its MTUs.

    Args:
        node: as the inventory calls it.
        cni: "flannel", "calico" ...; "" where it has none, "unknown" for one that is not known.
        layers: interfaces and tunnels of other nodes' packets, from the outside in.
        given: what its CNI gives a new pod now, None where nothing on the node says so.
        pods: what pods should have, None where that cannot be said.
        number: whether a number was asked for pods, and not what fits.
        tell: how the CNI's owner would be told, in the node's words.
        problem: why its stack is nothing to build on, "" where all is well.
        faults: what is wrong with it as it stands, a sentence each.
    """

    node: str
    cni: str = ""
    layers: tuple[Layer, ...] = ()
    given: int | None = None
    pods: int | None = None
    number: bool = False
    tell: str = ""
    problem: str = ""
    faults: tuple[str, ...] = ()

    @property
    def interfaces(self) -> tuple[Layer, ...]:
        """Its interfaces."""
        return tuple(layer for layer in self.layers if not layer.kind)

    @property
    def tunnels(self) -> tuple[Layer, ...]:
        """Its tunnels."""
        return tuple(layer for layer in self.layers if layer.kind)

    def less(self, cost: int) -> bool:
        """Whether an interface less this many bytes is what pods should have."""
        return any(layer.want - cost == self.pods for layer in self.interfaces)


@dataclass(frozen=True)
class Held:
    """An object of the API in which a CNI keeps its MTU.

    Args:
        call: how it is got.
        kind: "ConfigMap".
        raw: as the server returned it.
    """

    call: Call
    kind: str
    raw: Mapping[str, Any]

    @property
    def ref(self) -> str:
        """The object in a few words: "ConfigMap kube-flannel/kube-flannel-cfg"."""
        namespace = text(self.raw, "metadata", "namespace")
        return f"{self.kind} {f'{namespace}/' if namespace else ''}{name_of(self.raw)}"


@dataclass(frozen=True)
class Setting:
    """One MTU in the API.

    Args:
        key: which of the object's: "net-conf.json Backend.MTU".
        held: the object.
        now: bytes, None where the CNI works it out by itself.
        want: the same, as it should be.
        status: ok, pending, or unsupported: it is wrong and is not changed from here.
        reason: why it should be so, in one line.
        note: what else a person should know.
        patch: the part of a merge patch that makes it so, of a pending one.
    """

    key: str
    held: Held
    now: int | None
    want: int | None
    status: str
    reason: str
    note: str = ""
    patch: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        names = ("key", "now", "want", "status", "reason", "note")
        return {"object": self.held.ref, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class CniPlan:
    """What should be changed in a cluster's API, and which nodes' agents must start anew.

    Args:
        cni: its name.
        pods: bytes that pods should have, None where the nodes do not agree.
        settings: every place that holds an MTU.
        restart: nodes (as the inventory calls them) whose agent must start anew to hand out what is set.
        refused: why nothing is changed, "" where something can be.
        faults: what is wrong, a sentence each.
        notes: what else a person should know.
    """

    cni: str = ""
    pods: int | None = None
    settings: tuple[Setting, ...] = ()
    restart: tuple[str, ...] = ()
    refused: str = ""
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[Setting, ...]:
        """The settings that would be changed."""
        return () if self.refused else tuple(one for one in self.settings if one.status == PENDING)

    @property
    def work(self) -> bool:
        """Whether there is anything to do."""
        return not self.refused and bool(self.pending or self.restart)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "cni": self.cni,
            "pods": self.pods,
            "settings": [one.to_dict() for one in self.settings],
            "restart": list(self.restart),
            "refused": self.refused,
            "faults": list(self.faults),
            "notes": list(self.notes),
        }
