# SPDX-License-Identifier: Apache-2.0
"""iptables of both kinds: a CNI's chains and the rules that lead to them, from what the save programs print (pure).

A table is never restored as a whole: every rule and chain goes, and comes back, by a call of its own.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set, Tuple

from .. import catalogue
from .model import Artefact, Step

#: Lines of one CNI in one table that are taken away one by one; beyond, a reboot is quicker than the calls.
MOST = 2000
WAIT = ("-w", "5")  # seconds for xtables' own lock

Rule = Tuple[str, ...]  # the words after "-A CHAIN"


@dataclass
class Table:
    """One table as a save program printed it.

    Attributes:
        name: of the table.
        policies: built-in chain -> its policy.
        chains: chain -> its rules in order, built-in ones too.
    """

    name: str
    policies: Dict[str, str] = field(default_factory=dict)
    chains: Dict[str, List[Rule]] = field(default_factory=dict)


def parse_save(text: str) -> List[Table]:
    """Return the tables of iptables-save's output; lines that are not understood are left out."""
    tables: List[Table] = []
    for line in text.splitlines():
        if line.startswith("*") and len(line) > 1:
            tables.append(Table(line[1:].strip()))
        elif not tables:
            continue
        elif line.startswith(":"):
            parts = line[1:].split()
            if len(parts) >= 2:
                tables[-1].chains.setdefault(parts[0], [])
                if parts[1] != "-":
                    tables[-1].policies[parts[0]] = parts[1]
        elif line.startswith("-A "):
            rule = _words(line)
            if rule is not None and len(rule) > 2:
                tables[-1].chains.setdefault(rule[1], []).append(tuple(rule[2:]))
    return tables


def _words(line: str) -> Optional[List[str]]:
    try:
        return shlex.split(line)
    except ValueError:
        return None


def target(rule: Rule) -> str:
    """Return where a rule jumps or goes to, "" for nowhere."""
    return _after(rule, ("-j", "--jump", "-g", "--goto"))


def comment(rule: Rule) -> str:
    """Return a rule's comment, "" where it has none."""
    return _after(rule, ("--comment",))


def _after(rule: Rule, names: Sequence[str]) -> str:
    return next((rule[index + 1] for index, word in enumerate(rule[:-1]) if word in names), "")


def sets_of(rule: Rule) -> Set[str]:
    """Return the ipsets that a rule names."""
    found = {rule[index + 1] for index, word in enumerate(rule[:-1]) if word in ("--match-set", "--add-set")}
    return found | {rule[index + 1] for index, word in enumerate(rule[:-1]) if word == "--del-set"}


def artefacts(tables: Sequence[Table], program: str) -> List[Artefact]:
    """Return an artefact for each CNI and table: its chains, and the rules in other chains that are its own.

    Args:
        tables: of one program.
        program: ``iptables-nft``, ``ip6tables-legacy``, ...: what the steps call.
    """
    found = []
    for table in tables:
        for one in catalogue.CATALOGUE:
            chains = [name for name in table.chains if _is_chain(one, name, table)]
            rules = _rules(one, table, set(chains))
            if chains or rules:
                found.append(_artefact(table, program, one.name, chains, rules))
    return found


def _is_chain(one: catalogue.Artefacts, name: str, table: Table) -> bool:
    return one.chains.has(name) and not catalogue.NEVER_CHAINS.has(name) and name not in table.policies


def _rules(one: catalogue.Artefacts, table: Table, chains: Set[str]) -> List[Tuple[str, int, Rule]]:
    """Return (chain, place from 1, rule) of the rules in chains of others that are this CNI's."""
    found = []
    for chain, rules in table.chains.items():
        if chain not in chains:
            found += [
                (chain, place, rule)
                for place, rule in enumerate(rules, 1)
                if target(rule) in chains or one.comments.has(comment(rule))
            ]
    return found


def _artefact(
    table: Table, program: str, owner: str, chains: Sequence[str], rules: Sequence[Tuple[str, int, Rule]]
) -> Artefact:
    base = (program, *WAIT, "-t", table.name)
    content = [":" + chain for chain in chains]
    content += [shlex.join(["-A", chain, *rule]) for chain in chains for rule in table.chains[chain]]
    content += [shlex.join(["-A", chain, *rule]) for chain, _place, rule in rules]
    remove = [Step((*base, "-D", chain, *rule)) for chain, _place, rule in rules]
    remove += [Step((*base, "-F", chain)) for chain in chains]
    remove += [Step((*base, "-X", chain)) for chain in chains]
    restore = [Step((*base, "-N", chain), unless=(*base, "-S", chain)) for chain in chains]
    for chain in chains:
        seen: Set[Rule] = set()
        for rule in table.chains[chain]:
            # Of two like rules only the first is looked for: the second would be taken for it and never come back.
            check = () if rule in seen else (*base, "-C", chain, *rule)
            restore.append(Step((*base, "-A", chain, *rule), unless=check))
            seen.add(rule)
    for chain, place, rule in rules:
        last = (*base, "-A", chain, *rule)
        restore.append(Step((*base, "-I", chain, str(place), *rule), "", (*base, "-C", chain, *rule), last))
    stuck = "there are more than %d rules: a reboot is the way" % MOST if len(content) > MOST else ""
    name = name_of(program, table.name, owner)
    return Artefact("chains", name, owner, tuple(content), tuple(remove), tuple(restore), stuck=stuck)


def name_of(program: str, table: str, owner: str) -> str:
    """Return the name of the artefact of a CNI's rules in one table."""
    return "%s %s (%s)" % (program, table, owner)


def holds_out(table: Table, owner: str) -> str:
    """Return why taking a CNI's rules away could cut connections to the node, "" where it cannot.

    A CNI's chain may be all that lets packets through a built-in chain which drops the rest.
    """
    one = next((known for known in catalogue.CATALOGUE if known.name == owner), None)
    if one is None:
        return ""
    chains = {name for name in table.chains if _is_chain(one, name, table)}
    for builtin, policy in table.policies.items():
        places = [place for chain, place, _rule in _rules(one, table, chains) if chain == builtin]
        if builtin not in ("INPUT", "OUTPUT", "PREROUTING") or not places:
            continue
        later = [target(rule) for rule in table.chains[builtin][min(places) :]]
        if policy != "ACCEPT" or "DROP" in later or "REJECT" in later:
            return "%s of table %s drops what no rule accepts: these rules may be what lets connections in" % (
                builtin,
                table.name,
            )
    return ""
