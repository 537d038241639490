# SPDX-License-Identifier: Apache-2.0
"""Plain data: a thing that a CNI put on this node, how it is taken away, and how it is brought back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple

#: Kinds in the order in which they are removed: what refers to something goes before it.
KINDS = ("chains", "table", "ipset", "route", "rule", "link", "file", "bpf")


@dataclass(frozen=True)
class Step:
    """One program to run.

    Attributes:
        argv: program and arguments.
        data: for its standard input.
        unless: a check; where it succeeds, the step is done already.
        otherwise: tried where argv fails.
    """

    argv: Tuple[str, ...]
    data: str = ""
    unless: Tuple[str, ...] = ()
    otherwise: Tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Step:
        """Build a step from a manifest. Raises ValueError, KeyError or TypeError for what is none."""
        return cls(words(raw["argv"]), text(raw["data"]), words(raw["unless"]), words(raw["otherwise"]))


@dataclass(frozen=True)
class Artefact:
    """A thing of a CNI, as it was read.

    Attributes:
        kind: one of KINDS.
        name: unique among its kind, and the same whenever it is read.
        owner: the CNI in the catalogue that makes such things; "" where none does.
        content: what it is, word for word, without counters: tells it from a later one of its name.
        remove, restore: the steps that take it away, and that bring it back as ``content`` says.
        path: of a ``file`` (moved to the quarantine instead of steps).
        stuck: why it cannot be taken away and brought back, "" where it can.
    """

    kind: str
    name: str
    owner: str
    content: Tuple[str, ...] = ()
    remove: Tuple[Step, ...] = ()
    restore: Tuple[Step, ...] = ()
    path: str = ""
    stuck: str = ""

    @property
    def key(self) -> Tuple[str, str]:
        """Kind and name."""
        return self.kind, self.name

    @property
    def id(self) -> str:
        """Short hash of kind, name and content: names this very thing in a later request."""
        whole = json.dumps([self.kind, self.name, self.content]).encode("utf-8")
        return hashlib.sha256(whole).hexdigest()[:16]

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Artefact:
        """Build an artefact from a manifest. Raises ValueError, KeyError or TypeError for what is none."""
        steps = [tuple(Step.from_dict(one) for one in raw[name]) for name in ("remove", "restore")]
        told = [text(raw[name]) for name in ("kind", "name", "owner", "path", "stuck")]
        if told[0] not in KINDS:
            raise ValueError("there is no kind %r" % told[0][:20])
        return cls(told[0], told[1], told[2], words(raw["content"]), steps[0], steps[1], told[3], told[4])


def text(value: Any) -> str:
    """Return a string as it is. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def words(value: Any) -> Tuple[str, ...]:
    """Return a list of strings as a tuple. Raises TypeError for anything else."""
    if not isinstance(value, (list, tuple)):
        raise TypeError("not a list")
    return tuple(text(one) for one in value)


@dataclass(frozen=True)
class Orphan:
    """An artefact that belongs to no configured CNI and no live sandbox.

    Attributes:
        proof: sentences that say why.
        refused: why it stays all the same, "" where it may go.
    """

    artefact: Artefact
    proof: Tuple[str, ...]
    refused: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Return the row of a report: bounded, without the steps."""
        one = self.artefact
        return {
            "id": one.id,
            "kind": one.kind,
            "name": one.name[:200],
            "owner": one.owner,
            "what": [line[:200] for line in one.content[:6]],
            "lines": len(one.content),
            "proof": [sentence[:300] for sentence in self.proof[:6]],
            "refused": self.refused[:300],
        }
