"""What is not like other policies, against a real API server: finalizers, owners, GitOps tools, newer objects."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusterworks import wait_for
from policybed import (
    DENY,
    DNS,
    NETWORKING,
    WEB,
    backed_up,
    call,
    crd,
    deleted,
    drop,
    green,
    make,
    network_policy,
    served,
    there,
)

from tune_nodes.cluster.call import Call
from tune_nodes.cluster.client import Cluster
from tune_nodes.policy.keeping import restore
from tune_nodes.policy.keeping.compare import Wish
from tune_nodes.policy.owning import gitops, owners

if TYPE_CHECKING:
    from kindbed.cluster import Cluster as Bed

pytestmark = pytest.mark.kind

ARGO = "argoproj.io"


def test_finalizers_hold_an_object_and_come_back_only_where_asked_for(
    cluster: Cluster, space: str, tmp_path: Path
) -> None:
    hold = "example.com/hold"
    make(cluster, network_policy(space, "held", DENY, finalizers=[hold]))
    backup = backed_up(cluster, tmp_path, space)
    where = call("patch", space, "held")
    started = time.monotonic()
    found = deleted(cluster, backup, wait=1)
    assert time.monotonic() - started < 10
    assert [(one.state, one.text) for one in found.left] == [("stuck", f"still there: finalizer {hold}")]

    def release() -> None:
        cluster.api.patch(where, {"metadata": {"finalizers": None}})

    timer = threading.Timer(1, release)
    timer.start()
    end = restore.restore(cluster, backup, probe=green)  # waits until the old one is gone
    timer.join()
    assert (end.ok, end.counts) == (True, {"made": 1})
    assert end.outcomes[0].text == f"without its finalizer {hold}"
    assert "finalizers" not in there(cluster, space)[0].raw["metadata"]
    assert deleted(cluster, backup).counts == {"another": 1}  # it is not the one that was backed up
    fresh = backed_up(cluster, tmp_path, space)
    assert deleted(cluster, fresh).counts == {"deleted": 1}
    try:
        assert restore.restore(cluster, backup, probe=green, wish=Wish(finalizers=True)).ok
        assert there(cluster, space)[0].raw["metadata"]["finalizers"] == [hold]
    finally:
        release()


def test_an_owner_is_found_again_by_its_name(cluster: Cluster, space: str, tmp_path: Path) -> None:
    maps = Call("create", "configmaps", namespace=space)

    def owner(name: str) -> dict[str, Any]:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": space}}
        made = cluster.api.post(maps, body)
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]}

    stays, goes, back = owner("stays"), owner("goes"), owner("back")
    make(
        cluster,
        network_policy(space, "of-goes", WEB, ownerReferences=[goes]),
        network_policy(space, "of-back", WEB, ownerReferences=[back]),
        network_policy(space, "of-controller", WEB, ownerReferences=[{**stays, "controller": True}]),
    )
    backup = backed_up(cluster, tmp_path, space)
    assert deleted(cluster, backup).counts == {"deleted": 3}
    for name in ("goes", "back"):
        cluster.api.delete(Call("delete", "configmaps", namespace=space, name=name))
    new = owner("back")
    found = restore.restore(cluster, backup, probe=green)
    said = {one.ref.rpartition("/")[2]: (one.state, one.text) for one in found.outcomes}
    assert said == {
        "of-goes": ("made", "without its owner, the ConfigMap goes, which is gone"),
        "of-back": ("made", "its owner, the ConfigMap back, has been made again: its new uid is set"),
        "of-controller": ("left", "left to its controller, the ConfigMap stays, which has not made it yet"),
    }
    assert not found.ok
    now = {one.name: one.raw["metadata"].get("ownerReferences") for one in there(cluster, space)}
    assert now == {"of-goes": None, "of-back": [new]}
    assert restore.restore(cluster, backup, probe=green, wish=Wish(owned=True)).counts == {"made": 1, "there": 2}


def test_argo_cd_is_named_paused_and_resumed_exactly(
    either_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    application = {"apiVersion": f"{ARGO}/v1alpha1", "kind": "Application"}

    def app(name: str, **metadata: Any) -> Call:
        spec = {"project": "default", "syncPolicy": {"automated": automated, "retry": {"limit": 2}}}
        body = {**application, "metadata": {"name": name, "namespace": space, **metadata}, "spec": spec}
        cluster.api.post(Call("create", "applications", ARGO, space, version="v1alpha1"), body)
        return Call("get", "applications", ARGO, space, name, "v1alpha1")

    automated = {"prune": True, "selfHeal": True}
    mark = {owners.TRACKING: f"shop:{NETWORKING}/NetworkPolicy:{space}/deny"}
    make(cluster, network_policy(space, "deny", DENY, annotations=mark))
    record = tmp_path / "gitops.json"
    with served(either_cluster, crd(ARGO, "applications", "Application", "Namespaced", "v1alpha1")):
        shop = app("shop")
        made = app(
            "made",
            ownerReferences=[{"apiVersion": f"{ARGO}/v1alpha1", "kind": "ApplicationSet", "name": "all", "uid": "1"}],
        )
        (owner,) = owners.of(there(cluster, space)[0])
        assert (owner.system, owner.name) == ("Argo CD", "shop")
        assert "with selfHeal it comes back at once" in owner.text
        before = [cluster.api.get(one) for one in (shop, made)]
        answer = gitops.pause(cluster, owner, record)
        assert (answer.done, answer.text) == (True, "Argo CD Application shop does not sync by itself now")
        assert cluster.api.get(shop)["spec"]["syncPolicy"] == {"retry": {"limit": 2}}
        assert gitops.pause(cluster, owner, record).text == "Argo CD Application shop does not sync by itself"
        other = owners.Owner(owners.ARGO, "Application", space, "made", "")
        assert "ApplicationSet all makes it" in gitops.pause(cluster, other, record).text
        now = cluster.api.get(made)
        assert now["spec"] == before[1]["spec"]
        assert now["metadata"]["annotations"] == {gitops.SKIP: "true"}
        assert len(json.loads(record.read_text())["entries"]) == 2
        assert [one.done for one in gitops.resume(cluster, record)] == [True, True]
        after = [cluster.api.get(one) for one in (shop, made)]
        assert [one["spec"] for one in after] == [one["spec"] for one in before]
        assert not after[1]["metadata"].get("annotations")
        versions = [one["metadata"]["resourceVersion"] for one in after]
        assert gitops.resume(cluster, record) == []
        assert [cluster.api.get(one)["metadata"]["resourceVersion"] for one in (shop, made)] == versions
        gitops.pause(cluster, owner, record)
        cluster.api.patch(shop, {"spec": {"syncPolicy": {"automated": {"prune": False}}}})
        (left,) = gitops.resume(cluster, record)
        assert (left.done, "set by somebody else" in left.text) == (False, True)


def test_flux_is_suspended_and_resumed_exactly(
    either_cluster: Bed, cluster: Cluster, space: str, tmp_path: Path
) -> None:
    group = "kustomize.toolkit.fluxcd.io"
    record = tmp_path / "gitops.json"
    marks = {f"{group}/name": "apps", f"{group}/namespace": space}
    make(cluster, network_policy(space, "deny", DENY, labels=marks))
    (owner,) = owners.of(there(cluster, space)[0])
    gone = gitops.pause(cluster, owner, record)
    assert (gone.done, "is not in this cluster" in gone.text) == (False, True)
    with served(either_cluster, crd(group, "kustomizations", "Kustomization", "Namespaced")):
        where = Call("create", "kustomizations", group, space, version="v1")
        body = {"apiVersion": f"{group}/v1", "kind": "Kustomization", "metadata": {"name": "apps", "namespace": space}}
        cluster.api.post(where, {**body, "spec": {"suspend": False, "path": "./apps"}})
        read_it = Call("get", "kustomizations", group, space, "apps", "v1")
        assert gitops.pause(cluster, owner, record).text == f"Flux Kustomization {space}/apps is suspended"
        assert cluster.api.get(read_it)["spec"] == {"suspend": True, "path": "./apps"}
        assert gitops.pause(cluster, owner, record).text.endswith("was suspended already")
        assert [one.done for one in gitops.resume(cluster, record)] == [True]
        assert cluster.api.get(read_it)["spec"] == {"suspend": False, "path": "./apps"}
        assert gitops.resume(cluster, record) == []


def test_a_red_probe_takes_its_wave_back_and_a_newer_object_stays(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, *[network_policy(space, name, spec) for name, spec in (("a", DENY), ("b", DNS), ("c", WEB))])
    backup = backed_up(cluster, tmp_path, space)
    assert [one.name for one in backup.policies] == ["b", "c", "a"]
    deleted(cluster, backup)
    probes = iter(["", "", "web no longer answers"])
    red = restore.restore(cluster, backup, probe=lambda: next(probes))
    assert red.stopped == "after the wave of denies: web no longer answers"
    assert red.counts == {"made": 2, "undone": 1}
    assert sorted(one.name for one in there(cluster, space)) == ["b", "c"]

    def dies() -> str:
        if any(one.name == "a" for one in there(cluster, space)):
            raise InterruptedError  # as if the program had been killed before its probe
        return ""

    with pytest.raises(InterruptedError):
        restore.restore(cluster, backup, probe=dies)
    red = restore.restore(cluster, backup, probe=lambda: "web still does not answer")
    assert red.counts == {"there": 2, "undone": 1}, "the next run probes what the dead one made"
    newer = {**WEB, "ingress": [{"from": [{"podSelector": {"matchLabels": {"new": "yes"}}}]}]}
    make(cluster, network_policy(space, "a", newer))
    found = restore.restore(cluster, backup, probe=green)
    assert (found.ok, found.counts) == (False, {"there": 2, "conflict": 1})
    assert found.outcomes[2].text.startswith("another object has its name, and says something else: spec.ingress")
    assert next(one for one in there(cluster, space) if one.name == "a").spec["ingress"] == newer["ingress"]
    forced = restore.restore(cluster, backup, probe=green, force=True)
    assert (forced.ok, forced.counts, forced.equal) == (True, {"there": 2, "replaced": 1}, 3)


def test_a_namespace_that_goes_takes_no_policy(cluster: Cluster, space: str, tmp_path: Path) -> None:
    make(cluster, network_policy(space, "deny", DENY))
    backup = backed_up(cluster, tmp_path, space)
    drop(cluster, space)
    wait_for("its policy is gone", lambda: not there(cluster, space))
    found = restore.restore(cluster, backup, probe=green)
    assert (found.ok, found.counts, found.equal) == (True, {"no-namespace": 1}, 0)
