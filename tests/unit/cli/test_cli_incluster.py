"""Whether a run uses a cluster: every way it can be unusable, in every mode; and whole commands with one that is."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_scripted import Fleet

from tune_nodes.cli import incluster, session
from tune_nodes.cli.incluster import ClusterWish, Mode, open_cluster, wish_of
from tune_nodes.cli.main import run
from tune_nodes.cluster.errors import FORBIDDEN, UNAUTHORIZED, ClusterError
from tune_nodes.cluster.model import ClusterFacts, NodeFacts
from tune_nodes.cluster.wiring import Drain, Occasion
from tune_nodes.config import load_config
from tune_nodes.errors import TuneError, UsageError
from tune_nodes.fleet.clusterside import NoCluster

REFUSED = ClusterError(UNAUTHORIZED, "the token of the context prod was refused", "it has expired", "log in again")
NO_RIGHTS = ClusterError(FORBIDDEN, "nobody may not list nodes", "the server does not say why")
NODE = NodeFacts("n1", ("10.0.0.1",), ready=True)


class Server:
    """A cluster that answers ``Cluster.open``, or whose parts raise."""

    def __init__(self) -> None:
        self.opening: ClusterError | None = None
        self.looking: ClusterError | None = None
        self.lacking: dict[str, list[str]] = {}
        self.node = NODE
        self.told: list[str] = []

    def open(self, path: Path, context: str = "") -> Server:
        if self.opening:
            raise self.opening
        return self

    def facts(self) -> ClusterFacts:
        if self.looking:
            raise self.looking
        return ClusterFacts("https://192.0.2.10:6443", "prod", "v1.34.4", ("flannel v0.28.10",), {"n1": self.node})

    def missing(self, level: str) -> list[str]:
        return self.lacking.get(level, [])

    def nodes(self, names: Any) -> dict[str, NodeFacts]:
        return {"n1": self.node}

    def agents(self, nodes: Any) -> list[Any]:
        return []

    def pod_names(self, uids: Any, nodes: Any) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.told.append("close")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(incluster, "Cluster", found)
    return found


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "admin.conf"
    path.write_text("apiVersion: v1")
    return str(path)


def occasion(tmp_path: Path, verb: str = "apply") -> tuple[Occasion, list[str]]:
    notes: list[str] = []
    return Occasion("20261124-081530-a1b2c3", verb, tmp_path, lambda run: False, notes.append), notes


# What is wrong: error of opening, error of looking, whether a file is named.
TROUBLES: dict[str, tuple[ClusterError | None, ClusterError | None]] = {
    "expired": (REFUSED, None),
    "no rights": (None, NO_RIGHTS),
    "dead": (ClusterError("unreachable", "the API server https://192.0.2.10:6443 cannot be reached", "refused"), None),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("mode", ["auto", "required", "off"])
@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("verb", ["apply", "plan"])
def test_a_cluster_that_cannot_be_used(
    server: Server, tmp_path: Path, kubeconfig: str, trouble: str, mode: Mode, drain: bool, verb: str
) -> None:
    server.opening, server.looking = TROUBLES[trouble]
    problem = server.opening or server.looking
    assert problem is not None
    wish = ClusterWish(kubeconfig, "", mode, Drain(drain))
    when, notes = occasion(tmp_path, verb)
    drained = drain and verb == "apply"
    if mode == "off" and not drained:
        assert open_cluster(wish, when, [], {}, 120, {}).record is None
        return
    if mode == "auto" and not drained:
        side = open_cluster(wish, when, [], {}, 120, {})
        assert isinstance(side, NoCluster)
        assert side.record is not None
        assert (side.record.used, side.record.problem) == (False, problem.code)
        assert f"{problem.what}: {problem.why}" in side.record.not_checked[0]
        assert notes[0] == f"warning: the cluster is not used: {problem.what}: {problem.why}"
        return
    with pytest.raises(TuneError) as caught:
        open_cluster(wish, when, [], {}, 120, {})
    if mode == "off":
        assert caught.value.what == "nodes cannot be drained without the cluster"
        return
    assert (caught.value.what, caught.value.why, int(caught.value.exit)) == (problem.what, problem.why, 1)
    assert ("--cluster auto" if mode == "required" else "--no-drain") in caught.value.next


@pytest.mark.parametrize("mode", ["auto", "required", "off"])
def test_a_named_file_that_is_none_is_a_mistake_in_every_mode_but_off(tmp_path: Path, mode: Mode) -> None:
    broken = tmp_path / "broken"
    broken.write_text("{")
    for wish in (
        ClusterWish(str(tmp_path / "nowhere"), "", mode),
        ClusterWish(str(broken), "", mode),
        ClusterWish("", "prod", mode),
    ):
        if mode == "off":
            assert open_cluster(wish, occasion(tmp_path)[0], [], {}, 120, {}).record is None
            continue
        with pytest.raises(UsageError):
            open_cluster(wish, occasion(tmp_path)[0], [], {}, 120, {})


def test_without_any_kubeconfig_a_run_goes_on_and_says_nothing_but_in_its_record(tmp_path: Path) -> None:
    when, notes = occasion(tmp_path)
    side = open_cluster(ClusterWish(), when, [], {}, 30, {})
    assert side.record is not None
    assert side.record.problem == "no-kubeconfig"
    assert notes == []
    with pytest.raises(UsageError, match="there is no kubeconfig"):
        open_cluster(ClusterWish(mode="required"), when, [], {}, 120, {})


def test_a_file_that_was_only_found_may_be_broken(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{")
    when, notes = occasion(tmp_path)
    side = open_cluster(ClusterWish(), when, [str(tmp_path / "hosts.yml")], {}, 120, {})
    assert side.record is not None
    assert side.record.problem == "bad-kubeconfig"
    assert notes


def test_permissions_that_are_missing(server: Server, tmp_path: Path, kubeconfig: str) -> None:
    leases = "watch leases.coordination.k8s.io in the namespace kube-node-lease"
    server.lacking = {"read": [leases], "tune": [leases, "create pods/eviction in all namespaces", "patch nodes"]}
    when, _ = occasion(tmp_path)
    wish = ClusterWish(kubeconfig)
    side = open_cluster(wish, when, [], {"n1": ""}, 120, {})
    assert side.record is not None
    assert side.record.not_checked == ["whether the kubelets renew their Leases: no permission to watch leases"]
    with pytest.raises(ClusterError) as caught:
        open_cluster(replace(wish, mode="required"), when, [], {"n1": ""}, 120, {})
    assert caught.value.why == leases
    assert "tune-nodes cluster rbac read" in caught.value.next
    with pytest.raises(ClusterError) as caught:
        open_cluster(replace(wish, drain=Drain(True)), when, [], {"n1": ""}, 120, {})
    assert "create pods/eviction in all namespaces; patch nodes" in caught.value.why
    assert "tune-nodes cluster rbac tune" in caught.value.next
    assert server.told == ["close", "close"]


def test_a_window_that_is_too_short_for_a_lease(server: Server, tmp_path: Path, kubeconfig: str) -> None:
    when, _ = occasion(tmp_path)
    with pytest.raises(UsageError, match="a window of 44 s is too short with a cluster"):
        open_cluster(ClusterWish(kubeconfig), when, [], {"n1": ""}, 44, {})
    assert server.told == ["close"]
    assert open_cluster(ClusterWish(kubeconfig), when, [], {"n1": ""}, 45, {}).record
    assert open_cluster(ClusterWish(kubeconfig), when, [], {"n9": ""}, 20, {}).record  # none of its nodes
    assert open_cluster(ClusterWish(kubeconfig), occasion(tmp_path, "plan")[0], [], {"n1": ""}, 20, {}).record


@pytest.mark.parametrize(
    ("flags", "env", "suggested", "mode", "drain"),
    [
        ({}, {}, {}, "auto", Drain()),
        ({}, {}, {"mode": "required", "drain": True, "drain_timeout": 60}, "required", Drain(True, 60)),
        ({"cluster.mode": "off"}, {}, {"mode": "required"}, "off", Drain()),
        ({"cluster.drain": False}, {}, {"drain": True}, "auto", Drain()),
        ({}, {"TUNE_NODES_CLUSTER_MODE": "auto"}, {"mode": "required"}, "auto", Drain()),
        ({"cluster.drain": True, "cluster.drain_timeout": 9}, {}, {}, "auto", Drain(True, 9)),
    ],
)
def test_option_then_profile_then_configuration(
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    suggested: dict[str, Any],
    mode: Mode,
    drain: Drain,
    tmp_path: Path,
) -> None:
    config = load_config(flags, env={"XDG_CONFIG_HOME": str(tmp_path), **env}, cwd=tmp_path)
    found = wish_of(config, suggested)
    assert (found.mode, found.drain) == (mode, drain)


def test_the_kubeconfig_has_a_short_variable(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "TUNE_NODES_KUBECONFIG": "/k", "TUNE_NODES_CLUSTER_CONTEXT": "c"}
    config = load_config({"cluster.mode": "off"}, env=env, cwd=tmp_path)
    found = wish_of(config, {})
    assert (found.kubeconfig, found.context, found.mode) == ("/k", "c", "off")
    assert str(config.sources["cluster.kubeconfig"]) == "TUNE_NODES_KUBECONFIG"
    assert str(config.sources["cluster.mode"]) == "--cluster"


# -- whole commands -----------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    nodes = Fleet(dict.fromkeys(("n1", "n2"), "128"))
    monkeypatch.setattr(session, "AnsibleRunner", lambda options, **_: nodes)
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("hosts.ini").write_text("n1 ansible_host=10.0.0.1\nn2 ansible_host=10.0.0.2\n")
    return nodes


def test_a_node_that_is_not_ready_is_refused_by_name(
    server: Server, fleet: Fleet, kubeconfig: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.node = NodeFacts("n1", ("10.0.0.1",), ready=False, ready_reason="Unknown, NodeStatusUnknown")
    assert run(["plan", "-i", "hosts.ini", "--kubeconfig", kubeconfig]) == 1
    out, err = capsys.readouterr()
    assert "refused n1: the Node n1 is not ready: Unknown, NodeStatusUnknown" in " ".join(out.split())
    assert "cluster: prod v1.34.4, flannel v0.28.10; not checked: n2: no Node object" in out
    assert f"--kubeconfig {kubeconfig}" in err.replace("\n", "")  # a long path is folded
    assert fleet.values == {"n1": "128", "n2": "128"}


def test_a_reviewed_plan_keeps_what_its_profile_says_of_the_cluster(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("strict.yml").write_text("description: x\nsysctl: {net.core.somaxconn: 4096}\ncluster: {mode: required}\n")
    assert run(["plan", "-i", "hosts.ini", "-p", "./strict.yml", "--cluster", "off", "--out", "plan.json"]) == 0
    capsys.readouterr()
    assert run(["apply", "plan.json", "--yes"]) == 5
    assert "error: there is no kubeconfig" in capsys.readouterr().err
    assert fleet.values == {"n1": "128", "n2": "128"}
    assert run(["apply", "plan.json", "--yes", "--cluster", "off"]) == 0


def test_a_dead_server_is_a_warning_or_the_end(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))  # beside the inventory
    assert run(["apply", "-i", "hosts.ini", "--yes", "--cluster", "required"]) == 1
    _, err = capsys.readouterr()
    assert f"error: the API server https://127.0.0.1:{port} cannot be reached" in err
    assert fleet.calls == []
    assert run(["apply", "-i", "hosts.ini", "--yes"]) == 0
    out, err = capsys.readouterr()
    assert "warning: the cluster is not used: the API server" in err
    assert "cluster: not used; not checked: Node conditions, Leases" in " ".join(out.split())
    assert "secret-token" not in out + err
    assert fleet.values == {"n1": "4096", "n2": "4096"}
