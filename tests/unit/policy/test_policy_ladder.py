"""Which rung is taken, why the weaker ones are not, and what an approval is bound to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_world import KINDS, made, np, world

from tune_nodes.errors import UsageError
from tune_nodes.policy.judging.verdict import judge
from tune_nodes.policy.model import Pod, Policy, Snapshot
from tune_nodes.policy.opening import flows, ladder
from tune_nodes.policy.opening.allows import Mark
from tune_nodes.policy.opening.ladder import Ladder, Question, climb, plan_hash
from tune_nodes.policy.opening.reset import check_ttl, marked
from tune_nodes.policy.opening.scope import Scope, scope_of

SHOP = Scope("namespace", "shop")
DNS = Pod("kube-system", "dns", "u9", "w1", ("10.0.1.9",), {"k8s-app": "kube-dns"}, phase="Running")
DENY = np("deny", policyTypes=["Ingress", "Egress"])
MINE = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "shop"}}
CCNP = made("CiliumClusterwideNetworkPolicy", "no-shop", endpointSelector=MINE, egressDeny=[{"toEndpoints": [MINE]}])
ANP = made(
    "AdminNetworkPolicy", "no-shop", priority=10, subject={"namespaces": {}},
    ingress=[{"name": "none", "action": "Deny", "from": [{"namespaces": {}}]}],
)  # fmt: skip
GNP = made("CalicoGlobalNetworkPolicy", "no-shop", tier="default", order=5, selector="all()",
           namespaceSelector="projectcalico.org/name == 'shop'", types=["Ingress"],
           ingress=[{"action": "Deny"}])  # fmt: skip


def cluster(engine: str, *policies: Policy, without: tuple[str, ...] = ()) -> Snapshot:
    """Return the small cluster with a name server, as it is where a CNI brings no kinds but those that it enforces."""
    found = world(engine, policies)
    kinds = tuple(kind for kind in found.kinds if kind.resource not in without)
    return replace(found, kinds=kinds, pods=(*found.pods, DNS))


def climbed(
    found: Snapshot, scope: Scope = SHOP, source: str = "", target: str = "", port: int = 0, rung: int = 0
) -> Ladder:
    ends = [flows.peer(text, found, scope.namespace) if text else None for text in (source, target)]
    asked = flows.question(found, scope, ends[0], ends[1], port)
    return climb(Question(found, scope, asked, judge), rung)


@dataclass(frozen=True)
class Case:
    """What is in the cluster, what is asked, and the rung that opens it."""

    id: str
    engine: str
    policies: tuple[Policy, ...]
    rung: int | None
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    asked: tuple[str, str, int] = ("", "", 0)
    scope: Scope = SHOP


CASES = [
    Case("nothing cuts", "cilium", (), None),
    Case("default deny", "cilium", (DENY,), 3, ("NetworkPolicy",)),
    Case("default deny elsewhere", "kube-router", (DENY,), 3, ("NetworkPolicy",)),
    Case("only DNS is asked for", "cilium", (DENY,), 2, ("NetworkPolicy",), asked=("shop/web", "kube-system/dns", 53)),
    Case("a deny that no allow beats", "cilium", (CCNP,), 5, (), (CCNP.ref,)),
    Case("that and a default deny", "cilium", (DENY, CCNP), 5, ("NetworkPolicy",), (CCNP.ref,)),
    Case("the same, of two that deny only the one that decides", "cilium", (CCNP, DENY), 5, ("NetworkPolicy",),
         (CCNP.ref,), ("shop/client", "shop/web", 8080)),
    Case("what the deny does not concern", "cilium", (CCNP, DENY), 3, ("NetworkPolicy",), (),
         ("jobs/batch", "shop/web", 8080)),
    Case("a pod alone", "cilium", (DENY,), 3, ("NetworkPolicy",), scope=Scope("pod", "shop", "web")),
    Case("an admin deny beneath an admin allow", "ovn-kubernetes", (ANP,), 3, ("ClusterNetworkPolicy",), (),
         ("jobs/batch", "shop/web", 8080)),
    Case("a Calico deny beneath a lower order", "calico", (GNP,), 3, ("GlobalNetworkPolicy.projectcalico.org",), (),
         ("jobs/batch", "shop/web", 8080)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_first_rung_that_opens_is_taken(case: Case) -> None:
    without = ("clusternetworkpolicies", "adminnetworkpolicies") if case.engine == "calico" else ()
    found = climbed(cluster(case.engine, *case.policies, without=without), case.scope, *case.asked)
    chosen = found.chosen
    assert (chosen.number if chosen else None) == case.rung, [(r.number, r.opens, r.why) for r in found.rungs]
    if chosen:
        assert tuple(dict.fromkeys(one.kind.text for one in chosen.adds)) == case.adds
        assert tuple(one.ref for one in chosen.removes) == case.removes
        weaker = [rung for rung in found.rungs if rung.number < chosen.number]
        assert all(rung.why and not rung.opens for rung in weaker)


@pytest.mark.parametrize("policies", [(DENY,), (DENY, CCNP)])
def test_the_rung_behind_an_allow_deletes_at_least_one(policies: tuple[Policy, ...]) -> None:
    found = climbed(cluster("cilium", *policies))
    assert found.chosen is not None
    following = found.after(found.rungs[1])
    assert following is not None
    assert (following.number, bool(following.removes), following.opens) == (5, True, True)


def test_why_an_allow_does_not_help_names_the_policy_that_denies() -> None:
    found = climbed(cluster("cilium", DENY, CCNP))
    allow = found.rung(ladder.ALLOW)
    assert allow is not None
    assert allow.why.startswith(
        "CiliumClusterwideNetworkPolicy no-shop still denies shop/client -> shop/web any port: "
    )


def test_a_narrow_allow_never_cuts_a_direction_that_was_open() -> None:
    only_in = np("deny-in", policyTypes=["Ingress"])
    found = climbed(cluster("cilium", only_in), rung=ladder.NARROW)
    assert found.chosen is not None
    assert [one.spec["policyTypes"] for one in found.chosen.adds] == [["Ingress"]]


def test_a_policy_outside_the_scope_is_never_deleted() -> None:
    elsewhere = made("NetworkPolicy", "deny", "jobs", podSelector={}, policyTypes=["Egress"])
    found = climbed(cluster("cilium", elsewhere), source="jobs/batch", target="shop/web", port=8080)
    assert found.chosen is None
    selected = found.rung(ladder.SELECTED)
    assert selected is not None
    assert (
        selected.why
        == "NetworkPolicy jobs/deny cuts jobs/batch -> shop/web 8080/TCP, and is outside the namespace shop"
    )


def test_the_last_rung_deletes_what_selects_the_scope_and_nothing_else() -> None:
    other = made("NetworkPolicy", "other", "jobs", podSelector={})
    found = climbed(cluster("cilium", DENY, CCNP, other), rung=ladder.ALL)
    assert found.chosen is not None
    assert sorted(one.ref for one in found.chosen.removes) == sorted([DENY.ref, CCNP.ref])


def test_the_whole_cluster_gets_an_allow_in_each_namespace() -> None:
    found = climbed(cluster("cilium", DENY), Scope("cluster"))
    assert found.chosen is not None
    assert [one.namespace for one in found.chosen.adds] == ["jobs", "kube-system", "shop"]


def test_a_pod_without_labels_cannot_be_told_from_others() -> None:
    found = cluster("cilium", DENY)
    bare = tuple(replace(pod, labels={}) if pod.name == "web" else pod for pod in found.pods)
    steps = climbed(replace(found, pods=bare), Scope("pod", "shop", "web"))
    assert [(rung.number, rung.available) for rung in steps.rungs if rung.number <= ladder.SWITCH] == [
        (2, False), (3, False), (4, False),
    ]  # fmt: skip
    assert steps.chosen is not None
    assert steps.chosen.removes == (DENY,)


def hashed(found: Snapshot, ttl: int = 60, **asked: Any) -> str:
    steps = climbed(found, **asked)
    assert steps.chosen is not None
    return plan_hash(steps.chosen, SHOP, ttl)


def versioned(policy: Policy, version: str, uid: str = "u") -> Policy:
    metadata = {**policy.raw["metadata"], "uid": uid, "resourceVersion": version}
    return replace(policy, raw={**policy.raw, "metadata": metadata})


def test_a_hash_stands_for_one_plan() -> None:
    before = hashed(cluster("cilium", versioned(CCNP, "1")))
    assert before == hashed(cluster("cilium", versioned(CCNP, "1")))
    assert before.startswith("sha256:")
    others = [
        hashed(cluster("cilium", versioned(CCNP, "2"))),
        hashed(cluster("cilium", versioned(CCNP, "1", uid="another"))),
        hashed(cluster("cilium", versioned(CCNP, "1")), ttl=61),
        hashed(cluster("cilium", versioned(CCNP, "1")), rung=ladder.ALL),
        hashed(cluster("cilium", versioned(CCNP, "1"), DENY)),
    ]
    assert len({before, *others}) == 6


def test_what_is_added_is_marked_as_ours() -> None:
    steps = climbed(cluster("cilium", DENY))
    assert steps.chosen is not None
    one = marked(steps.chosen.adds[0], Mark("20261124-160559-6bed41", "2026-11-24T16:36:00+00:00", "admin"))
    assert one.ref == "NetworkPolicy shop/tune-nodes-allow-20261124-160559-6bed41"
    assert one.raw["metadata"] == {
        "name": "tune-nodes-allow-20261124-160559-6bed41",
        "namespace": "shop",
        "labels": {"app.kubernetes.io/managed-by": "tune-nodes", "tune-nodes/reset": "20261124-160559-6bed41"},
        "annotations": {"tune-nodes/until": "2026-11-24T16:36:00+00:00", "tune-nodes/owner": "admin"},
    }


def test_kinds_of_the_small_cluster_are_those_that_are_allowed_by() -> None:
    assert {"NetworkPolicy", "ClusterNetworkPolicy", "CalicoGlobalNetworkPolicy"} <= set(KINDS)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("shop", "", "", False), "shop"),
        (("", "shop/web-0", "", False), "shop/web-0"),
        (("shop", "", "app=web", False), "shop app=web"),
        (("", "", "app=web,tier=front", False), "app=web,tier=front"),
        (("", "", "", True), "cluster"),
    ],
)
def test_a_scope_has_the_name_that_is_typed(words: tuple[str, str, str, bool], text: str) -> None:
    assert scope_of(*words).text == text


@pytest.mark.parametrize(
    "words",
    [
        ("", "", "", False),
        ("shop", "shop/web", "", False),
        ("shop", "", "", True),
        ("Shop", "", "", False),
        ("", "web", "", False),
        ("", "../web", "", False),
        ("", "", "app", False),
        ("", "", "app=a b", False),
        ("shop; rm", "", "", False),
    ],
)
def test_what_names_no_scope_is_refused(words: tuple[str, str, str, bool]) -> None:
    with pytest.raises(UsageError):
        scope_of(*words)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.booleans())
def test_scopes_survive_junk(namespace: str, pod: str, label: str, whole: bool) -> None:
    try:
        found = scope_of(namespace, pod, label, whole)
    except UsageError:
        return
    assert found.text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("45", 45)])
def test_times(text: str, seconds: int) -> None:
    assert check_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5s", "-5m", "1d", "999999h", "1.5h", "٣m"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        check_ttl(text)
