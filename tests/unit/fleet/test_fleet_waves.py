"""Which nodes are changed together: tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import UsageError
from tune_nodes.fleet.waves import Policy, Size, is_protected, parse_size, split


def nodes(count: int, start: int = 1) -> list[str]:
    return [f"n{number}" for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("count", "protected", "policy", "sizes"),
    [
        (0, set(), Policy(), []),
        (1, set(), Policy(), [1]),
        (3, set(), Policy(), [1, 1, 1]),
        (9, set(), Policy(), [1, 2, 2, 2, 2]),
        (9, set(), Policy(canary=0), [2, 2, 2, 2, 1]),
        (9, set(), Policy(canary=3), [3, 1, 1, 1, 1, 1, 1]),
        (10, set(), Policy(serial=(Size(1), Size(3), Size(100, True))), [1, 1, 3, 5]),
        (10, set(), Policy(serial=(Size(4),)), [1, 4, 4, 1]),
        (10, set(), Policy(serial=(Size(100, True),), max_unavailable=Size(4)), [1, 4, 4, 1]),
        (10, set(), Policy(serial=(Size(100, True),), max_unavailable=Size(20, True)), [1, 2, 2, 2, 2, 1]),
        (5, set(), Policy(canary=4, max_unavailable=Size(2)), [2, 1, 1, 1]),
        (5, {"n1", "n2"}, Policy(serial=(Size(100, True),)), [1, 2, 1, 1]),
        (2, {"n1", "n2"}, Policy(), [1, 1]),
    ],
)
def test_sizes(count: int, protected: set[str], policy: Policy, sizes: list[int]) -> None:
    assert [len(wave.nodes) for wave in split(nodes(count), protected, policy)] == sizes


def test_control_plane_is_last_alone_and_never_the_canary() -> None:
    waves = split(["cp1", "n1", "cp2", "n2"], {"cp1", "cp2"}, Policy(serial=(Size(100, True),)))
    assert [(wave.nodes, wave.canary, wave.protected) for wave in waves] == [
        (("n1",), True, False),
        (("n2",), False, False),
        (("cp1",), False, True),
        (("cp2",), False, True),
    ]


@pytest.mark.parametrize(
    ("roles", "protected"),
    [(["worker"], False), (["control-plane"], True), (["etcd"], True), (["worker", "etcd"], True), ([], False)],
)
def test_roles(roles: list[str], protected: bool) -> None:
    assert is_protected(roles) is protected


@pytest.mark.parametrize("text", ["5", "25%", " 1 ", "100%"])
def test_sizes_parse(text: str) -> None:
    assert str(parse_size(text, "--serial")) == text.strip()


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "x", "1.5", "5%%", "\u0661", "9" * 12])
def test_bad_sizes_name_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--serial"):
        parse_size(text, "--serial")


@given(
    st.integers(0, 60),
    st.sets(st.integers(1, 60)),
    st.integers(0, 5),
    st.lists(st.builds(Size, st.integers(1, 100), st.booleans()), max_size=3),
    st.none() | st.builds(Size, st.integers(1, 100), st.booleans()),
)
def test_every_node_is_in_exactly_one_wave(
    count: int, special: set[int], canary: int, serial: list[Size], limit: Size | None
) -> None:
    names = nodes(count)
    protected = {f"n{number}" for number in special} & set(names)
    waves = split(names, protected, Policy(canary, tuple(serial), limit))
    placed = [name for wave in waves for name in wave.nodes]
    assert sorted(placed) == sorted(names)
    assert all(wave.nodes for wave in waves)
    assert all(len(wave.nodes) == 1 for wave in waves if wave.protected)
    assert not any(set(wave.nodes) & protected for wave in waves if not wave.protected)
    if limit is not None and count:
        assert max(len(wave.nodes) for wave in waves) <= max(1, limit.of(count))
