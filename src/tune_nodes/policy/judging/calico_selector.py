"""Calico's selector language: ``has(role) && env in {"prod", "test"}`` (pure).

Source: libcalico-go/lib/selector of projectcalico/calico.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tune_nodes.policy.judging.matching import Match, said, unknown

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]
#: Longest selector that is read, in characters, and how deep its brackets may go.
MAX_LENGTH, MAX_DEPTH = 10_000, 40
_TOKEN = re.compile(
    r"\s*(?:(?P<all>all\(\s*\))|(?P<global>global\(\s*\))|has\(\s*(?P<has>[\w./-]+)\s*\)"
    r"|(?P<word>==|!=|&&|\|\||[!(){},]|not\s+in\b|in\b|contains\b|starts\s+with\b|ends\s+with\b)"
    r"|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<key>[\w./-]+))"
)


class _Unreadable(ValueError):
    """What stands there is no selector."""


@dataclass(frozen=True)
class _Token:
    kind: str  # "all", "global", "has", "word", "text", "key"
    text: str


def matches(selector: str, labels: Labels) -> Match:
    """Return whether a selector holds for labels; "" holds for everything."""
    test = _compiled(selector)
    return said(test(labels)) if test else unknown("a selector in it cannot be read")


def is_global(selector: object) -> bool:
    """Say whether a namespace selector means what belongs to no namespace."""
    return isinstance(selector, str) and re.fullmatch(r"\s*global\(\s*\)\s*", selector) is not None


@lru_cache(maxsize=4096)
def _compiled(selector: str) -> Test | None:
    if len(selector) > MAX_LENGTH:
        return None
    if not selector.strip():
        return lambda labels: True
    try:
        reader = _Reader(_tokens(selector))
        test = reader.any_of(0)
        reader.end()
    except _Unreadable:
        return None
    return test


def _tokens(selector: str) -> list[_Token]:
    found, place = [], 0
    text = selector.rstrip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if not token:
            raise _Unreadable(selector)
        kind = token.lastgroup or ""
        value = token[kind] or ""
        quoted = kind in ("double", "single")
        found.append(_Token("text" if quoted else kind, value if quoted else re.sub(r"\s+", " ", value)))
        place = token.end()
    return found


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    def _next(self) -> _Token:
        if self._place >= len(self._tokens):
            raise _Unreadable("it ends too early")
        self._place += 1
        return self._tokens[self._place - 1]

    def _is(self, word: str) -> bool:
        """Take a word if it is what stands next."""
        here = self._tokens[self._place : self._place + 1]
        if here != [_Token("word", word)]:
            return False
        self._place += 1
        return True

    def end(self) -> None:
        """Insist that nothing is left."""
        if self._place != len(self._tokens):
            raise _Unreadable("something is left")

    def any_of(self, depth: int) -> Test:
        tests = [self._all_of(depth)]
        while self._is("||"):
            tests.append(self._all_of(depth))
        return lambda labels: any(test(labels) for test in tests)

    def _all_of(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._is("&&"):
            tests.append(self._one(depth))
        return lambda labels: all(test(labels) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise _Unreadable("too deep")
        if self._is("!"):
            inner = self._one(depth + 1)
            return lambda labels: not inner(labels)
        if self._is("("):
            inner = self.any_of(depth + 1)
            if not self._is(")"):
                raise _Unreadable("a bracket is open")
            return inner
        token = self._next()
        if token.kind == "all":
            return lambda labels: True
        if token.kind == "has":
            return lambda labels: token.text in labels
        if token.kind == "key":
            return self._compared(token.text)
        raise _Unreadable(token.text)

    def _compared(self, key: str) -> Test:
        operator = self._next()
        if operator.kind != "word":
            raise _Unreadable(operator.text)
        if operator.text in ("in", "not in"):
            values = self._values()
            wanted = operator.text == "in"
            return lambda labels: (labels.get(key) in values) is wanted
        if operator.text not in _COMPARISONS:
            raise _Unreadable(operator.text)
        value, holds = self._text(), _COMPARISONS[operator.text]
        return lambda labels: holds(labels.get(key), value)

    def _text(self) -> str:
        token = self._next()
        if token.kind != "text":
            raise _Unreadable(token.text)
        return token.text

    def _values(self) -> frozenset[str]:
        if not self._is("{"):
            raise _Unreadable("a set is missing")
        found: set[str] = set()
        while not self._is("}"):
            found.add(self._text())
            self._is(",")
        return frozenset(found)


_COMPARISONS: Mapping[str, Callable[[str | None, str], bool]] = {
    "==": lambda found, value: found == value,
    "!=": lambda found, value: found != value,  # also where the label is not there
    "contains": lambda found, value: found is not None and value in found,
    "starts with": lambda found, value: found is not None and found.startswith(value),
    "ends with": lambda found, value: found is not None and found.endswith(value),
}
