"""R1 on a small API server: which agent is started anew, and when none is."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cluster.api import Api
from tune_nodes.recovery.rebuild import pods
from tune_nodes.recovery.rungs import agent
from tune_nodes.recovery.state import Fault, NodeState
from tune_nodes.runs.models import ErrorRecord, NodeRecord, Outcome

NODE = "worker"
IMAGES = {
    "kube-flannel-ds": "ghcr.io/flannel-io/flannel:v0.28.10",
    "multus": "ghcr.io/k8snetworkplumbingwg/multus-cni:v4",
    "cilium": "quay.io/cilium/cilium:v1.20.2",
    "canal": "docker.io/calico/node:v3.32",
    "web": "web:1",
}


def fault(code: str, rung: int | None = 1) -> Fault:
    return Fault(code, code, rung=rung)


@pytest.mark.parametrize(
    ("cni", "codes", "agents", "unready", "wanted"),
    [
        ("flannel", ["vtep-mac"], ["flannel"], [], ["flannel"]),
        ("multus", ["subnet-env"], ["flannel", "multus"], [], ["flannel"]),
        ("multus", ["no-subnet-env", "peer"], ["flannel", "multus"], [], ["flannel"]),
        ("multus", ["no-tunnel"], ["flannel", "multus"], [], ["flannel"]),
        ("flannel", ["agent-not-ready"], ["flannel", "multus"], ["multus"], ["multus"]),
        ("multus", ["agent-not-ready", "peer"], ["flannel", "multus"], ["multus"], ["flannel", "multus"]),
        ("multus", ["no-plugin"], ["flannel", "multus"], [], ["multus"]),
        ("", ["no-configuration"], ["flannel"], [], ["flannel"]),
        ("flannel", [], ["flannel", "multus"], [], ["flannel"]),
        ("canal", [], ["calico", "canal", "flannel"], [], ["canal"]),
        ("cilium", [], ["flannel"], [], ["flannel"]),
        ("cilium", [], [], [], []),
    ],
)
def test_the_agents_that_mend_what_was_found(
    cni: str, codes: Sequence[str], agents: Sequence[str], unready: Sequence[str], wanted: list[str]
) -> None:
    state = NodeState("w", cni, faults=(*map(fault, codes), fault("old-bridge", 4), fault("agent-missing", None)))
    assert agent.wanted(state, agents, unready) == wanted


def test_what_is_flannels_is_what_the_page_says() -> None:
    page = Path(__file__).parents[3] / "docs/recover-cni.md"
    told = re.findall(r"^\| `([a-z-]+)` \| Flannel: .* \| R1 \|$", page.read_text(), re.M)
    assert set(told) == agent.OF_FLANNEL


class Server:
    """A node's pods; a DaemonSet's comes back ready."""

    def __init__(self, *apps: str) -> None:
        self.made = 0
        self.pods = {item["metadata"]["name"]: item for item in map(self.pod, apps)}
        self.deleted: list[str] = []

    def pod(self, app: str) -> dict[str, Any]:
        self.made += 1
        name = f"{app}-{self.made}"
        owner = {"kind": "DaemonSet", "name": app, "controller": True}
        return {
            "metadata": {"name": name, "namespace": "kube-system", "uid": f"uid-{name}", "ownerReferences": [owner]},
            "spec": {"nodeName": NODE, "hostNetwork": True, "containers": [{"image": IMAGES[app]}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def answer(self, request: Request) -> None:
        name = urlsplit(request.path).path.rsplit("/", 1)[-1]
        if request.command == "GET":
            request.send(200, {"items": list(copy.deepcopy(self.pods).values())})
        elif request.command == "DELETE" and name in self.pods:
            request.body()
            self.deleted.append(name)
            del self.pods[name]
            fresh = self.pod(name.rpartition("-")[0])
            self.pods[fresh["metadata"]["name"]] = fresh
            request.send(200, {"kind": "Status"})
        else:
            request.refuse(404, "NotFound", "not found")


class Run:
    """What the rung needs of a run. ``looks``: what each later look at the node finds; the last one stays."""

    def __init__(
        self, api: Api | None, state: NodeState, *looks: NodeState, agents: Sequence[str] = ("flannel",)
    ) -> None:
        self.states = {"w": state}
        self.left = list(looks)
        self.error: ErrorRecord | None = None
        self.agents = list(agents)
        self.notes: list[str] = []
        self.forgotten = 0
        self.fleet = SimpleNamespace(
            record=SimpleNamespace(nodes={"w": NodeRecord(name="w", outcome=Outcome.PENDING)}),
            handle=SimpleNamespace(event=lambda *_args, **_fields: None),
            progress=SimpleNamespace(note=self.notes.append),
            stop=SimpleNamespace(requested=False),
        )
        cluster = SimpleNamespace(api=api)
        view = SimpleNamespace(cluster=cluster, node_of=lambda _name: NODE, forget=self.forget)
        self.view = None if api is None else view

    def forget(self) -> None:
        self.forgotten += 1

    def facts(self, _name: str) -> dict[str, Any]:
        return {"agents": self.agents, "own": {"unready": []}} if self.view else {}

    def look(self, names: Sequence[str]) -> dict[str, NodeRecord]:
        if self.left:
            self.states["w"] = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        host = {} if self.error else {"cni": {"cni": {"name": "flannel"}}}
        return {name: NodeRecord(name=name, outcome=Outcome.OK, host=host, error=self.error) for name in names}


WELL = NodeState("w", "flannel", "/etc/cni/net.d/10-flannel.conflist")
SICK = replace(WELL, faults=(fault("vtep-mac"),))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(pods, "LOOK", 0.01)
    monkeypatch.setattr(agent, "PAUSE", 0.01)
    return Server("kube-flannel-ds", "multus", "web")


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[Api]:
    with tiny_api(server.answer) as address:
        made = Api(kubeconfig(tmp_path, address), timeout=5)
        yield made
        made.close()


def take(run: Any) -> NodeRecord:
    taken: Any = None
    return agent.take(run, "w", taken)


def test_one_agent_is_deleted_and_its_successor_waited_for(server: Server, api: Api) -> None:
    run = Run(api, SICK, SICK, SICK, WELL)
    record = take(run)
    assert record.outcome is Outcome.CHANGED and record.error is None
    assert server.deleted == ["kube-flannel-ds-1"], "no other pod is touched"
    assert run.states["w"] == WELL, "an agent that is ready has not put everything right yet"
    assert any("the agent of flannel is started anew: kube-system/kube-flannel-ds-1" in note for note in run.notes)


def test_what_came_right_by_itself_costs_no_agent(server: Server, api: Api) -> None:
    run = Run(api, SICK, WELL)
    record = take(run)
    assert record.outcome is Outcome.OK and server.deleted == []
    assert run.forgotten == 1, "other nodes are asked for again, too: one of them may have been the cause"
    assert any("come right by itself" in note for note in run.notes)


def test_by_its_number_alone_it_is_taken_on_a_node_that_is_well(server: Server, api: Api) -> None:
    assert take(Run(api, WELL)).outcome is Outcome.CHANGED
    assert server.deleted == ["kube-flannel-ds-1"]


def test_a_node_that_cannot_be_looked_at_again_keeps_its_agent(server: Server, api: Api) -> None:
    run = Run(api, SICK, WELL)
    run.error = ErrorRecord(what="ssh: no route to host", code="unreachable")
    record = take(run)
    assert record.outcome is Outcome.FAILED and record.error == run.error and server.deleted == []


def test_canal_is_started_anew_once(server: Server, api: Api) -> None:
    server.pods = {"canal-1": server.pod("canal")}
    server.pods["canal-1"]["metadata"] |= {"name": "canal-1", "uid": "uid-canal-1"}
    sick = replace(WELL, cni="canal", faults=(fault("vtep-mac"), fault("no-plugin")))
    run = Run(api, sick, sick, WELL, agents=["calico", "canal", "flannel"])
    assert take(run).outcome is Outcome.CHANGED
    assert server.deleted == ["canal-1"]


def test_what_is_cut_is_said(server: Server, api: Api) -> None:
    server.pods = {"cilium-1": server.pod("cilium")}
    server.pods["cilium-1"]["metadata"] |= {"name": "cilium-1"}
    run = Run(api, replace(WELL, cni="cilium"), agents=["cilium"])
    take(run)
    assert server.deleted == ["cilium-1"] and "connections through its proxy" in run.notes[0]


def test_without_an_agents_pod_nothing_is_done(server: Server, api: Api) -> None:
    server.pods = {"web-9": server.pod("web")}
    record = take(Run(api, SICK))
    assert record.outcome is Outcome.FAILED and record.error is not None
    assert "no agent's pod" in record.error.what and server.deleted == []


def test_without_a_cluster_nothing_is_done() -> None:
    record = take(Run(None, WELL))
    assert record.outcome is Outcome.FAILED and record.error is not None and "--kubeconfig" in record.error.next


def test_an_agent_that_does_not_get_ready_is_named(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "AGENT", 0.1)
    made = server.pod
    monkeypatch.setattr(server, "pod", lambda app: {**made(app), "status": {"phase": "Pending"}})
    record = take(Run(api, SICK))
    assert record.outcome is Outcome.FAILED and record.error is not None
    assert record.error.code == "agent" and "is not ready" in record.error.what


@pytest.mark.parametrize("stopped", [False, True])
def test_what_stays_wrong_is_waited_for_and_no_longer(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(agent, "SETTLE", 0.2 if not stopped else 60)
    run = Run(api, SICK)
    if stopped:
        noted = run.fleet.handle
        run.fleet.handle = SimpleNamespace(event=lambda *args, **fields: stop(run, noted, *args, **fields))
    begun = time.monotonic()
    assert take(run).outcome is Outcome.CHANGED
    assert time.monotonic() - begun < 20 and run.states["w"] == SICK, "the comparison afterwards says that it stays"


def stop(run: Run, noted: SimpleNamespace, *args: object, **fields: object) -> None:
    """A person stops the run once the agent is deleted."""
    noted.event(*args, **fields)
    run.fleet.stop.requested = True
