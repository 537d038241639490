"""What the API says of Flannel and of agents: Node and Pod objects to what a request carries. Junk is not said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.recovery import peers

NODES = Path(__file__).parents[2] / "fixtures/cluster/nodes.json"
FLANNEL = "flannel.alpha.coreos.com/"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()
OLD, YOUNG = "2026-11-24T11:00:00Z", "2026-11-24T11:59:40Z"


def node(backend: object = None, spec: object = None, **marks: object) -> dict[str, Any]:
    """Return a Node object with Flannel's annotations."""
    annotations = {f"{FLANNEL}{key.replace('_', '-')}": value for key, value in marks.items()}
    if backend is not None:
        annotations[f"{FLANNEL}backend-data"] = backend
    return {"metadata": {"name": "w1", "annotations": annotations}, "spec": spec or {}}


def test_captured_nodes() -> None:
    found = [peers.peer_of(item) for item in json.loads(NODES.read_text())["items"]]
    assert found[1] == {
        "name": "ex-worker",
        "pod_cidrs": ["10.244.1.0/24"],
        "public_ip": "172.18.0.2",
        "managed": True,
        "vtep_mac": "82:24:af:7a:b8:e4",
        "vni": 1,
    }
    assert len({peer["vtep_mac"] for peer in found}) == len(found) == 3


@pytest.mark.parametrize(
    ("backend", "mac", "vni"),
    [
        ('{"VNI":4096,"VtepMAC":"AA:24:af:7a:b8:e4"}', "aa:24:af:7a:b8:e4", 4096),
        ('{"VNI":1}', "", 1),
        ('{"VtepMAC":"82:24:af:7a:b8:e4"}', "82:24:af:7a:b8:e4", None),
        ('{"VNI":true,"VtepMAC":7}', "", None),
        ('{"VNI":"1","VtepMAC":null}', "", None),
        ('{"PublicKey":"x"}', "", None),
        ("null", "", None),
        ("[]", "", None),
        ("", "", None),
        ("{", "", None),
        ("[" * 390, "", None),
        (None, "", None),
        (7, "", None),
    ],
)
def test_the_tunnel(backend: object, mac: str, vni: int | None) -> None:
    found = peers.peer_of(node(backend))
    assert (found["vtep_mac"], found["vni"]) == (mac, vni)


@pytest.mark.parametrize(
    ("spec", "cidrs"),
    [
        ({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00::/64"]}, ["10.0.1.0/24", "fd00::/64"]),
        ({"podCIDR": "10.0.1.0/24"}, ["10.0.1.0/24"]),
        ({"podCIDR": "10.0.1.0/24", "podCIDRs": [7, None]}, ["10.0.1.0/24"]),
        ({"podCIDRs": "10.0.1.0/24"}, []),
        ({}, []),
    ],
)
def test_the_networks(spec: object, cidrs: list[str]) -> None:
    assert peers.peer_of(node(spec=spec))["pod_cidrs"] == cidrs


@pytest.mark.parametrize(
    ("marks", "managed"),
    [({"kube_subnet_manager": "true"}, True), ({"kube_subnet_manager": "false"}, False), ({}, False)],
)
def test_whose_the_subnet_is(marks: dict[str, object], managed: bool) -> None:
    assert peers.peer_of(node(**marks))["managed"] is managed


def agent(name: str, labels: dict[str, str], ready: bool = True, since: str = OLD, **more: Any) -> dict[str, Any]:
    """Return an agent's pod; ``more``: ``waiting``, why a container of it waits, and what else its metadata has."""
    owner = {"kind": "DaemonSet", "name": name, "controller": True}
    waiting = more.pop("waiting", "")
    phase = more.pop("phase", "Running")
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "kube-system",
            "labels": labels,
            "ownerReferences": [owner],
            "creationTimestamp": OLD,
            **more,
        },
        "spec": {"nodeName": "w1", "containers": [{"name": "c"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}],
            "containerStatuses": [{"state": {"waiting": {"reason": waiting}}}] if waiting else [],
        },
    }


APP, CANAL = {"app": "flannel"}, {"k8s-app": "canal"}


@pytest.mark.parametrize(
    ("pods", "unready"),
    [
        pytest.param([], [], id="none here"),
        pytest.param([agent("ds", APP)], [], id="ready"),
        pytest.param([agent("ds", APP, False)], ["flannel"], id="not ready for long"),
        pytest.param([agent("ds", APP, False, YOUNG)], [], id="just started, or a probe failed once"),
        pytest.param([agent("ds", APP, False, YOUNG, waiting="CrashLoopBackOff")], ["flannel"], id="it crashes"),
        pytest.param([agent("ds", APP, False, YOUNG, waiting="ErrImagePull")], ["flannel"], id="no image"),
        pytest.param([agent("ds", APP, False, YOUNG, waiting="ContainerCreating")], [], id="it is being made"),
        pytest.param([agent("ds", APP, False, OLD, waiting="ContainerCreating")], ["flannel"], id="made for an hour"),
        pytest.param([agent("ds", APP, deletionTimestamp=YOUNG)], [], id="on its way"),
        pytest.param([agent("ds", APP, deletionTimestamp=OLD)], ["flannel"], id="it does not end"),
        pytest.param(
            [agent("ds", APP, deletionTimestamp=OLD), agent("ds", APP)], [], id="another one is ready already"
        ),
        pytest.param(
            [agent("ds", APP, False, deletionTimestamp="junk")], ["flannel"], id="since when it is ready counts"
        ),
        pytest.param([agent("ds", APP, False, "junk")], [], id="since when is not known"),
        pytest.param([agent("ds", APP, False, "", creationTimestamp=YOUNG)], [], id="young by its creation"),
        pytest.param([agent("ds", APP, False, "")], ["flannel"], id="old by its creation"),
        pytest.param([agent("ds", APP, False, phase="Failed")], [], id="evicted: the DaemonSet makes another"),
        pytest.param([agent("ds", CANAL, False)], ["calico", "canal", "flannel"], id="canal is all three"),
        pytest.param(
            [agent("ds", CANAL, False), agent("cilium", {"k8s-app": "cilium"})],
            ["calico", "canal", "flannel"],
            id="another CNI's is ready",
        ),
        pytest.param([agent("ds", {"app": "shop"}, False)], [], id="no agent"),
        pytest.param([{"metadata": {"labels": APP}}, {}], [], id="no DaemonSet's"),
    ],
)
def test_agents_that_are_not_ready(pods: list[dict[str, Any]], unready: list[str]) -> None:
    assert peers.unready_of(pods, NOW) == unready


def test_the_clock_is_this_machines_where_none_is_given() -> None:
    assert peers.unready_of([agent("ds", APP, False, "2020-01-01T00:00:00Z")]) == ["flannel"]
    assert peers.unready_of([agent("ds", APP, False, "2199-01-01T00:00:00Z")]) == []


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "status",
                    "annotations",
                    "name",
                    "podCIDRs",
                    f"{FLANNEL}backend-data",
                    "conditions",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JUNK))
def test_any_object_is_survived(item: dict[str, Any]) -> None:
    json.dumps(peers.peer_of(item))
    peers.unready_of([item], NOW)


@given(st.text(max_size=30))
def test_any_time_is_survived(text: str) -> None:
    peers.unready_of([agent("ds", APP, False, text)], NOW)
