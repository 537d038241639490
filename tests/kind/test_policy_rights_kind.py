"""Rights and rate limits of a real API server, when policies are deleted and restored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from clusterworks import wait_for
from policybed import (
    DENY,
    NETWORKING,
    backed_up,
    call,
    crd,
    deleted,
    green,
    make,
    network_policy,
    served,
    there,
)

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.policy.keeping import delete, restore
from tune_nodes.policy.keeping.backup import Backup
from tune_nodes.policy.keeping.journal import Journal
from tune_nodes.policy.keeping.order import wave
from tune_nodes.policy.pace import Pace

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind

CALICO = "crd.projectcalico.org"


def account(either_cluster: Bed, space: str, name: str, directory: Path, rules: list[dict[str, Any]]) -> Path:
    """Make an account with some rights in a namespace; return its kubeconfig."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": space}
    metadata = {"name": name, "namespace": space}
    rbac = "rbac.authorization.k8s.io"
    documents = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
    either_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))
    token = either_cluster.kubectl("-n", space, "create", "token", name).strip()
    document = yaml.safe_load(either_cluster.kubeconfig.read_text(encoding="utf-8"))
    document["users"][0]["user"] = {"token": token}
    path = directory / f"kubeconfig-{name}"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


ALL = ["get", "list", "create", "patch", "delete"]


def test_a_missing_right_for_one_kind_is_refused_before_the_first_write(
    either_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    make(cluster, network_policy(space, "deny", DENY))
    with served(either_cluster, crd(CALICO, "networksets", "NetworkSet", "Namespaced")):
        body = {"apiVersion": f"{CALICO}/v1", "kind": "NetworkSet", "metadata": {"name": "set", "namespace": space}}
        cluster.api.post(Call("create", "networksets", CALICO, space, version="v1"), {**body, "spec": {"nets": []}})
        backup = backed_up(cluster, tmp_path, space)
        assert [(one.ref, wave(one).name) for one in backup.policies] == [
            (f"NetworkSet.{CALICO} {space}/set", "SETS"),
            (f"NetworkPolicy {space}/deny", "DENIES"),
        ]
        rules = [
            {"apiGroups": [NETWORKING], "resources": ["networkpolicies"], "verbs": ALL},
            {"apiGroups": [CALICO], "resources": ["networksets"], "verbs": ["get", "list", "create", "patch"]},
        ]
        path = account(either_cluster, space, "limited", tmp_path, rules)
        with Cluster.open(path) as limited:
            with pytest.raises(ClusterError) as caught:
                deleted(limited, backup)
            assert limited.api.sent["DELETE"] == 0
        user = f"system:serviceaccount:{space}:limited"
        assert caught.value.what == f"{user} may not delete networksets.{CALICO} in the namespace {space}"
        assert caught.value.code == "forbidden"
        assert "rbac recover" in caught.value.next
        assert len(there(cluster, space)) == 2
        assert deleted(cluster, backup).counts == {"deleted": 2}
        rules[1]["verbs"] = ["get", "list"]
        path = account(either_cluster, space, "reader", tmp_path, rules)
        with Cluster.open(path) as reader, pytest.raises(ClusterError) as caught:
            restore.restore(reader, backup, probe=green)
        assert "may not create, delete networksets" in caught.value.what
        assert there(cluster, space) == []
        assert restore.restore(cluster, backup, probe=green).ok


def burst(cluster: Cluster, backup: Backup) -> None:
    """Ask for many things at once."""
    Pace(16).over(backup.policies, lambda one: cluster.api.get(call("get", one.namespace, one.name)))


def test_no_more_is_sent_than_the_server_takes(
    either_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    """A priority level that takes one call at a time and refuses the rest: real answers 429, real Retry-After."""
    make(cluster, *[network_policy(space, f"p{number}", DENY) for number in range(24)])
    backup = backed_up(cluster, tmp_path, space)
    rules = [{"apiGroups": [NETWORKING], "resources": ["networkpolicies"], "verbs": ALL}]
    path = account(either_cluster, space, "slow", tmp_path, rules)
    flow, name = "flowcontrol.apiserver.k8s.io", f"{space}-slow"
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": "slow", "namespace": space}}
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    limited = {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    level = {
        "apiVersion": f"{flow}/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": limited},
    }
    schema = {
        "apiVersion": f"{flow}/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": name},
            "matchingPrecedence": 50,
            "rules": [{"subjects": [subject], "resourceRules": [rule]}],
        },
    }
    with Cluster.open(path) as slow:
        either_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([level, schema]))
        try:
            pace = Pace(16)
            wait_for("the level is in force", lambda: burst(slow, backup) or slow.api.throttled)
            with Journal(backup.directory) as journal:
                found = delete.delete(slow, backup, list(backup.by_ref), journal=journal, pace=pace)
        finally:
            either_cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all([schema, level]))
    print(f"{found.throttled} answers 429 of {found.calls}, {found.seconds:.1f} s, width {pace.width}")
    assert found.counts == {"deleted": 24}
    assert found.throttled < 40  # a storm would be thousands
