# SPDX-License-Identifier: Apache-2.0
"""Routes of all tables and policy rules, from what ``ip`` prints; it takes its own words again (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .. import catalogue
from .model import Artefact, Step

#: What ``ip`` prints of a route's state; it is not part of what the route is.
_STATE = ("linkdown", "dead", "pervasive", "offload", "trap", "notify", "rt_offload", "rt_trap", "rt_offload_failed")
_STATE_VALUES = ("expires", "error", "users", "used", "age", "ipid")
#: Types by their numbers in include/uapi/linux/rtnetlink.h, as ``ip -N`` prints all but unicast.
_TYPES = {"1": "unicast", "2": "local", "3": "broadcast", "4": "anycast", "5": "multicast"}
_TYPES.update({"6": "blackhole", "7": "unreachable", "8": "prohibit", "9": "throw"})
#: The kernel makes these itself with an address or a link.
_KERNEL = ("local", "broadcast", "anycast", "multicast")


@dataclass(frozen=True)
class Route:
    """One route: what ``ip route add`` takes, and what decisions rest on."""

    family: int
    words: Tuple[str, ...]
    kind: str
    dst: str
    dev: str
    via: str
    proto: str
    table: str

    @property
    def name(self) -> str:
        """Its words, with the family."""
        return "ip%d %s" % (self.family, " ".join(self.words))


def parse_route(line: str, family: int) -> Optional[Route]:
    """Return the route of one line of ``ip -o -N route show table all``, None for what is none."""
    words: List[str] = []
    skip = False
    for word in line.replace("\\", " ").split():
        if skip:
            skip = False
        elif word in _STATE_VALUES:
            skip = True
        elif word not in _STATE:
            words.append(word)
    if words and words[0] in _TYPES:
        words[0] = _TYPES[words[0]]  # ``ip -N`` prints a number and takes a name only
    typed = bool(words) and words[0] in _TYPES.values()
    if len(words) < (2 if typed else 1):
        return None
    kind, dst = (words[0], words[1]) if typed else ("unicast", words[0])
    return Route(
        family,
        tuple(words),
        kind,
        dst,
        after(words, "dev"),
        after(words, "via"),
        after(words, "proto"),
        after(words, "table") or "254",
    )


def after(words: Sequence[str], name: str) -> str:
    """Return the word after a keyword, "" where it is not there."""
    return next((words[index + 1] for index, word in enumerate(words[:-1]) if word == name), "")


def parse_routes(text: str, family: int) -> List[Route]:
    """Return the routes of ``ip -o -N route show table all``, without those the kernel makes itself."""
    rows = (parse_route(line, family) for line in text.splitlines())
    return [row for row in rows if row is not None and row.kind not in _KERNEL]


def owner_of(route: Route) -> str:
    """Return the CNI whose link a route leads to, or whose daemon made it; "" for none."""
    one = catalogue.of_link(route.dev) if route.dev else None
    if one is not None:
        return one.name
    made = [known.name for known in catalogue.CATALOGUE if (route.proto, route.kind) in known.routes]
    return made[0] if made else ""


def route(one: Route, owner: str = "") -> Artefact:
    """Return a route's artefact; ``owner`` where it is known otherwise than by its link."""
    base = ("ip", "-%d" % one.family, "route")
    add = Step((*base, "add", *one.words))
    return Artefact(
        "route",
        one.name,
        owner or owner_of(one),
        one.words,
        (Step((*base, "del", *one.words)),),
        (add,),
    )


def parse_rules(text: str) -> List[Tuple[int, Tuple[str, ...]]]:
    """Return (priority, words) of ``ip -N rule show``'s lines."""
    found = []
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        if colon and head.strip().isdigit() and rest.split():
            found.append((int(head), tuple(rest.split())))
    return found


def owner_of_rule(priority: int, words: Sequence[str]) -> str:
    """Return the CNI that makes such a rule: priority, mark and table must all be as it makes them."""
    shape = (priority, after(words, "fwmark"), after(words, "lookup"))
    return next((one.name for one in catalogue.CATALOGUE if shape in one.rules), "")


def rules(text: str, family: int) -> List[Artefact]:
    """Return an artefact for each policy rule of a CNI."""
    found = []
    for priority, words in parse_rules(text):
        owner = owner_of_rule(priority, words)
        if owner:
            base = ("ip", "-%d" % family, "rule")
            whole = ("priority", str(priority), *words)
            name = "ip%d %d: %s" % (family, priority, " ".join(words))
            found.append(
                Artefact("rule", name, owner, whole, (Step((*base, "del", *whole)),), (Step((*base, "add", *whole)),))
            )
    return found
