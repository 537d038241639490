"""What is stripped, what counts as different, and the patch that makes one of the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tune_nodes.policy.keeping import clean

JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=5),
    lambda deeper: some.lists(deeper, max_size=3) | some.dictionaries(some.text(max_size=4), deeper, max_size=3),
    max_leaves=12,
)
OBJECTS = some.dictionaries(some.sampled_from(["metadata", "spec", "specs", "status", "x"]), JSON, max_size=4)


def test_what_the_server_gives_is_stripped_and_all_else_kept() -> None:
    stripped = {
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2026-11-24T08:15:30Z",
        "selfLink": "/x",
        "deletionTimestamp": "2026-11-24T08:15:30Z",
        "deletionGracePeriodSeconds": 0,
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [{"kind": "ConfigMap", "name": "x"}],
        "finalizers": ["example.com/x"],
    }
    kept = {
        "name": "deny",
        "namespace": "shop",
        "labels": {"a": "b"},
        "annotations": {
            "argocd.argoproj.io/tracking-id": "shop:x:y",
            "meta.helm.sh/release-name": "shop",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "projectcalico.org/metadata": "{}",
        },
    }
    raw = {"metadata": {**kept, **stripped}, "spec": {"podSelector": {}}, "specs": [{}], "status": {"x": 1}}
    assert clean.clean(raw, "networking.k8s.io/v1", "NetworkPolicy") == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": kept,
        "spec": {"podSelector": {}},
        "specs": [{}],
    }
    assert raw["metadata"]["uid"] == "u", "the raw object stays as it is"


def body(spec: Any, labels: Any = None, annotations: Any = None) -> dict[str, Any]:
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


@pytest.mark.parametrize(
    ("now", "wanted", "places", "notes"),
    [
        (body({}), body({}), (), ()),
        (body({}, labels={}), body({}), (), ()),
        (body({"ingress": [{}]}), body({"ingress": []}), ("spec.ingress",), ()),
        (body({"ingress": []}), body({}), ("spec",), ()),
        (body({"a": {"b": [1, 2]}}), body({"a": {"b": [1, 3]}}), ("spec.a.b[1]",), ()),
        (body({"a": {}}), body({"a": None}), ("spec.a",), ()),
        (body({}, labels={"a": "b"}), body({}, labels={"a": "c"}), ("labels.a",), ()),
        (body({}, annotations={"x": "1"}), body({}), (), ("annotations",)),
    ],
)
def test_differences(now: Any, wanted: Any, places: tuple[str, ...], notes: tuple[str, ...]) -> None:
    assert clean.differing(now, wanted) == (places, notes)


@given(OBJECTS)
def test_a_cleaned_object_is_clean_and_like_itself(raw: dict[str, Any]) -> None:
    once = clean.clean(raw, "v1", "Thing")
    assert clean.clean(once, "v1", "Thing") == once
    assert clean.differing(once, json.loads(json.dumps(once))) == ((), ())
    assert clean.digest(once) == clean.digest(json.loads(json.dumps(once)))
    assert clean.finalizers(raw) is not None
    assert clean.references(raw) is not None


def merged(target: Any, patch: Any) -> Any:
    """Do what RFC 7386 says a server does."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def without_nulls(value: Any) -> Any:
    """Return a value as it can be reached by merge patches: they cannot set null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_makes_one_of_the_other(now: dict[str, Any], wanted: dict[str, Any]) -> None:
    now, wanted = without_nulls(now), without_nulls(wanted)
    assert merged(now, clean.merge_patch(now, wanted)) == wanted
