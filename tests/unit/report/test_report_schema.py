"""Published schemas equal the models, and the golden files and real answers hold to them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.node import OPERATIONS, handle
from report_builder import FIXTURES, GOLDEN

from tune_nodes.runs.models import ChangeRecord, RunRecord
from tune_nodes.runs.report import render_json
from tune_nodes.runs.schema import MODELS, generate, published

RUN, REQUEST, RESULT = MODELS


def check(document: Any, name: str) -> None:
    """Validate a document. Raises jsonschema.ValidationError."""
    schema = published(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("name", MODELS)
def test_published_schema_is_the_models(name: str) -> None:
    assert published(name) == generate(name), "run: python -m tune_nodes.runs.schema"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_run_is_valid_and_stable(name: str) -> None:
    text = (FIXTURES / f"{name}.json").read_text(encoding="utf-8")
    check(json.loads(text), RUN)
    assert render_json(RunRecord.model_validate_json(text)) == text
    assert render_json(GOLDEN[name]()) == text, "run: python tests/unit/report/report_builder.py"


@pytest.mark.parametrize("damage", ["schema", "id", "nodes", "unknown"])
def test_damaged_run_is_noticed(damage: str) -> None:
    document = json.loads((FIXTURES / "small-ok.json").read_text(encoding="utf-8"))
    document[damage] = [] if damage in ("nodes", "schema") else None
    with pytest.raises(jsonschema.ValidationError):
        check(document, RUN)


def test_a_change_is_the_same_on_both_sides() -> None:
    assert [one.name for one in fields(Change)] == list(ChangeRecord.model_fields)


def test_operations_are_those_of_the_node() -> None:
    assert set(published(REQUEST)["properties"]["op"]["enum"]) == set(OPERATIONS)


def test_full_request_is_valid_and_a_typo_is_not() -> None:
    request: dict[str, Any] = {
        "schema": 1,
        "op": "apply",
        "run": "20261124-081530-a1b2c3",
        "tx": None,
        "labels": {"zone": "a"},
        "groups": ["workers"],
        "window": 120,
        "persist": "confirm",
        "expect": None,
        "layers": [
            {
                "profile": "kubernetes-node",
                "match": None,
                "nic_queues": [{"interfaces": "physical", "channels": "auto"}],
                "sysctl": [{"key": "net.core.somaxconn", "value": 16384, "class": "floor"}],
            }
        ],
        "probes": [{"kind": "gateway"}, {"kind": "peer", "target": "10.77.0.3"}],
    }
    check(request, REQUEST)
    with pytest.raises(jsonschema.ValidationError):
        check({**request, "windw": 60}, REQUEST)


@pytest.mark.parametrize("request_", [{"schema": 1, "op": "plan"}, {"schema": 1, "op": "status"}, {"schema": 2}, {}])
def test_real_answers_are_valid(request_: dict[str, Any], tmp_path: Path) -> None:
    answer = json.loads(json.dumps(handle(request_, root=str(tmp_path))))
    check(answer, RESULT)
