"""What must hold on a node before the next: its agents Ready, its kubelet alive, a new pod gets a network there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, UNREACHABLE, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.errors import Exit, TuneError
from tune_nodes.policy.pace import passing
from tune_nodes.runs.store import new_run_id

LOOK = 0.5
LEASES = "kube-node-lease"
#: The label of our probe pods.
LABEL, OURS = "tune-nodes/probe", "reinstall"


@dataclass(frozen=True)
class Gate:
    """Waits until something holds on a node, or fails.

    Args:
        api: the server.
        namespace: of the probe pods: the agents' own, where pods without limits are allowed.
        image: of the probe pods; nodes must have it already. Nothing in it has to run: a network is given before.
        limit: seconds for each wait.
        cancelled: asked while waiting.
    """

    api: Api
    namespace: str
    image: str
    limit: float
    cancelled: Callable[[], bool]

    def wait(self, node: str, lacks: Callable[[], str]) -> None:
        """Wait until nothing is lacking. Raises TuneError with what still is, when the time is over.

        A server that is away for a moment is waited for too: an agent that starts anew may have been in its way.
        """
        until = time.monotonic() + self.limit
        while why := self._lacking(lacks):
            if self.cancelled():
                raise TuneError(f"stopped while {node} was waited for", why, exit=Exit.INTERRUPTED)
            if time.monotonic() >= until:
                raise TuneError(f"{node} is not well after {self.limit:g} s", why)
            time.sleep(LOOK)

    @staticmethod
    def _lacking(lacks: Callable[[], str]) -> str:
        try:
            return lacks()
        except ClusterError as problem:
            if problem.code != UNREACHABLE and not (isinstance(problem, Refused) and passing(problem)):
                raise
            return str(problem)

    def pass_(self, node: str) -> None:
        """Wait until the kubelet has renewed its Lease since now, the node is Ready, and a new pod has a network."""
        before = self._renewed(node)
        self.wait(node, lambda: "its kubelet does not renew its Lease" if self._renewed(node) == before else "")
        self.wait(node, lambda: self._not_ready(node))
        self._sandbox(node)

    def _renewed(self, node: str) -> str:
        item = self.api.get(Call("get", "leases", "coordination.k8s.io", LEASES, node))
        return objects.text(item, "spec", "renewTime", limit=60)

    def _not_ready(self, node: str) -> str:
        facts = objects.node_facts(self.api.get(Call("get", "nodes", name=node)))
        return "" if facts is not None and facts.ready else "the Node is not ready"

    def _sandbox(self, node: str) -> None:
        """Have a pod made there, wait until it has an address, and until it is gone again."""
        name = f"tune-nodes-probe-{new_run_id()[-6:]}"
        call = Call("get", "pods", namespace=self.namespace, name=name)
        made = self.api.post(Call("create", "pods", namespace=self.namespace), self._pod(name, node))
        uid = objects.text(made, "metadata", "uid")
        try:
            self.wait(node, lambda: self._without_network(call))
        finally:
            self._delete(call, uid)
        self.wait(node, lambda: f"the probe pod {name} does not end: its network is not taken down" * self._there(call))

    def _there(self, call: Call) -> bool:
        try:
            self.api.get(call)
        except ClusterError as problem:
            if problem.code == NOT_FOUND:
                return False
            raise
        return True

    def _delete(self, call: Call, uid: str) -> None:
        target = Call("delete", "pods", namespace=call.namespace, name=call.name)
        try:
            self.api.delete(target, uid)
        except ClusterError as problem:
            if problem.code not in (NOT_FOUND, CONFLICT):
                raise

    def sweep(self) -> None:
        """Remove the probe pods that a killed run left."""
        pods = Call("list", "pods", namespace=self.namespace)
        for item in self.api.items(pods, {"labelSelector": f"{LABEL}={OURS}"}):
            call = Call("delete", "pods", namespace=self.namespace, name=objects.name_of(item))
            self._delete(call, objects.text(item, "metadata", "uid"))

    def _without_network(self, call: Call) -> str:
        """Return what is lacking. An image without ``sleep`` ends at once: that a container was made is as good."""
        item = self.api.get(call)
        made = any(objects.text(one, "containerID") for one in objects.mappings(item, "status", "containerStatuses"))
        if made or objects.text(item, "status", "podIP"):
            return ""
        return f"a new pod gets no network ({call.namespace}/{call.name})"

    def _pod(self, name: str, node: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {LABEL: OURS}},
            "spec": {
                "nodeName": node,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "tolerations": [{"operator": "Exists"}],
                "containers": [
                    {
                        "name": "probe",
                        "image": self.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "60"],
                        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
                    }
                ],
            },
        }
