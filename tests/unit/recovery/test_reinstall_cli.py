"""``recover record``, ``records`` and ``reinstall`` as they are typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cni_server import CONFIG, DAEMONSET, CniServer, changed_map
from tiny_api import kubeconfig, tiny_api

from tune_nodes.cli.main import run
from tune_nodes.recovery.reinstall import gate

Typed = Callable[..., str]


@pytest.fixture
def server() -> CniServer:
    return CniServer()


@pytest.fixture
def typed(
    server: CniServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Typed]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_NODES_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(gate, "LOOK", 0.01)
    with tiny_api(server.answer) as address:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, address)))

        def command(*words: str, code: int = 0) -> str:
            found = run(["recover", *words])
            said = capsys.readouterr()
            assert found == code, said.out + said.err
            return said.out + said.err

        yield command


def document(text: str) -> dict[str, Any]:
    return dict(json.loads(text[text.index("{") : text.rindex("}") + 1]))


def test_a_cni_recorded_and_put_back(typed: Typed, server: CniServer) -> None:
    assert "there is no record yet" in typed("records")
    assert "flannel v0.28.1, from cluster" in typed("record")
    (row,) = document(typed("records", "-o", "json"))["records"]
    assert "nothing is to be done" in typed("reinstall", "--yes")
    server.lose(DAEMONSET, CONFIG)
    said = typed("reinstall", "latest", "--check")
    assert DAEMONSET not in server.objects
    assert re.search(r"create +DaemonSet kube-flannel/kube-flannel-ds", said)
    assert "one node after the other: w1, w2, cp" in said
    (hash,) = re.findall(r"plan (sha256:[0-9a-f]{32})", said)
    assert document(typed("reinstall", row["id"], "-C", "-o", "json"))["plan_hash"] == hash
    said = typed("reinstall", "latest", "--approve", hash)
    assert "agents new on w1, w2, cp" in said
    (name,) = re.findall(r"--undo (\S+)", said)
    assert "2 objects made" in typed("reinstall", "--undo", name, "--check")
    assert DAEMONSET in server.objects
    assert document(typed("reinstall", "--undo", "latest", "--check", "-o", "json"))["changed"] == []
    assert "2 removed" in typed("reinstall", "--undo", name, "--yes")
    assert DAEMONSET not in server.objects


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reinstall",), "there is no terminal to ask on"),
        (("reinstall", "--undo", "latest"), "there is no terminal to ask on"),
        (("reinstall", "--yes", "--undo", "latest"), "there is no reinstall to take back"),
        (("reinstall", "--undo", "latest", "--approve", "sha256:0"), "an undo has none"),
        (("reinstall", "--yes", "nothing"), "there is no record"),
        (("reinstall", "--check", "/nowhere/at/all"), "is no whole record"),
        (("record", "-n", "kube-system"), "--namespace is for manifests"),
        (("record", "--manifest", "missing.yml"), "cannot be read"),
    ],
)
def test_usage(typed: Typed, words: tuple[str, ...], said: str, server: CniServer) -> None:
    assert said in typed(*words, code=5)
    assert server.writes == 0


def test_an_approval_is_for_one_plan(typed: Typed, server: CniServer) -> None:
    typed("record")
    server.lose(CONFIG)
    stale = re.findall(r"plan (sha256:\w+)", typed("reinstall", "--check"))[0]
    server.lose(DAEMONSET)
    assert "the plan is not the one that was approved" in typed("reinstall", "--approve", stale, code=5)
    assert server.writes == 0


def test_what_others_hold_is_shown_and_taken_with_force_only(typed: Typed, server: CniServer) -> None:
    typed("record")
    server.keep(CONFIG, changed_map(server))
    said = typed("reinstall", "--check", code=1)
    assert re.search(
        r"conflict +ConfigMap kube-flannel/kube-flannel-cfg +data\.net-conf\.json \(kubectl-edit holds it\)", said
    )
    assert "nothing is done while something is in the way" in said
    assert "--force-conflicts takes them" in typed("reinstall", "--yes", code=1)
    assert server.writes == 0
    assert "agents new on w1, w2, cp" in typed("reinstall", "--yes", "--force-conflicts")


def test_the_latest_of_another_cluster_is_not_taken(typed: Typed, tmp_path: Path, server: CniServer) -> None:
    typed("record")
    (directory,) = (tmp_path / "state" / "cni-records").iterdir()
    with tiny_api(server.answer) as address:
        path = kubeconfig(tmp_path, address)
        assert "there is no record of" in typed("reinstall", "--check", "--kubeconfig", str(path), code=5)
        said = typed("reinstall", directory.name, "--check", "--kubeconfig", str(path))
        assert "the record is of another server" in said


def test_a_damaged_record_is_listed_as_that(typed: Typed, tmp_path: Path) -> None:
    typed("record")
    (directory,) = (tmp_path / "state" / "cni-records").iterdir()
    (directory / "raw.json").write_text("{")
    assert "is no whole record" in typed("records")
    assert "is no whole record" in typed("reinstall", "--check", code=5)
