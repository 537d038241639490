"""Safe change on real nodes: what holds when nothing, or everything, goes wrong."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clirun import wait_for
from nodecall import (
    PYTHON,
    SHORT,
    apply_request,
    call,
    call_ssh,
    payload,
    state_of,
    tune_processes,
    values,
)

from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode, tree

MakeLab = Callable[..., Lab]
RUN_DIR = "/var/lib/tune-nodes"


@pytest.fixture
def node(make_lab: MakeLab) -> LabNode:
    return make_lab(1, sudo=False).nodes[0]


def without_mtimes(etc: dict[str, str]) -> dict[str, str]:
    """Directory times move when a temporary name comes and goes; contents, modes and owners must not."""
    return {path: " ".join(w for i, w in enumerate(line.split(" ")) if i != 3) for path, line in etc.items()}


def test_confirmed_over_a_new_connection_then_nothing_left_to_do(node: LabNode) -> None:
    before = values(node)
    applied = call_ssh(node, **apply_request("r1"))
    assert applied["ok"], applied["error"]
    assert applied["tx"]["state"] == "ARMED"
    assert applied["tx"]["reverter"] == "process"
    confirmed = call_ssh(node, "confirm", tx="r1")
    assert confirmed["ok"], confirmed["error"]
    assert confirmed["tx"]["state"] == "DONE"
    after = values(node)
    assert after == {
        "net.core.somaxconn": "16384",
        "net.ipv4.tcp_fin_timeout": "30",
        "net.ipv4.tcp_wmem": "4096 65536 16777216",
        "channels": before["channels"].replace("1", "2"),
    }
    kept = (node.root / "etc/sysctl.d/90-tune-nodes.conf").read_text()
    assert "net.ipv4.tcp_fin_timeout" in kept
    assert "somaxconn" not in kept, "a floor must not become an exact value at boot"
    wait_for(lambda: not tune_processes(node), 30)

    etc, state = node.etc(), tree(node.root / RUN_DIR.lstrip("/"))
    again = call_ssh(node, **apply_request("r2"))
    assert again["ok"]
    assert again["tx"] is None
    assert {c["status"] for c in again["changes"]} == {"ok"}
    assert node.etc() == etc
    assert tree(node.root / RUN_DIR.lstrip("/")) == state


def test_plan_writes_nothing(node: LabNode) -> None:
    etc = node.etc()
    planned = call_ssh(node, **dict(apply_request("r1"), op="plan"))
    assert {c["status"] for c in planned["changes"]} == {"pending"}
    assert node.etc() == etc
    assert not (node.root / RUN_DIR.lstrip("/")).exists()


def test_confirm_through_the_changing_connection_is_refused(node: LabNode, tmp_path: Path) -> None:
    master = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/m", "-o", "ControlPersist=60"]
    assert call_ssh(node, options=master, **apply_request("r1"))["ok"]
    refused = call_ssh(node, "confirm", options=master, tx="r1")
    assert refused["error"]["code"] == "same-connection"
    assert state_of(node, "r1") == "ARMED"
    assert call_ssh(node, "confirm", tx="r1")["ok"]
    subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={tmp_path}/m", "x"], capture_output=True, check=False)


def test_unconfirmed_change_reverts_within_its_window(node: LabNode) -> None:
    before, etc = values(node), node.etc()
    started = time.monotonic()
    assert call_ssh(node, **apply_request("r1", SHORT))["ok"]
    assert values(node) != before
    wait_for(lambda: values(node) == before, 40)
    assert time.monotonic() - started > 15, "it must have its window"
    assert node.etc() == etc, "byte for byte, time for time"
    wait_for(lambda: state_of(node, "r1") == "REVERTED", 30)
    wait_for(lambda: not tune_processes(node), 30)
    late = call_ssh(node, "confirm", tx="r1")
    assert late["error"]["code"] == "reverted"


def test_power_cut_before_confirm_is_a_rollback(node: LabNode) -> None:
    etc = node.etc()
    assert call(node, **apply_request("r1", window=300))["ok"]
    node.power_cycle()
    node.write_sysctl("net.core.somaxconn", "777")
    assert state_of(node, "r1") == "REVERTED"
    assert node.read_sysctl("net.core.somaxconn") == "777", "what the new boot holds is not ours"
    assert node.etc() == etc


def test_power_cut_after_the_commit_point_rolls_forward(node: LabNode) -> None:
    assert call(node, **apply_request("r1", window=300))["ok"]
    # Past the commit point, at the rename that would install the first file.
    where = ["-e", "inject=rename:signal=KILL:when=6"]  # staged: 2 files, 2 lists; the state; then this one
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", *where]
    subprocess.run(node.argv([*strace, *PYTHON]), input=payload({"op": "confirm", "tx": "r1"}), check=False)
    assert (node.root / RUN_DIR.lstrip("/") / "tx/r1/COMMITTED").exists()
    assert not (node.root / "etc/sysctl.d/90-tune-nodes.conf").exists()
    node.power_cycle()
    assert state_of(node, "r1") == "DONE"
    assert "tcp_fin_timeout" in (node.root / "etc/sysctl.d/90-tune-nodes.conf").read_text()
    assert not [p for p in (node.root / "etc/sysctl.d").iterdir() if p.name.startswith(".")]


def confirm_killed_past_the_commit_point(node: LabNode) -> Path:
    """Apply, then kill the confirm while it installs files; returns the transaction's directory."""
    assert call(node, **apply_request("r1", 30))["ok"]
    kill_install = ["-e", "trace=rename", "-e", "inject=rename:signal=KILL:when=6"]
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", *kill_install]
    subprocess.run(node.argv([*strace, *PYTHON]), input=payload({"op": "confirm", "tx": "r1"}), check=False)
    place = node.root / RUN_DIR.lstrip("/") / "tx/r1"
    assert (place / "COMMITTED").exists()
    return place


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "confirm"},
        {"op": "confirm", "before": [{"id": "peer:192.0.2.77", "kind": "peer", "target": "192.0.2.77", "ok": True}]},
        {"op": "revert", "why": "the confirm did not answer"},
    ],
    ids=["again", "with-a-probe-lost", "put-back"],
)
def test_past_the_commit_point_it_only_goes_forward(node: LabNode, request_: dict[str, Any]) -> None:
    """A confirm whose answer was lost is asked for again, or given up: the node is confirmed all the same."""
    confirm_killed_past_the_commit_point(node)
    answer = call(node, tx="r1", **request_)
    assert answer["ok"], answer["error"]
    assert answer["tx"]["state"] == "DONE"
    assert "tcp_fin_timeout" in (node.root / "etc/sysctl.d/90-tune-nodes.conf").read_text()
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "30"
    assert node.read_sysctl("net.core.somaxconn") == "16384"


def test_a_confirm_killed_past_the_commit_point_is_finished_by_the_reverter(node: LabNode) -> None:
    place = confirm_killed_past_the_commit_point(node)
    wait_for((place / "DONE").exists, 60)  # nobody asks this node anything meanwhile
    assert "tcp_fin_timeout" in (node.root / "etc/sysctl.d/90-tune-nodes.conf").read_text()
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "30"


def test_a_hung_request_is_ended_and_reverted(node: LabNode) -> None:
    before = values(node)
    # Stopped right after one of its writes, as by a device that never answers; it sits on the lock.
    write = ["-P", "/proc/sys/net/ipv4/tcp_fin_timeout", "-e", "inject=write:signal=STOP:when=1"]
    strace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=write", *write]
    hung = subprocess.Popen(node.argv([*strace, *PYTHON]), stdin=subprocess.PIPE)
    try:
        assert hung.stdin
        hung.stdin.write(payload(apply_request("r1", SHORT)))
        hung.stdin.close()
        wait_for(lambda: values(node) != before, 60)
        wait_for(lambda: values(node) == before, 60)
        wait_for(lambda: hung.poll() is not None, 60)
    finally:
        hung.kill()
        hung.wait()
    assert state_of(node, "r1") == "REVERTED"


def test_two_runs_at_once(node: LabNode) -> None:
    assert call(node, **apply_request("r1", window=60))["ok"]
    request = apply_request("r2", window=60)
    request["layers"][0]["sysctl"] = [{"key": "net.ipv4.tcp_fin_timeout", "value": 25}]
    other = call(node, **request)
    assert other["error"]["code"] == "busy"
    assert "r1" in other["error"]["what"]
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "30"
    assert call(node, "revert", tx="r1")["ok"]
    assert call(node, **dict(request, run="r3"))["ok"]


def test_what_somebody_else_set_meanwhile_is_left(node: LabNode) -> None:
    assert call(node, **apply_request("r1", window=60))["ok"]
    node.write_sysctl("net.core.somaxconn", "9999")
    refused = call(node, "confirm", tx="r1")
    assert refused["error"]["code"] == "moved"
    assert "net.core.somaxconn" in refused["error"]["why"]
    reverted = call(node, "revert", tx="r1")
    assert {r["key"]: r["status"] for r in reverted["rows"]}["net.core.somaxconn"] == "foreign"
    assert node.read_sysctl("net.core.somaxconn") == "9999"
    assert node.read_sysctl("net.ipv4.tcp_fin_timeout") == "60"


def test_rollback_puts_everything_back_byte_for_byte(node: LabNode) -> None:
    before, etc = values(node), without_mtimes(node.etc())
    assert call(node, **apply_request("r1"))["ok"]
    assert call(node, "confirm", tx="r1")["ok"]
    undone = call(node, "rollback", tx="r1", run="b1")
    assert undone["ok"], undone["error"]
    assert call(node, "confirm", tx="b1")["ok"]
    assert values(node) == before
    assert without_mtimes(node.etc()) == etc
    assert call(node, "rollback", tx="r1", run="b2")["error"]["code"] == "superseded"


def test_rollback_leaves_foreign_values_and_refuses_beneath_a_newer_run(node: LabNode) -> None:
    assert call(node, **apply_request("r1"))["ok"]
    assert call(node, "confirm", tx="r1")["ok"]
    newer = apply_request("r2")
    newer["layers"][0]["sysctl"] = [{"key": "net.core.somaxconn", "value": 20000}]
    assert call(node, **newer)["ok"]
    assert call(node, "confirm", tx="r2")["ok"]
    refused = call(node, "rollback", tx="r1", run="b1")
    assert refused["error"]["code"] == "superseded"
    assert "r2" in refused["error"]["what"]
    node.write_sysctl("net.core.somaxconn", "21000")
    undone = call(node, "rollback", tx="r2", run="b2")
    assert [c["status"] for c in undone["changes"] if c["key"] == "net.core.somaxconn"] == ["foreign"]
    assert node.read_sysctl("net.core.somaxconn") == "21000"


def test_modules_share_one_transaction_and_revert_together(node: LabNode) -> None:
    before = values(node)
    assert call(node, "begin", run="t1", window=60)["tx"]["state"] == "ARMED"
    whole = apply_request("t1", window=60)["layers"][0]
    for family in ("sysctl", "nic_queues"):
        layer = {"profile": "m", "match": None, family: whole[family]}
        joined = call(node, "apply", tx="t1", run="t1", window=60, layers=[layer])
        assert joined["ok"], joined["error"]
        assert joined["tx"]["deadline_in"] > 58, "each join gives the whole window again"
    assert values(node) != before
    assert call(node, "revert", tx="t1")["ok"]
    assert values(node) == before
    gone = call(node, "apply", tx="t1", run="t1", layers=[{"profile": "m", "match": None, "sysctl": whole["sysctl"]}])
    assert gone["error"]["code"] == "reverted"
    assert call(node, "confirm", tx="t1")["error"]["code"] == "reverted"


def test_an_empty_transaction_leaves_no_trace(node: LabNode) -> None:
    assert call(node, "begin", run="t1", window=60)["ok"]
    assert call(node, "confirm", tx="t1")["ok"]
    assert state_of(node, "t1") == ""
    wait_for(lambda: not tune_processes(node), 30)


def test_a_value_that_does_not_take_puts_all_back(node: LabNode) -> None:
    before = values(node)
    request = apply_request("r1")
    # The kernel takes at most 127, which this key's setting cannot know; the others are written by then.
    request["layers"][0]["sysctl"] = [
        *request["layers"][0]["sysctl"],
        {"key": "net.ipv4.tcp_syn_linear_timeouts", "value": 500, "class": "exact"},
    ]
    failed = call(node, **request)
    assert failed["error"]["code"] == "reverted"
    assert values(node) == before
    assert state_of(node, "r1") == "REVERTED"


@pytest.mark.parametrize("where", ["/var/lib/tune-nodes", "/etc"])
def test_full_disk_is_refused_before_the_first_write(node: LabNode, where: str) -> None:
    before = values(node)
    # A copy of the directory on a file system of its own, filled to the brim.
    script = (
        f"mkdir -p {where} && cp -a {where} /run/copy && mount -t tmpfs -o size=12m tmpfs {where} "
        f"&& cp -a /run/copy/. {where}/ && dd if=/dev/zero of={where}/filler bs=4k status=none"
    )
    node.run(["sh", "-c", script], check=False)
    refused = call(node, **apply_request("r1"))
    assert not refused["ok"]
    assert "full" in refused["error"]["what"] + refused["error"]["why"]
    assert values(node) == before


def test_read_only_etc_is_refused_before_the_first_write(node: LabNode) -> None:
    before = values(node)
    node.run(["mount", "--bind", "/etc", "/etc"])
    node.run(["mount", "-o", "remount,ro,bind", "/etc"])
    refused = call(node, **apply_request("r1"))
    assert refused["error"]["code"] == "not-persistable"
    assert "read-only" in refused["error"]["why"]
    assert values(node) == before


def test_a_revert_needs_no_free_disk(node: LabNode) -> None:
    before = values(node)
    node.run(["mkdir", RUN_DIR])
    node.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", RUN_DIR])
    assert call(node, **apply_request("r1", window=60))["ok"]
    node.run(["dd", "if=/dev/zero", f"of={RUN_DIR}/filler", "bs=4k"], check=False)
    reverted = call(node, "revert", tx="r1")
    assert reverted["ok"], reverted["error"]
    assert values(node) == before
    assert state_of(node, "r1") == "REVERTED"


def test_expected_hash(node: LabNode) -> None:
    request = apply_request("r1")
    planned = call(node, **dict(request, op="plan"))
    node.write_sysctl("net.core.somaxconn", "512")
    drifted = call(node, **request, expect=planned["plan_hash"])
    assert drifted["error"]["code"] == "drifted"
    assert {c["key"]: c["before"] for c in drifted["changes"]}["net.core.somaxconn"] == "512"
    node.write_sysctl("net.core.somaxconn", "4096")
    assert call(node, **request, expect=planned["plan_hash"])["ok"]


def test_a_join_replaces_a_dead_reverter(node: LabNode) -> None:
    assert call(node, **apply_request("r1"))["ok"]
    header = json.loads((node.root / RUN_DIR.lstrip("/") / "tx/r1/ARMED").read_text())
    pid = header["reverter"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 30)
    # The reverter is gone; a join must notice and start another.
    joined = call(node, "apply", tx="r1", run="r1", window=20, layers=[])
    assert joined["ok"], joined["error"]
    header = json.loads((node.root / RUN_DIR.lstrip("/") / "tx/r1/ARMED").read_text())
    assert header["reverter"]["pid"] != pid
    assert call(node, "revert", tx="r1")["ok"]


@pytest.mark.parametrize("junk", [b"", b"x" * 100, b"\0" * 32])
def test_damaged_compiled_code_is_passed_over(node: LabNode, junk: bytes) -> None:
    assert call(node, **apply_request("r1"))["ok"]
    (compiled,) = (node.root / RUN_DIR.lstrip("/") / "code").glob("*.bin")
    assert state_of(node, "r1") == "ARMED"
    compiled.write_bytes(junk)
    assert call(node, "confirm", tx="r1")["ok"]


def test_compiled_code_that_others_may_write_is_not_run(node: LabNode) -> None:
    assert call(node, **apply_request("r1"))["ok"]
    (compiled,) = (node.root / RUN_DIR.lstrip("/") / "code").glob("*.bin")
    evil = marshal.dumps({"tune_nodes_node": (True, compile("open('/tmp/evil', 'w')", "x", "exec"))})
    compiled.write_bytes(hashlib.sha256(evil).digest() + evil)
    compiled.chmod(0o666)
    assert call(node, "confirm", tx="r1")["ok"]
    assert not (node.root / "tmp/evil").exists()
