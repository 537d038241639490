"""A rebuild carried out against a small API server and a node that keeps its phase: order, kills, refusals, undo."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster import drain
from tune_nodes.cluster.api import Api
from tune_nodes.cluster.objects import CORDONED_BY
from tune_nodes.errors import TuneError
from tune_nodes.recovery.rebuild import pods, work
from tune_nodes.recovery.rebuild.steps import Step, left
from tune_nodes.recovery.rebuild.work import Options, Rebuild, Standing, Stuck, standing
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

NODE, RUN = "worker", "run-1"
FLANNEL = "ghcr.io/flannel-io/flannel:v0.28.10"


def pod(name: str, kind: str, host: bool = False, image: str = "probe:1", **status: Any) -> dict[str, Any]:
    """Return a pod of a controller on the node."""
    owner = {"kind": kind, "name": name.rpartition("-")[0], "controller": True}
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "ownerReferences": [owner]},
        "spec": {"nodeName": NODE, "hostNetwork": host, "containers": [{"image": image}]},
        "status": {
            "phase": "Running",
            "podIP": "10.244.1.9",
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


class Server:
    """One Node and its pods; DaemonSets' pods come back at once, others start elsewhere."""

    def __init__(self) -> None:
        self.node: dict[str, Any] = {"metadata": {"name": NODE, "resourceVersion": "1"}, "spec": {}}
        self.pods = {
            item["metadata"]["name"]: item
            for item in (
                pod("web-1", "ReplicaSet"),
                pod("each-1", "DaemonSet"),
                pod("flannel-1", "DaemonSet", host=True, image=FLANNEL),
                pod("proxy-1", "DaemonSet", host=True),
            )
        }
        self.made = 1
        self.fenced = False
        self.budget = True

    def answer(self, request: Request) -> None:
        path = urlsplit(request.path)
        name = path.path.rsplit("/", 1)[-1]
        if request.command == "GET" and name == NODE:
            request.send(200, self.node)
        elif request.command == "GET":
            assert parse_qs(path.query)["fieldSelector"] == [f"spec.nodeName={NODE}"]
            request.send(200, {"items": list(copy.deepcopy(self.pods).values())})
        elif request.command == "PATCH":
            body = request.body()
            self.node["spec"] = body["spec"]
            self.node["metadata"]["annotations"] = body["metadata"]["annotations"]
            request.send(200, self.node)
        elif request.command == "POST":
            self.evict(request, path.path.split("/")[-2])
        else:
            self.delete(request, name, request.body()["preconditions"]["uid"])

    def evict(self, request: Request, name: str) -> None:
        request.body()
        if self.budget:
            self.gone(name)
            request.send(201, {"status": "Success"})
        else:
            causes = [{"reason": "DisruptionBudget", "message": "The disruption budget web needs 5 healthy pods"}]
            request.refuse(429, "TooManyRequests", "Cannot evict pod", causes)

    def delete(self, request: Request, name: str, uid: str) -> None:
        if name not in self.pods or self.pods[name]["metadata"]["uid"] != uid:
            request.refuse(404, "NotFound", "not found")
            return
        self.gone(name)
        request.send(200, {"kind": "Status"})

    def gone(self, name: str) -> None:
        old = self.pods.pop(name)
        if old["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet":
            self.made += 1
            host = old["spec"]["hostNetwork"]
            fresh = pod(
                f"{name.rpartition('-')[0]}-{self.made}", "DaemonSet", host, old["spec"]["containers"][0]["image"]
            )
            if self.fenced and not host:
                fresh["status"] = {"phase": "Pending"}
            self.pods[fresh["metadata"]["name"]] = fresh

    @property
    def own(self) -> list[str]:
        """Pods with a network of their own."""
        return [n for n, p in self.pods.items() if not p["spec"]["hostNetwork"] and p["status"].get("podIP")]


class Killed(BaseException):
    """The controller is killed."""


class Node:
    """The node's side, and the run's: remembers its phase, and whether what it was asked for was right then."""

    def __init__(self, server: Server, kill: tuple[Step, str] | None = None) -> None:
        self.server, self.kill = server, kill
        self.record: dict[str, Any] | None = None
        self.steps: list[str] = []
        self.journalled: list[tuple[str, str]] = []
        self.fails: dict[str, ErrorRecord] = {}
        self.late = 0
        self.sick = ""
        self.stop = False

    def node(self, step: str, **fields: Any) -> NodeRecord:
        self.steps.append(step)
        error = self.fails.get(step)
        if error is None:
            error = self._do(step, fields)
        outcome = Outcome.CHANGED if error is None else Outcome.FAILED
        host = {"cni": {"rebuild": {"record": self.record}}}
        return NodeRecord(name="w", outcome=outcome, host=host, error=error)

    def _do(self, step: str, fields: dict[str, Any]) -> ErrorRecord | None:
        phases = {"begin": "begun", "fence": "fenced", "clear": "cleared", "open": "open", "finish": "done"}
        if step == "begin" and self.record is None:
            self.record = {"run": fields["run"], "phase": "", "cni": "flannel", "agents": []}
        assert self.record is not None and fields["run"] == self.record["run"] == RUN
        if step == "fence":
            self.server.fenced = True
        if step == "clear":
            assert self.server.fenced and self.server.node["spec"].get("unschedulable")
            if self.late:
                self.late -= 1
                return ErrorRecord(what="pods still have a network on this node", code="alive")
            assert not self.server.own
            assert set(fields["host_pods"]) >= {"uid-proxy-1"} and fields["agents"]
            self.record["agents"] = fields["agents"]
        if step in ("open", "undo"):
            self.server.fenced = False
        self.record["phase"] = phases.get(step, "undone")
        return None

    def journal(self, step: Step, state: str) -> None:
        if self.kill == (step, state):
            self.kill = None
            raise Killed
        self.journalled.append((str(step), state))

    def note(self, sentence: str) -> None:
        """Say nothing."""

    def check(self) -> None:
        """Never lost."""

    def stopped(self) -> bool:
        return self.stop

    def unwell(self) -> str:
        return self.sick


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    for module, name in ((pods, "LOOK"), (work, "PAUSE"), (drain, "LOOK"), (drain, "RETRY")):
        monkeypatch.setattr(module, name, 0.01)
    return Server()


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[Api]:
    with tiny_api(server.answer) as address:
        made = Api(kubeconfig(tmp_path, address), timeout=5)
        yield made
        made.close()


def rebuild(api: Api, node: Node) -> Rebuild:
    """Return a rebuild as a run begins it: from what the node says."""
    said = NodeRecord(name="w", outcome=Outcome.OK, host={"cni": {"rebuild": {"record": node.record}}})
    return Rebuild(api, NODE, standing(said, RUN), Options(timeout=5), node)


def well(server: Server, node: Node) -> None:
    """Make sure that all is done and nothing is left behind."""
    assert node.record is not None and node.record["phase"] == "done"
    assert not server.node["spec"].get("unschedulable") and not server.fenced
    agent = next(p for n, p in server.pods.items() if n.startswith("flannel"))
    assert agent["metadata"]["uid"] not in node.record["agents"]


def test_the_steps_come_in_order_and_each_is_journalled(server: Server, api: Api) -> None:
    node = Node(server)
    work_ = rebuild(api, node)
    work_.carry_on()
    well(server, node)
    assert work_.done == list(Step)
    assert node.steps == ["begin", "fence", "clear", "open", "finish"]
    assert node.journalled == [(str(step), state) for step in Step for state in ("begin", "done")]
    assert "web-1" not in server.pods


@pytest.mark.parametrize("state", ["begin", "done"])
@pytest.mark.parametrize("step", list(Step))
def test_killed_anywhere_a_second_run_ends_it(server: Server, api: Api, step: Step, state: str) -> None:
    node = Node(server, (step, state))
    with pytest.raises(Killed):
        rebuild(api, node).carry_on()
    rebuild(api, node).carry_on()
    well(server, node)


@pytest.mark.parametrize("step", list(Step))
def test_killed_anywhere_undo_leaves_an_open_node_with_a_living_agent(server: Server, api: Api, step: Step) -> None:
    node = Node(server, (step, "done"))
    with pytest.raises(Killed):
        rebuild(api, node).carry_on()
    rebuild(api, node).take_back()
    assert not server.fenced and not server.node["spec"].get("unschedulable")
    assert node.record is not None and node.record["phase"] == "undone"
    agent = next(p for n, p in server.pods.items() if n.startswith("flannel"))
    assert agent["metadata"]["uid"] not in node.record["agents"]


def test_somebody_elses_cordon_stays(server: Server, api: Api) -> None:
    server.node["spec"]["unschedulable"] = True
    node = Node(server)
    rebuild(api, node).carry_on()
    assert server.node["spec"]["unschedulable"] and node.record is not None and node.record["phase"] == "done"


def test_a_budget_that_gives_no_room_stops_it_with_the_cni_untouched(server: Server, api: Api) -> None:
    server.budget = False
    node = Node(server)
    made = Rebuild(api, NODE, Standing(RUN), Options(timeout=0.2), node)
    with pytest.raises(TuneError, match="could not all be moved") as caught:
        made.carry_on()
    assert "needs 5 healthy pods" in caught.value.why
    assert node.steps == ["begin"] and "each-1" in server.pods
    assert server.node["metadata"]["annotations"][CORDONED_BY] == RUN


def test_a_node_that_cannot_is_not_closed(server: Server, api: Api) -> None:
    node = Node(server)
    node.fails["begin"] = ErrorRecord(what="no", why="cilium", code="unsupported")
    with pytest.raises(Stuck) as caught:
        rebuild(api, node).carry_on()
    assert caught.value.data["code"] == "unsupported" and not server.node["spec"]


def test_the_runtime_may_be_later_than_the_api_server(server: Server, api: Api) -> None:
    node = Node(server)
    node.late = 2
    rebuild(api, node).carry_on()
    well(server, node)
    assert node.steps.count("clear") == 3


def test_what_does_not_verify_stays_closed_and_is_carried_on(server: Server, api: Api) -> None:
    node = Node(server)
    node.sick = "a pod does not answer"
    with pytest.raises(TuneError, match="not as it should be"):
        rebuild(api, node).carry_on()
    assert server.node["spec"]["unschedulable"]
    node.sick = ""
    rebuild(api, node).carry_on()
    well(server, node)


def test_a_person_stops_it_between_two_steps(server: Server, api: Api) -> None:
    node = Node(server)
    node.stop = True
    with pytest.raises(TuneError, match="stopped"):
        rebuild(api, node).carry_on()
    assert node.steps == []


@pytest.mark.parametrize(
    ("phase", "first", "count"),
    [("", Step.BEGIN, 11), ("fenced", Step.CORDON, 10), ("clearing", Step.CORDON, 10), ("cleared", Step.START, 5)],
)
def test_what_is_left(phase: str, first: Step, count: int) -> None:
    assert left(phase)[0] is first and len(left(phase)) == count


@pytest.mark.parametrize("phase", ["done", "undone", "what?"])
def test_nothing_is_left_of_what_is_over_or_not_understood(phase: str) -> None:
    assert left(phase) == ()


def test_an_open_network_is_not_opened_again() -> None:
    assert left("open") == (Step.START, Step.VERIFY, Step.UNCORDON, Step.FINISH)


def test_a_static_pod_with_a_network_is_named() -> None:
    item = pod("static-1", "Node")
    item["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    with pytest.raises(TuneError, match="shop/static-1"):
        pods.with_network([item])


def test_who_lives_on_by_both_names_of_a_static_pod() -> None:
    item = pod("etcd-1", "Node", host=True)
    item["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    over = pod("job-1", "Job", phase="Succeeded")
    assert pods.host_uids([item, pod("web-1", "ReplicaSet"), over]) == ["hash", "uid-etcd-1", "uid-job-1"]


@pytest.mark.parametrize("junk", [{}, {"metadata": 1}, {"spec": [], "status": "x"}, {"metadata": {"uid": 5}}])
def test_junk_is_no_pod(junk: dict[str, Any]) -> None:
    assert pods.agents([junk], "flannel") == []
    assert pods.with_network([junk]) == {} and pods.host_uids([junk]) == []
