"""Who would put a policy back."""

from __future__ import annotations

from typing import Any

import pytest
from policy_objects import policy

from tune_nodes.policy.owning import owners

TRACKED = {"argocd.argoproj.io/tracking-id": "shop:networking.k8s.io/NetworkPolicy:shop/deny"}
ELSEWHERE = {"argocd.argoproj.io/tracking-id": "argocd_shop:networking.k8s.io/NetworkPolicy:shop/deny"}
COPIED = {"argocd.argoproj.io/tracking-id": "shop:networking.k8s.io/NetworkPolicy:shop/other"}
HELM = {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}
INSTANCE = {"app.kubernetes.io/instance": "shop"}


def field(manager: str) -> list[dict[str, str]]:
    return [{"manager": "kubectl"}, {"manager": manager}]


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        ({}, []),
        ({"annotations": TRACKED}, ["Argo CD Application shop"]),
        ({"annotations": ELSEWHERE}, ["Argo CD Application argocd/shop"]),
        ({"annotations": COPIED}, []),
        ({"labels": INSTANCE}, ["Argo CD Application shop"]),
        ({"labels": {**INSTANCE, "app.kubernetes.io/managed-by": "Helm"}}, []),
        ({"labels": INSTANCE, "annotations": HELM}, ["Helm release shop/web"]),
        ({"labels": INSTANCE, "managedFields": field("argocd-controller")}, ["Argo CD Application shop"]),
        (
            {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"}},
            ["Flux Kustomization flux/apps"],
        ),
        (
            {
                "labels": {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "flux"},
                "annotations": HELM,
                "managedFields": field("helm-controller"),
            },
            ["Flux HelmRelease flux/web", "Helm release shop/web"],
        ),
        ({"managedFields": field("kustomize-controller")}, ["Flux"]),
        ({"labels": {"generate.kyverno.io/policy-name": "deny-all"}}, ["Kyverno ClusterPolicy deny-all"]),
        (
            {
                "labels": {
                    "generate.kyverno.io/policy-name": "deny-all",
                    "generate.kyverno.io/policy-namespace": "shop",
                }
            },
            ["Kyverno Policy shop/deny-all"],
        ),
        (
            {"ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Shop", "name": "s", "uid": "1"}]},
            ["controller Shop shop/s"],
        ),
        ({"annotations": 3, "labels": [], "managedFields": {"a": 1}, "ownerReferences": [None, {"kind": 1}]}, []),
    ],
)
def test_owners(metadata: dict[str, Any], shown: list[str]) -> None:
    assert [one.shown for one in owners.of(policy("NetworkPolicy", "deny", **metadata))] == shown


def test_what_is_not_sure_says_perhaps() -> None:
    (sure,) = owners.of(policy("NetworkPolicy", "deny", annotations=TRACKED))
    (guess,) = owners.of(policy("NetworkPolicy", "deny", labels=INSTANCE))
    assert guess.text == f"perhaps {sure.text}"


def test_a_name_cannot_write_to_a_terminal() -> None:
    (owner,) = owners.of(policy("NetworkPolicy", "deny", labels={"app.kubernetes.io/instance": "\x1b[31mred\nline"}))
    assert owner.name == "red line"
