"""What a reset has made, in a file beside its backup, written before the cluster is touched: so it can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, ClusterError
from tune_nodes.errors import UsageError
from tune_nodes.policy.keeping.document import KindRow
from tune_nodes.policy.model import Kind, Policy
from tune_nodes.policy.opening import ttl
from tune_nodes.runs.atomic import write_atomic

NAME = "reset.json"
MAX_BYTES = 16 << 20


class Added(BaseModel):
    """An object that the reset makes, or made. ``uid``: "" until it is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: KindRow
    namespace: str
    name: str
    uid: str = ""

    @property
    def of(self) -> Kind:
        """The object's kind."""
        row = self.kind
        return Kind(row.group, row.version, row.resource, row.kind, row.namespaced, row.engine, row.role)


class ResetRecord(BaseModel):
    """One reset. Times are UTC, ISO 8601; ``until`` is "" where nothing ends it by itself.

    ``probes``: pods that prove it and are not removed yet.
    """

    model_config = ConfigDict(extra="forbid")

    schema_number: int = 1
    id: str
    scope: str
    rung: int
    plan_hash: str
    opened: str = ""
    until: str = ""
    closes_by: str = ""  # "job", "wait" or "": the restore command
    image: str = ""
    added: list[Added] = []
    removed: list[str] = []
    probes: list[Added] = []
    closed: str = ""

    def save(self, directory: Path) -> None:
        """Write it. Raises UsageError where the directory cannot be written."""
        try:
            write_atomic(directory / NAME, self.model_dump_json(indent=1) + "\n")
        except OSError as problem:
            raise UsageError(f"{directory / NAME} cannot be written", problem.strerror or "") from problem


def added(policies: Sequence[Policy]) -> list[Added]:
    """Return objects to be made, for the record."""
    return [Added(kind=KindRow.of(one.kind), namespace=one.namespace, name=one.name, uid=one.uid) for one in policies]


def load(directory: Path) -> ResetRecord | None:
    """Return the reset that a backup was made for, None where it was made for none. Raises UsageError for junk."""
    try:
        with (directory / NAME).open("rb") as handle:
            raw = handle.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise UsageError(f"{directory / NAME} cannot be read", problem.strerror or "") from problem
    try:
        return ResetRecord.model_validate_json(raw)
    except ValidationError as problem:
        raise UsageError(f"{directory / NAME} is damaged", str(problem.errors()[0]["msg"])) from problem


def close(cluster: Cluster, directory: Path, now: str) -> list[str]:
    """Take back what a reset added, and the Job that would have: to be called when its policies are back.

    Args:
        cluster: where.
        directory: of the backup.
        now: for the record.

    Returns:
        A sentence for each thing that was removed; [] where the backup belongs to no reset, or nothing was left.

    Raises:
        ClusterError: one of them could not be removed; call it again.
        UsageError: the record is damaged.
    """
    record = load(directory)
    if record is None:
        return []
    said = []
    for one in (*record.added, *record.probes):
        kind = one.of
        try:
            cluster.api.delete(kind.call("delete", one.namespace, one.name), one.uid)
        except ClusterError as problem:
            if problem.code not in (NOT_FOUND, CONFLICT):  # gone, or another object of that name
                raise
            continue
        said.append(f"removed {Policy(kind, one.namespace, one.name, {}).ref}")
    if ttl.disarm(cluster.api, record.id):
        said.append(f"removed the Job {ttl.NAMESPACE}/tune-nodes-restore-{record.id} and all that belongs to it")
    if not record.closed:
        record.closed = now
        record.save(directory)
    return said
