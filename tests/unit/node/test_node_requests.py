"""Requests and the code that answers them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import bundle
from ansible_collections.tune.nodes.plugins.module_utils.host import parse_os_release
from ansible_collections.tune.nodes.plugins.module_utils.model import Change, plan_hash
from ansible_collections.tune.nodes.plugins.module_utils.node import OPERATIONS, handle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("layers", "before", "why", "probes", "labels", "groups", "window", "tx", "run", "expect")


@given(st.dictionaries(st.sampled_from([*FIELDS, "schema", "op"]), values, max_size=6))
def test_junk_requests_are_refused_in_words(request: dict[str, Any]) -> None:
    result = handle(request, root="/nonexistent")
    assert result["ok"] is False
    assert result["error"]["what"]


@given(
    st.sampled_from(["plan", "confirm", "status", "revert"]),
    st.dictionaries(st.sampled_from(["layers", "tx", "probes", "labels", "groups", "window"]), values),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
def test_junk_fields_never_raise(tmp_path: Path, op: str, fields: dict[str, Any]) -> None:
    result = handle({"schema": 1, "op": op, **fields}, root=str(tmp_path))
    assert isinstance(result["ok"], bool)


def test_systems_that_do_not_last_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=talos\nPRETTY_NAME="Talos (v1.11.0)"\n')
    result = handle({"schema": 1, "op": "plan"}, root=str(tmp_path))
    assert "Talos (v1.11.0)" in result["error"]["what"]
    assert result["error"]["code"] == "unsupported"
    assert result["error"]["next"]


@given(st.text())
def test_os_release_survives_junk(text: str) -> None:
    parse_os_release(text)


def test_every_operation_is_answered_on_an_empty_root(tmp_path: Path) -> None:
    for op in sorted(set(OPERATIONS) - {"begin", "apply"}):
        result = handle({"schema": 1, "op": op}, root=str(tmp_path))
        assert set(result) >= {"schema", "ok", "changes", "error"}, op


def a_change(**fields: Any) -> Change:
    return Change(**{"family": "sysctl", "key": "k", "before": "1", "want": "2", **fields})


def test_hash_covers_what_decides_and_nothing_that_moves() -> None:
    base = plan_hash("m", "1", [a_change(), a_change(key="j")])
    assert plan_hash("m", "1", [a_change(key="j"), a_change()]) == base, "order is no content"
    assert plan_hash("m", "1", [a_change(note="x", reason="y"), a_change(key="j")]) == base
    owned = [a_change(status="owned", owner="kube-proxy", before=value) for value in ("1", "2")]
    assert plan_hash("m", "1", owned[:1]) == plan_hash("m", "1", owned[1:]), "an owner may move its key"
    for other in (
        plan_hash("n", "1", [a_change(), a_change(key="j")]),
        plan_hash("m", "2", [a_change(), a_change(key="j")]),
        plan_hash("m", "1", [a_change(before="0"), a_change(key="j")]),
        plan_hash("m", "1", [a_change(identity={"mac": "x"}), a_change(key="j")]),
        plan_hash("m", "1", [a_change()]),
    ):
        assert other != base


def test_code_has_one_name_wherever_it_lies(tmp_path: Path) -> None:
    name, data = bundle.build()
    archive = tmp_path / "node.pyz"
    archive.write_bytes(data)
    load = f"import sys; sys.path.insert(0, {str(archive)!r})"
    script = f"{load}\nfrom tune_nodes_node import bundle; print(bundle.build()[0])"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == name
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
    assert "tune_nodes_node/node.py" in names
    assert not [n for n in names if "ansible" in n or n.endswith(".pyc")]


def test_code_runs_by_itself(tmp_path: Path) -> None:
    archive = tmp_path / "node.pyz"
    archive.write_bytes(bundle.build()[1])
    said = subprocess.run(
        [sys.executable, "-I", "-S", str(archive), "nonsense"], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 1
    assert "usage" in said.stderr


@pytest.mark.parametrize("op", sorted(OPERATIONS))
def test_results_are_json(tmp_path: Path, op: str) -> None:
    if op in ("begin", "apply"):
        op = "plan"
    json.dumps(handle({"schema": 1, "op": op}, root=str(tmp_path)))
