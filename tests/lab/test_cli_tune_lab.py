"""Tuning from the command line: what is changed, kept, looked at again, reviewed, and put back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clirun import AT_ONCE, NEW, OLD, Cli, assert_clear, for_lab, held, traces

from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]


def without_mtimes(etc: dict[str, str]) -> dict[str, str]:
    """Return path -> mode, owner and content; a file that was put back has a new time."""
    return {path: " ".join(w for i, w in enumerate(line.split(" ")) if i != 2) for path, line in etc.items()}


def test_tuned_then_nothing_left_to_do(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(3)  # the third by sudo with a password
    cli = for_lab(tmp_path, lab)
    assert cli("plan", "--detailed-exitcode").returncode == 2
    assert cli("verify").returncode == 1
    assert not any((node.root / "var/lib/tune-nodes").exists() for node in lab.nodes)

    first = subprocess.run(  # as it stands on the front page
        [*cli.argv()[:3], "--inventory", cli.inventory[0], "--yes"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
        env=cli.env(),
    )
    assert_clear(first, 0, "wave 1/3 (canary)", "changed 3 of 3", "tune-nodes report")
    assert {node.read_sysctl("net.core.somaxconn") for node in lab.nodes} == {"16384"}
    record = cli.record()
    assert [wave.gate for wave in record.waves] == ["passed"] * 3
    for node in record.nodes.values():
        assert node.tx is not None
        assert node.tx.state == "DONE"
        assert {probe.kind for probe in node.probes_after} >= {"ssh", "gateway", "peer"}
        assert all(probe.ok for probe in node.probes_after)

    before = [traces(node) for node in lab.nodes]
    again = cli("apply", "--yes")
    assert_clear(again, 0, "0 changes", "ok 3 of 3")
    assert [traces(node) for node in lab.nodes] == before
    assert_clear(cli("verify", "--detailed-exitcode"), 0)

    lab.nodes[1].write_sysctl("net.core.somaxconn", "128")
    drifted = cli("drift", "--detailed-exitcode", "-o", "json")
    assert drifted.returncode == 2
    document = json.loads(drifted.stdout)
    assert {name: node["outcome"] for name, node in document["nodes"].items()} == {
        lab.nodes[0].name: "ok",
        lab.nodes[1].name: "pending",
        lab.nodes[2].name: "ok",
    }
    lab.nodes[1].write_sysctl("net.core.somaxconn", "16384")
    assert_clear(cli("drift", "--detailed-exitcode"), 0, "no drift")
    assert [traces(node) for node in lab.nodes] == before


@pytest.fixture
def reviewed(make_lab: MakeLab, tmp_path: Path) -> tuple[Lab, Cli, Path]:
    """Three nodes and a plan for them."""
    lab = make_lab(3, sudo=False)
    cli = for_lab(tmp_path, lab)
    path = cli.directory / "plan.json"
    assert_clear(cli("plan", "-p", cli.profile(), "--window", "60", "--out", str(path)), 0, "plan kept in")
    return lab, cli, path


def test_a_node_changed_since_the_plan_is_refused_by_name(reviewed: tuple[Lab, Cli, Path]) -> None:
    lab, cli, path = reviewed
    first, drifted, last = lab.nodes
    drifted.write_sysctl("net.core.somaxconn", "5000")
    refused = cli("apply", str(path), "--yes")
    assert_clear(refused, 1, drifted.name, "net.core.somaxconn", "4096", "5000", "--allow-drift")
    assert [held(node) for node in (first, last)] == [OLD, OLD]
    assert not any((node.root / "var/lib/tune-nodes").exists() for node in lab.nodes)

    others = cli("apply", str(path), "--allow-drift", "--yes")
    assert_clear(others, 1, f"refused 1 of 3: {drifted.name}", "changed 2 of 3")
    assert [held(node) for node in (first, last)] == [NEW, NEW]
    assert held(drifted) == OLD | {"net.core.somaxconn": "5000"}
    assert not (drifted.root / "var/lib/tune-nodes").exists()


def test_a_plan_edited_or_cut_off_is_refused(reviewed: tuple[Lab, Cli, Path]) -> None:
    lab, cli, path = reviewed
    text = path.read_text()
    for name, damaged, words in (
        ("edited", text.replace('"16384"', '"99999"'), "edited or damaged"),
        ("cut", text[: len(text) // 2], "cut off"),
        ("empty", "", "is empty"),
    ):
        bad = cli.directory / f"{name}.json"
        bad.write_text(damaged)
        assert_clear(cli("apply", str(bad), "--yes"), 5, bad.name, words, "make the plan again")
    assert_clear(cli("apply", str(cli.directory / "none.json"), "--yes"), 5, "none.json", "No such file")
    assert [held(node) for node in lab.nodes] == [OLD] * 3


def _owner(node: LabNode, name: str) -> subprocess.Popen[bytes]:
    """Start a process of this name in the node, as an owner's daemon would run there."""
    node.run(["cp", "/usr/bin/sleep", f"/run/{name}"])
    return subprocess.Popen(node.argv([f"/run/{name}", "300"]))


RULES: dict[str, Any] = {
    "description": "One setting for each rule",
    "sysctl": {
        key: {"reason": "a test", "source": "https://docs.kernel.org/networking/ip-sysctl.html", **setting}
        for key, setting in {
            "net.core.somaxconn": {"value": 2048, "class": "floor"},
            "net.ipv4.tcp_wmem": {"value": "4096 65536 1048576", "class": "floor"},
            "net.ipv4.tcp_fin_timeout": {"value": 30, "class": "exact", "owners": ["kube-proxy"]},
            "net.ipv4.tcp_no_such_key": {"value": 1, "class": "exact"},
        }.items()
    },
}


def test_floors_vectors_owners_and_what_the_kernel_lacks(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(1, sudo=False)
    node, cli = lab.nodes[0], for_lab(tmp_path, lab)
    owner = _owner(node, "kube-proxy")
    try:
        profile = cli.profile(RULES, "rules")
        first = cli("apply", "-p", profile, "--window", "60", "--yes", "-D")
        assert_clear(first, 0, "changed 1 of 1", "kube-proxy")
        changes = {change.key: change for change in cli.record().nodes[node.name].changes}
        assert changes["net.core.somaxconn"].status == "ok", "a floor never lowers"
        assert node.read_sysctl("net.core.somaxconn") == "4096"
        assert node.read_sysctl("net.ipv4.tcp_wmem") == "4096 65536 4194304", "element by element"
        assert (changes["net.ipv4.tcp_fin_timeout"].status, changes["net.ipv4.tcp_fin_timeout"].owner) == (
            "owned",
            "kube-proxy",
        )
        assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "60"
        assert changes["net.ipv4.tcp_no_such_key"].status == "unsupported"
        assert first.stdout.count("net.ipv4.tcp_no_such_key") <= 2  # in the plan and, with -D, in the result

        before = traces(node)
        second = cli("apply", "-p", profile, "--window", "60", "--yes")
        assert_clear(second, 0, "0 changes")
        assert traces(node) == before
    finally:
        owner.kill()
        owner.wait()


def test_rollback(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2)
    cli = for_lab(tmp_path, lab)
    etc = [without_mtimes(node.etc()) for node in lab.nodes]
    assert_clear(cli.apply(*AT_ONCE), 0, "changed 2 of 2")
    run = cli.record().id
    assert [held(node) for node in lab.nodes] == [NEW, NEW]
    foreign, whole = lab.nodes
    foreign.write_sysctl("net.core.somaxconn", "20000")  # somebody else's since

    undone = cli("rollback", run, "--yes", "--window", "60", *AT_ONCE)
    assert_clear(undone, 0, "changed 2 of 2", "net.core.somaxconn", "foreign")
    assert held(whole) == OLD
    assert held(foreign) == OLD | {"net.core.somaxconn": "20000"}
    assert [without_mtimes(node.etc()) for node in lab.nodes] == etc
    assert cli.record().rolled_back == run

    second = cli("rollback", run, "--yes", "--window", "60")
    assert second.returncode in (1, 5), second.stdout
    assert "Traceback" not in second.stderr
    assert cli.record().id in second.stdout + second.stderr or "rolled back" in second.stdout + second.stderr
    assert held(whole) == OLD
    assert_clear(cli("history"), 0, "rollback", run)
