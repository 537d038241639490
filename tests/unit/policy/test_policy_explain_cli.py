"""``policy explain`` and ``policy list`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from policy_server import Server
from policy_world import load
from tiny_api import kubeconfig, tiny_api

from tune_nodes.cli.main import run

CLIENT, SERVER = "explain-a/client", "explain-b/server"


@pytest.fixture
def server() -> Server:
    return Server(load("networkpolicies")["items"])


@pytest.fixture
def config(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with tiny_api(server) as url:
        yield str(kubeconfig(tmp_path, url))


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = run(["policy", *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_verdict_fits_the_terminal(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "explain", SERVER, "--from", CLIENT, "--kubeconfig", config)
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "port 8080/TCP" in out  # the only port that it names
    assert "enforced by cilium" in out
    assert "the connection is denied on egress by CiliumClusterwideNetworkPolicy egress-deny" in " ".join(out.split())
    steps = out[out.index("WAY") : out.index("egress: denied")]
    assert steps.index("egress-deny") < steps.index("allow-all-egress") < steps.index("ingress")
    assert "Not judged here:" in lines


def test_the_document(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("explain", "client", "-n", "explain-a", "--to", SERVER, "--port", "9090", "--kubeconfig", config)
    code, out, _ = call(capsys, *asked, "-o", "json")
    found = json.loads(out)
    assert (code, found["schema"], found["allowed"], found["engine"]) == (0, 1, False, "cilium")
    assert (found["from"]["pod"], found["to"]["namespace"]) == ("client", "explain-b")
    assert (found["port"], found["protocol"]) == (9090, "TCP")
    assert found["decided_by"] == found["egress"]["decided_by"]
    assert {"kind", "api_version", "namespace", "name", "does"} == set(found["ingress"]["policies"][0])
    assert found["not_judged"]
    assert yaml.safe_load(call(capsys, *asked, "-o", "yaml")[1]) == found


def test_an_address_may_be_a_pod(config: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    pods = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in load("pods")["items"]}
    address = pods[CLIENT]["status"]["podIP"]
    out = call(capsys, "explain", SERVER, "--from", address, "--kubeconfig", config, "-o", "json")[1]
    assert json.loads(out)["from"]["pod"] == "client"
    assert any(f"fieldSelector=status.podIP%3D{address}" in path for path in server.asked)
    out = call(capsys, "explain", CLIENT, "--to", "192.0.2.7", "--port", "443", "--kubeconfig", config)[1]
    assert "if address 192.0.2.7 is a Service's" in " ".join(out.split())


def test_without_a_connection_the_policies_are_listed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "explain", CLIENT, "--kubeconfig", config)
    assert code == 0
    assert "no-world" in out and "egress: 1 deny" in out and "denied" not in out
    assert "--from POD" in err
    found = json.loads(call(capsys, "explain", CLIENT, "--kubeconfig", config, "-o", "json")[1])
    assert {row["direction"] for row in found["policies"]} == {"egress", "ingress"}


def test_the_list(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list", "--kubeconfig", config)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "NetworkPolicy explain-b/deny-ingress" in out
    found = json.loads(call(capsys, "list", "-o", "json", "--kubeconfig", config)[1])
    assert "ciliumcidrgroups.cilium.io" in found["kinds"]
    assert {row["role"] for row in found["policies"]} == {"policy", "set"}


@pytest.mark.parametrize(
    ("argv", "what", "why"),
    [
        (
            ["explain-b/servr", "--from", CLIENT],
            "there is no pod servr in the namespace explain-b",
            "did you mean server",
        ),
        (["web", "-n", "explian-b", "--from", CLIENT], "there is no namespace explian-b", "close to it: explain-b"),
        ([SERVER, "--from", "a/b/c"], "'a/b/c' is neither a pod nor an address", ""),
        ([SERVER, "--from", "x$(id)"], "'x$(id)' is neither a pod nor an address", ""),
        ([SERVER, "--from", CLIENT, "--to", CLIENT], "two questions", "one of its ends"),
        ([SERVER, "--from", CLIENT, "--port", "htp"], "'htp' is no port of pod explain-b/server", "web (8080/TCP)"),
        ([SERVER, "--from", CLIENT, "--port", "0"], "'0' is no port", ""),
        ([SERVER, "--from", CLIENT, "--port", "99999"], "'99999' is no port", ""),
        ([SERVER, "--from", CLIENT, "--port", "53/QUIC"], "'53/QUIC' is no port", "TCP, UDP, SCTP"),
        ([CLIENT, "--to", "192.0.2.1"], "say which port", "names none"),
    ],
)
def test_what_is_wrong_is_said(
    config: str, capsys: pytest.CaptureFixture[str], argv: list[str], what: str, why: str
) -> None:
    code, out, err = call(capsys, "explain", *argv, "--kubeconfig", config)
    assert (code, out) == (5, "")
    words = " ".join(err.split())
    assert what in words
    assert why in words


def test_a_right_that_is_missing_is_named(config: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.refused = {"/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies"}
    code, out, err = call(capsys, "explain", SERVER, "--from", CLIENT, "--kubeconfig", config)
    assert (code, out) == (1, "")
    assert "may not list ciliumclusterwidenetworkpolicies.cilium.io" in " ".join(err.split())


def test_names_are_shown_without_what_a_terminal_obeys(
    config: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    odd: dict[str, Any] = {
        "metadata": {"name": "a\x1b[2J\u202eb", "namespace": "explain-b"},
        "spec": {"podSelector": {}},
    }
    server.policies = [odd]
    for form in ("table", "json"):
        out = call(capsys, "explain", SERVER, "--from", CLIENT, "--kubeconfig", config, "-o", form)[1]
        assert "\x1b" not in out and "\u202e" not in out and "\\u001b" not in out
        assert "explain-b/ab" in " ".join(out.split()) or '"ab"' in out


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    code, _, err = call(capsys, "explain", "shop/web")
    assert (code, "no kubeconfig was given" in err) == (5, True)
