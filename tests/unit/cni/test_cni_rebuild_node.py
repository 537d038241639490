"""The node's part of a rebuild: the fence, the record, what must not be alive, which files go."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni.leases import Lease, Network
from ansible_collections.tune.nodes.plugins.module_utils.cni.model import Sandbox
from ansible_collections.tune.nodes.plugins.module_utils.cni.rebuild import agent, backup, fence, record, state
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from cni_node import CAPTURED, Node, sandbox_id
from hypothesis import given
from hypothesis import strategies as st

CONF = "etc/cni/net.d/10-flannel.conflist"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [("ADD", 1, "try again later"), ("DEL", 0, ""), ("CHECK", 0, ""), ("VERSION", 0, "supportedVersions")],
)
def test_the_fence_refuses_add_alone(tmp_path: Path, command: str, code: int, says: str) -> None:
    program = tmp_path / "fence"
    program.write_bytes(fence.SCRIPT)
    done = subprocess.run(
        ["sh", str(program)], input=b"{}", env={**os.environ, "CNI_COMMAND": command}, capture_output=True, check=False
    )
    assert done.returncode == code and says in done.stdout.decode()
    assert not done.stdout or json.loads(done.stdout)


@pytest.mark.parametrize("single", [False, True])
def test_the_placeholder_keeps_the_plugins_behind_the_fence(single: bool) -> None:
    text = '{"name": "n", "type": "bridge"}' if single else (CAPTURED / CONF).read_text()
    made = json.loads(fence.placeholder(text) or "")
    kinds = [plugin["type"] for plugin in made["plugins"]]
    assert kinds == [fence.PLUGIN, *(["bridge"] if single else ["flannel", "portmap"])]


@given(st.text(max_size=60) | st.sampled_from(['{"name": 1}', '{"name": "a"}', "[]", '{"name": "a", "plugins": []}']))
def test_junk_is_no_configuration(text: str) -> None:
    assert fence.placeholder(text) is None and fence.names_fence(text) is None


def test_what_the_runtime_uses_is_read_from_its_info() -> None:
    info = (CAPTURED / "crictl-info.json").read_text()
    assert fence.names_fence(info) is False
    assert fence.names_fence(info.replace('"flannel"', f'"{fence.PLUGIN}"')) is True


def test_what_sorts_before_the_fence_is_refused(node: Node) -> None:
    host = Host(root=str(node.root))
    fence.names_first("/etc/cni/net.d", host)
    (node.root / "etc/cni/net.d/00-multus.conf").write_text("{}")
    fence.names_first("/etc/cni/net.d", host)
    (node.root / "etc/cni/net.d/+.conf").write_text("{}")
    with pytest.raises(NodeError):
        fence.names_first("/etc/cni/net.d", host)


def test_the_fence_goes_up_and_down_and_leaves_nothing(node: Node) -> None:
    host = Host(root=str(node.root))
    before = sorted(path for path in node.root.rglob("*"))
    program = fence.place(["/opt/cni/bin"], host)
    fence.put_up("/" + CONF, "/etc/cni/net.d", program, host)
    assert min(path.name for path in (node.root / "etc/cni/net.d").iterdir()) == fence.CONF
    fence.take_down("/etc/cni/net.d", host)
    fence.drop_program(program, host)
    fence.take_down("/etc/cni/net.d", host)
    assert sorted(path for path in node.root.rglob("*")) == before


def test_a_record_comes_back_and_the_unfinished_one_is_found(tmp_path: Path) -> None:
    host = Host(root=str(tmp_path))
    assert record.unfinished(host) is None
    record.save(host, record.Record("one", record.DONE))
    kept = record.Record("two", record.CLEARING, "flannel", agents=["u"], kept=["two-rebuild"], counts={"link": 2})
    record.save(host, kept)
    assert record.unfinished(host) == kept == record.load(host, "two")


@given(st.binary(max_size=80))
def test_junk_is_no_record(data: bytes) -> None:
    assert record.parse(data) is None


def test_a_record_that_is_not_understood_stops_everything(tmp_path: Path) -> None:
    host = Host(root=str(tmp_path))
    record.save(host, record.Record("one"))
    (tmp_path / "var/lib/tune-nodes/rebuild/one.json").write_text("{")
    with pytest.raises(NodeError) as caught:
        record.unfinished(host)
    assert caught.value.code == "refused"


LEASE = Lease("cbr0", "10.244.1.9", "a" * 64, "eth0", 1, 1)


@pytest.mark.parametrize(
    ("sandbox", "alive"),
    [
        (Sandbox("a" * 64, True, uid="host"), True),  # its lease says that it has a network
        (Sandbox("b" * 64, True, uid="other"), True),
        (Sandbox("b" * 64, True, uid="host"), False),
        (Sandbox("a" * 64, False, uid="other"), False),
        (Sandbox("b" * 64, True), False),  # ctr does not say whose it is
    ],
)
def test_what_must_not_be_alive(sandbox: Sandbox, alive: bool) -> None:
    try:
        state.refuse_alive({sandbox.id: sandbox}, [LEASE], frozenset({"host"}))
    except NodeError as problem:
        assert alive and problem.code == "alive"
    else:
        assert not alive


def test_files_of_what_still_runs_stay_and_so_do_the_lock_and_the_last_address(node: Node) -> None:
    host = Host(root=str(node.root))
    node.lay("10.244.1.77", 77)
    network = Network("cbr0", "/var/lib/cni/networks/cbr0")
    running = {sandbox_id(77): Sandbox(sandbox_id(77))}
    found = state.files(host, [network], "flannel", running)
    names = {Path(path).name for path in found}
    assert "/run/flannel/subnet.env" in found and "10.244.1.2" in names
    assert not names & {"lock", "last_reserved_ip.0"}
    assert all(path.startswith(("/run/flannel/", "/var/lib/cni/")) for path in found)


@pytest.mark.parametrize("cni", ["cilium", "calico", "unknown", ""])
def test_only_what_is_known_to_come_back_is_rebuilt(cni: str) -> None:
    with pytest.raises(NodeError) as caught:
        state.supported(cni)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("form", ["a-b", "a_b"])
def test_a_pods_processes_by_its_cgroup(tmp_path: Path, form: str) -> None:
    for pid, text in (("7", f"0::/kubepods/pod{form}/c"), ("8", "0::/x"), ("9", f"0::/kubepods/pod{form}/p")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cgroup").write_text(text)
    host = Host(root=str(tmp_path), processes={"pause": [9]})
    assert agent.processes(host, ["a-b"]) == [7]
    assert agent.processes(host, [""]) == agent.processes(host, []) == []


def test_the_backup_leaves_keys_out(node: Node) -> None:
    (node.root / "run/flannel/wgkey").write_text("secret")
    made = backup.take(Host(root=str(node.root)), "run-1", "/etc/cni/net.d")
    assert made["left_out"] == ["/run/flannel/wgkey"] and made["files"] > 10
    assert (node.root / made["path"].lstrip("/")).stat().st_mode & 0o777 == 0o600
