"""What the matrix connects to: services, a node's port, addresses outside; and its pods. Tables over pure functions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_nodes.errors import UsageError
from tune_nodes.recovery import probepods
from tune_nodes.recovery.measuring import others
from tune_nodes.recovery.probepods import ProbePod, ips_of, manifest, policy, trouble_of
from tune_nodes.recovery.services import CLOSED, PEER, POD, Service, Try, node_port_of, outside, services_of


def service(name: str, address: str, port: Any = 443, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"clusterIP": address, "ports": [{"port": port}]}}


def test_services() -> None:
    dns = service("kube-dns", "10.96.0.10", 53, **{"k8s-app": "kube-dns"})
    found = services_of([service("other", "10.96.0.7"), service("kubernetes", "10.96.0.1")], [dns])
    assert [(one.what, one.here) for one in found] == [
        ("pod to ClusterIP (kubernetes)", Try(POD, "10.96.0.1", 443)),
        ("DNS over UDP", Try(POD, "10.96.0.10", 53, "UDP")),
        ("DNS over TCP", Try(POD, "10.96.0.10", 53)),
    ]
    assert [one.there.role for one in found] == [PEER] * 3
    assert services_of([service("kubernetes", "None"), service("kubernetes", "10.96.0.1", "x")], []) == []


def on_nodes(name: str, port: Any, **more: Any) -> dict[str, Any]:
    ports = [{"port": 53, "nodePort": 30053, "protocol": "UDP"}, {"port": 80, "nodePort": port, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"type": "NodePort", "ports": ports, **more}}


NODE, OTHER = {4: "172.18.0.3", 6: "fd00::3"}, {4: "172.18.0.4", 6: "fd00::4"}


@pytest.mark.parametrize(
    ("services", "chosen"),
    [
        ([service("web", "10.96.0.7"), on_nodes("web", 30080)], "web"),
        ([on_nodes("local", 30081, externalTrafficPolicy="Local"), on_nodes("web", 30080)], "web"),
        ([on_nodes("broken", "x"), on_nodes("web", 30080, type="LoadBalancer")], "web"),
        ([on_nodes("web", 30080, ipFamilies=["IPv4"])], "web"),
        ([on_nodes("web", None)], ""),
        ([on_nodes("web", 30080, type="ClusterIP")], ""),
        ([on_nodes("web", 30080, ipFamilies=["IPv5"])], ""),
        ([], ""),
    ],
)
def test_a_port_on_every_node_is_asked_for(services: list[dict[str, Any]], chosen: str) -> None:
    found = node_port_of(services, NODE, OTHER)
    wanted = Service(f"NodePort 30080 (shop/{chosen})", Try(PEER, "172.18.0.3", 30080), Try(PEER, "172.18.0.4", 30080))
    assert found == (wanted if chosen else None)


def test_a_port_in_a_family_that_both_nodes_have() -> None:
    six = [on_nodes("six", 30090, ipFamilies=["IPv6", "IPv4"])]
    found = node_port_of(six, NODE, OTHER)
    assert found is not None and found.here.address == "fd00::3"
    assert node_port_of(six, NODE, {4: "172.18.0.4"}) is None
    assert node_port_of(six, NODE, {}) is None


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [("192.0.2.10:443", "192.0.2.10", 443), ("[2001:db8::1]:53", "2001:db8::1", 53)],
)
def test_addresses_outside(text: str, address: str, port: int) -> None:
    assert outside(text) == Service(f"pod to {text} (outside)", Try(POD, address, port), Try(PEER, address, port))


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.10", "192.0.2.10:", "192.0.2.10:0", "192.0.2.10:65536", "192.0.2.10:x", "192.0.2.10:\u0664", ":443",
     "example.org:443", "2001:db8::1:443", "[192.0.2.10]:443", "[]:1", "192.0.2.10:443; id"],
)  # fmt: skip
def test_what_is_no_address_outside(text: str) -> None:
    with pytest.raises(UsageError, match="--egress cannot be"):
        outside(text)


def holder(uid: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"pod-{uid}", "namespace": "shop", "uid": uid, **more.pop("metadata", {})},
        "status": {"phase": "Running"},
        **more,
    }


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        (holder("mine"), False),
        (holder("other"), True),
        (holder("other", status={"phase": "Succeeded"}), False),
        (holder("other", metadata={"deletionTimestamp": "2026-11-24T10:00:00Z"}), False),
        (holder("other", spec={"hostNetwork": True}), False),
    ],
)
def test_who_else_has_an_address(pod: dict[str, Any], counts: bool) -> None:
    assert others([holder("mine"), pod], "mine") == (["shop/pod-other"] if counts else [])


def test_a_probe_pod_can_do_nothing_and_ends_by_itself() -> None:
    made = manifest("probe-1", "w1", "example/probe:1", "20261124-101010-abcdef")
    spec, (container,) = made["spec"], made["spec"]["containers"]
    assert spec["nodeName"] == "w1" and spec["activeDeadlineSeconds"] == probepods.LIFE
    assert container["imagePullPolicy"] == "Never"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]


def test_a_closed_pods_policy_finds_it_alone_and_goes_with_it() -> None:
    made = policy(ProbePod(CLOSED, "w1", "probe-1-d", "uid-d"))
    assert made["spec"] == {
        "podSelector": {"matchLabels": {probepods.CLOSED_LABEL: "probe-1-d"}},
        "policyTypes": ["Ingress"],
    }
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == ["uid-d"]


def test_names_fit_and_differ() -> None:
    run = "20261124-101010-abcdef"
    names = {probepods.name_of(run, node, when, role)
             for node in ("w1", "w2") for when in ("before", "after") for role in "abp"}  # fmt: skip
    assert len(names) == 12 and all(len(name) <= 63 for name in names)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(junk, st.lists(junk, max_size=3), st.text(max_size=30))
def test_junk_is_survived(one: Any, many: list[Any], text: str) -> None:
    ips_of({"status": {"podIPs": many}} if many else {"status": one})
    dicts = [row for row in many if isinstance(row, dict)]
    trouble_of(dicts, "uid")
    trouble_of([{"involvedObject": one, "message": one, "type": "Warning"}], "uid")
    services_of(dicts, dicts)
    node_port_of([{"metadata": one, "spec": {"type": "NodePort", "ports": many, "ipFamilies": one}}], NODE, OTHER)
    others([{"metadata": one, "status": one, "spec": one}], "mine")
    with contextlib.suppress(UsageError):
        outside(text)
