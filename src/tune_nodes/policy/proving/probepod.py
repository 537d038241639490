"""The pod that connects in another's place: how it is made, and what it says (pure).

It has the labels and the account of the pod that it stands for, in the same namespace and on the same node: so the same
policies judge it. Nobody else may take it for one of that pod's kind: its readiness gate is never met, so that no
Service sends it traffic, and it is controlled by the pod that it stands for, so that no ReplicaSet adopts it, which
would then remove one of its own. It goes with that pod, too, should nobody remove it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tune_nodes.cluster.objects import at, mappings, text
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.model import Pod, strings
from tune_nodes.policy.opening.allows import LABEL
from tune_nodes.policy.opening.flows import Flow
from tune_nodes.policy.opening.ttl import USER

#: Nobody ever sets this condition, so the pod is never ready.
GATE = "tune-nodes/never-ready"
CONTAINER = "probe"
#: Seconds after which the kubelet ends it, whatever became of us.
SECONDS = 90
#: Meshes put a proxy into pods that do not say otherwise; a connection would end there, wherever it should have gone.
_NO_MESH = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
#: Services of this annotation, which older versions know, take pods that are not ready.
_TOLERATES = "service.alpha.kubernetes.io/tolerate-unready-endpoints"
#: Only constants: what is connected to comes in a variable. An nc that fails before its two seconds are over was
#: refused, whatever it prints. One that neither ends nor gives up has perhaps connected to something that says nothing:
#: one more socket that the kernel calls connected proves that (its proc_net_tcp.txt; not SYN_SENT, SYN_RECV, CLOSE).
#: What is written to OUT stands in the pod's status once its container has ended.
SCRIPT = """\
say() { printf '%s %s %.150s\\n' "$number" "$1" "$2" >>"$OUT"; }
sockets() {
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    grep -Eci "^ *[0-9]+: [0-9a-f]+:[0-9a-f]+ [0-9a-f]+:$(printf %04x "$port") 0[14568] "
}
connected() {
  before=$(sockets)
  timeout 4 nc -w 2 "$address" "$port" </dev/null >/dev/null 2>&1 &
  sleep 1
  [ "$(sockets)" -gt "$before" ]
}
tcp() {
  begun=$(date +%s)
  said=$(timeout 4 nc -w 2 "$address" "$port" </dev/null 2>&1 >/dev/null)
  case $? in
    0) say yes connected ;;
    126 | 127) say unknown "the image has no nc, or no timeout" ;;
    124 | 137 | 143) if connected; then say yes connected; else return 1; fi ;;
    *) if [ $(($(date +%s) - begun)) -lt 2 ]; then say unknown "$ENDED"; else return 1; fi ;;
  esac
}
udp() {
  said=$(timeout 4 nslookup kubernetes.default.svc.cluster.local "$address" </dev/null 2>&1)
  case $?:$said in
    0:* | *NXDOMAIN*) say yes answered ;;
    126:* | 127:*) say unknown "the image has no nslookup" ;;
    124:* | 137:* | 143:* | *"timed out"* | *"no servers"*) return 1 ;;
    *) say unknown "nslookup failed" ;;
  esac
}
echo "$TARGETS" | while read -r number address port protocol; do
  case $protocol in TCP) try=tcp ;; *) try=udp ;; esac
  $try || { sleep 1; $try; } || { sleep 1; $try; } || say no "no answer"
done
"""
#: Reasons that a container waits for which nobody will take away within a minute.
_HOPELESS = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"})
_SAID = re.compile(r"(\d{1,3}) (yes|no|unknown) ?(.*)")
_OK = {"yes": True, "no": False, "unknown": None}
#: What a connection is that failed at once.
ENDED = "refused: nobody listens there, or a policy rejects it"


def manifest(source: Pod, flows: Sequence[Flow], image: str, reset: str, name: str) -> dict[str, Any]:
    """Return the pod.

    Args:
        source: the pod that it stands for.
        flows: connections from it, between pods.
        image: with sh, nc and timeout; for name servers nslookup too.
        reset: id of the reset, for its label.
        name: of the pod.
    """
    rows = [f"{number} {flow.target.ips[0]} {flow.port} {flow.protocol}" for number, flow in enumerate(flows)
            if isinstance(flow.target, Pod)]  # fmt: skip
    owner = {"apiVersion": "v1", "kind": "Pod", "name": source.name, "uid": source.uid, "controller": True}
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", SCRIPT],
        "env": [
            {"name": "TARGETS", "value": "\n".join(rows)},
            {"name": "ENDED", "value": ENDED},
            {"name": "OUT", "value": "/dev/termination-log"},
        ],
        "resources": {key: {"cpu": "50m", "memory": "32Mi"} for key in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "nodeName": source.node,  # the same agent programs its rules
        "serviceAccountName": source.service_account or "default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "readinessGates": [{"conditionType": GATE}],
        "restartPolicy": "Never",
        "activeDeadlineSeconds": SECONDS,
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    metadata = {
        "name": name,
        "namespace": source.namespace,
        "labels": {**source.labels, LABEL: reset},
        "annotations": dict(_NO_MESH),
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def taken_by(source: Pod, services: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a service that would send traffic to a pod like this though it is not ready, "" for none."""
    for service in services:
        selector = strings(at(service, "spec", "selector"))
        unready = at(service, "spec", "publishNotReadyAddresses") is True
        unready = unready or strings(at(service, "metadata", "annotations")).get(_TOLERATES) == "true"
        if unready and selector and selector.items() <= dict(source.labels).items():
            return text(service, "metadata", "name")
    return ""


def added_to(made: Mapping[str, Any]) -> str:
    """Return the name of a container that admission has put into the pod, "" for none."""
    containers = [*mappings(made, "spec", "containers"), *mappings(made, "spec", "initContainers")]
    names = [text(one, "name") for one in containers]
    return next((name for name in names if name != CONTAINER), "")


def ended(pod: Mapping[str, Any]) -> bool:
    """Say whether its container has ended, or will not run: its image is not to be had."""
    waiting = [text(one, "state", "waiting", "reason") for one in mappings(pod, "status", "containerStatuses")]
    return at(pod, "status", "phase") in ("Succeeded", "Failed") or bool(_HOPELESS & set(waiting))


def why_not(pod: Mapping[str, Any]) -> str:
    """Return why its container has not ended, or has said nothing, in its own words."""
    for status in mappings(pod, "status", "containerStatuses"):
        for state in ("waiting", "terminated"):
            one = at(status, "state", state)
            if isinstance(one, Mapping):
                said = ": ".join(part for part in (text(one, "reason"), text(one, "message")) if part)
                return one_line(said or state, 200)
    parts = [text(pod, "status", key) for key in ("reason", "message")]
    return one_line(": ".join(part for part in parts if part), 200) or "its container has not started"


def said(pod: Mapping[str, Any]) -> dict[int, tuple[bool | None, str]]:
    """Return what it says of each of its connections, by number: as a connection's ``ok``, and in words."""
    found: dict[int, tuple[bool | None, str]] = {}
    for status in mappings(pod, "status", "containerStatuses"):
        message = at(status, "state", "terminated", "message")
        for line in message.splitlines() if isinstance(message, str) else ():
            if row := _SAID.match(line):
                found[int(row[1])] = _OK[row[2]], one_line(row[3], 200)
    return found
