"""Backups of policies against a real API server: what is deleted by them, rehearsals, copies, commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from clusterworks import wait_for
from policybed import (
    DENY,
    DNS,
    NETWORKING,
    backed_up,
    call,
    deleted,
    green,
    make,
    network_policy,
    there,
)

from tune_nodes.cli.main import run
from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import backup as backups
from tune_nodes.policy.keeping import copies, restore

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind


def test_only_what_was_backed_up_is_deleted(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, *[network_policy(space, name, DENY) for name in ("noted", "changed", "another", "same")])
    backup = backed_up(cluster, tmp_path, space)
    cluster.api.patch(call("patch", space, "noted"), {"metadata": {"labels": {"x": "y"}}})
    cluster.api.patch(call("patch", space, "noted"), {"metadata": {"labels": None}})  # as it was, but for its version
    cluster.api.patch(call("patch", space, "changed"), {"spec": {"policyTypes": ["Ingress"]}})
    cluster.api.delete(call("delete", space, "another"))
    make(cluster, network_policy(space, "another", DENY))
    found = deleted(cluster, backup)
    assert {one.ref.rpartition("/")[2]: one.state for one in found.outcomes} == {
        "noted": "deleted",
        "changed": "changed",
        "another": "another",
        "same": "deleted",
    }
    assert next(one.text for one in found.left if one.state == "changed").startswith("it was changed since the backup")
    assert sorted(one.name for one in there(cluster, space)) == ["another", "changed"]
    again = deleted(cluster, backup)
    assert again.counts == {"gone": 2, "changed": 1, "another": 1}


def test_the_commands(
    either_cluster: Bed,
    cluster: Cluster,
    space: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("KUBECONFIG", str(either_cluster.kubeconfig))

    def typed(code: int, *words: str) -> str:
        assert run(["policy", *words]) == code
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    make(cluster, network_policy(space, "deny", DENY), network_policy(space, "dns", DNS, labels={"app": "dns"}))
    said = typed(0, "backup", "-n", space, "--as-secrets", space, "--to", str(tmp_path / "usb"))
    assert f"2 policies of the namespace {space}" in said
    assert "each could be made again" in said
    (row,) = json.loads(typed(0, "backups", "-o", "json"))
    assert (row["policies"], row["state"]) == (2, "whole")
    assert "1 policies" in typed(0, "backup", "-n", space, "-l", "app=dns")
    cluster.api.delete(call("delete", space, "deny"))
    assert "1 to be made, 1 there and equal" in typed(0, "restore", row["id"], "--dry-run")
    assert "add --yes" in typed(5, "restore", row["id"])
    assert len(there(cluster, space)) == 1
    assert "2 of 2 are there and equal" in typed(0, "restore", row["id"], "--yes")
    cluster.api.patch(call("patch", space, "dns"), {"metadata": {"labels": {"app": "other"}}})
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "elsewhere"))
    said = typed(1, "restore", row["id"], "--from-secrets", space, "--yes")
    assert f"conflict: NetworkPolicy {space}/dns: it was changed: labels.app" in said
    assert "1 replaced, 1 there" in typed(0, "restore", str(tmp_path / "usb" / row["id"]), "--force", "--yes")


def test_a_rehearsal_runs_the_rules_for_making(
    either_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    """An apply of what exists would pass this: it is an update, and the rule is about creations."""
    make(cluster, network_policy(space, "deny", DENY))
    backup = backed_up(cluster, tmp_path, space)
    match = {
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [NETWORKING],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["networkpolicies"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
        },
        "validations": [{"expression": "false", "message": "no new policies on Fridays"}],
    }
    rules = "admissionregistration.k8s.io/v1"
    documents = [
        {"apiVersion": rules, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": space}, "spec": match},
        {
            "apiVersion": rules,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": space},
            "spec": {"policyName": space, "validationActions": ["Deny"]},
        },
    ]
    assert backups.rehearse(cluster, backup) == []
    either_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    try:
        (said,) = wait_for("the rule is in force", lambda: backups.rehearse(cluster, backup), 30)
    finally:
        either_cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(documents))
    assert said.startswith(f"NetworkPolicy {space}/deny: ")
    assert "no new policies on Fridays" in said


def test_a_copy_in_secrets_is_a_backup_again(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, network_policy(space, "deny", DENY), network_policy(space, "dns", DNS))
    backup = backed_up(cluster, tmp_path / "here", space)
    names = copies.to_secrets(cluster, backup, space)
    assert copies.to_secrets(cluster, backup, space) == names
    fetched = copies.from_secrets(cluster, space, backup.id, tmp_path / "there")
    assert (fetched.policies, fetched.manifest) == (backup.policies, backup.manifest)
    deleted(cluster, backup)
    assert restore.restore(cluster, fetched, probe=green).equal == 2
