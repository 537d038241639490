"""Programs that give credentials are run for real: good ones, and ones that hang, fail or babble."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_api import TOKEN, Request, kubeconfig, tiny_api

from tune_nodes.cluster.client import Cluster
from tune_nodes.cluster.errors import ClusterError, KubeconfigError
from tune_nodes.cluster.kubeconfig import read_context
from tune_nodes.cluster.plugin import run_plugin

V1 = "client.authentication.k8s.io/v1"


def program(directory: Path, code: str) -> dict[str, Any]:
    """Return an exec entry for a program in the kubeconfig's own directory."""
    path = directory / "give"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return {"apiVersion": V1, "command": "./give", "args": ["x", 1], "env": [{"name": "GIVEN", "value": "yes"}]}


def answer(**status: Any) -> str:
    return f"print({json.dumps({'apiVersion': V1, 'kind': 'ExecCredential', 'status': status})!r})"


def context(directory: Path, spec: Any) -> Any:
    return read_context(kubeconfig(directory, "https://192.0.2.1", {"exec": spec}))


def test_what_it_is_told_and_gives(tmp_path: Path) -> None:
    check = (
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert sys.argv[1:] == ['x', '1'] and os.environ['GIVEN'] == 'yes' and sys.stdin.read() == ''\n"
        "assert info['spec'] == {'interactive': False, 'cluster': {'server': 'https://192.0.2.1'}}, info\n"
    )
    spec = program(tmp_path, check + answer(token=TOKEN, expirationTimestamp="2026-01-01T00:00:00Z"))
    got = run_plugin(context(tmp_path, {**spec, "provideClusterInfo": True}))
    assert (got.token, got.expires) == (TOKEN, 1767225600.0)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit('sign in first')", "it ended with 1: sign in first"),
        ("print('hello')", "its answer is not JSON"),
        ("print('[' * 100000)", "its answer is not JSON"),
        ("print('{}')", "its answer is not an ExecCredential"),
        (answer(), "neither a token nor a certificate"),
        (answer(token=7, clientCertificateData="x"), "neither a token nor a certificate"),
    ],
)
def test_a_bad_one(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(ClusterError) as caught:
        run_plugin(context(tmp_path, program(tmp_path, code)))
    assert caught.value.code == "unauthorized"
    assert said in caught.value.why


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = f"if os.fork() == 0:\n    open({str(child)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no credentials within 1 s"):
        run_plugin(context(tmp_path, program(tmp_path, code)), limit=1)
    assert time.monotonic() - started < 10
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child.read_text()}/cmdline").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child.read_text()}/stat").read_text(encoding="utf-8").split(") ")[1][0] == "Z":
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{child.read_text()}").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": "no-such-program-anywhere", "installHint": "get it from the shop"}, "get it from the shop"),
        ({"command": 7}, "it needs a command"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "an apiVersion that is"),
        ({"interactiveMode": "Always"}, "its interactiveMode is Always"),
    ],
)
def test_an_entry_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        run_plugin(context(tmp_path, {**program(tmp_path, answer(token="t")), **change}))
    assert said in str(caught.value)


def test_a_token_that_ends_in_the_middle_is_fetched_anew(tmp_path: Path) -> None:
    """The program gives token-1, token-2 ...; the server takes each of them twice."""
    count = tmp_path / "count"
    count.write_text("0", encoding="utf-8")
    code = (
        f"n = int(open({str(count)!r}).read()) + 1\nopen({str(count)!r}, 'w').write(str(n))\n"
        f"print(json.dumps({{'apiVersion': {V1!r}, 'kind': 'ExecCredential', 'status': {{'token': f'token-{{n}}'}}}}))"
    )
    used: list[str] = []

    def serve(request: Request) -> None:
        request.body()
        token = str(request.headers["Authorization"])
        used.append(token)
        if used.count(token) > 2:
            request.refuse(401, "Unauthorized", "Unauthorized")
        else:
            request.send(200, {"gitVersion": "v1.34.4", "items": []})

    with tiny_api(serve) as server:
        path = kubeconfig(tmp_path, server, {"exec": program(tmp_path, code)})
        with Cluster.open(path) as cluster:
            assert cluster.nodes() == {}
            assert cluster.nodes() == {}
    assert used == ["Bearer token-1"] * 3 + ["Bearer token-2"] * 2
