"""The published JSON Schemas: of a run's document, and of what goes to a node and comes back.

``python -m tune_nodes.runs.schema`` writes them anew; a test compares the files with the models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .models import SCHEMA, ChangeRecord, ErrorRecord, PodRecord, ProbeRecord, Record, RunRecord, StalePod, Transaction

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Layer(Record):
    """One profile's settings, and on which nodes they hold."""

    profile: str = Field(description="name of the profile, for messages")
    match: dict[str, Any] | None = Field(default=None, description="what a node must be; null: every node")
    sysctl: list[dict[str, Any]] = Field(default_factory=list, description="raw settings as in a profile")
    nic_queues: list[dict[str, Any]] = Field(default_factory=list, description="raw settings as in a profile")
    mtu: list[dict[str, Any]] = Field(default_factory=list, description="raw settings as in a profile")


class ProbeRequest(Record):
    """One check to run."""

    kind: Literal["gateway", "peer", "dns", "api", "kubelet", "pod"]
    target: str = Field(
        default="",
        description="address of a peer; name to resolve; of pod: UID ADDRESS PORT PROTOCOL; else empty",
    )


class PathTarget(Record):
    """One path to measure."""

    id: str = ""
    family: Literal[4, 6] | None = None
    address: str
    source: str = Field(default="", description="an address of this end; empty: the route's")
    size: int | None = Field(default=None, description="bytes, IP header included; null: the path's MTU")
    pod: str = Field(default="", description="uid of the pod here to measure from; empty: the node itself")


class PathsRequest(Record):
    """Which paths to measure; without targets the node only says what it is as an end of paths."""

    targets: list[PathTarget] = Field(default_factory=list)
    seconds: float | None = Field(default=None, description="measure no longer than this")


class NodeRequest(Record):
    """What one node is asked: one JSON document in."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(alias="schema")
    op: Literal["plan", "apply", "begin", "confirm", "revert", "rollback", "status", "observe", "probe"]
    run: str | None = Field(default=None, description="id of the run; names the transaction that is begun")
    tx: str | None = Field(default=None, description="the transaction to join, confirm, revert or undo")
    layers: list[Layer] = Field(default_factory=list, description="profiles, weakest first")
    labels: dict[str, str] = Field(default_factory=dict, description="the node's labels, for match")
    groups: list[str] = Field(default_factory=list, description="the node's inventory groups, for match")
    probes: list[ProbeRequest] = Field(default_factory=list)
    before: list[ProbeRecord] = Field(default_factory=list, description="confirm: probes made before the change")
    window: float | None = Field(default=None, description="seconds until an unconfirmed change is put back")
    persist: Literal["confirm", "auto"] = Field(
        default="confirm", description="auto: keep the change after local verification only"
    )
    expect: str | None = Field(default=None, description="plan hash that must still hold, else the node refuses")
    check: bool = Field(default=False, description="rollback: plan only")
    hold: bool = Field(default=False, description="apply: the first of two rounds, which keeps packets small")
    why: str = Field(default="", description="revert: the reason to record")
    paths: PathsRequest | None = Field(default=None, description="probe: what paths from here carry")


class NodeResult(BaseModel):
    """What one node answers: one JSON document out.

    A request that could not be read is answered with ``schema``, ``ok``, ``error`` and the empty lists only. Operations
    may add fields of their own (``observations``, ``paths``, ``transactions``, ``settings``, ``files``, ``rows``).
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_: Literal[1] = Field(alias="schema")
    op: str = ""
    ok: bool
    node: dict[str, Any] = Field(default_factory=dict, description="what the node is: kernel, CPUs, roles")
    identity: dict[str, str] = Field(default_factory=dict, description="machine_id and boot_id")
    changes: list[ChangeRecord]
    plan_hash: str = Field(default="", pattern="^(sha256:[0-9a-f]{64})?$")
    layers: list[str] = Field(default_factory=list, description="which layers hold here, and why")
    probes: list[ProbeRecord]
    tx: Transaction | None = None
    pods: list[PodRecord] = Field(default_factory=list, description="plan, observe: what does not reach one pod")
    stale_pods: list[StalePod] = Field(default_factory=list, description="plan: pods that keep another MTU")
    warnings: list[str]
    error: ErrorRecord | None = None
    timings: dict[str, float] = Field(default_factory=dict, description="seconds by step")


#: Published file: the model it describes.
MODELS: Mapping[str, type[BaseModel]] = {
    "run.schema.json": RunRecord,
    "node-request.schema.json": NodeRequest,
    "node-result.schema.json": NodeResult,
}


def generate(name: str) -> dict[str, Any]:
    """Return the schema of a published file from its model."""
    kind = name.removesuffix(".schema.json")
    return {
        "$schema": _DIALECT,
        "$id": f"urn:tune-nodes:schema:{kind}:{SCHEMA}",
        **MODELS[name].model_json_schema(by_alias=True),
    }


def render(name: str) -> str:
    """Return the text of a published file."""
    return json.dumps(generate(name), indent=2, sort_keys=True) + "\n"


def published(name: str) -> dict[str, Any]:
    """Return a schema as it was published with this version."""
    text = (files("tune_nodes.runs") / "schemas" / name).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def main() -> None:
    """Write every schema beside this module."""
    directory = Path(__file__).parent / "schemas"
    for name in MODELS:
        (directory / name).write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    main()
