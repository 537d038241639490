"""YAML to plain data: YAML 1.2 scalars, lines, bounds, and nothing that builds objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import UsageError
from tune_nodes.profiles import document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("12", 12),
        ("-1", -1),
        ("5.10", 5.1),
        ("'5.10'", "5.10"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("", None),
        ("~", None),
        ("'~'", "~"),
        ("1e400", "1e400"),
        (".inf", ".inf"),
        ("4096 131072 16777216", "4096 131072 16777216"),
        ("[1, a]", [1, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert document.parse(f"x: {text}\n", "f").data == {"x": value}


def test_lines() -> None:
    doc = document.parse("a: 1\nb:\n  - c: 2\n    d: 3\n", "f.yml")
    assert doc.where(("b", 0, "d")) == "f.yml:4"
    assert doc.where(("b", 0, "d", "deeper", 1)) == "f.yml:4"
    assert doc.where(("nowhere",)) == "f.yml:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f is empty"),
        ("# only a comment\n", "f is empty"),
        ("- a\n", "f:1: the top level must be a mapping"),
        ("a: 1\nb: 2\na: 3\n", "f:3: a stands here a second time; the first is on line 1"),
        ("a: {b: 1, b: 2}\n", "f:1: b stands here a second time"),
        ("a: 010\n", "f:1: 010 is ambiguous"),
        ("a: 0x10\n", "f:1: 0x10 is ambiguous"),
        ("a: 1_000\n", "f:1: 1_000 is ambiguous"),
        ("a: 99999999999999999999\n", "is ambiguous"),
        ("a: &x 1\nb: *x\n", "f:1: anchors and aliases"),
        ("a: 1\nb: *x\n", "f:2: anchors and aliases"),
        ("a:\n  <<: {b: 1}\n", "f:2: merge keys"),
        ("a: !!python/object/apply:os.system [id]\n", "f:1: YAML tags"),
        ("!!map {a: 1}\n", "f:1: YAML tags"),
        ("a: 1\n---\nb: 2\n", "f:2: a second document"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("a: 1\n  b: 2\n", "f:2: not valid YAML"),
        ("a: [1\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("a: \t- b\n\t- c", "f:"),
        ("a: " + "[" * 5000, "nested deeper than 12"),
        (
            "a:\n" + "".join("  " * n + "- \n" for n in range(1, 3)) + "b: [" + "1," * 30000 + "]",
            "more than 20000 values",
        ),
        ("a: " + "x" * 300000, "too large"),
    ],
)
def test_refused_with_the_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as err:
        document.parse(text, "f")
    assert says in str(err.value)


def test_billion_laughs_ends_at_once() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(UsageError, match="anchors"):
        document.parse("\n".join(lines), "f")


def test_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        document.load(tmp_path / "none.yml")
    with pytest.raises(UsageError, match="cannot read"):
        document.load(tmp_path)
    (tmp_path / "latin.yml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(UsageError, match=r"latin.yml:2: not UTF-8"):
        document.load(tmp_path / "latin.yml")
    (tmp_path / "huge.yml").write_bytes(b"#" * (document.MAX_BYTES + 1))
    with pytest.raises(UsageError, match="too large"):
        document.load(tmp_path / "huge.yml")


@given(st.text() | st.text("ab:-[]{}&*!|>'\"#?,\n \t<%@`~0129.", max_size=60))
def test_junk_is_data_or_a_usage_error(text: str) -> None:
    try:
        doc = document.parse(text, "f")
    except UsageError:
        return
    assert isinstance(doc.data, dict)


PLAIN = st.recursive(
    st.booleans() | st.integers(-(10**17), 10**17) | st.text("abz-: #0", max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


class _NoAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@given(st.dictionaries(st.text("abc", min_size=1), PLAIN, min_size=1, max_size=4))
def test_what_yaml_writes_is_read_back(data: dict[str, Any]) -> None:
    assert document.parse(yaml.dump(data, Dumper=_NoAnchors, width=1000), "f").data == data
