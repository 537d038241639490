"""Text from a node never moves a cursor and never fills a disk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.fleet.untrusted import DEPTH_LIMIT, TEXT_LIMIT, bounded, clean, one_line


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdcs\x1b\\after", "after"),
        ("\x9b2Jx", "x"),
        ("\x1bcreset", "reset"),
        ("a\rb\x08c\x00d", "abcd"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\ud800", "\ufffd"),
        ("\x1b[", ""),
        ("line\r\nnext", "line\nnext"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_megabyte_is_cut_and_says_so() -> None:
    shown = clean("x" * (1 << 20))
    assert len(shown) < TEXT_LIMIT + 40
    assert shown.endswith("(1044576 more characters)")


@given(st.text())
def test_nothing_dangerous_survives(text: str) -> None:
    shown = clean(text)
    assert "\x1b" not in shown
    assert not any(ord(char) < 32 and char not in "\t\n" for char in shown)
    assert not any(0x7F <= ord(char) < 0xA0 for char in shown)
    shown.encode("utf-8")
    assert "\n" not in one_line(text)
    assert len(one_line(text, 20)) <= 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_bounded_stays_json(value: Any) -> None:
    json.dumps(bounded(value))


def test_depth_and_size() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    assert json.dumps(bounded(deep)).count("[") <= DEPTH_LIMIT + 200
    assert len(bounded(list(range(100_000)))) <= 4000
