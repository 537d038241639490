"""In which order policies come back, so that at no moment more is cut than in the end (pure).

Waves: Calico's tiers; the sets that policies refer to; what allows DNS or everything; what else allows; what denies.
A policy that selects pods and has no rule for a direction denies by that alone, and so does a deny rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from tune_nodes.cluster.objects import at, mappings
from tune_nodes.policy import model

if TYPE_CHECKING:
    from tune_nodes.policy.model import Policy


class Wave(IntEnum):
    """The waves, in their order."""

    TIERS = 0
    SETS = 1
    DNS = 2
    ALLOWS = 3
    DENIES = 4

    @property
    def words(self) -> str:
        """The wave's name for people."""
        return _WORDS[self]


_WORDS = {
    Wave.TIERS: "tiers",
    Wave.SETS: "network sets and CIDR groups",
    Wave.DNS: "allows of DNS, or of everything",
    Wave.ALLOWS: "other allows",
    Wave.DENIES: "denies",
}
#: A staged policy is never enforced, so that it cuts nothing.
_ROLES = {model.TIER: Wave.TIERS, model.SET: Wave.SETS, model.STAGED: Wave.ALLOWS}
_DNS_PORTS = frozenset({53, "53", "dns", "dns-tcp", "dns-udp"})
_CILIUM_PEERS = ("from", "to")
_DEEPEST = 8


def wave(policy: Policy) -> Wave:
    """Return the wave in which a policy comes back."""
    if policy.kind.role in _ROLES:
        return _ROLES[policy.kind.role]
    rules, denies = _judged(policy)
    if denies:
        return Wave.DENIES
    return Wave.DNS if any(_dns(rule) for rule in rules) else Wave.ALLOWS


def ordered(policies: Iterable[Policy]) -> list[Policy]:
    """Return policies in the order in which they come back."""
    return sorted(policies, key=lambda one: (wave(one), one.kind.qualified, one.namespace, one.name))


def waves(policies: Iterable[Policy]) -> list[tuple[Wave, list[Policy]]]:
    """Return the waves that have something in them, with it."""
    found: dict[Wave, list[Policy]] = {}
    for policy in ordered(policies):
        found.setdefault(wave(policy), []).append(policy)
    return sorted(found.items())


def _judged(policy: Policy) -> tuple[list[Any], bool]:
    """Return a policy's allowing rules, and whether it also denies, by a rule or by having none."""
    spec = at(policy.raw, "spec")
    if policy.kind.engine == "cilium":
        specs = [spec, *mappings(policy.raw, "specs")]
        return _cilium([one for one in specs if isinstance(one, Mapping)])
    spec = spec if isinstance(spec, Mapping) else {}
    if policy.kind.engine in ("calico", "admin"):
        return _with_actions(spec, by_selection=policy.kind.engine == "calico")
    return _kubernetes(spec)


def _kubernetes(spec: Mapping[str, Any]) -> tuple[list[Any], bool]:
    types = spec.get("policyTypes")
    if not isinstance(types, list):
        types = ["Ingress", *(["Egress"] if "egress" in spec else [])]
    directions = [mappings(spec, str(one).lower()) for one in types]
    return [rule for rules in directions for rule in rules], not all(directions)


def _with_actions(spec: Mapping[str, Any], by_selection: bool) -> tuple[list[Any], bool]:
    """Judge rules that have an action. ``by_selection``: a direction without rules denies too (Calico)."""
    types = [str(one).lower() for one in spec.get("types") or ()] if isinstance(spec.get("types"), list) else []
    rules = [rule for side in ("ingress", "egress") for rule in mappings(spec, side)]
    actions = [str(rule.get("action", "")).lower() for rule in rules]
    empty = by_selection and (not rules or any(not mappings(spec, side) for side in types))
    return [r for r, a in zip(rules, actions, strict=True) if a in ("allow", "accept")], "deny" in actions or empty


def _cilium(specs: list[Mapping[str, Any]]) -> tuple[list[Any], bool]:
    """Judge Cilium's rules, where an empty one allows nothing, unlike in a NetworkPolicy."""
    rules: list[Any] = []
    denies = False
    for spec in specs:
        denies = denies or any(mappings(spec, side) for side in ("ingressDeny", "egressDeny"))
        for side in ("ingress", "egress"):
            given = mappings(spec, side)
            allowing = [rule for rule in given if any(str(key).startswith(_CILIUM_PEERS) for key in rule)]
            denies = denies or (bool(given) and not allowing)
            rules += allowing
    return rules, denies or not rules


def _dns(rule: Any) -> bool:
    """Say whether a rule allows DNS, or everything."""
    if isinstance(rule, Mapping) and not {*rule} - {"action"}:
        return True
    return any(port in _DNS_PORTS for port in _ports(rule))


def _ports(value: Any, depth: int = _DEEPEST) -> Iterator[Any]:
    """Yield every port that a rule names, however its kind spells that."""
    if depth <= 0:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("port", "number", "name") and isinstance(item, int | str):
                yield item
            elif key == "ports" and isinstance(item, list):
                yield from (one for one in item if isinstance(one, int | str))
                yield from _ports(item, depth - 1)
            else:
                yield from _ports(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            yield from _ports(item, depth - 1)
