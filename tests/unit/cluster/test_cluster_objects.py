"""Objects of a real API server are read whole; junk is not said, and never an exception."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cluster_fixtures import load
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.cluster import cni, objects
from tune_nodes.cluster.api import members
from tune_nodes.cluster.drain import fate, sort
from tune_nodes.cluster.leases import Sightings
from tune_nodes.cluster.model import AgentFacts, NodeFacts

NODES = {objects.name_of(item): item for item in load("nodes")}
PODS = load("pods")


def read(item: Any) -> NodeFacts:
    found = objects.node_facts(item)
    assert found is not None
    return found


def test_a_real_control_plane_node() -> None:
    node = read(NODES["ex-control-plane"])
    assert node.addresses == ("172.18.0.3",)
    assert (node.ready, node.ready_reason, node.cordoned, node.cordoned_by) == (True, "", False, "")
    assert node.roles == ("control-plane",)
    assert node.labels["kubernetes.io/hostname"] == "ex-control-plane"
    assert node.taints == ("node-role.kubernetes.io/control-plane:NoSchedule",)
    assert (node.kubelet, node.runtime) == ("v1.34.4", "containerd://1.6.20")
    assert len(node.machine_id) == 32
    assert len(node.boot_id) == 36


def test_real_agents() -> None:
    agents = [agent for pod in PODS if (agent := objects.agent_facts(pod))]
    assert {(agent.namespace, agent.app, agent.ready) for agent in agents} == {
        ("kube-flannel", "kube-flannel-ds", True),
        ("kube-system", "kube-proxy", True),
    }


def changed(item: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    """Return a copy of an object with one thing changed."""
    found = copy.deepcopy(item)
    inner = found
    for step in path[:-1]:
        inner = inner.setdefault(step, {})
    inner[path[-1]] = to
    return found


WORKER = NODES["ex-worker"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"type": "Ready", "status": "True"}, ""),
        (
            {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped."},
            "Unknown, NodeStatusUnknown: Kubelet stopped.",
        ),
        ({"type": "Ready", "status": "False", "reason": "KubeletNotReady"}, "False, KubeletNotReady"),
        ({"type": "Ready"}, "no status"),
        ({"type": "Ready", "status": True}, "no status"),
        ({"type": "DiskPressure", "status": "True"}, "its kubelet has not reported yet"),
    ],
)
def test_ready(condition: dict[str, Any], said: str) -> None:
    node = read(changed(WORKER, "status", "conditions", to=[condition]))
    assert (node.ready, node.ready_reason) == (not said, said)


def test_addresses_internal_first_and_only_ips() -> None:
    rows = [
        {"type": "Hostname", "address": "10.9.9.9"},
        {"type": "ExternalIP", "address": "192.0.2.7"},
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "InternalIP", "address": "fd00:0::1"},
        {"type": "InternalIP", "address": "not an address"},
        "junk",
    ]
    node = read(changed(WORKER, "status", "addresses", to=rows))
    assert node.addresses == ("10.0.0.1", "fd00::1", "192.0.2.7")


def test_taints_without_that_of_a_cordon() -> None:
    rows = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "gpu", "value": "yes", "effect": "NoExecute"},
    ]
    assert read(changed(WORKER, "spec", "taints", to=rows)).taints == ("gpu=yes:NoExecute",)


def field_of(manager: str) -> dict[str, Any]:
    return {"manager": manager, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}


@pytest.mark.parametrize(
    ("unschedulable", "annotation", "managers", "owner"),
    [
        (True, "run-1", [field_of("tune-nodes")], "run-1"),
        (True, "run-1", [], "run-1"),  # a server, or a proxy before it, that hides the list
        (True, "run-1", [{"manager": "kubelet", "fieldsV1": {}}], "run-1"),
        (True, "run-1", [field_of("kubectl")], ""),  # opened and closed again by hand: the annotation is a leftover
        (True, "", [field_of("tune-nodes")], ""),
        (False, "run-1", [field_of("tune-nodes")], ""),
        ("true", "run-1", [field_of("tune-nodes")], ""),
    ],
)
def test_whose_cordon_it_is(unschedulable: Any, annotation: str, managers: list[Any], owner: str) -> None:
    item = {
        "metadata": {
            "name": "n",
            "annotations": {objects.CORDONED_BY: annotation} if annotation else {},
            "managedFields": managers,
        },
        "spec": {"unschedulable": unschedulable},
    }
    assert objects.cordoned_by(item) == owner


def test_why_an_agent_is_not_ready() -> None:
    pod = next(pod for pod in PODS if objects.daemonset_of(pod) == "kube-proxy")

    def why(item: dict[str, Any]) -> str:
        agent = objects.agent_facts(item)
        assert isinstance(agent, AgentFacts)
        assert agent.ready == (not agent.why)
        return agent.why

    waiting = [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    sick = changed(pod, "status", "conditions", to=[{"type": "Ready", "status": "False"}])
    assert why(pod) == ""
    assert why(changed(sick, "status", "containerStatuses", to=waiting)) == "CrashLoopBackOff"
    assert why(sick) == "running, but not ready"
    assert (
        why(changed(changed(sick, "status", "phase", to="Pending"), "status", "containerStatuses", to=[])) == "Pending"
    )
    assert why(changed(pod, "metadata", "deletionTimestamp", to="2026-11-24T00:00:00Z")) == "being deleted"


@pytest.mark.parametrize("name", ["", "Upper", "a b", "../etc", "a" * 254, "-a", None, 7, ["n"]])
def test_a_node_with_an_impossible_name_is_left_out(name: Any) -> None:
    assert objects.node_facts({"metadata": {"name": name}}) is None


def test_control_characters_do_not_get_through() -> None:
    node = read(changed(WORKER, "status", "nodeInfo", "osImage", to="Debian\x1b]0;owned\x07\n12"))
    assert node.os_image == "Debian 12"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("metadata",),
    ("metadata", "labels"),
    ("metadata", "annotations"),
    ("metadata", "managedFields"),
    ("metadata", "ownerReferences"),
    ("metadata", "deletionTimestamp"),
    ("spec",),
    ("spec", "taints"),
    ("spec", "volumes"),
    ("spec", "containers"),
    ("spec", "nodeName"),
    ("spec", "renewTime"),
    ("spec", "template"),
    ("status",),
    ("status", "addresses"),
    ("status", "conditions"),
    ("status", "nodeInfo"),
    ("status", "containerStatuses"),
]
REAL = [*NODES.values(), *PODS, *load("daemonsets"), *load("leases")]


@given(item=st.sampled_from(REAL), path=st.sampled_from(PATHS), value=junk)
def test_junk_in_real_objects_breaks_nothing(item: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    base = {key: value for key, value in item.items() if isinstance(value, dict)}
    broken = changed({"metadata": {}, "spec": {}, "status": {}, **base}, *path, to=value)
    everything(broken)


@given(item=st.dictionaries(st.sampled_from(["metadata", "spec", "status", "x"]), junk))
def test_nothing_but_junk_breaks_nothing(item: dict[str, Any]) -> None:
    everything(item)


def everything(item: dict[str, Any]) -> None:
    """Read an object as all that it might be taken for."""
    node = objects.node_facts(item)
    assert node is None or node.name
    agent = objects.agent_facts(item)
    assert agent is None or (agent.app and agent.node)
    assert fate(item, force=False, delete_emptydir=False)
    sort([item], force=True, delete_emptydir=True)
    cni.named(cni.of_daemonsets([item]), cni.of_nodes([item]))
    Sightings(["ex-worker"]).see(item, 1.0)
    members(item)
