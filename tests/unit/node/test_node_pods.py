"""One pod's namespace: found by its cgroup, read by a child, and no failure more than a line."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import pods
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host, observe_host
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.node import handle
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.model import parse_setting
from ansible_collections.tune.nodes.plugins.plugin_utils.confirmation import ask
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.fleet.events import node_record
from tune_nodes.runs.models import Outcome

CGROUPS = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "pods" / "cgroups.json").read_text(encoding="utf-8"),
)
BY_NAME = {row["name"]: row["text"] for row in CGROUPS}
UID = "a82608d9-e424-47ba-8257-5c673860f41b"
# coredns on a kind node, the end left out.
STAT = "1567 (coredns) S 1440 1567 1567 0 -1 4194560 4787 0 0 0 22 26 0 0 20 0 8 0 1333406 1366700032 14809"
SOMAXCONN = "net.core.somaxconn"
SETTING = {"key": SOMAXCONN, "value": "65535", "class": "floor"}
NETNS = Path("/proc/self/ns/net").stat().st_ino


@pytest.mark.parametrize("row", CGROUPS, ids=lambda row: row["name"])
def test_a_pod_is_known_by_its_cgroup(row: dict[str, str]) -> None:
    assert pods.pod_uid(row["text"]) == row["uid"]


@given(
    st.text() | st.lists(st.sampled_from([":", "/", "kubepods", "-pod", "pod", UID, ".slice", "\n", "0"])).map("".join)
)
def test_junk_in_proc_is_no_pod_and_no_error(text: str) -> None:
    assert pods.pod_uid(text) in ("", UID)
    pods.parse_stat(text)
    pods.nested(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (STAT, ["coredns", "1333406"]),
        (STAT.replace("coredns", "a) S (b"), ["a) S (b", "1333406"]),  # a name may hold anything
        (STAT.replace("1333406", "x"), None),
        ("1567 (coredns) S 1440", None),
        ("", None),
    ],
)
def test_stat(text: str, want: list[str] | None) -> None:
    assert pods.parse_stat(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Name:\tcoredns\nNSpid:\t1567\t1\n", False),
        ("Name:\tcoredns\nNSpid:\t7110\t1567\t1\n", True),  # a kind node's pod, seen from the machine beneath
        ("Name:\tagent\nNSpid:\t812\n", False),  # hostPID
        ("Name:\tpause\n", False),
    ],
)
def test_containers_in_containers(text: str, want: bool) -> None:
    assert pods.nested(text) is want


def process(root: Path, pid: int, cgroup: str, start: int = 100, comm: str = "pause", nspid: str = "9 1") -> None:
    """Lay out one process of a fixture /proc; its namespaces are those of the test."""
    place = root / "proc" / str(pid)
    (place / "ns").mkdir(parents=True)
    (place / "cgroup").write_text(cgroup)
    (place / "comm").write_text(comm + "\n")
    (place / "stat").write_text(STAT.replace("coredns", comm).replace("1333406", str(start)))
    (place / "status").write_text(f"Name:\t{comm}\nNSpid:\t{nspid}\n")
    for kind in ("net", "uts"):
        (place / "ns" / kind).symlink_to(f"/proc/self/ns/{kind}")


def cgroup_of(number: int) -> str:
    return f"0::/kubepods/besteffort/pod{number:08d}-0000-0000-0000-000000000000/c{number}\n"


def a_host(root: Path, sandboxes: dict[int, int], kubelet: str = "kubelet") -> Host:
    return Host(root=str(root), initial_netns=True, processes={kubelet: [1]}, sandboxes=sandboxes)


def set_key(root: Path, value: str) -> None:
    path = root / "proc/sys/net/core"
    path.mkdir(parents=True, exist_ok=True)
    (path / "somaxconn").write_text(value + "\n")


def test_the_oldest_pod_comes_first(tmp_path: Path) -> None:
    process(tmp_path, 10, cgroup_of(1), start=300)
    process(tmp_path, 11, cgroup_of(2), start=200)
    process(tmp_path, 12, BY_NAME["docker"], start=100)
    process(tmp_path, 13, cgroup_of(4), start=50, comm="qemu-system-x86")
    process(tmp_path, 14, "\udcff::x".encode("utf-8", "surrogateescape").decode("latin-1"), start=1)
    host = a_host(tmp_path, {1: 10, 2: 11, 3: 12, 4: 13, 5: 14, 6: 99})
    assert [(pod.pid, pod.started, pod.netns) for pod in pods.running(host)] == [(11, 200, 2), (10, 300, 1)]


def nowhere(fd: int, kind: int) -> None:
    """Stand in for setns(2), which needs root: stay."""


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, int], None]], None]:
    """Return use(function): what setns is from then on."""

    def use(function: Callable[[int, int], None]) -> None:
        monkeypatch.setattr(pods, "setns_call", lambda: function)

    use(nowhere)
    return use


def short_of(host: Host, wishes: int = 1) -> tuple[list[dict[str, Any]], list[str]]:
    warnings: list[str] = []
    found = pods.short_of([(parse_setting(SETTING), "65535")] * wishes, host, warnings)
    return found, warnings


@pytest.mark.usefixtures("stay")
def test_what_a_pod_falls_short_of(tmp_path: Path) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 10, cgroup_of(1))
    found, warnings = short_of(a_host(tmp_path, {NETNS: 10}))
    assert warnings == []
    (pod,) = found
    assert (pod["uid"], pod["name"]) == ("00000001-0000-0000-0000-000000000000", os.uname().nodename)
    (value,) = pod["values"]
    assert (value["key"], value["node"], value["pod"], value["reach"]) == (SOMAXCONN, "65535", "4096", "default")


@pytest.mark.usefixtures("stay")
def test_a_pod_that_has_it_all_is_named_without_values(tmp_path: Path) -> None:
    set_key(tmp_path, "65535")
    process(tmp_path, 10, cgroup_of(1))
    found, _ = short_of(a_host(tmp_path, {NETNS: 10}))
    assert [pod["values"] for pod in found] == [[]]


@pytest.mark.usefixtures("stay")
@pytest.mark.parametrize("case", ["no kubelet", "no pod", "nested", "gone", "other namespace", "no wish"])
def test_nothing_is_said_where_nothing_is_known(tmp_path: Path, case: str) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 10, cgroup_of(1), nspid="30 9 1" if case == "nested" else "9 1")
    kubelet = "sshd" if case == "no kubelet" else "kubelet"
    sandboxes = {"no pod": {}, "other namespace": {NETNS + 1: 10}}.get(case, {NETNS: 10})
    if case == "gone":
        (tmp_path / "proc/10/ns/net").unlink()
    assert short_of(a_host(tmp_path, sandboxes, kubelet), 0 if case == "no wish" else 1) == ([], [])


@pytest.mark.usefixtures("stay")
def test_a_pod_that_just_ended_gives_way_to_the_next(tmp_path: Path) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 10, cgroup_of(1), start=1)
    process(tmp_path, 11, cgroup_of(2), start=2)
    found, _ = short_of(a_host(tmp_path, {NETNS + 1: 10, NETNS: 11}))
    assert [pod["uid"][:8] for pod in found] == ["00000002"]


def refuse(fd: int, kind: int) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def hang(fd: int, kind: int) -> None:
    signal.pause()


def die(fd: int, kind: int) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("setns", "why"), [(refuse, "Operation not permitted"), (die, "no answer"), (hang, "no answer")]
)
def test_a_pod_that_cannot_be_read_is_one_warning(
    tmp_path: Path, stay: Any, monkeypatch: pytest.MonkeyPatch, setns: Any, why: str
) -> None:
    stay(setns)
    host = a_host(tmp_path, {NETNS: 10})
    process(tmp_path, 10, cgroup_of(1))
    begun = time.monotonic()
    read = pods.read
    monkeypatch.setattr(pods, "read", lambda pod, keys, host: read(pod, keys, host, 0.2))
    found, warnings = short_of(host)
    assert found == [] and len(warnings) == 1 and why in warnings[0]
    assert time.monotonic() - begun < 2
    with pytest.raises(ChildProcessError):  # no child is left, not even a dead one
        os.waitpid(-1, os.WNOHANG)


def test_a_process_without_children_reads_a_pod_too(tmp_path: Path, stay: Any) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 10, cgroup_of(1))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        found, warnings = short_of(a_host(tmp_path, {NETNS: 10}))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert len(found) == 1 and warnings == []


def test_a_node_that_is_full_of_processes_is_one_warning(
    tmp_path: Path, stay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", no_fork)
    process(tmp_path, 10, cgroup_of(1))
    before = sorted(Path("/proc/self/fd").iterdir())
    found, warnings = short_of(a_host(tmp_path, {NETNS: 10}))
    assert found == [] and "temporarily unavailable" in warnings[0]
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_an_answer_without_end_is_no_answer(tmp_path: Path, stay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "_ANSWER_LIMIT", 100)
    set_key(tmp_path, "4096" * 100)
    process(tmp_path, 10, cgroup_of(1))
    found, warnings = short_of(a_host(tmp_path, {NETNS: 10}))
    assert found == [] and len(warnings) == 1


def test_a_python_that_cannot_enter_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setns", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "ctypes", None)
    process(tmp_path, 10, cgroup_of(1))
    found, warnings = short_of(a_host(tmp_path, {NETNS: 10}))
    assert found == [] and "cannot enter" in warnings[0]


def test_setns_reports_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setns", raising=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        pods.setns_call()(-1, 0)


@pytest.mark.usefixtures("stay")
def test_the_child_leaves_this_process_where_it_is(tmp_path: Path) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 10, cgroup_of(1))
    pod = pods.Pod(1, 10, NETNS, UID)
    before = sorted(Path("/proc/self/fd").iterdir())
    assert pods.read(pod, [SOMAXCONN, "net.ipv4.tcp_rmem", "net.core.absent"], a_host(tmp_path, {}))["values"] == {
        SOMAXCONN: "4096"
    }
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert Path("/proc/self/ns/net").stat().st_ino == NETNS


def a_change(**fields: Any) -> Change:
    return Change(
        **{"family": "sysctl", "key": SOMAXCONN, "before": "4096", "want": "65535", "persist": SETTING, **fields}
    )


def test_wishes_are_those_this_node_fulfils() -> None:
    changes = [
        a_change(),
        a_change(status="owned", persist=None),
        a_change(status="unsupported"),  # its module is not loaded yet
        a_change(family="nic_queues", persist={"interfaces": ["eth0"]}),
    ]
    assert [(setting.key, node) for setting, node in pods.wishes_of(changes)] == [(SOMAXCONN, "65535")]


def test_kept_wishes_have_the_value_of_now(tmp_path: Path) -> None:
    set_key(tmp_path, "70000")
    kept = {SOMAXCONN: SETTING, "x": {"key": "net.core.absent", "value": 1, "class": "exact"}, "y": {"from": "later"}}
    found = pods.wishes_kept(kept, Host(root=str(tmp_path)))
    assert [(setting.key, node) for setting, node in found] == [(SOMAXCONN, "70000")]


def test_other_network_namespaces_are_seen_beside_the_processes(tmp_path: Path) -> None:
    for pid, net in ((1, "net"), (20, "uts"), (9, "uts"), (30, "net")):
        process(tmp_path, pid, "", comm=f"c{pid}")
        (tmp_path / f"proc/{pid}/ns/net").unlink()
        (tmp_path / f"proc/{pid}/ns/net").symlink_to(f"/proc/self/ns/{net}")
    (tmp_path / "proc/self").symlink_to("1")
    (tmp_path / "proc/31").mkdir()
    host = observe_host(str(tmp_path))
    assert host.processes == {"c1": [1], "c30": [30]}
    assert host.sandboxes == {Path("/proc/self/ns/uts").stat().st_ino: 9}
    assert "sandboxes" not in host.to_dict()


def test_plan_and_observe_answer_for_pods(tmp_path: Path, stay: Any) -> None:
    set_key(tmp_path, "4096")
    process(tmp_path, 1, "0::/init.scope\n", comm="kubelet")
    process(tmp_path, 10, cgroup_of(1))
    (tmp_path / "proc/self").symlink_to("1")
    for pid, kind in ((1, "uts"), (10, "net")):  # two different namespaces are all that is needed
        (tmp_path / f"proc/{pid}/ns/net").unlink()
        (tmp_path / f"proc/{pid}/ns/net").symlink_to(f"/proc/self/ns/{kind}")
    layer = {"profile": "p", "match": None, "sysctl": [SETTING]}
    planned = handle({"schema": 1, "op": "plan", "layers": [layer]}, root=str(tmp_path))
    assert [row["node"] for row in planned["pods"][0]["values"]] == ["65535"]
    assert handle({"schema": 1, "op": "observe"}, root=str(tmp_path))["pods"] == []
    settings = tmp_path / "etc/tune-nodes"
    settings.mkdir(parents=True)
    (settings / "settings.json").write_text(json.dumps({"schema": 1, "settings": {"sysctl": {SOMAXCONN: SETTING}}}))
    set_key(tmp_path, "512")
    observed = handle({"schema": 1, "op": "observe"}, root=str(tmp_path))
    assert observed["pods"][0]["values"] == [], "node and pod hold the same here, though neither what is wished"


class OneAnswer:
    """A link that gives one answer."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result

    def renew(self) -> None:
        """Do nothing."""

    def send(self, request: Any, limit: float) -> dict[str, Any]:
        """Return the answer."""
        return self.result


def test_pods_reach_the_record_of_the_run() -> None:
    value = {"key": SOMAXCONN, "node": "65535", "pod": "4096", "reach": "default", "note": "set it in the pod"}
    pod = {"uid": UID, "name": "coredns-\x1b[31m1", "values": [value]}
    result = ask(OneAnswer({"ok": True, "changes": [], "pods": [pod]}), {})
    record = node_record("n1", result)
    assert record.outcome is Outcome.OK
    assert [p.name for p in record.pods] == ["coredns-1"]
    assert record.pods[0].values[0].model_dump() == value


def test_no_pod_raises_what_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        pods.read(pods.Pod(1, 4194305, 1, UID), [], Host(root=str(tmp_path)))
    assert caught.value.code == "gone"
