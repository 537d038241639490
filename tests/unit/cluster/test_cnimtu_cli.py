"""``tune-nodes mtu`` and the module tune.nodes.cni_mtu, from what nodes said to what an API server is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cnimtu_objects import flannel, stack
from tiny_api import Request, kubeconfig, tiny_api

from tune_nodes.cli import mtu as mtu_cli
from tune_nodes.cli.main import run
from tune_nodes.cli.mtulook import Asked
from tune_nodes.cnimtu import agents, module, service
from tune_nodes.cnimtu.model import NodeStack
from tune_nodes.errors import Exit, TuneError
from tune_nodes.runs.models import NodeRecord, Outcome


def node(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


class Server:
    """A cluster of two nodes with Flannel, its configuration, and one agent a node."""

    def __init__(self, backend: dict[str, Any]) -> None:
        self.config = json.loads(json.dumps(flannel(backend).raw))
        self.agents = dict.fromkeys(("w1", "w2"), 1)
        self.sent: list[str] = []

    @property
    def backend(self) -> Any:
        return json.loads(self.config["data"]["net-conf.json"])["Backend"]

    def __call__(self, request: Request) -> None:
        self.sent.append(request.command)
        body = request.body()
        if request.path.endswith("selfsubjectreviews"):
            request.send(201, {"status": {"userInfo": {"username": "jo"}}})
        elif request.path == "/version":
            request.send(200, {"gitVersion": "v1.34.4"})
        elif "/configmaps/kube-flannel-cfg" in request.path and "/kube-flannel/" in request.path:
            if request.command == "PATCH":
                self.config["data"] |= body["data"]
            request.send(200, self.config)
        elif "/configmaps/" in request.path:
            request.refuse(404, "NotFound", "not found")
        elif request.command == "POST":
            self.agents[body["metadata"]["name"].removeprefix("agent-")] += 1
            request.send(201, {})
        elif "/nodes" in request.path:
            request.send(200, {"items": [node("w1"), node("w2")]})
        elif "/daemonsets" in request.path:
            image = {"containers": [{"image": "docker.io/flannel/flannel:v0.28.10"}]}
            metadata = {"name": "kube-flannel-ds", "namespace": "kube-flannel"}
            request.send(200, {"items": [{"metadata": metadata, "spec": {"template": {"spec": image}}}]})
        else:
            request.send(200, {"items": [self.agent(name, count) for name, count in self.agents.items()]})

    def agent(self, name: str, count: int) -> dict[str, Any]:
        owner = {"kind": "DaemonSet", "name": "kube-flannel-ds", "uid": "ds", "controller": True}
        metadata = {
            "name": f"agent-{name}",
            "namespace": "kube-flannel",
            "uid": f"{name}-{count}",
            "ownerReferences": [owner],
        }
        ready = [{"type": "Ready", "status": "True"}]
        return {"metadata": metadata, "spec": {"nodeName": name}, "status": {"phase": "Running", "conditions": ready}}


WRONG = {"Type": "vxlan", "MTU": 1300}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    monkeypatch.setattr(agents, "LOOK", 0.01)
    answers = Server(WRONG)
    with tiny_api(answers) as url:
        yield answers, url


@pytest.fixture
def line(tmp_path: Path, server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said(monkeypatch, stack("w1"), stack("w2"))
    return ["--kubeconfig", str(kubeconfig(tmp_path, server[1])), "--state-dir", str(tmp_path / "state"), "-q"]


def said(monkeypatch: pytest.MonkeyPatch, *stacks: NodeStack, sizes: Any = (), code: Exit = Exit.OK) -> None:
    """Let nodes have said this."""
    records = {one.node: NodeRecord(name=one.node, outcome=Outcome.OK) for one in stacks}
    asked = Asked(records, stacks, dict(sizes), {one.node: "" for one in stacks}, (), code)
    monkeypatch.setattr(mtu_cli, "ask_nodes", lambda session, pods: asked)


def test_shown_and_nothing_changed(server: tuple[Server, str], line: list[str], capsys: Any) -> None:
    assert run(["mtu", "show", *line]) == 0
    out = capsys.readouterr().out
    assert "1300 -> automatic" in out
    assert "restart     flannel's agent on w1, w2" in out
    assert run(["mtu", "show", *line, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (setting,) = document["plan"]["settings"]
    assert (setting["object"], setting["now"], setting["want"]) == (
        "ConfigMap kube-flannel/kube-flannel-cfg",
        1300,
        None,
    )
    assert document["nodes"]["w1"]["layers"][1] == {"name": "flannel.1", "kind": "vxlan", "mtu": 1450, "want": 1450}
    assert "PATCH" not in server[0].sent
    assert server[0].agents == {"w1": 1, "w2": 1}


def test_changed_and_taken_back(server: tuple[Server, str], line: list[str], tmp_path: Path, capsys: Any) -> None:
    assert run(["mtu", "cni", *line]) == 5  # nobody to ask
    assert "tune-nodes mtu show" in capsys.readouterr().err
    assert run(["mtu", "cni", *line, "--yes"]) == 0
    assert server[0].backend == {"Type": "vxlan"}
    assert server[0].agents == {"w1": 2, "w2": 2}
    (saved,) = (tmp_path / "state" / "cni-mtu").iterdir()
    assert f"--undo {saved}" in capsys.readouterr().err
    assert run(["mtu", "cni", *line, "--yes"]) == 0  # nothing is left to do
    assert server[0].agents == {"w1": 2, "w2": 2}
    assert run(["mtu", "cni", *line, "--yes", "--undo", str(saved)]) == 0
    assert server[0].backend == WRONG
    assert server[0].agents == {"w1": 3, "w2": 3}
    assert run(["mtu", "cni", *line, "--yes", "--undo", str(tmp_path / "nowhere")]) == 5


def test_not_for_nodes_that_nobody_looked_at(
    server: tuple[Server, str], line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    said(monkeypatch, stack("w1"))
    assert run(["mtu", "cni", *line, "--yes"]) == 1
    assert "w2 too, which nobody" in " ".join(capsys.readouterr().err.split())
    said(monkeypatch, stack("w1"), stack("w2"), code=Exit.UNREACHABLE)
    assert run(["mtu", "cni", *line, "--yes"]) == 4
    assert server[0].backend == WRONG


def test_no_restart_into_the_old_mtu(
    server: tuple[Server, str], line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    old = {"w1-1": 1250}
    said(monkeypatch, stack("w1", given=1250), stack("w2"), sizes=old)
    assert run(["mtu", "restart-pods", *line, "--yes"]) == 1
    assert "new pods would have the old MTU again" in " ".join(capsys.readouterr().err.split())
    assert server[0].agents == {"w1": 1, "w2": 1}
    server[0].config["data"]["net-conf.json"] = json.dumps({"Backend": {"Type": "vxlan"}})
    said(monkeypatch, stack("w1"), stack("w2"), sizes=old)
    assert run(["mtu", "restart-pods", *line, "--yes"]) == 0
    assert server[0].agents == {"w1": 2, "w2": 1}


def test_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    said(monkeypatch, stack("w1"))
    state = ["--state-dir", str(tmp_path / "state"), "-q"]
    assert run(["mtu", "show", *state]) == 0
    assert "flannel.1 1450" in capsys.readouterr().out
    assert run(["mtu", "cni", *state, "--yes"]) == 5


def test_an_agent_that_stays_away_names_the_way_back(
    server: tuple[Server, str], line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(service.agents, "restart", lambda *_: _raise())
    assert run(["mtu", "cni", *line, "--yes"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "next: look at it; to take it back: tune-nodes mtu cni --undo" in said


def _raise() -> None:
    raise TuneError("not ready again", "it hangs", "look at it")


CHANGES = [
    {"key": "eth0/mtu", "before": "1500", "want": "1500", "status": "ok", "identity": {"driver": "veth"}},
    {"key": "flannel.1/mtu", "before": "1450", "want": "1450", "status": "ok", "identity": {"kind": "vxlan"}},
    {"key": "pods/mtu", "before": "1250", "want": "1450", "status": "owned", "identity": {"cni": "flannel"}},
]


def params(path: Path, directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "nodes": {name: {"changes": CHANGES, "stale_pods": []} for name in ("w1", "w2")},
        "addresses": {},
        "kubeconfig": str(path),
        "context": "",
        "backup_dir": str(directory),
        "restart_pods": False,
        "delete_emptydir_data": False,
        **more,
    }


def test_the_module(server: tuple[Server, str], tmp_path: Path) -> None:
    asked = params(kubeconfig(tmp_path, server[1]), tmp_path / "kept")
    found = module.run(asked, check=True)
    assert (found["changed"], found["restarted"], found["settings"][0]["status"]) == (True, ["w1", "w2"], "pending")
    assert server[0].backend == WRONG
    found = module.run(asked, check=False)
    assert (found["changed"], found["restarted"], found["settings"][0]["status"]) == (True, ["w1", "w2"], "changed")
    assert Path(found["backup"], "backup.json").is_file()
    assert server[0].backend == {"Type": "vxlan"}


@pytest.mark.parametrize("nodes", [{}, {"w1": None}, {"w1": {"changes": "x"}}, {"w1": {"changes": [1, {}]}}])
def test_the_module_takes_no_junk_for_nodes(server: tuple[Server, str], tmp_path: Path, nodes: Any) -> None:
    found = module.run(params(kubeconfig(tmp_path, server[1]), tmp_path, nodes=nodes), check=False)
    assert not found["changed"]
    assert found["refused"]
    assert server[0].backend == WRONG


def test_the_module_says_what_failed(tmp_path: Path) -> None:
    found = module.run(params(tmp_path / "nowhere", tmp_path), check=False)
    assert found["failed"]
    assert "nowhere" in found["msg"]
