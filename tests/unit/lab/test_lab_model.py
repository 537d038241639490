"""Names, addresses and sizes."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tune_nodes.errors import UsageError
from tune_nodes.lab.model import MAX_NODES, SUBNETS, Layout, check_name, check_size


@pytest.mark.parametrize("name", ["lab", "a", "t123x4", "big-lab", "x" * 24])
def test_names_that_may_be(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "-a", "a-", "a_b", "a/b", "../x", "a b", "lab\n", "ä", "x" * 25])
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a lab"):
        check_name(name)


@pytest.mark.parametrize(("nodes", "queues"), [(0, 1), (-1, 1), (MAX_NODES + 1, 1), (1, 0), (1, 65)])
def test_impossible_sizes(nodes: int, queues: int) -> None:
    with pytest.raises(UsageError):
        check_size(nodes, queues)


def test_every_lab_has_room_and_its_own_addresses() -> None:
    seen: set[IPv4Address] = set()
    for index in (0, 1, len(SUBNETS) - 1):
        layout = Layout("lab", index)
        addresses = [layout.gateway, layout.controller, *(layout.address(n) for n in range(1, MAX_NODES + 1))]
        assert all(address in layout.network for address in addresses)
        assert layout.network.broadcast_address not in addresses
        assert not seen & set(addresses)
        seen |= set(addresses)
        assert len(set(addresses)) == len(addresses)
        assert len(layout.interface) <= 15
        assert len(layout.port(MAX_NODES)) <= 15


def test_the_lab_as_a_person_sees_it() -> None:
    layout = Layout("lab", 0)
    assert [layout.node(1), layout.netns(1), layout.hub] == ["lab-1", "tn-lab-1", "tn-lab-hub"]
    assert [str(layout.gateway), str(layout.address(1)), str(layout.controller)] == [
        "10.77.0.1",
        "10.77.0.11",
        "10.77.3.254",
    ]
