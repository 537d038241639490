"""Which settings come out of layers: later ones override, and every layer says why it counts or not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import match
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from hypothesis import given
from hypothesis import strategies as st

FACTS = {"cpus": 4}


def _layer(name: str, sysctl: Any = (), nic: Any = (), condition: Any = None) -> dict[str, Any]:
    return {"profile": name, "match": condition, "sysctl": list(sysctl), "nic_queues": list(nic)}


def test_later_layers_override_by_key_as_a_whole() -> None:
    chosen, why = match.select(
        [
            _layer("base", [{"key": "a.b", "value": 1, "reason": "base"}, {"key": "c.d", "value": 2}]),
            _layer("big", [{"key": "a.b", "value": 9}], condition={"cpus": ">=64"}),
            _layer("mine", [{"key": "a.b", "value": 3}]),
        ],
        FACTS,
    )
    assert chosen["sysctl"] == [{"key": "a.b", "value": 3}, {"key": "c.d", "value": 2}]
    assert why == ["base: applies", "big: left out: cpus is 4 (wanted >=64)", "mine: applies"]


def test_a_key_can_be_taken_out() -> None:
    chosen, _ = match.select(
        [_layer("base", [{"key": "a.b", "value": 1}]), _layer("mine", [{"key": "a.b", "drop": True}])], FACTS
    )
    assert chosen["sysctl"] == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            [{"interfaces": "physical", "channels": "auto"}, {"interfaces": "physical", "rings": "max"}],
            [{"interfaces": "physical", "channels": "auto"}, {"interfaces": "physical", "rings": "max"}],
        ),
        (
            [
                {"interfaces": "physical", "channels": "auto", "rings": 1024},
                {"interfaces": ["eth0"], "channels": 2},
                {"interfaces": "physical", "rings": "max"},
            ],
            [
                {"interfaces": "physical", "channels": "auto"},
                {"interfaces": ["eth0"], "channels": 2},
                {"interfaces": "physical", "rings": "max"},
            ],
        ),
        (
            [{"interfaces": ["eth0"], "channels": 2}, {"interfaces": ["eth0"], "channels": 4}],
            [{"interfaces": ["eth0"], "channels": 4}],
        ),
    ],
)
def test_nic_wishes_override_one_by_one(settings: list[Any], expected: list[Any]) -> None:
    chosen, _ = match.select([_layer(str(n), nic=[s]) for n, s in enumerate(settings)], FACTS)
    assert chosen["nic_queues"] == expected


def test_input_is_left_as_it_is() -> None:
    layers = [_layer("a", nic=[{"interfaces": "physical", "channels": 1, "rps": "off"}])]
    layers.append(_layer("b", nic=[{"interfaces": "physical", "channels": 2}]))
    before = repr(layers)
    match.select(layers, FACTS)
    assert repr(layers) == before


@pytest.mark.parametrize(
    "layers",
    [
        [None],
        [{"profile": "x", "sysctl": {}, "nic_queues": [1]}],
        [_layer("x", [{"value": 1}])],
        [_layer("x", [{"key": 1}])],
        [_layer("x", condition={"cpu": 1})],
    ],
)
def test_bad_layers_are_usage_errors(layers: Any) -> None:
    with pytest.raises(NodeError) as err:
        match.select(layers, FACTS)
    assert err.value.code == "usage"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
LAYERS = st.lists(
    JSON | st.fixed_dictionaries({"profile": JSON, "match": JSON, "sysctl": JSON, "nic_queues": JSON}), max_size=4
)


@given(LAYERS)
def test_junk_layers_are_usage_errors(layers: list[Any]) -> None:
    try:
        chosen, why = match.select(layers, FACTS)
    except NodeError as err:
        assert err.code == "usage"
    else:
        assert set(chosen) == {"sysctl", "nic_queues", "mtu"}
        assert len(why) == len(layers)


def test_families_come_in_the_order_in_which_they_are_changed() -> None:
    chosen, _ = match.select([], FACTS)
    assert tuple(chosen) == match.FAMILIES
