"""What a part is, what a workload needs, how a DaemonSet is kept to nodes: pure, by tables."""

from __future__ import annotations

from typing import Any

import pytest
from cni_server import JSON
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_nodes.cluster.errors import CONFLICT, ClusterError
from tune_nodes.cluster.refusals import Refused
from tune_nodes.recovery.reinstall import applying, catalogue, needs, parts, plan, releases, rolls
from tune_nodes.recovery.reinstall.parts import Key

DIGEST = "sha256:" + "ab" * 32


def body(kind: str, api_version: str = "v1", /, **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "one"}, **more}


def tidied(raw: dict[str, Any]) -> dict[str, Any]:
    return parts.tidy(raw, raw["apiVersion"], raw["kind"])


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (body("Service", spec={"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": []}), {"ports": []}),
        (
            body("Service", spec={"clusterIP": "None", "clusterIPs": ["None"]}),
            {"clusterIP": "None", "clusterIPs": ["None"]},
        ),
        (body("Service", spec={"healthCheckNodePort": 30000}), {}),
        (body("Namespace", spec={"finalizers": ["kubernetes"]}), None),
        (body("Deployment", "apps/v1", spec={"replicas": 2}, status={"replicas": 2}), {"replicas": 2}),
        (
            body("DaemonSet", "apps/v1", spec={"template": {"metadata": {"creationTimestamp": None, "labels": {}}}}),
            {"template": {"metadata": {"labels": {}}}},
        ),
    ],
)
def test_what_the_server_fills_in_is_left_out(raw: dict[str, Any], wanted: Any) -> None:
    found = tidied(raw)
    assert found.get("spec") == wanted
    assert not {"status"} & set(found)


def test_what_kubectl_and_controllers_note_is_left_out() -> None:
    notes = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "deprecated.daemonset.template.generation": "3",
        "meta.helm.sh/release-name": "cilium",
    }
    given = {"name": "one", "uid": "u", "resourceVersion": "7", "managedFields": [], "annotations": notes}
    found = tidied({**body("ConfigMap"), "metadata": given})
    assert found["metadata"] == {"name": "one", "annotations": {"meta.helm.sh/release-name": "cilium"}}


def test_the_rules_of_a_role_that_the_server_puts_together_are_its_own() -> None:
    assert "rules" not in tidied(body("ClusterRole", rules=[{}], aggregationRule={"clusterRoleSelectors": [{}]}))
    assert tidied(body("ClusterRole", rules=[{}]))["rules"] == [{}]


@pytest.mark.parametrize(
    ("kind", "name", "labels", "own"),
    [
        ("ClusterRole", "system:auth-delegator", {"kubernetes.io/bootstrapping": "rbac-defaults"}, True),
        ("ClusterRole", "flannel", {"app": "flannel"}, False),
        ("ConfigMap", "kube-root-ca.crt", {}, True),
        ("ConfigMap", "kube-flannel-cfg", {}, False),
    ],
)
def test_what_the_server_keeps_itself(kind: str, name: str, labels: dict[str, str], own: bool) -> None:
    part = parts.part_of({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}})
    assert part is not None
    assert parts.is_servers_own(part) is own


@pytest.mark.parametrize(
    "raw",
    [{}, {"kind": "ConfigMap"}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 3}}, {"metadata": []}],
)
def test_what_is_no_object(raw: dict[str, Any]) -> None:
    assert parts.part_of(raw) is None


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "rules", "x"]), JSON))
def test_junk_is_a_part_or_none(raw: dict[str, Any]) -> None:
    for kind in ("", "Service", "Namespace", "DaemonSet", "ClusterRole"):
        part = parts.part_of(raw, "v1", kind)
        assert part is None or "\n" not in str(part.key)


def test_the_order_in_which_parts_are_made() -> None:
    kinds = [
        "ValidatingWebhookConfiguration",
        "DaemonSet",
        "Deployment",
        "IPPool",
        "ConfigMap",
        "RoleBinding",
        "Role",
        "ServiceAccount",
        "CustomResourceDefinition",
        "Namespace",
    ]
    found = [part for kind in kinds if (part := parts.part_of(body(kind)))]
    assert [one.key.kind for one in parts.in_order(found)] == kinds[::-1]


def test_a_workload_needs_what_it_mounts_and_reads() -> None:
    spec = {
        "serviceAccountName": "agent",
        "priorityClassName": "network",
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"image": "a:1", "envFrom": [{"configMapRef": {"name": "early"}}]}],
        "containers": [
            {
                "image": "b:1",
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "a"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "word", "key": "b"}}},
                    {"name": "C", "value": "c"},
                ],
            },
            {"image": "a:1"},
        ],
        "volumes": [
            {"configMap": {"name": "config"}},
            {"secret": {"secretName": "keys"}},
            {"projected": {"sources": [{"configMap": {"name": "inner"}}, {"secret": {"name": "deep"}}]}},
            {"hostPath": {"path": "/run"}},
        ],
    }
    found = needs.of(spec)
    assert (found.account, found.priority) == ("agent", "network")
    assert found.config_maps == {"early", "key", "config", "inner"}
    assert found.secrets == {"word", "keys", "deep", "pull"}
    assert needs.images(spec) == ["a:1", "b:1"]
    assert needs.of({}).account == "default"


@settings(deadline=None)
@given(JSON)
def test_junk_needs_nothing_that_is_no_text(spec: Any) -> None:
    found = needs.of(spec if isinstance(spec, dict) else {"volumes": spec, "containers": spec})
    assert all(isinstance(name, str) and name for name in found.config_maps | found.secrets)


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("flannel:v0.28.1", True),
        (f"flannel@{DIGEST}", True),
        (f"flannel:latest@{DIGEST}", True),
        ("flannel", False),
        ("flannel:latest", False),
        ("registry.example:5000/flannel", False),
        ("registry.example:5000/flannel:v1", True),
        ("flannel@sha256:ab", False),
    ],
)
def test_an_image_says_its_version(image: str, pinned: bool) -> None:
    assert needs.is_pinned(image) is pinned


def ran(image: str, id: str) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "agent", "imageID": id}]}
    return {"spec": {"containers": [{"name": "agent", "image": image}]}, "status": status}


@pytest.mark.parametrize(
    ("pods", "found"),
    [
        ([ran("x/flannel:v1", f"docker.io/x/flannel@{DIGEST}")] * 2, {"x/flannel:v1": DIGEST}),
        ([ran("x/flannel:v1", f"x/flannel@{DIGEST}"), ran("x/flannel:v1", "x/flannel@sha256:" + "cd" * 32)], {}),
        ([ran("x/flannel:v1", f"import-2026@{DIGEST}")], {}),
        ([ran("x/flannel:v1", DIGEST)], {}),
        ([{"spec": None}], {}),
    ],
)
def test_digests_are_those_that_all_nodes_run(pods: list[Any], found: dict[str, str]) -> None:
    assert needs.digests(pods) == found


def agents(**spec: Any) -> dict[str, Any]:
    return body("DaemonSet", "apps/v1", spec={"template": {"spec": {"containers": [], **spec}}})


def test_a_daemonset_is_kept_to_nodes_beside_what_it_asks_for_itself() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term, {}]}}
    given = agents(affinity={"nodeAffinity": required, "podAffinity": {"x": 1}})
    found = rolls.kept_to(given, ["a", "b"], "run create")
    affinity = found["spec"]["template"]["spec"]["affinity"]
    terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [(one["matchFields"][0]["values"], "matchExpressions" in one) for one in terms] == [
        (["a"], True),
        (["a"], False),
        (["b"], True),
        (["b"], False),
    ]
    assert affinity["podAffinity"] == {"x": 1}
    assert found["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert found["metadata"]["annotations"] == {plan.ROLLING: "run create"}
    assert given == agents(affinity={"nodeAffinity": required, "podAffinity": {"x": 1}}), "it is not changed"


@pytest.mark.parametrize(
    ("wanted", "before", "found"),
    [
        ({"type": "OnDelete"}, {"type": "RollingUpdate"}, {"type": "OnDelete"}),
        (None, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}, "before"),
        (None, None, {"type": "RollingUpdate"}),
    ],
)
def test_the_strategy_in_the_end(wanted: Any, before: Any, found: Any) -> None:
    new, old = ({"spec": {"updateStrategy": one}} if one else {"spec": {}} for one in (wanted, before))
    assert rolls.final_strategy(new, old) == (before if found == "before" else found)


def pod(name: str, node: str, going: bool = False) -> dict[str, Any]:
    metadata = {"name": name, **({"deletionTimestamp": "2026-11-24T10:00:00Z"} if going else {})}
    return {"metadata": metadata, "spec": {"nodeName": node}}


def test_of_two_pods_on_a_node_the_one_that_stays_counts() -> None:
    found = rolls.by_node([pod("a", "w1", going=True), pod("b", "w1"), pod("c", "w2", going=True), pod("d", "")])
    assert {node: one["metadata"]["name"] for node, one in found.items()} == {"w1": "b", "w2": "c"}


@pytest.mark.parametrize(
    ("chart", "wanted"),
    [("cilium-1.18.2", "--version 1.18.2"), ("tigera-operator-v3.31.0", "--version 3.31.0"), ("", "--version VERSION")],
)
def test_a_release_of_helm_is_named(chart: str, wanted: str) -> None:
    notes = {"meta.helm.sh/release-name": "cni", "meta.helm.sh/release-namespace": "kube-system"}
    raw = body("ConfigMap") | {"metadata": {"name": "a", "annotations": notes, "labels": {"helm.sh/chart": chart}}}
    found = [part for part in (parts.part_of(raw), parts.part_of(body("ConfigMap"))) if part]
    (row,) = releases.of(found)
    assert (row.name, row.namespace, row.chart) == ("cni", "kube-system", chart)
    assert wanted in releases.advice(row)


def test_the_catalogue_names_configuration_of_groups_that_it_has() -> None:
    groups = {group for one in catalogue.GROUPS.values() for group in one}
    assert set(catalogue.CONFIGURATION) <= groups
    state = {"CiliumIdentity", "CiliumEndpoint", "CiliumNode", "IPAMBlock", "BlockAffinity", "IPAMHandle"}
    assert not state & {kind for kinds in catalogue.CONFIGURATION.values() for kind in kinds}


@pytest.mark.parametrize(
    ("reasons", "who"),
    [
        (("Conflict", "FieldManagerConflict", 'conflict with "kubectl-edit" using v1'), ("kubectl-edit",)),
        (("FieldManagerConflict", "junk"), ("another manager",)),
        (("Conflict", 'conflict with "kubectl-edit" using v1'), ()),
        ((), ()),
    ],
)
def test_who_holds_fields(reasons: tuple[str, ...], who: tuple[str, ...]) -> None:
    assert applying.holders(Refused(ClusterError(CONFLICT, "no"), 409, "", reasons)) == who


def test_a_key_in_words() -> None:
    assert (
        str(Key("apps/v1", "DaemonSet", "kube-flannel", "kube-flannel-ds")) == "DaemonSet kube-flannel/kube-flannel-ds"
    )
    assert str(Key("v1", "Namespace", "", "a\nb\x1b[31m")) == "Namespace a b"
