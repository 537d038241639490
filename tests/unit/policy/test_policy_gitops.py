"""The record of what was paused, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tune_nodes.cluster.client import Cluster
from tune_nodes.errors import UsageError
from tune_nodes.policy.owning import gitops, owners
from tune_nodes.policy.owning.owners import Owner

NOBODY = cast("Cluster", SimpleNamespace(api=None))


@pytest.mark.parametrize(
    "owner",
    [
        Owner(owners.HELM, "release", "shop", "web", "the Helm release shop/web made it"),
        Owner(owners.KYVERNO, "ClusterPolicy", "", "deny-all", "Kyverno's ClusterPolicy deny-all generates it"),
        Owner(owners.CONTROLLER, "Shop", "shop", "s", "it belongs to the Shop s"),
        Owner(owners.FLUX, "", "", "", "Flux writes it"),
    ],
)
def test_what_cannot_be_paused_says_why_and_asks_nobody(owner: Owner, tmp_path: Path) -> None:
    answer = gitops.pause(NOBODY, owner, tmp_path / "gitops.json")
    assert not answer.done
    assert owner.text in answer.text
    assert not (tmp_path / "gitops.json").exists()


def test_without_a_record_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert gitops.resume(NOBODY, tmp_path / "gitops.json") == []


@settings(max_examples=40)
@given(some.binary(max_size=60))
def test_a_damaged_record_is_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    record = tmp_path_factory.mktemp("record") / "gitops.json"
    record.write_bytes(junk + b"[")
    with pytest.raises(UsageError, match="is damaged"):
        gitops.resume(NOBODY, record)
