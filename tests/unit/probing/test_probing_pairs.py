"""Which pairs are measured, and what a node is asked."""

from __future__ import annotations

import pytest

from tune_nodes.probing.ends import End, Layers, PodEnd, end_of, measured, unheard
from tune_nodes.probing.pairs import CHORDS, FULL_UP_TO, choose, keys, targets


def names(count: int) -> list[str]:
    return [f"n{number:03}" for number in range(count)]


@pytest.mark.parametrize(("count", "pairs"), [(0, 0), (1, 0), (2, 1), (3, 3), (FULL_UP_TO, 120)])
def test_a_small_fleet_is_measured_whole(count: int, pairs: int) -> None:
    chosen = choose(names(count))
    assert len(chosen.pairs) == pairs
    assert chosen.words == ("the one pair" if pairs == 1 else f"all {pairs} pairs")


@pytest.mark.parametrize("count", [FULL_UP_TO + 1, 100, 1000])
def test_a_large_one_by_a_ring_and_chords(count: int) -> None:
    chosen = choose(names(count))
    assert chosen == choose(list(reversed(names(count)))), "the same on every run"
    assert len(chosen.pairs) <= count * (1 + CHORDS)
    assert all(one < other for one, other in chosen.pairs)
    each = {name: sum(name in pair for pair in chosen.pairs) for name in names(count)}
    assert min(each.values()) >= 2 + CHORDS
    assert chosen.words.startswith(f"{len(chosen.pairs)} of {count * (count - 1) // 2} pairs: a ring")


def test_full_and_peers_are_obeyed() -> None:
    assert len(choose(names(40), full=True).pairs) == 780
    assert len(choose(names(40), chords=0).pairs) == 40
    assert len(choose(names(10), chords=1).pairs) < 45
    assert len(choose(names(2), chords=0).pairs) == 1


POD = PodEnd(name="web-1", uid="u1", addresses={"4": "10.244.1.2"}, mtu=1450)
BRIDGE = PodEnd(name="cni0", addresses={"4": "10.244.2.1"}, mtu=1450, bridge=True)
ENDS = {
    "a": End(addresses={"4": "10.0.0.1", "6": "fd00::1"}, pod=POD),
    "b": End(addresses={"4": "10.0.0.2", "6": "fd00::2"}, pod=BRIDGE),
    "c": End(addresses={"4": "10.0.0.3"}),
}


def test_paths_are_those_that_both_ends_have() -> None:
    found = keys(choose(list(ENDS)), ENDS, pods=True)
    assert ("a", "b", "node", 6) in found and ("b", "a", "pod", 4) in found
    assert not [key for key in found if "c" in key[:2] and (key[2] == "pod" or key[3] == 6)]
    assert not [key for key in keys(choose(list(ENDS)), ENDS, pods=False) if key[2] == "pod"]


def test_a_node_is_asked_for_its_own_part() -> None:
    found = keys(choose(list(ENDS)), ENDS, pods=True)
    by_id = {row["id"]: row for row in targets("a", found, ENDS, 1400)}
    assert by_id["b|pod|4"] == {"id": "b|pod|4", "address": "10.244.2.1", "size": 1400, "pod": "u1"}
    assert by_id["b|node|6"] == {"id": "b|node|6", "address": "fd00::2", "size": 1400}
    (row,) = [row for row in targets("b", found, ENDS, None) if row["id"] == "a|pod|4"]
    assert row == {"id": "a|pod|4", "address": "10.244.1.2", "size": None, "source": "10.244.2.1"}


@pytest.mark.parametrize(
    "said", [{}, {"self": 3}, {"self": {"addresses": [1]}}, {"self": {"layers": {"underlay": "x"}}}]
)
def test_what_a_node_says_wrong_is_no_end(said: dict[str, object]) -> None:
    end = end_of(said)
    assert end is None or end.addresses == {}


def test_only_addresses_are_taken_for_ones() -> None:
    end = end_of({"self": {"addresses": {"4": "10.0.0.1; rm", "x": "127.0.0.1", "6": "fd00::9"}, "more": 1}})
    assert end is not None and end.addresses == {6: "fd00::9"} and end.layers == Layers()
    assert unheard("node-1.example") is None and unheard("127.0.0.1") is None
    assert unheard("10.0.0.9") == End(addresses={"4": "10.0.0.9"})


def test_measurements_that_are_none_are_left_out() -> None:
    assert measured({"measured": "abc"}) == []
    (row,) = measured({"measured": [{"id": "b|node|4", "passes": 1400}, {"passes": 1}, 3, {"id": "x", "packets": -1}]})
    assert (row.id, row.passes) == ("b|node|4", 1400)
