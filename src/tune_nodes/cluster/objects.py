"""Node and Pod objects as plain data (pure). A field that is missing or of a wrong type counts as not said."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tune_nodes.cluster.model import AgentFacts, NodeFacts
from tune_nodes.fleet.untrusted import one_line

#: Our annotation on a Node that we closed for new pods: the run's id.
CORDONED_BY = "tune-nodes/cordoned-by"
#: How the server lists us as a writer of fields.
MANAGER = "tune-nodes"
#: The taint that Kubernetes itself sets on a closed node.
CORDON_TAINT = "node.kubernetes.io/unschedulable"
_ROLE = "node-role.kubernetes.io/"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
MAX_ITEMS = 1000


def at(value: Any, *path: str) -> Any:
    """Return what lies deeper in an object, None where a step is missing."""
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def text(value: Any, *path: str, limit: int = 300) -> str:
    """Return a text of an object, cleaned; "" for anything else."""
    found = at(value, *path)
    return one_line(found, limit) if isinstance(found, str) else ""


def mappings(value: Any, *path: str) -> list[Mapping[str, Any]]:
    """Return the mappings of a list in an object."""
    found = at(value, *path)
    return [item for item in found[:MAX_ITEMS] if isinstance(item, Mapping)] if isinstance(found, list) else []


def last_warning(events: Iterable[Mapping[str, Any]], field: str) -> str:
    """Return a field of the newest of some events that is a warning, "" for none."""
    warnings = [
        (text(event, "lastTimestamp") or text(event, "eventTime"), text(event, field))
        for event in events
        if text(event, "type") == "Warning"
    ]
    return max(warnings)[1] if warnings else ""


def texts(value: Any, *path: str) -> dict[str, str]:
    """Return a mapping of texts in an object, cleaned."""
    found = at(value, *path)
    rows = list(found.items())[:MAX_ITEMS] if isinstance(found, Mapping) else []
    return {
        one_line(key, 400): one_line(item, 400) for key, item in rows if isinstance(key, str) and isinstance(item, str)
    }


def name_of(item: Any) -> str:
    """Return an object's name, "" where it is not one that Kubernetes allows."""
    name = at(item, "metadata", "name")
    return name if isinstance(name, str) and _NAME.match(name) else ""


def node_facts(item: Mapping[str, Any]) -> NodeFacts | None:
    """Return what is kept of a Node object; None for one without a usable name."""
    name = name_of(item)
    if not name:
        return None
    ready, reason = _ready(item)
    labels = texts(item, "metadata", "labels")
    return NodeFacts(
        name=name,
        addresses=_addresses(item),
        ready=ready,
        ready_reason=reason,
        cordoned=is_cordoned(item),
        cordoned_by=cordoned_by(item),
        roles=_roles(labels),
        labels=labels,
        taints=_taints(item),
        kubelet=text(item, "status", "nodeInfo", "kubeletVersion", limit=80),
        runtime=text(item, "status", "nodeInfo", "containerRuntimeVersion", limit=80),
        kernel=text(item, "status", "nodeInfo", "kernelVersion", limit=120),
        os_image=text(item, "status", "nodeInfo", "osImage", limit=120),
        machine_id=text(item, "status", "nodeInfo", "machineID", limit=80),
        boot_id=text(item, "status", "nodeInfo", "bootID", limit=80),
    )


def _ready(item: Mapping[str, Any]) -> tuple[bool, str]:
    """Return the condition Ready, and why it is not True."""
    for condition in mappings(item, "status", "conditions"):
        if condition.get("type") == "Ready":
            status = text(condition, "status", limit=20)
            if status == "True":
                return True, ""
            words = [status or "no status", text(condition, "reason", limit=80)]
            head = ", ".join(word for word in words if word)
            message = text(condition, "message")
            return False, f"{head}: {message}" if message else head
    return False, "its kubelet has not reported yet"


def _addresses(item: Mapping[str, Any]) -> tuple[str, ...]:
    found = {"InternalIP": list[str](), "ExternalIP": list[str]()}
    for row in mappings(item, "status", "addresses"):
        kind, address = row.get("type"), row.get("address")
        if isinstance(kind, str) and kind in found and isinstance(address, str):
            try:
                found[kind].append(str(ipaddress.ip_address(address)))
            except ValueError:
                continue
    return tuple(dict.fromkeys([*found["InternalIP"], *found["ExternalIP"]]))


def _roles(labels: Mapping[str, str]) -> tuple[str, ...]:
    roles = {label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE)}
    return tuple(sorted(role for role in roles if role))


def _taints(item: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for taint in mappings(item, "spec", "taints"):
        key, value, effect = (text(taint, part, limit=320) for part in ("key", "value", "effect"))
        if key and key != CORDON_TAINT:
            found.append(f"{key}={value}:{effect}" if value else f"{key}:{effect}")
    return tuple(found)


def is_cordoned(item: Any) -> bool:
    """Say whether a Node is closed for new pods."""
    return at(item, "spec", "unschedulable") is True


def cordoned_by(item: Any) -> str:
    """Return the run that closed a Node, "" where it is open or somebody else closed it.

    The annotation alone is not enough: it stays where somebody opens the node by hand and another closes it again.
    The server's own list of who wrote which field tells them apart; where there is no such list the annotation counts.
    """
    run = text(item, "metadata", "annotations", CORDONED_BY, limit=120)
    if not (run and is_cordoned(item)):
        return ""
    writers = {
        entry.get("manager")
        for entry in mappings(item, "metadata", "managedFields")
        if isinstance(at(entry, "fieldsV1", "f:spec", "f:unschedulable"), Mapping)
    }
    return run if not writers or MANAGER in writers else ""


def daemonset_of(pod: Any) -> str:
    """Return the name of the DaemonSet that a pod belongs to, "" for none."""
    owner = controller_of(pod)
    return text(owner, "name") if owner and owner.get("kind") == "DaemonSet" else ""


def controller_of(pod: Any) -> Mapping[str, Any] | None:
    """Return the reference to the object that would make the pod again."""
    owners = mappings(pod, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller") is True), None)


def agent_facts(pod: Mapping[str, Any]) -> AgentFacts | None:
    """Return what is kept of a DaemonSet's pod; None for any other pod, or one that has no node yet."""
    app, name = daemonset_of(pod), name_of(pod)
    node, namespace = text(pod, "spec", "nodeName"), text(pod, "metadata", "namespace")
    if not (app and name and node and namespace):
        return None
    why = _not_ready(pod)
    return AgentFacts(namespace, name, app, node, not why, why)


def _not_ready(pod: Mapping[str, Any]) -> str:
    """Return why a pod is not ready, "" where it is."""
    if text(pod, "metadata", "deletionTimestamp"):
        return "being deleted"
    conditions = mappings(pod, "status", "conditions")
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions):
        return ""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in mappings(pod, "status", kind):
            reason = text(container, "state", "waiting", "reason", limit=80)
            if reason and reason != "PodInitializing":
                return reason
    return text(pod, "status", "reason", limit=80) or _phase(pod)


def _phase(pod: Mapping[str, Any]) -> str:
    phase = text(pod, "status", "phase", limit=40)
    return "running, but not ready" if phase == "Running" else phase or "no status"
