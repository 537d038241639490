"""Pods on an old MTU by workload, and making only those anew; agents one node at a time: against a small API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster.api import Api
from tune_nodes.cnimtu import agents, stale
from tune_nodes.errors import TuneError


def pod(name: str, kind: str = "ReplicaSet", owner: str = "web-5d9", node: str = "w1", **more: Any) -> dict[str, Any]:
    labels = {"pod-template-hash": "5d9"} if kind == "ReplicaSet" else {}
    owners = [{"kind": kind, "name": owner, "uid": f"uid-{owner}", "controller": True}] if kind else []
    return {
        "metadata": {
            "name": name,
            "namespace": more.pop("namespace", "shop"),
            "uid": f"uid-{name}",
            "labels": labels,
            "ownerReferences": owners,
        },
        "spec": {"nodeName": node, "volumes": more.pop("volumes", [])},
        "status": {"phase": more.pop("phase", "Running"), "conditions": [{"type": "Ready", "status": "True"}]},
    }


EMPTY = [{"name": "cache", "emptyDir": {}}]


class Server:
    """Pods that are made anew when they are evicted, as a controller does; ``budget`` names those that may not go."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = {one["metadata"]["name"]: one for one in pods}
        self.evicted: list[str] = []
        self.budget: set[str] = set()
        self.heirs = True
        self.ready = True

    def __call__(self, request: Request) -> None:
        if request.command == "POST":
            self.evict(request, request.body()["metadata"]["name"])
        elif "/daemonsets" in request.path:
            image = {"containers": [{"image": "docker.io/flannel/flannel:v0.28.10"}]}
            metadata = {"name": "kube-flannel-ds", "namespace": "kube-flannel"}
            request.send(200, {"items": [{"metadata": metadata, "spec": {"template": {"spec": image}}}]})
        else:
            node = request.path.partition("nodeName%3D")[2].partition("&")[0]
            items = [one for one in self.pods.values() if not node or one["spec"]["nodeName"] == node]
            request.send(200, {"items": items})

    def evict(self, request: Request, name: str) -> None:
        if name in self.budget:
            cause = [{"reason": "DisruptionBudget", "message": "The disruption budget web needs 1 healthy pods"}]
            request.refuse(429, "TooManyRequests", "Cannot evict pod", cause)
            return
        self.evicted.append(name)
        gone = self.pods.pop(name)
        if self.heirs:
            heir = json.loads(json.dumps(gone))
            heir["metadata"] |= {"name": f"{name}-x", "uid": f"uid-{name}-x"}
            heir["status"]["conditions"][0]["status"] = "True" if self.ready else "False"
            self.pods[f"{name}-x"] = heir
        request.send(201, {"kind": "Status", "status": "Success"})


@contextmanager
def served(tmp_path: Path, server: Server) -> Iterator[Api]:
    with tiny_api(server) as url:
        api = Api(kubeconfig(tmp_path, url))
        try:
            yield api
        finally:
            api.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "LOOK", 0.01)
    monkeypatch.setattr(stale, "RETRY", 0.05)
    monkeypatch.setattr(agents, "LOOK", 0.01)


NOT = {
    "": "no controller would make it anew: delete and make it by hand",
    "Node": "a static pod: its kubelet makes it, restart it on its node",
    "Job": "its Job would begin again: it is left to end",
}


def test_by_workload() -> None:
    items = [
        pod("web-5d9-a"),
        pod("web-5d9-b"),
        pod("web-5d9-c"),
        pod("web-5d9-done", phase="Succeeded"),
        pod("db-0", "StatefulSet", "db", volumes=EMPTY),
        pod("log-a", "DaemonSet", "log"),
        pod("alone", ""),
        pod("etcd", "Node", "w1"),
        pod("sum-1", "Job", "sum"),
        {"metadata": {}},
    ]
    sizes = {f"uid-{name}": 1250 for name in ("web-5d9-a", "web-5d9-b", "db-0", "log-a", "alone", "etcd", "sum-1")}
    sizes["uid-web-5d9-b"] = 1300
    found = {f"{one.kind} {one.name}": one for one in stale.workloads([*items, items[0]], sizes, False)}
    assert list(found) == ["DaemonSet log", "Deployment web", "Job sum", "Node w1", "Pod alone", "StatefulSet db"]
    web = found["Deployment web"]
    assert (len(web.stale), web.of, web.sizes, web.left) == (2, 3, (1250, 1300), "")
    assert str(web) == "shop/Deployment web: 2 of 3 pods"
    assert found["DaemonSet log"].left == ""
    for name, why in (("Pod alone", NOT[""]), ("Node w1", NOT["Node"]), ("Job sum", NOT["Job"])):
        assert found[name].left == why
    assert found["StatefulSet db"].left == "what it keeps on this node would be lost: emptyDir cache"
    assert {one.left for one in stale.workloads(items, sizes, True) if one.name == "db"} == {""}


def test_only_old_ones_are_made_anew(tmp_path: Path) -> None:
    server = Server(pod("web-a"), pod("web-b"), pod("alone", ""))
    with served(tmp_path, server) as api:
        found = stale.find(api, {"uid-web-a": 1250, "uid-alone": 1250})
        said: list[str] = []
        done = stale.restart(api, found, said.append, lambda: False, 5)
    assert (done.done, done.failed) == (("shop/web-a",), ())
    assert server.evicted == ["web-a"]
    assert said == ["shop/web-a: made anew (Deployment web)"]


def test_a_budget_is_kept_and_the_next_workload_gone_on_with(tmp_path: Path) -> None:
    server = Server(pod("web-a"), pod("web-b"), pod("log-a", "DaemonSet", "log"))
    server.budget = {"web-a"}
    with served(tmp_path, server) as api:
        found = stale.find(api, {"uid-web-a": 1250, "uid-web-b": 1250, "uid-log-a": 1250})
        done = stale.restart(api, found, lambda text: None, lambda: False, 0.3)
    assert done.done == ("shop/log-a",)
    assert done.failed == (("shop/web-a", "The disruption budget web needs 1 healthy pods"),)
    assert server.evicted == ["log-a"]


def test_one_that_does_not_come_back_ends_its_workload(tmp_path: Path) -> None:
    server = Server(pod("web-a"), pod("web-b"))
    server.ready = False
    with served(tmp_path, server) as api:
        done = stale.restart(
            api, stale.find(api, {"uid-web-a": 1, "uid-web-b": 1}), lambda text: None, lambda: False, 0.3
        )
    assert (done.done, server.evicted) == ((), ["web-a"])
    assert "1 of 2 pods of its workload are ready" in done.failed[0][1]


def test_stopped_between_two_pods(tmp_path: Path) -> None:
    server = Server(pod("web-a"), pod("web-b"))
    with served(tmp_path, server) as api:
        found = stale.find(api, {"uid-web-a": 1, "uid-web-b": 1})
        done = stale.restart(api, found, lambda text: None, lambda: bool(server.evicted), 5)
    assert done.done == ("shop/web-a",)


def agent(node: str) -> dict[str, Any]:
    return pod(f"flannel-{node}", "DaemonSet", "kube-flannel-ds", node, namespace="kube-flannel")


def test_agents_one_node_at_a_time(tmp_path: Path) -> None:
    server = Server(agent("w1"), agent("w2"), agent("c1"))
    order = agents.in_order(["c1", "w2", "w1"], {"c1": ["control-plane"]})
    assert order == ["w1", "w2", "c1"]
    with served(tmp_path, server) as api:
        found = agents.find(api, "flannel", order)
        said: list[str] = []
        assert agents.restart(api, found, said.append, lambda: False, 5) == order
    assert server.evicted == ["flannel-w1", "flannel-w2", "flannel-c1"]
    assert said[0] == "w1: kube-flannel-ds is new and ready"


@pytest.mark.parametrize("heirs", [True, False])
def test_an_agent_that_does_not_come_back_ends_it(tmp_path: Path, heirs: bool) -> None:
    server = Server(agent("w1"), agent("w2"))
    server.ready, server.heirs = False, heirs
    with served(tmp_path, server) as api:
        found = agents.find(api, "flannel", ["w1", "w2"])
        with pytest.raises(TuneError, match=r"of w1 is not ready again") as problem:
            agents.restart(api, found, lambda text: None, lambda: False, 0.3)
    assert server.evicted == ["flannel-w1"]
    assert "those after it were not touched" in problem.value.why


def test_an_agent_inside_another_program(tmp_path: Path) -> None:
    with (
        served(tmp_path, Server(agent("w1"))) as api,
        pytest.raises(TuneError, match="w2 has no pod of flannel's agent"),
    ):
        agents.find(api, "flannel", ["w1", "w2"])
