"""The Job that closes a reset's door: its objects, its rights, and its script with a kubectl that takes notes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_world import made, np

from tune_nodes.policy.keeping.clean import clean
from tune_nodes.policy.opening import ttl

GOLDEN = Path(__file__).parents[2] / "fixtures" / "policy" / "door.json"
ID = "20261124-160559-6bed41"
ALLOW = np(f"tune-nodes-allow-{ID}", policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{}])
GONE = (
    np("web", ingress=[{}]),
    made("CiliumClusterwideNetworkPolicy", "no-shop", endpointSelector={}, egressDeny=[{"toEntities": ["all"]}]),
)


def door(**other: Any) -> ttl.Door:
    waves = [[clean(one.raw, one.kind.api_version, one.kind.kind)] for one in GONE]
    return ttl.Door(
        ID, 1795881960, "example/kubectl:1.34", ["192.0.2.10", "2001:db8::10"], 6443, waves, [ALLOW], GONE, **other
    )  # fmt: skip


def test_the_objects_are_those_that_were_reviewed() -> None:
    assert ttl.manifests(door()) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_its_account_may_do_that_and_nothing_else() -> None:
    rules = {
        f"{one['kind']} {one['metadata'].get('namespace', '')}": one["rules"]
        for one in ttl.manifests(door())
        if "rules" in one
    }
    assert rules == {
        "ClusterRole ": [
            {"apiGroups": ["cilium.io"], "resources": ["ciliumclusterwidenetworkpolicies"], "verbs": ["create"]},
            {
                "apiGroups": ["cilium.io"],
                "resources": ["ciliumclusterwidenetworkpolicies"],
                "resourceNames": ["no-shop"],
                "verbs": ["get"],
            },
            {
                "apiGroups": ["rbac.authorization.k8s.io"],
                "resources": ["clusterroles"],
                "resourceNames": [f"tune-nodes-restore-{ID}"],
                "verbs": ["delete"],
            },
        ],
        "Role shop": [
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create"]},
            {
                "apiGroups": ["networking.k8s.io"],
                "resources": ["networkpolicies"],
                "resourceNames": ["web"],
                "verbs": ["get"],
            },
            {
                "apiGroups": ["networking.k8s.io"],
                "resources": ["networkpolicies"],
                "resourceNames": [f"tune-nodes-allow-{ID}"],
                "verbs": ["delete"],
            },
        ],
    }


@given(st.lists(st.text(max_size=300), max_size=40))
def test_chunks_hold_everything_in_order_and_are_small(texts: list[str]) -> None:
    items = [{"name": text} for text in texts]
    parts = list(ttl.chunks(items, 400))
    assert [item for part in parts for item in part] == items
    assert all(len(json.dumps(part, separators=(",", ":"))) <= 402 or len(part) == 1 for part in parts)


KUBECTL = """#!/bin/sh
echo "$KUBERNETES_SERVICE_HOST kubectl $*" >>"$LOG"
[ "$2:$KUBERNETES_SERVICE_HOST" != --raw:192.0.2.10 ] || exit 1
[ "$1" != get ] || [ "$2" != -f ] || [ -z "$MISSING" ]
"""


@pytest.mark.parametrize(("missing", "code"), [("", 0), ("yes", 1)])
def test_the_script_restores_before_it_removes_and_stops_where_something_is_missing(
    tmp_path: Path, missing: str, code: int
) -> None:
    for name in ("restore", "remove", "bin"):
        (tmp_path / name).mkdir()
    for name in ("restore/restore-00000.json", "restore/restore-00001.json", "remove/remove-00002.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    kubectl = tmp_path / "bin/kubectl"
    kubectl.write_text(KUBECTL, encoding="utf-8")
    kubectl.chmod(0o755)
    script = ttl.SCRIPT.replace(" /re", f" {tmp_path}/re")
    env = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "UNTIL": str(int(time.time()) - 1),
        "SERVERS": "192.0.2.10 192.0.2.11",
        "NAME": f"tune-nodes-restore-{ID}",
        "MISSING": missing,
    }
    done = subprocess.run(["sh", "-c", script], env=env, timeout=20, check=False, capture_output=True)
    assert done.returncode == code, done.stderr
    said = [line.replace(str(tmp_path), "") for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    wanted = [
        "192.0.2.10 kubectl get --raw /version",
        "192.0.2.11 kubectl get --raw /version",
        "192.0.2.11 kubectl create -f /restore/restore-00000.json",
        "192.0.2.11 kubectl get -f /restore/restore-00000.json -o name",
        "192.0.2.11 kubectl create -f /restore/restore-00001.json",
        "192.0.2.11 kubectl get -f /restore/restore-00001.json -o name",
        "192.0.2.11 kubectl delete --ignore-not-found --wait=false -f /remove/remove-00002.json",
        f"192.0.2.11 kubectl delete --ignore-not-found --wait=false clusterrole tune-nodes-restore-{ID}",
    ]
    assert said == (wanted[:4] if missing else wanted)
