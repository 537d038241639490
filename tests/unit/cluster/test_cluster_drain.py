"""Which pods a drain moves, and what it makes of a server's answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_fixtures import load
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster import drain
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.errors import ClusterError
from tune_nodes.cluster.model import Blocked, Drained


def owner(kind: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": "web", "controller": True}]


def pod(name: str = "web-1", owners: Any = None, phase: str = "Running", volumes: Any = (), **metadata: Any) -> Any:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "ownerReferences": owner("ReplicaSet") if owners is None else owners,
            **metadata,
        },
        "spec": {"volumes": list(volumes)},
        "status": {"phase": phase},
    }


EMPTY_DIR = [{"name": "cache", "emptyDir": {}}]
LOST = "what it keeps on this node would be lost: emptyDir cache"
ALONE = "nothing would start it elsewhere: no controller owns it"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (pod(), "evict"),
        (pod(owners=owner("StatefulSet")), "evict"),
        (pod(owners=owner("DaemonSet")), "leave"),
        (pod(owners=owner("DaemonSet"), volumes=EMPTY_DIR), "leave"),
        (pod(owners=owner("Node"), annotations={"kubernetes.io/config.mirror": "x"}), "leave"),
        (pod(owners=[], phase="Succeeded"), "leave"),
        (pod(phase="Failed", volumes=EMPTY_DIR), "leave"),
        (pod(owners=[]), ALONE),
        (pod(owners=[{"kind": "ReplicaSet", "name": "web"}]), ALONE),  # an owner, but not its controller
        (pod(volumes=EMPTY_DIR), LOST),
        (pod(volumes=[{"name": "mem", "emptyDir": {"medium": "Memory"}}]), LOST.replace("cache", "mem")),
        (pod(volumes=[{"name": "disk", "hostPath": {"path": "/x"}}]), "evict"),
        (pod(owners=[], deletionTimestamp="2026-11-24T00:00:00Z"), "evict"),  # on its way: waited for
    ],
)
def test_fate(item: Any, said: str) -> None:
    assert drain.fate(item, force=False, delete_emptydir=False) == said


def test_what_is_allowed_does_not_block() -> None:
    assert drain.fate(pod(owners=[]), force=True, delete_emptydir=False) == "evict"
    assert drain.fate(pod(volumes=EMPTY_DIR), force=False, delete_emptydir=True) == "evict"
    assert drain.fate(pod(owners=[], volumes=EMPTY_DIR), force=True, delete_emptydir=False) == LOST


def test_real_pods() -> None:
    moving, blocked = drain.sort(load("pods"), force=False, delete_emptydir=False)
    assert [str(one).rpartition("-")[0] for one in moving.values()] == ["kube-system/coredns-66bc5c9577"]
    assert not blocked


Answer = Callable[[Request, str, "Shop"], None]


class Shop:
    """A server with some pods on a node; a test says how it answers an eviction."""

    def __init__(self, answer: Answer, pods: list[Any]) -> None:
        self.pods = {item["metadata"]["name"]: item for item in pods}
        self.evictions: list[Any] = []
        self._answer = answer

    def __call__(self, request: Request) -> None:
        body = request.body()
        if request.path.endswith("/eviction"):
            self.evictions.append(body)
            self._answer(request, request.path.split("/")[-2], self)
        else:
            assert "fieldSelector=spec.nodeName%3Dw1" in request.path
            request.send(200, {"items": list(self.pods.values())})


def drained(tmp_path: Path, shop: Shop, timeout: float = 3, cancelled: Callable[[], bool] = lambda: False) -> Drained:
    with tiny_api(shop) as server:
        api = Api(kubeconfig(tmp_path, server), timeout=2)
        return drain.drain(api, "w1", timeout, cancelled, grace=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "LOOK", 0.05)
    monkeypatch.setattr(drain, "RETRY", 0.1)


def test_pods_go_and_are_waited_for(tmp_path: Path) -> None:
    def answer(request: Request, name: str, shop: Shop) -> None:
        del shop.pods[name]
        request.send(201, {})

    shop = Shop(answer, [pod("a"), pod("b"), pod("agent", owners=owner("DaemonSet"))])
    assert drained(tmp_path, shop) == Drained(evicted=2)
    assert shop.evictions[0]["deleteOptions"] == {"preconditions": {"uid": "uid-a"}, "gracePeriodSeconds": 3}


BUDGET = "The disruption budget web needs 1 healthy pods and has 1 currently"


def too_many(request: Request) -> None:
    causes = [{"reason": "DisruptionBudget", "message": BUDGET}]
    request.refuse(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", causes)


def test_a_budget_is_asked_again_until_it_lets_go(tmp_path: Path) -> None:
    def answer(request: Request, name: str, shop: Shop) -> None:
        if len(shop.evictions) < 4:
            too_many(request)
        else:
            del shop.pods[name]
            request.send(201, {})

    assert drained(tmp_path, Shop(answer, [pod("a")])) == Drained(evicted=1)


def test_a_budget_that_never_lets_go(tmp_path: Path) -> None:
    shop = Shop(lambda request, name, shop: too_many(request), [pod("a")])
    started = time.monotonic()
    assert drained(tmp_path, shop, timeout=0.5) == Drained(blocked=(Blocked("shop/a", BUDGET),))
    assert 0.4 < time.monotonic() - started < 3


def test_a_pod_that_does_not_end(tmp_path: Path) -> None:
    shop = Shop(lambda request, name, shop: request.send(201, {}), [pod("a")])
    assert drained(tmp_path, shop, timeout=0.3) == Drained(left=("shop/a",))
    assert len(shop.evictions) == 1


def test_two_budgets_on_one_pod_are_not_waited_for(tmp_path: Path) -> None:
    said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    shop = Shop(lambda request, name, shop: request.refuse(500, "InternalError", said), [pod("a")])
    started = time.monotonic()
    assert drained(tmp_path, shop, timeout=60) == Drained(blocked=(Blocked("shop/a", said),))
    assert time.monotonic() - started < 5


def test_a_namespace_that_is_being_deleted(tmp_path: Path) -> None:
    def answer(request: Request, name: str, shop: Shop) -> None:
        del shop.pods[name]
        request.refuse(403, "Forbidden", "is being terminated", [{"reason": "NamespaceTerminating", "message": "x"}])

    assert drained(tmp_path, Shop(answer, [pod("a")])) == Drained(evicted=1)


@pytest.mark.parametrize(("status", "reason"), [(404, "NotFound"), (409, "Conflict")])
def test_a_pod_that_is_gone_or_has_a_successor_of_its_name(tmp_path: Path, status: int, reason: str) -> None:
    def answer(request: Request, name: str, shop: Shop) -> None:
        shop.pods[name] = pod(name, uid="another", owners=owner("DaemonSet"))
        request.refuse(status, reason, "gone")

    assert drained(tmp_path, Shop(answer, [pod("a")])) == Drained(evicted=1)


def test_no_right_to_evict_ends_it(tmp_path: Path) -> None:
    shop = Shop(lambda request, name, shop: request.refuse(403, "Forbidden", "no"), [pod("a"), pod("b")])
    with pytest.raises(ClusterError, match="may not create pods/eviction a in the namespace shop"):
        drained(tmp_path, shop)
    assert len(shop.evictions) == 1


def test_nothing_goes_where_one_must_not(tmp_path: Path) -> None:
    shop = Shop(lambda request, name, shop: None, [pod("a"), pod("bare", owners=[])])
    assert drained(tmp_path, shop) == Drained(blocked=(Blocked("shop/bare", ALONE),))
    assert not shop.evictions


def test_it_stops_when_told(tmp_path: Path) -> None:
    shop = Shop(lambda request, name, shop: request.send(201, {}), [pod("a"), pod("b")])
    result = drained(tmp_path, shop, timeout=60, cancelled=lambda: len(shop.evictions) > 0)
    assert (result.cancelled, result.left, result.done) == (True, ("shop/a", "shop/b"), False)
    assert len(shop.evictions) == 1


def test_a_server_that_falters_in_the_middle(tmp_path: Path) -> None:
    def answer(request: Request, name: str, shop: Shop) -> None:
        if len(shop.evictions) == 1:
            request.refuse(500, "InternalError", "etcdserver: leader changed")
            return
        del shop.pods[name]
        request.send(201, {})

    assert drained(tmp_path, Shop(answer, [pod("a")])) == Drained(evicted=1)
