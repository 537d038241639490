"""Hold a profile's settings against the key catalogue and the node side's own parsers: one judge on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.family import Family
from ansible_collections.tune.nodes.plugins.module_utils.mtu.family import FAMILY as MTU
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY as NIC_QUEUES
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY as SYSCTL
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.model import canonical_key

from tune_nodes.profiles.document import Document, Location
from tune_nodes.profiles.model import MtuWish, NicWish, Profile, SysctlWish
from tune_nodes.profiles.problems import Problem


def _refused(family: Family, raw: Mapping[str, Any]) -> tuple[str, str]:
    """Return (message, hint) of the node side's refusal, two empty texts where it takes the setting."""
    try:
        family.parse([raw])
    except NodeError as err:
        return _words(err)
    return "", ""


def _words(err: NodeError) -> tuple[str, str]:
    return (f"{err.what}; {err.why}" if err.why else err.what), err.next


def _sysctl_problems(doc: Document, at: Location, wishes: Mapping[str, SysctlWish]) -> Iterator[Problem]:
    spelt: dict[str, str] = {}
    for key, wish in wishes.items():
        where, name = doc.where((*at, key)), ".".join(map(str, (*at, key)))
        try:
            canonical = canonical_key(key)
        except NodeError as err:
            yield Problem(where, name, *_words(err))
            continue
        message, hint = ("", "") if wish.drop else _refused(SYSCTL, wish.raw(key))
        if message:
            yield Problem(where, name, message, hint)
        elif canonical in spelt:
            yield Problem(where, name, f"is the same key as {spelt[canonical]}", "keep one of them")
        spelt.setdefault(canonical, key)


def _nic_problems(doc: Document, at: Location, wishes: list[NicWish]) -> Iterator[Problem]:
    for index, wish in enumerate(wishes):
        message, hint = _refused(NIC_QUEUES, wish.raw())
        if message:
            yield Problem(doc.where((*at, index)), ".".join(map(str, (*at, index))), message, hint)


def _mtu_problems(doc: Document, at: Location, wishes: list[MtuWish]) -> Iterator[Problem]:
    for index, wish in enumerate(wishes):
        message, hint = _refused(MTU, wish.raw())
        if message:
            yield Problem(doc.where((*at, index)), ".".join(map(str, (*at, index))), message, hint)


def check_settings(profile: Profile, doc: Document) -> list[Problem]:
    """Return what the catalogue and the families' parsers have against a profile's settings."""
    found: list[Problem] = []
    for at, part in profile.parts():
        found += _sysctl_problems(doc, (*at, "sysctl"), part.sysctl)
        found += _nic_problems(doc, (*at, "nic_queues"), part.nic_queues)
        found += _mtu_problems(doc, (*at, "mtu"), part.mtu)
    return found
