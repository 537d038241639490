"""Pods that stand at the ends of a measurement: made on a node by name, waited for, and taken away again.

One of them may be closed: a policy of ours, which goes with the pod, denies all that comes in. Nothing has to run in
them. A pod's network is made before its image is even looked for, and its packets are sent by the node, from the pod's
network namespace.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tune_nodes.cluster import objects
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ClusterError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.recovery.lock import NAMESPACE, make_namespace
from tune_nodes.recovery.services import CLOSED

LABEL = "tune-nodes/recovery-probe"
#: Of the closed pod: its own name, by which its policy finds it and no other.
CLOSED_LABEL = "tune-nodes/closed-probe"
_POLICIES = "networking.k8s.io"
#: Seconds after which the kubelet ends a pod, whatever became of us.
LIFE = 900
#: Seconds for a pod to get an address, and to be gone. The kubelet tries a failed network again after a few.
APPEAR, VANISH = 60.0, 45.0
#: Seconds for a new namespace to get its default account, without which no pod is let in.
_ACCOUNT = 20.0
_LOOK = 0.5
#: nobody, as most images that name no user of their own take
_USER = 65534


@dataclass(frozen=True)
class ProbePod:
    """One end.

    Args:
        role: which end it is.
        node: the Node it is on.
        name: of the pod.
        uid: of the pod.
        ips: by family; none where it got no network.
        seconds: until it had one.
        why: why it has none.
        open: why the pod that is to be closed is not.
    """

    role: str
    node: str
    name: str = ""
    uid: str = ""
    ips: Mapping[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    why: str = ""
    open: str = ""


def manifest(name: str, node: str, image: str, run: str) -> dict[str, Any]:
    """Return a pod on a node: past the scheduler, so that a cordon or a taint does not keep it away (pure).

    Args:
        name: of the pod.
        node: the Node's name.
        image: one that the node has; it is not pulled. What it runs, and whether that ends, does not matter.
        run: the run's id, for its label.
    """
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "Never",
        "resources": {key: {"cpu": "10m", "memory": "16Mi"} for key in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "nodeName": node,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",  # else the network would go when the image's program ends
        "activeDeadlineSeconds": LIFE,
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    meshless = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: run}, "annotations": meshless}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(pod: ProbePod) -> dict[str, Any]:
    """Return the policy that denies all that comes in to one pod, and that is collected with it (pure)."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        # By the uid too: an older one may not have been collected yet.
        "metadata": {"name": f"{pod.name}-{pod.uid[:8]}", "namespace": NAMESPACE, "ownerReferences": [owner]},
        "spec": {"podSelector": {"matchLabels": {CLOSED_LABEL: pod.name}}, "policyTypes": ["Ingress"]},
    }


def name_of(run: str, node: str, when: str, role: str) -> str:
    """Return a pod's name, the same for the same end (pure)."""
    return f"probe-{run}-{hashlib.sha256(node.encode()).hexdigest()[:6]}-{when}-{role}"[:63]


def ips_of(pod: Mapping[str, Any]) -> dict[int, str]:
    """Return a pod's addresses by family (pure)."""
    found: dict[int, str] = {}
    for row in objects.mappings(pod, "status", "podIPs"):
        try:
            address = ipaddress.ip_address(objects.text(row, "ip", limit=60))
        except ValueError:
            continue
        found.setdefault(address.version, str(address))
    return found


def trouble_of(events: Iterable[Mapping[str, Any]], uid: str) -> str:
    """Return the last warning about a pod, "" for none (pure)."""
    own = (event for event in events if objects.text(event, "involvedObject", "uid") == uid)
    return one_line(objects.last_warning(own, "message"), 200)


class ProbePods:
    """The pods of one measurement.

    Args:
        api: the API server.
        run: the run's id.
        image: see :func:`manifest`.
        stopped: asked while waiting.
    """

    def __init__(self, api: Api, run: str, image: str, stopped: Callable[[], bool]) -> None:
        self._api = api
        self._run = run
        self._image = image
        self._stopped = stopped

    def up(self, wanted: Mapping[str, str], when: str) -> dict[str, ProbePod]:
        """Make a pod for each role on its Node, and wait for their addresses. Raises ClusterError; then none is left.

        Args:
            wanted: role to Node.
            when: part of their names.
        """
        found: dict[str, ProbePod] = {}
        try:
            for role, node in wanted.items():
                pod = self._make(ProbePod(role, node, name_of(self._run, node, when, role)))
                found[role] = pod
                if role == CLOSED:
                    found[role] = replace(pod, open=self._close(pod))
            return self._settled(found)
        except BaseException:
            self.down(found)
            raise

    def _make(self, pod: ProbePod) -> ProbePod:
        body = manifest(pod.name, pod.node, self._image, self._run)
        if pod.role == CLOSED:
            body["metadata"]["labels"][CLOSED_LABEL] = pod.name
        call = Call("create", "pods", namespace=NAMESPACE)
        until = time.monotonic() + _ACCOUNT
        while True:
            try:
                made = self._api.post(call, body)
                return replace(pod, uid=objects.text(made, "metadata", "uid"))
            except ClusterError as problem:
                if problem.code == NOT_FOUND:
                    make_namespace(self._api)
                elif problem.code == CONFLICT:  # of a run that was killed
                    self._gone({pod.role: pod}, time.monotonic() + VANISH)
                elif problem.code != FORBIDDEN or "serviceaccount" not in problem.why:
                    raise
                if time.monotonic() > until:
                    raise
            time.sleep(_LOOK)

    def _close(self, pod: ProbePod) -> str:
        """Close a pod; why that was not possible, "" for nothing."""
        call = Call("create", "networkpolicies", _POLICIES, NAMESPACE, version="v1")
        try:
            self._api.post(call, policy(pod))
        except ClusterError as problem:
            return one_line(str(problem), 200)
        return ""

    def _settled(self, pods: Mapping[str, ProbePod]) -> dict[str, ProbePod]:
        started = time.monotonic()
        found = dict(pods)
        while time.monotonic() - started < APPEAR and not self._stopped():
            for role, pod in found.items():
                if not pod.ips:
                    seen = self._api.get(Call("get", "pods", namespace=NAMESPACE, name=pod.name))
                    took = round(time.monotonic() - started, 1)
                    found[role] = replace(pod, ips=ips_of(seen), seconds=took)
            if all(pod.ips for pod in found.values()):
                return found
            time.sleep(_LOOK)
        return {role: pod if pod.ips else replace(pod, why=self._why(pod)) for role, pod in found.items()}

    def _why(self, pod: ProbePod) -> str:
        waited = f"no address within {APPEAR:g} s"
        try:
            events = self._api.items(Call("list", "events", namespace=NAMESPACE))
            said = trouble_of(events, pod.uid)
        except ClusterError:
            said = ""  # the right to list events may be missing; that there is no address is known anyway
        return f"{waited}: {said}" if said else waited

    def down(self, pods: Mapping[str, ProbePod]) -> list[str]:
        """Take the pods away and wait until they are gone; return the names of those that are still there."""
        return self._gone(pods, time.monotonic() + VANISH)

    def _gone(self, pods: Mapping[str, ProbePod], until: float) -> list[str]:
        left = {pod.name: pod.uid for pod in pods.values()}
        asked: set[str] = set()
        while left and time.monotonic() < until:
            for name, uid in list(left.items()):
                try:
                    if name not in asked:
                        self._api.delete(Call("delete", "pods", namespace=NAMESPACE, name=name), uid)
                        asked.add(name)
                    self._api.get(Call("get", "pods", namespace=NAMESPACE, name=name))
                except ClusterError as problem:
                    if problem.code in (NOT_FOUND, CONFLICT):
                        del left[name]
            if left:
                time.sleep(_LOOK)
        return sorted(left)
