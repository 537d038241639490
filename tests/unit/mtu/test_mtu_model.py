"""How a wish is written, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.mtu import model
from ansible_collections.tune.nodes.plugins.module_utils.mtu.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("interfaces", "underlay", "pods", "reason", "source", "identity", "keeper")


def test_wishes() -> None:
    found = model.parse_setting({"underlay": "9000", "pods": "auto"})
    assert (found.interfaces, found.underlay, found.pods) == (("auto",), 9000, "auto")
    found = model.parse_setting({"interfaces": "bond0", "underlay": "keep", "pods": 1400, "reason": "why"})
    assert (found.interfaces, found.underlay, found.pods, found.reason) == (("bond0",), "keep", 1400, "why")
    assert model.parse_setting({"underlay": 9000}).pods is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "must be a mapping"),
        ({}, "asks for nothing"),
        ({"underlay": None}, "asks for nothing"),
        ({"underlay": 9000, "mtu": 1}, "unknown MTU setting mtu"),
        ({"underlay": "auto"}, "underlay: 'auto' is not understood"),
        ({"pods": "keep"}, "pods: 'keep' is not understood"),
        ({"underlay": True}, "underlay: True is not understood"),
        ({"underlay": 1500.0}, "is not understood"),
        ({"underlay": 575}, "underlay: 575 is out of range"),
        ({"underlay": 65536}, "underlay: 65536 is out of range"),
        ({"underlay": -1}, "underlay: -1 is out of range"),
        ({"underlay": 9000, "interfaces": []}, "interfaces is not understood"),
        ({"underlay": 9000, "interfaces": ["auto", "eth0"]}, "auto or a list of names, not both"),
        ({"underlay": 9000, "interfaces": ["eth0; reboot"]}, "is not an interface name"),
        ({"underlay": 9000, "interfaces": ["a" * 16]}, "is not an interface name"),
        ({"underlay": 9000, "interfaces": [1]}, "is not an interface name"),
        ({"underlay": 9000, "reason": 1}, "reason must be text"),
        ({"underlay": 9000, "keeper": {"by": 1}}, "keeper must be a mapping of text"),
    ],
)
def test_what_is_no_wish_is_refused_in_words(raw: Any, words: str) -> None:
    with pytest.raises(NodeError) as error:
        FAMILY.parse([raw])
    assert error.value.code == "usage"
    assert words in error.value.what


@given(st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON)
def test_anything_is_a_wish_or_a_usage_error(raw: Any) -> None:
    try:
        FAMILY.parse([raw])
    except NodeError as error:
        assert error.code == "usage"


@given(st.text(max_size=20))
def test_keys_and_values_are_read_back_or_refused(text: str) -> None:
    for parse in (model.parse_key, model.parse_mtu):
        try:
            parse(text)
        except NodeError as error:
            assert error.code == "usage"
    assert model.parse_key("bond0.100/mtu") == ("bond0.100", "mtu")
    assert model.parse_mtu("9000") == 9000


@pytest.mark.parametrize("key", ["eth0", "eth0/channels", "/mtu", "a/b/mtu", "eth0/mtu/x", "../x/mtu"])
def test_other_families_keys_are_refused(key: str) -> None:
    with pytest.raises(NodeError):
        model.parse_key(key)


@pytest.mark.parametrize(
    ("kind", "family", "options", "cost"),
    [
        ("vxlan", 4, 0, 50),
        ("vxlan", 6, 0, 70),
        ("ipip", 4, 0, 20),
        ("ipip", 4, 8, 28),
        ("ipip", 6, 0, None),
        ("wireguard", 4, 0, 60),
        ("wireguard", 6, 0, 80),
        ("geneve", 4, 0, 50),
        ("gretap", 4, 4, 42),
        ("bareudp", 4, 0, None),
        ("vxlan", 0, 0, None),
    ],
)
def test_overheads(kind: str, family: int, options: int, cost: int | None) -> None:
    assert model.overhead(kind, family, options) == cost
