"""A plan that can be reviewed, kept and applied exactly: ``plan --out FILE``, ``apply FILE``.

The file's digest tells a file that was cut off or edited by hand from one that was not; it proves sameness, not who
wrote it. What makes an apply exact is each node's plan hash, which the node itself recomputes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.tune.nodes.plugins.module_utils.model import digest
from pydantic import Field, ValidationError

from tune_nodes.errors import UsageError
from tune_nodes.fleet.target import Target
from tune_nodes.runs.atomic import write_atomic
from tune_nodes.runs.models import ChangeRecord, NodeRecord, Outcome, Record, RunRecord

KIND = "tune-nodes/plan"
SCHEMA = 1
#: Larger files are refused unread.
MAX_BYTES = 512 << 20
AGAIN = "make the plan again: tune-nodes plan -i INVENTORY --out FILE"


class NodePlan(Record):
    """One node's plan and the request it came from."""

    address: str = ""
    machine_id: str = ""
    plan_hash: str
    changes: list[ChangeRecord]
    layers: str  # digest: key of PlanFile.layers
    labels: dict[str, str] = Field(default_factory=dict)
    groups: list[str] = Field(default_factory=list)
    gateway: bool = True
    peers: int = 2
    probes: list[dict[str, Any]] = Field(default_factory=list)


class PlanFile(Record):
    """A plan file's content, without its digest."""

    kind: str = KIND
    schema_: int = Field(default=SCHEMA, alias="schema")
    run: str
    version: str
    created: datetime
    profile: str
    inventory: list[str]
    limit: str = ""
    window: int
    cluster: dict[str, Any] = Field(default_factory=dict)  # what the profile says of mode, drain, drain_timeout
    layers: dict[str, list[dict[str, Any]]]
    nodes: dict[str, NodePlan]
    left_out: dict[str, str] = Field(default_factory=dict)  # node: why it is not in the plan

    def target(self, name: str) -> Target:
        """Return a node's target, bound to the plan that was reviewed."""
        node = self.nodes[name]
        return Target(
            name=name,
            address=node.address,
            layers=self.layers[node.layers],
            labels=node.labels,
            groups=node.groups,
            gateway=node.gateway,
            peers=node.peers,
            probes=node.probes,
            expect=node.plan_hash,
        )


def build(
    record: RunRecord, targets: Iterable[Target], window: int, cluster: Mapping[str, Any] | None = None
) -> PlanFile:
    """Make a plan file of a planning run.

    Args:
        record: the run; nodes that could not be planned are listed as left out.
        targets: what each node was asked for.
        window: seconds a node waits for its confirmation.
        cluster: what the profile says of the cluster.
    """
    layers: dict[str, list[dict[str, Any]]] = {}
    nodes: dict[str, NodePlan] = {}
    left_out: dict[str, str] = {}
    for target in targets:
        node = record.nodes[target.name]
        if node.outcome not in (Outcome.OK, Outcome.PENDING) or not node.plan_hash:
            left_out[target.name] = node.error.what if node.error else str(node.outcome)
            continue
        own = [dict(layer) for layer in target.layers]
        key = digest(own)
        layers[key] = own
        nodes[target.name] = NodePlan(
            address=target.address,
            machine_id=str(node.host.get("machine_id") or ""),
            plan_hash=node.plan_hash,
            changes=node.changes,
            layers=key,
            labels=dict(target.labels),
            groups=list(target.groups),
            gateway=target.gateway,
            peers=target.peers,
            probes=[dict(probe) for probe in target.probes],
        )
    return PlanFile(
        schema=SCHEMA,
        run=record.id,
        version=record.version,
        created=record.started,
        profile=record.profile,
        inventory=record.inventory,
        limit=record.limit,
        window=window,
        cluster=dict(cluster or {}),
        layers=layers,
        nodes=nodes,
        left_out=left_out,
    )


def save(path: Path, plan: PlanFile) -> None:
    """Write a plan file. Raises UsageError where the path cannot be written."""
    body = plan.model_dump(mode="json", by_alias=True)
    try:
        write_atomic(path, json.dumps({"digest": digest(body), **body}, indent=1) + "\n", 0o644)
    except OSError as problem:
        raise UsageError(
            f"cannot write the plan to {path}", problem.strerror or "", "choose another --out"
        ) from problem


def load(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        UsageError: unreadable, cut off, not a plan, of another schema, or changed after it was written.
    """
    raw = _parse(path)
    if raw.get("kind") != KIND:
        raise UsageError(f"{path} is not a plan file", f"its kind is not {KIND}", AGAIN)
    if raw.get("schema") != SCHEMA:
        why = f"its schema is {str(raw.get('schema'))[:20]}, this version reads {SCHEMA}"
        raise UsageError(f"{path} was written by another version of tune-nodes", why, AGAIN)
    stated = raw.pop("digest", None)
    if stated != digest(raw):
        why = "its digest does not fit its content: it was edited or damaged after it was written"
        raise UsageError(f"{path} is not the plan that was reviewed", why, AGAIN)
    try:
        plan = PlanFile.model_validate(raw)
    except ValidationError as problem:
        first = problem.errors()[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise UsageError(f"{path} is not a valid plan file", why, AGAIN) from problem
    missing = sorted(name for name, node in plan.nodes.items() if node.layers not in plan.layers)
    if missing:
        raise UsageError(f"{path} is not a valid plan file", f"the request of {missing[0]} is missing", AGAIN)
    return plan


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is too large for a plan file", f"more than {MAX_BYTES >> 20} MiB", AGAIN)
        text = path.read_bytes()
    except OSError as problem:
        raise UsageError(f"cannot read the plan {path}", problem.strerror or "", AGAIN) from problem
    if not text.strip():
        raise UsageError(f"the plan {path} is empty", next=AGAIN)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as problem:
        why = f"{problem}; a file that was cut off looks like this"
        raise UsageError(f"{path} is not a complete JSON document", why, AGAIN) from problem
    if not isinstance(raw, dict):
        raise UsageError(f"{path} is not a plan file", "it is not a JSON object", AGAIN)
    return raw


def _values(changes: Iterable[ChangeRecord]) -> dict[str, ChangeRecord]:
    return {f"{change.family} {change.key}": change for change in changes}


def drifted_keys(reviewed: Iterable[ChangeRecord], now: Iterable[ChangeRecord]) -> list[str]:
    """Say in words how a node's plan differs from the reviewed one (pure).

    Returns:
        One line per key: its value then and now, or its status then and now.
    """
    old, new = _values(reviewed), _values(now)
    lines = []
    for key in sorted(old.keys() | new.keys()):
        was, is_ = old.get(key), new.get(key)
        name = key.partition(" ")[2]
        if was is None or is_ is None:
            lines.append(f"{name}: {'not in the reviewed plan' if was is None else 'no longer planned'}")
        elif was.before != is_.before:
            lines.append(f"{name}: was {_shown(was.before)}, now {_shown(is_.before)}")
        elif (was.want, was.status, was.owner) != (is_.want, is_.status, is_.owner):
            lines.append(f"{name}: was {_shown(was.want)} ({was.status}), now {_shown(is_.want)} ({is_.status})")
        elif was.identity != is_.identity:
            lines.append(f"{name}: another device")
    return lines


def _shown(value: str | None) -> str:
    return "absent" if value is None else value


def compare(plan: PlanFile, records: Mapping[str, NodeRecord]) -> dict[str, list[str]]:
    """Find the nodes that are no longer as they were when the plan was reviewed (pure).

    Returns:
        Node to the keys that changed; nodes that could not be asked are not in it.
    """
    found: dict[str, list[str]] = {}
    for name, node in plan.nodes.items():
        record = records.get(name)
        if record is None or record.outcome not in (Outcome.OK, Outcome.PENDING):
            continue
        machine_id = str(record.host.get("machine_id") or "")
        if node.machine_id and machine_id and machine_id != node.machine_id:
            found[name] = ["it is another machine now (machine-id differs)"]
        elif record.plan_hash != node.plan_hash:
            found[name] = drifted_keys(node.changes, record.changes) or ["the plan's hash differs"]
    return found
