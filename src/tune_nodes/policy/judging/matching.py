"""Answers that may be "not known", and how several make one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """Whether a rule covers a connection. ``yes``: None where that cannot be told; ``why``: then the reason."""

    yes: bool | None
    why: str = ""

    def __invert__(self) -> Match:
        return self if self.yes is None else (NO if self.yes else YES)


YES = Match(True)
NO = Match(False)


def unknown(why: str) -> Match:
    """Return the answer that is none."""
    return Match(None, why)


def said(holds: bool) -> Match:
    """Return a certain answer."""
    return YES if holds else NO


def any_of(matches: Iterable[Match]) -> Match:
    """Return whether one of them holds; one that certainly does outweighs what is not known."""
    doubt = NO
    for match in matches:
        if match.yes:
            return YES
        if match.yes is None and doubt is NO:
            doubt = match
    return doubt


def all_of(matches: Iterable[Match]) -> Match:
    """Return whether all of them hold; one that certainly does not outweighs what is not known."""
    doubt = YES
    for match in matches:
        if match.yes is False:
            return NO
        if match.yes is None and doubt is YES:
            doubt = match
    return doubt
