"""A reset's command before any cluster is asked, its record, and taking it back."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from policy_world import np

from tune_nodes.cli.main import run
from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import CONFLICT, NOT_FOUND, SERVER, ClusterError
from tune_nodes.errors import UsageError
from tune_nodes.policy.keeping.document import KindRow
from tune_nodes.policy.opening import record
from tune_nodes.policy.opening.record import Added, ResetRecord
from tune_nodes.policy.proving.podside import PODS

ID = "20261124-160559-6bed41"
ALLOW = np(f"tune-nodes-allow-{ID}", policyTypes=["Ingress"], ingress=[{}])


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    for name in ("KUBECONFIG", "TUNE_NODES_YES", "TUNE_NODES_INVENTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", "shop"), "a reset needs a yes, and there is no terminal to ask on"),
        ((), "say for what: one of --namespace, --pod, --selector or --cluster"),
        (("-n", "shop", "--cluster", "--yes"), "say for what"),
        (("--pod", "web", "--yes"), "'web' names no pod"),
        (("-n", "shop", "--ttl", "soon", "--yes"), "'soon' is no time"),
        (("-n", "shop", "--ttl", "1s", "--yes"), "--ttl 1s is out of range"),
        (("-n", "shop", "--yes"), "no kubeconfig was given"),
        (("-n", "shop", "--dry-run", "--kubeconfig", "none"), "the kubeconfig none cannot be used"),
        (("-n", "shop", "--rung", "7"), "--rung"),
    ],
)
def test_what_cannot_be_done_ends_with_5_before_anything_is_asked(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "reset", *words]) == 5
    assert said in capsys.readouterr().err


def test_a_proposal_never_replaces_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shop-policies").mkdir()
    (tmp_path / "shop-policies" / "mine.yaml").write_text("mine", encoding="utf-8")
    assert run(["policy", "baseline", "-n", "shop"]) == 5
    assert "shop-policies is not empty" in capsys.readouterr().err


def saved(directory: Path) -> ResetRecord:
    made = ResetRecord(id=ID, scope="shop", rung=3, plan_hash="sha256:0", added=record.added([ALLOW]))
    made.save(directory)
    return made


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = saved(tmp_path)
    assert record.load(tmp_path) == made
    assert stat.S_IMODE((tmp_path / record.NAME).stat().st_mode) == 0o600
    assert made.added[0].of == ALLOW.kind


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"id": 1}', "\ud800".encode("utf-8", "surrogatepass").hex()])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / record.NAME).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        record.load(tmp_path)
    assert "is damaged" in caught.value.what


class Deleting:
    """An API server that answers each delete in turn, None for well."""

    def __init__(self, *codes: str | None) -> None:
        self.api = self
        self.codes = list(codes)
        self.paths: list[str] = []

    def delete(self, call: Call, uid: str = "", version: str = "") -> dict[str, Any]:
        self.paths.append(call.path)
        code = self.codes.pop(0)
        if code:
            raise ClusterError(code, "no")
        return {}


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ((None, None), 2),
        ((NOT_FOUND, None), 1),  # the Job was there first and is just ending
        ((CONFLICT, NOT_FOUND), 0),  # another object has its name now
    ],
)
def test_taking_back_twice_or_after_the_job_is_the_same(
    tmp_path: Path, codes: tuple[str | None, ...], said: int
) -> None:
    saved(tmp_path)
    server = Deleting(*codes)
    assert len(record.close(cast("Cluster", server), tmp_path, "2026-11-24T16:36:00+00:00")) == said
    assert server.paths == [
        f"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/tune-nodes-allow-{ID}",
        f"/apis/rbac.authorization.k8s.io/v1/clusterroles/tune-nodes-restore-{ID}",
    ]
    assert json.loads((tmp_path / record.NAME).read_text(encoding="utf-8"))["closed"] == "2026-11-24T16:36:00+00:00"


def test_a_probe_pod_that_a_killed_reset_left_is_removed_too(tmp_path: Path) -> None:
    made = saved(tmp_path)
    made.probes = [Added(kind=KindRow.of(PODS), namespace="shop", name=f"tune-nodes-probe-{ID}-0")]
    made.save(tmp_path)
    server = Deleting(None, None, None)
    assert f"removed Pod shop/tune-nodes-probe-{ID}-0" in record.close(cast("Cluster", server), tmp_path, "now")
    assert server.paths[1] == f"/api/v1/namespaces/shop/pods/tune-nodes-probe-{ID}-0"


def test_what_cannot_be_removed_leaves_the_record_open(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ClusterError):
        record.close(cast("Cluster", Deleting(SERVER)), tmp_path, "now")
    found = record.load(tmp_path)
    assert found is not None
    assert found.closed == ""


def test_a_backup_of_no_reset_has_nothing_to_take_back(tmp_path: Path) -> None:
    assert record.close(cast("Cluster", Deleting()), tmp_path, "now") == []
