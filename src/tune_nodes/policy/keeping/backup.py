"""Backups of policies: written whole, read back, and rehearsed before anything is deleted by them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tune_nodes.cluster.api import Api, members
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import NOT_FOUND, ClusterError
from tune_nodes.cluster.objects import at, text
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.untrusted import one_line
from tune_nodes.policy.keeping import document, order
from tune_nodes.policy.keeping.clean import clean, digest, finalizers, references
from tune_nodes.policy.keeping.document import CLEANED, MANIFEST, RAW, KindRow, Manifest, ObjectRow
from tune_nodes.policy.keeping.rehearse import rehearse
from tune_nodes.policy.model import Kind, Policy, policy_of
from tune_nodes.runs.store import RUN_ID, default_state_dir, new_run_id

__all__ = ["Backup", "everywhere", "find", "home", "kept", "rehearse", "write"]

#: Up to so many namespaces are listed one by one; beyond that the whole list costs less.
FEW = 5


def home(state: Path | None = None) -> Path:
    """Return the directory that backups are kept in, below the one that runs are kept in."""
    return (state or default_state_dir()) / "policy-backups"


@dataclass(frozen=True)
class Backup:
    """A backup as it lies on disk.

    Args:
        directory: its files' directory, named by its id.
        manifest: what it holds.
        policies: with their raw objects, in the order in which they come back.
        cleaned: the objects as they are made again, in the same order.
    """

    directory: Path
    manifest: Manifest
    policies: tuple[Policy, ...]
    cleaned: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.manifest.id

    @cached_property
    def by_ref(self) -> Mapping[str, tuple[Policy, Mapping[str, Any]]]:
        """Each policy with its cleaned object, by its ref."""
        return {one.ref: (one, body) for one, body in zip(self.policies, self.cleaned, strict=True)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a backup and prove it whole. Raises UsageError for one that is damaged, half written or not one."""
        files = document.read(path)
        manifest = document.manifest(files, path)
        raws, cleaned = (document.items(files, name, path) for name in (RAW, CLEANED))
        if not len(raws) == len(cleaned) == len(manifest.objects):
            raise document.damaged(path, "its files hold different numbers of objects")
        kinds = [_kind(row) for row in manifest.kinds]
        policies = []
        for row, raw, body in zip(manifest.objects, raws, cleaned, strict=True):
            policy = policy_of(kinds[row.kind], raw)
            if policy is None or policy.ref != row.ref:
                raise document.damaged(path, f"{one_line(row.ref)} is another object in {RAW}")
            if (digest(raw), digest(body)) != (row.raw_sha256, row.cleaned_sha256):
                raise document.damaged(path, f"{one_line(row.ref)} is not what it was when the backup was made")
            policies.append(policy)
        return cls(path, manifest, tuple(policies), tuple(cleaned))

    def copy_to(self, directory: Path) -> Path:
        """Copy the backup to ``directory/ID``, read back. Raises UsageError; nothing by that name is there then."""
        target = directory / self.id
        if target.exists():
            raise UsageError(f"there is already {target}", "a backup is never overwritten", "choose another directory")
        document.write(target, document.read(self.directory))
        return target


def write(cluster: Cluster, policies: Sequence[Policy], directory: Path, scope: str) -> Backup:
    """Write policies, as they are now, to ``directory/ID``, and read that back.

    Each is read from the server once more: one that changed meanwhile is kept as it is now, one that is gone is not.

    Args:
        cluster: whose policies they are.
        policies: which.
        directory: where backups are kept; see :func:`home`.
        scope: what was asked for, for people: "namespace shop".

    Raises:
        ClusterError: the policies cannot be read.
        UsageError: the directory cannot be written.
        TuneError: what was read back is something else.
    """
    now, lists = _current(cluster.api, policies)
    found = order.ordered(now)
    cleaned = [clean(one.raw, one.kind.api_version, one.kind.kind) for one in found]
    manifest = _manifest(cluster, found, cleaned, lists, scope)
    raw = document.listed([one.raw for one in found])
    files = {
        MANIFEST: manifest.model_dump_json(indent=1).encode() + b"\n",
        RAW: document.text_of(raw),
        CLEANED: document.text_of(document.listed(cleaned)),
    }
    target = directory / manifest.id
    document.write(target, files)
    backup = Backup.load(target)
    same = [one.raw for one in backup.policies] == [one.raw for one in found] and list(backup.cleaned) == cleaned
    if not same:
        raise TuneError(
            f"the backup {target} holds something else than was written", "", "do not delete anything by it"
        )
    return backup


def _manifest(
    cluster: Cluster,
    policies: Sequence[Policy],
    cleaned: Sequence[Mapping[str, Any]],
    lists: Mapping[Kind, str],
    scope: str,
) -> Manifest:
    kinds = list(dict.fromkeys(one.kind for one in policies))
    return Manifest(
        schema_number=document.SCHEMA,
        id=new_run_id(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        scope=one_line(scope),
        server=cluster.server,
        server_version=text(cluster.api.version(), "gitVersion", limit=60),
        user=cluster.user,
        kinds=[KindRow.of(kind, lists.get(kind, "")) for kind in kinds],
        objects=[_row(one, body, kinds) for one, body in zip(policies, cleaned, strict=True)],
    )


def _kind(row: KindRow) -> Kind:
    return Kind(row.group, row.version, row.resource, row.kind, row.namespaced, row.engine, row.role)


def _row(policy: Policy, cleaned: Mapping[str, Any], kinds: Sequence[Kind]) -> ObjectRow:
    owners = [f"{text(one, 'kind')} {text(one, 'name')}" for one in references(policy.raw)]
    return ObjectRow(
        ref=policy.ref,
        kind=kinds.index(policy.kind),
        namespace=policy.namespace,
        name=policy.name,
        uid=policy.uid,
        resource_version=policy.resource_version,
        wave=order.wave(policy).name.lower(),
        raw_sha256=digest(policy.raw),
        cleaned_sha256=digest(cleaned),
        finalizers=list(finalizers(policy.raw)),
        owners=owners,
    )


def _current(api: Api, policies: Sequence[Policy]) -> tuple[list[Policy], dict[Kind, str]]:
    """Return those of the policies that are still there, as they are, and each kind's list's resourceVersion."""
    lists: dict[Kind, str] = {}
    found = {policy.ref: policy for policy in everywhere(api, policies, lists)}
    return [found[one.ref] for one in policies if one.ref in found], lists


def everywhere(api: Api, policies: Collection[Policy], lists: dict[Kind, str] | None = None) -> Iterator[Policy]:
    """Yield what there is now of these policies' kinds, in the namespaces where they are; others may be among it.

    Args:
        api: the connection.
        policies: which kinds and namespaces to look at.
        lists: takes the resourceVersion of each kind's first list.
    """
    places: dict[Kind, set[str]] = {}
    for policy in policies:
        places.setdefault(policy.kind, set()).add(policy.namespace)
    for kind, namespaces in places.items():
        for namespace in sorted(namespaces) if len(namespaces) <= FEW else [""]:
            for page in _pages(api, kind, namespace):
                version = at(page, "metadata", "resourceVersion")
                if lists is not None and isinstance(version, str):
                    lists.setdefault(kind, version)
                yield from (one for item in members(page) if (one := policy_of(kind, item)) is not None)


def _pages(api: Api, kind: Kind, namespace: str) -> Iterator[dict[str, Any]]:
    """Yield the pages of a list; none where the kind is not served any more."""
    try:
        yield from api.pages(kind.call("list", namespace))
    except ClusterError as problem:
        if problem.code != NOT_FOUND:
            raise


def kept(directory: Path) -> list[Path]:
    """Return the directories of the backups that are kept here, whole or damaged; one half written is none."""
    return [path for path in directory.glob("*") if RUN_ID.fullmatch(path.name)]


def find(directory: Path, reference: str) -> Path:
    """Return the backup that a person means: a path, an id, the start or end of one, or ``latest``.

    Raises:
        UsageError: none or several fit.
    """
    if "/" in reference or reference in (".", ".."):
        return Path(reference)
    known = sorted((path.name for path in kept(directory)), reverse=True)
    if reference in ("", "latest", "last"):
        if not known:
            raise UsageError(f"there is no backup yet in {directory}", next="tune-nodes policy backup -n NAMESPACE")
        return directory / known[0]
    found = [name for name in known if name == reference]
    found = found or [name for name in known if name.startswith(reference) or name.endswith(reference)]
    if len(found) != 1:
        why = f"{len(found)} fit: {', '.join(found[:5])}" if found else ""
        what = f"there is no {'single ' if found else ''}backup {one_line(reference, 80)!r}"
        raise UsageError(what, why, "tune-nodes policy backups")
    return directory / found[0]
