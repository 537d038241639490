"""What the module takes from a play."""

from __future__ import annotations

from ansible_collections.tune.nodes.plugins.modules.sysctl import raw_settings


def test_a_bare_value_and_a_mapping_become_raw_settings() -> None:
    wishes = {"net.core.somaxconn": 1, "a.b": {"value": 2, "class": "exact"}}
    assert raw_settings(wishes) == [
        {"key": "net.core.somaxconn", "value": 1},
        {"key": "a.b", "value": 2, "class": "exact"},
    ]
