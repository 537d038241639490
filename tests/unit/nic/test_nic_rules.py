# SPDX-License-Identifier: Apache-2.0
"""The two rules that tell what a device already has: a spread of CPUs, and a table written by hand."""

from __future__ import annotations

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.nic.plan_channels import is_user_set
from ansible_collections.tune.nodes.plugins.module_utils.nic.plan_steering import is_spread, spread
from hypothesis import given
from hypothesis import strategies as st


@given(queues=st.integers(1, 70), threads=st.sampled_from([1, 2]), number=st.integers(1, 40))
def test_a_spread_is_recognised_as_one(queues: int, threads: int, number: int) -> None:
    cores = [[core + thread * number for thread in range(threads)] for core in range(number)]
    online = sorted(c for core in cores for c in core)
    masks = spread([f"tx-{n}" for n in range(queues)], online, cores)
    assert is_spread(list(masks.values()), online)


@pytest.mark.parametrize(
    ("table", "queues", "by_hand"),
    [
        ([], 4, False),
        ([0, 1, 2, 3] * 32, 4, False),
        ([0] * 32 + [1] * 32, 2, False),
        ([0, 1] * 64, 4, True),
        ([0, 1, 2, 9], 4, True),
        (list(range(128)), 200, False),
        ([index % 63 for index in range(256)], 63, False),
    ],
)
def test_a_table_that_prefers_queues_was_set_by_hand(table: list[int], queues: int, by_hand: bool) -> None:
    assert is_user_set(table, queues) is by_hand
