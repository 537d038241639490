"""Records and plans as documents: what the command line prints with ``-o json``, and the Ansible module returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tune_nodes.recovery.reinstall.parts import tidy
from tune_nodes.recovery.reinstall.plan import WRITTEN, Plan
from tune_nodes.recovery.reinstall.record import Record
from tune_nodes.recovery.reinstall.service import Look


def record_document(made: Record) -> dict[str, Any]:
    """Return a record as a document."""
    manifest = made.manifest
    return {
        "id": made.id,
        "made": manifest.made,
        "directory": str(made.directory),
        **manifest.facts.model_dump(),
        "objects": [str(part.key) for part in made.parts],
    }


def plan_document(found: Look) -> dict[str, Any]:
    """Return a plan as a document."""
    plan = found.plan
    return {
        "record": found.record.id,
        "record_server": found.record.manifest.facts.server,
        "plan_hash": plan.hash,
        "steps": [
            {
                "object": str(step.part.key),
                "status": step.status,
                "what": step.text,
                "managers": list(step.managers),
                "left": step.extra,
            }
            for step in plan.steps
        ],
        "roll": [str(key) for key in plan.roll],
        "nodes": list(plan.nodes),
        "silent": list(plan.silent),
        "finishes": found.run.id if found.run else "",
    }


def diff(plan: Plan) -> list[dict[str, str]]:
    """Return what would be written as Ansible shows it: each object before and after."""
    found = []
    for step in plan.steps:
        if step.status in WRITTEN:
            key = step.part.key
            before = {} if step.live is None else tidy(step.live, key.api_version, key.kind)
            after = step.part.body if step.after is None else tidy(step.after, key.api_version, key.kind)
            header = {"before_header": str(key), "after_header": str(key)}
            found.append({**header, "before": _text(before), "after": _text(after)})
    return found


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=1, sort_keys=True) + "\n" if body else ""
