"""What a policy is, in a few words, whatever connection is asked about (pure)."""

from __future__ import annotations

from typing import Any

from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.judging import admin, kubernetes
from tune_nodes.policy.judging.decision import EGRESS, INGRESS, rows_of
from tune_nodes.policy.model import SET, STAGED, TIER, Policy

BOTH = (INGRESS, EGRESS)


def summary(policy: Policy) -> str:
    """Return what an object does: "refuses all ingress", "ingress: 2 allows; egress: 1 deny"."""
    if policy.kind.role == TIER:
        return f"order {_shown(policy.spec.get('order', 'last'))}"
    if policy.kind.role == SET:
        ranges = [*rows_of(policy.spec.get("nets")), *rows_of(policy.spec.get("externalCIDRs"))]
        return f"{len(ranges)} ranges of addresses"
    parts = _parts(policy)
    found = "; ".join(part for part in parts if part) or "does nothing"
    return f"{found} (staged: only logged)" if policy.kind.role == STAGED else found


def _parts(policy: Policy) -> list[str]:
    if policy.kind.engine == "kubernetes":
        ways = kubernetes.directions(policy)
        return [_allows(way, rows_of(policy.spec.get(way))) for way in BOTH if way in ways]
    if policy.kind.engine == "cilium":
        specs = [policy.spec, *(one for one in rows_of(policy.raw.get("specs")) if isinstance(one, dict))]
        host = ["host policy"] if any("nodeSelector" in one for one in specs) else []
        return host + [_cilium(way, [one for one in specs if one]) for way in BOTH]
    rank = ""
    if policy.kind.engine == "admin":
        rank = f"{admin.tier_of(policy)}, priority {_shown(policy.spec.get('priority', 0))}"
    elif policy.kind.engine == "calico":
        rank = f"tier {_shown(policy.spec.get('tier', 'default'))}, order {_shown(policy.spec.get('order', 'last'))}"
    return [rank, *(_actions(way, rows_of(policy.spec.get(way))) for way in BOTH)]


def _shown(value: Any) -> str:
    return one_line(str(value), 40)


def _allows(way: str, rules: list[Any]) -> str:
    return f"{way}: {_count(len(rules), 'allow')}" if rules else f"refuses all {way}"


def _cilium(way: str, specs: list[Any]) -> str:
    allows = sum(len(rows_of(one.get(way))) for one in specs)
    denies = sum(len(rows_of(one.get(f"{way}Deny"))) for one in specs)
    if not (allows or denies):
        return ""
    parts = [_count(denies, "deny", "denies") if denies else "", _count(allows, "allow") if allows else ""]
    return f"{way}: {', '.join(part for part in parts if part)}"


def _actions(way: str, rules: list[Any]) -> str:
    names = [_shown(rule.get("action", "?")) if isinstance(rule, dict) else "?" for rule in rules[:4]]
    more = f" and {len(rules) - len(names)} more" if len(rules) > len(names) else ""
    return f"{way}: {', '.join(names)}{more}" if rules else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
