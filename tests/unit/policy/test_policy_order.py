"""In which wave a policy of each kind comes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from policy_objects import KINDS, policy

from tune_nodes.policy.keeping.order import Wave, ordered, wave, waves

PEER = {"from": [{"podSelector": {}}]}
UDP53 = {"ports": [{"port": 53, "protocol": "UDP"}]}
CILIUM_DNS = {"toEndpoints": [{}], "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]}


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Tier", {"order": 1}, Wave.TIERS),
        ("GlobalNetworkSet", {"nets": []}, Wave.SETS),
        ("CiliumCIDRGroup", {"externalCIDRs": []}, Wave.SETS),
        ("StagedNetworkPolicy", {"types": ["Ingress"]}, Wave.ALLOWS),
        ("NetworkPolicy", {"podSelector": {}}, Wave.DENIES),
        ("NetworkPolicy", {"podSelector": {}, "ingress": [PEER]}, Wave.ALLOWS),
        ("NetworkPolicy", {"podSelector": {}, "ingress": [{}]}, Wave.DNS),
        ("NetworkPolicy", {"policyTypes": ["Egress"], "egress": [UDP53]}, Wave.DNS),
        ("NetworkPolicy", {"policyTypes": ["Ingress", "Egress"], "ingress": [PEER]}, Wave.DENIES),
        ("NetworkPolicy", {"policyTypes": ["Ingress"], "ingress": [{**PEER, "ports": [{"port": "dns"}]}]}, Wave.DNS),
        ("AdminNetworkPolicy", {"ingress": [{"action": "Allow", "from": [{}]}]}, Wave.ALLOWS),
        ("AdminNetworkPolicy", {"ingress": [{"action": "Deny", "from": [{}]}]}, Wave.DENIES),
        ("AdminNetworkPolicy", {"egress": [{"action": "Pass", "to": [{}]}]}, Wave.ALLOWS),
        ("AdminNetworkPolicy", {"egress": [{"action": "Allow", "ports": [{"portNumber": {"port": 53}}]}]}, Wave.DNS),
        ("GlobalNetworkPolicy", {"types": ["Ingress"]}, Wave.DENIES),
        ("GlobalNetworkPolicy", {"ingress": [{"action": "Deny"}, {"action": "Allow"}]}, Wave.DENIES),
        ("GlobalNetworkPolicy", {"egress": [{"action": "Allow", "destination": {"ports": [53]}}]}, Wave.DNS),
        ("GlobalNetworkPolicy", {"types": ["Egress"], "egress": [{"action": "Allow"}]}, Wave.DNS),
        ("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [{}]}, Wave.DENIES),
        ("CiliumNetworkPolicy", {"ingress": [{"fromEndpoints": [{}]}]}, Wave.ALLOWS),
        ("CiliumNetworkPolicy", {"egress": [CILIUM_DNS]}, Wave.DNS),
        ("CiliumNetworkPolicy", {"ingress": [{"fromEndpoints": [{}]}], "egress": [{}]}, Wave.DENIES),
        ("CiliumClusterwideNetworkPolicy", {"egressDeny": [{"toEntities": ["world"]}]}, Wave.DENIES),
    ],
)
def test_waves(kind: str, spec: dict[str, Any], expected: Wave) -> None:
    assert wave(policy(kind, "one", spec)) is expected


def test_all_come_back_in_order_and_once() -> None:
    given_ = [
        policy("NetworkPolicy", "deny", {}),
        policy("Tier", "first", {}),
        policy("NetworkPolicy", "dns", {"policyTypes": ["Egress"], "egress": [UDP53]}),
        policy("GlobalNetworkSet", "set", {}),
        policy("NetworkPolicy", "web", {"ingress": [PEER]}),
    ]
    assert [one.name for one in ordered(given_)] == ["first", "set", "dns", "web", "deny"]
    assert [(number, len(mine)) for number, mine in waves(given_)] == [(one, 1) for one in Wave]


JUNK = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=5),
    lambda deeper: (
        some.lists(deeper, max_size=3)
        | some.dictionaries(
            some.sampled_from(["ingress", "egress", "types", "policyTypes", "ports", "port", "action", "from", "x"]),
            deeper,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(some.sampled_from(sorted(KINDS)), JUNK)
def test_junk_has_a_wave_too(kind: str, spec: Any) -> None:
    assert wave(policy(kind, "junk", spec)) in Wave
