"""What is kept of a cluster's objects: plain data, every text of it cleaned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NodeFacts:
    """One Node object.

    Args:
        name: of the object.
        addresses: IP addresses, InternalIP first.
        ready: whether its condition Ready is True.
        ready_reason: why it is not, "" where it is: "Unknown, NodeStatusUnknown: Kubelet stopped posting ...".
        cordoned: closed for new pods.
        cordoned_by: the run that closed it, by our annotation; "" where somebody else did, or nobody.
        roles: from the labels ``node-role.kubernetes.io/ROLE``, sorted.
        labels: all of them.
        taints: "key=value:Effect", without the one that a cordon makes.
        kubelet: its version ("v1.34.4").
        runtime: "containerd://1.6.20".
        kernel: release.
        os_image: as the node calls it.
        machine_id: of the machine that registered, to tell it from another one with its name.
        boot_id: of its present boot.
    """

    name: str
    addresses: tuple[str, ...] = ()
    ready: bool = False
    ready_reason: str = ""
    cordoned: bool = False
    cordoned_by: str = ""
    roles: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    kubelet: str = ""
    runtime: str = ""
    kernel: str = ""
    os_image: str = ""
    machine_id: str = ""
    boot_id: str = ""


@dataclass(frozen=True)
class AgentFacts:
    """One pod of a DaemonSet on one node: kube-proxy, the CNI's agent.

    Args:
        namespace: of the pod.
        pod: its name.
        app: the DaemonSet's name, which stays when the pod is replaced.
        node: where it runs.
        ready: whether its condition Ready is True.
        why: why it is not: "CrashLoopBackOff", "Pending", "being deleted".
    """

    namespace: str
    pod: str
    app: str
    node: str
    ready: bool
    why: str = ""


@dataclass(frozen=True)
class ClusterFacts:
    """A cluster as one look found it.

    Args:
        server: "https://192.0.2.10:6443".
        context: of the kubeconfig.
        version: of the API server ("v1.34.4").
        cni: "flannel v0.28.10"; several where several are there (Multus and its default network).
        nodes: by name.
        agents: the pods that make a node's network, on every node; none where there are more than 500 nodes.
        not_seen: sentences on what could not be read, and why.
    """

    server: str
    context: str
    version: str
    cni: tuple[str, ...] = ()
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    agents: tuple[AgentFacts, ...] = ()
    not_seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blocked:
    """A pod ("namespace/name") that is in the way of a drain, and why."""

    pod: str
    why: str


@dataclass(frozen=True)
class Drained:
    """How a drain ended.

    Args:
        evicted: pods that were moved away and are gone.
        blocked: pods that may not be evicted; nothing was evicted where a rule of the drain itself forbids one.
        left: pods that were asked to go and are still there.
        cancelled: whether it was told to stop.
    """

    evicted: int = 0
    blocked: tuple[Blocked, ...] = ()
    left: tuple[str, ...] = ()
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left that a drain moves."""
        return not (self.blocked or self.left or self.cancelled)
