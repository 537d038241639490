# SPDX-License-Identifier: Apache-2.0
"""What is taken as a NIC setting, and what is refused before any node is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

BAD = [
    {},
    {"interfaces": "physical"},
    {"interfaces": [], "channels": 2},
    {"interfaces": ["physical", "eth0"], "channels": 2},
    {"interfaces": ["eth0/1"], "channels": 2},
    {"interfaces": ["a-name-far-too-long"], "channels": 2},
    {"interfaces": ["eth0"], "channels": 0},
    {"interfaces": ["eth0"], "channels": -1},
    {"interfaces": ["eth0"], "channels": True},
    {"interfaces": ["eth0"], "channels": 2.5},
    {"interfaces": ["eth0"], "channels": "most"},
    {"interfaces": ["eth0"], "channels": {"rx": "max"}},
    {"interfaces": ["eth0"], "channels": {"combined": 2}},
    {"interfaces": ["eth0"], "channels": {}},
    {"interfaces": ["eth0"], "rings": "auto"},
    {"interfaces": ["eth0"], "rings": 1 << 40},
    {"interfaces": ["eth0"], "rps": "all"},
    {"interfaces": ["eth0"], "rps": ""},
    {"interfaces": ["eth0"], "rps": "3-1"},
    {"interfaces": ["eth0"], "rps": True},
    {"interfaces": ["eth0"], "channels": 2, "queues": 3},
    {"interfaces": ["eth0"], "channels": 2, "reason": 3},
    {"interfaces": ["eth0"], "channels": 2, "identity": {"mac": 1}},
]


@pytest.mark.parametrize("raw", BAD, ids=str)
def test_a_bad_setting_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(NodeError) as caught:
        FAMILY.parse([raw])
    assert caught.value.code == "usage"


def test_numbers_and_off_are_taken_as_yaml_gives_them() -> None:
    setting = FAMILY.parse([{"interfaces": "eth0", "channels": "4", "rps": False, "xps": 3}])[0]
    assert (setting.interfaces, setting.channels, setting.rps, setting.xps) == (("eth0",), 4, "off", "3")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["interfaces", "channels", "rings", "rps", "xps", "reason", "source", "identity"])


@given(raw=JUNK | st.dictionaries(NAMES, JUNK | st.just("eth0"), max_size=5))
def test_parsing_junk_only_ever_says_usage(raw: Any) -> None:
    try:
        FAMILY.parse([raw])
    except NodeError as exc:
        assert exc.code == "usage"
