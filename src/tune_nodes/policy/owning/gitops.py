"""Asking a GitOps tool to leave what it manages alone for a while, and giving its setting back exactly as it was.

What was there before stands in a file before anything is changed, so that another process can give it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import at, text
from tune_nodes.errors import UsageError
from tune_nodes.policy.keeping.clean import references
from tune_nodes.policy.keeping.lookup import Lookup
from tune_nodes.policy.owning import owners
from tune_nodes.policy.owning.owners import ARGO, FLUX, Owner
from tune_nodes.runs.atomic import write_atomic

_GROUPS = {
    (ARGO, "Application"): "argoproj.io",
    (FLUX, "Kustomization"): "kustomize.toolkit.fluxcd.io",
    (FLUX, "HelmRelease"): "helm.toolkit.fluxcd.io",
}
SKIP = "argocd.argoproj.io/skip-reconcile"
#: How often a patch is tried while something else writes to the object, its status as a rule.
TRIES = 5
MAX_BYTES = 4 << 20


class Paused(BaseModel):
    """One setting of one object: where it is, what was there, what was put there. None: nothing, in both.

    ``state``: "paused"; "resumed"; "foreign": somebody else set it meanwhile, and it was left; "gone".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    path: list[str]
    before: JsonValue
    after: JsonValue
    at: str
    state: Literal["paused", "resumed", "foreign", "gone"]

    @property
    def shown(self) -> str:
        """Which object: "Argo CD Application argocd/shop"."""
        return f"{self.system} {self.kind} {self.namespace}/{self.name}"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_number: Literal[1] = 1
    entries: list[Paused] = []


@dataclass(frozen=True)
class Answer:
    """What became of one owner. ``done``: it is paused, or as before; ``text``: a sentence."""

    owner: str
    done: bool
    text: str


def pause(cluster: Cluster, owner: Owner, record: Path) -> Answer:
    """Ask the tool behind an owner to leave its objects alone. Called again, it changes nothing.

    Args:
        cluster: where the owner's object is.
        owner: of :func:`tune_nodes.policy.owning.owners.of`.
        record: a file that takes the setting as it was, before it is changed.

    Returns:
        What became of it; ``done`` is False where the owner cannot be paused, and the text says why.

    Raises:
        ClusterError: the object cannot be read or changed.
        UsageError: the record cannot be written, or is damaged.
    """
    group = _GROUPS.get((owner.system, owner.kind))
    if group is None or not owner.name:
        return Answer(owner.shown, False, f"{owner.shown} cannot be paused from here: {owner.text}")
    lookup = Lookup(cluster.api)
    version = lookup.version(group)
    item = _find(cluster, lookup, version, owner) if version else None
    if item is None:
        return Answer(owner.shown, False, f"{owner.shown} is not in this cluster: pause it where it is")
    path, before, after, said = _setting(owner, item)
    if not path:
        return Answer(owner.shown, True, said)
    known = _load(record)
    entry = _entry(owner, version, item, path, before, after)
    mine = [one for one in known.entries if one.state == "paused" and (one.uid, one.path) == (entry.uid, path)]
    if not mine:
        known.entries.append(entry)
        _save(record, known)
    _set(cluster, lookup, mine[0] if mine else entry, after)
    return Answer(owner.shown, True, said)


def resume(cluster: Cluster, record: Path) -> list[Answer]:
    """Give back every setting of a record, exactly as it was. Called again, it changes nothing.

    Raises:
        ClusterError: an object cannot be read or changed; those before it stand in the record as resumed.
        UsageError: the record is damaged.
    """
    known, lookup = _load(record), Lookup(cluster.api)
    answers = []
    for number, entry in enumerate(known.entries):
        if entry.state == "paused":
            state, said = _give_back(cluster, lookup, entry)
            known.entries[number] = entry.model_copy(update={"state": state})
            _save(record, known)
            answers.append(Answer(entry.shown, state == "resumed", said))
    return answers


def _give_back(cluster: Cluster, lookup: Lookup, entry: Paused) -> tuple[str, str]:
    item = _read(cluster, lookup, entry)
    if item is None or text(item, "metadata", "uid") != entry.uid:
        return "gone", f"{entry.shown} is gone, or another by now: nothing to give back"
    held = at(item, *entry.path)
    if held == entry.before:
        return "resumed", f"{entry.shown} was resumed already"
    if held != entry.after:
        return "foreign", f"{'.'.join(entry.path)} of {entry.shown} was set by somebody else meanwhile: left as it is"
    _set(cluster, lookup, entry, entry.before)
    return "resumed", f"{entry.shown} is as it was"


def _setting(owner: Owner, item: Mapping[str, Any]) -> tuple[list[str], Any, Any, str]:
    """Return the path of the setting that pauses an object, its value before and after, and a sentence.

    The path is empty where nothing needs to be set.
    """
    if owner.system == FLUX:
        before = at(item, "spec", "suspend")
        if before is True:
            return [], None, None, f"{owner.shown} was suspended already"
        return ["spec", "suspend"], before, True, f"{owner.shown} is suspended"
    automated = at(item, "spec", "syncPolicy", "automated")
    if automated is None or at(automated, "enabled") is False:
        return [], None, None, f"{owner.shown} does not sync by itself"
    parent = next((text(one, "name") for one in references(item) if one.get("kind") == "ApplicationSet"), "")
    if parent:  # it would put spec.syncPolicy back at once
        path = ["metadata", "annotations", SKIP]
        words = (
            f"{owner.shown} is told by {SKIP} not to reconcile; the ApplicationSet {parent} makes it and would undo "
            "any other setting. Argo CD calls this one alpha: watch whether it holds"
        )
        return path, at(item, *path), "true", words
    words = f"{owner.shown} does not sync by itself now"
    above = next(iter(owners.of_object(item, "argoproj.io", "Application")), None)
    return ["spec", "syncPolicy", "automated"], automated, None, words + (f"; but {above.text}" if above else "")


def _entry(owner: Owner, version: str, item: Mapping[str, Any], path: list[str], before: Any, after: Any) -> Paused:
    return Paused(
        system=owner.system,
        api_version=version,
        kind=owner.kind,
        namespace=text(item, "metadata", "namespace"),
        name=owner.name,
        uid=text(item, "metadata", "uid"),
        path=path,
        before=before,
        after=after,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        state="paused",
    )


def _find(cluster: Cluster, lookup: Lookup, version: str, owner: Owner) -> dict[str, Any] | None:
    """Return the owner's object; where its namespace is not known, the one of its name if there is one only."""
    if owner.namespace:
        call = lookup.call(version, owner.kind, "get", owner.namespace, owner.name)
        return _got(cluster, call)
    call = lookup.call(version, owner.kind, "list")
    if call is None:
        return None
    query = {"fieldSelector": f"metadata.name={owner.name}"}
    found = list(cluster.api.items(call, query))
    if len(found) > 1:
        where = ", ".join(text(one, "metadata", "namespace") for one in found[:5])
        raise ClusterError(CONFLICT, f"there are {len(found)} of {owner.shown}", f"in {where}", "pause it by hand")
    return found[0] if found else None


def _read(cluster: Cluster, lookup: Lookup, entry: Paused) -> dict[str, Any] | None:
    return _got(cluster, lookup.call(entry.api_version, entry.kind, "get", entry.namespace, entry.name))


def _got(cluster: Cluster, call: Any) -> dict[str, Any] | None:
    if call is None:
        return None
    try:
        return cluster.api.get(call)
    except ClusterError as problem:
        if problem.code == NOT_FOUND:
            return None
        raise


def _set(cluster: Cluster, lookup: Lookup, entry: Paused, value: Any) -> None:
    """Set one field to a value, None: remove it; if the object is still the one in the record."""
    for left in reversed(range(TRIES)):
        item = _read(cluster, lookup, entry)
        if item is None or text(item, "metadata", "uid") != entry.uid or at(item, *entry.path) == value:
            return
        patch: Any = value
        for step in reversed(entry.path):
            patch = {step: patch}
        patch.setdefault("metadata", {})["resourceVersion"] = text(item, "metadata", "resourceVersion")
        call = lookup.call(entry.api_version, entry.kind, "patch", entry.namespace, entry.name)
        if call is None:
            return
        try:
            cluster.api.patch(call, patch)
            return
        except ClusterError as problem:
            if problem.code != CONFLICT or not left:
                raise


def _load(record: Path) -> _Record:
    try:
        with record.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _Record()
    except OSError as problem:
        raise UsageError(f"the record {record} cannot be read", problem.strerror or "") from problem
    try:
        return _Record.model_validate_json(raw)
    except ValidationError as problem:
        why = problem.errors()[0]["msg"]
        raise UsageError(f"the record {record} is damaged", why, "resume the paused objects by hand") from problem


def _save(record: Path, known: _Record) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(record, json.dumps(known.model_dump(mode="json"), indent=1) + "\n")
    except OSError as problem:
        raise UsageError(f"the record {record} cannot be written", problem.strerror or "") from problem
