"""Whom a node pings: outside the wave, the same every time, spread."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.fleet.peers import choose, usable

FLEET = {f"n{number}": f"10.0.0.{number}" for number in range(1, 101)}


def test_two_outside_the_wave_and_the_same_again() -> None:
    wave = ["n1", "n2", "n3"]
    first = choose("n1", wave, FLEET)
    assert len(first) == 2
    assert not {FLEET[name] for name in wave} & set(first)
    assert choose("n1", wave, dict(reversed(FLEET.items()))) == first


def test_the_load_is_spread() -> None:
    asked = Counter(peer for name in FLEET for peer in choose(name, [name], FLEET))
    assert sum(asked.values()) == 200
    assert max(asked.values()) <= 10


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.0.0.1", True),
        ("fe80::1%eth0", True),
        ("node.example", True),
        ("", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("localhost", False),
        ("224.0.0.1", False),
    ],
)
def test_usable(address: str, good: bool) -> None:
    assert usable(address) is good


def test_nobody_left() -> None:
    assert choose("n1", FLEET, FLEET) == []
    assert choose("n1", ["n1"], {"n1": "10.0.0.1"}) == []
    assert choose("n1", ["n1"], {"n1": "10.0.0.1", "n2": "10.0.0.1"}) == []


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=8), st.text(max_size=5), st.integers(0, 4))
def test_junk(addresses: dict[str, str], node: str, count: int) -> None:
    assert len(choose(node, [node], addresses, count)) <= count
