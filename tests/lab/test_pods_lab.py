"""A pod's network namespace as a plan reads it: a real namespace, a real cgroup, a real setns.

A process plays the pod. Its values are read and set by nsenter and sysctl, never by the code that is tested.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from conftest import MakeLab
from nodecall import call

from tune_nodes.lab.node import LabNode

SOMAXCONN = "net.core.somaxconn"
WMEM = "net.ipv4.tcp_wmem"
WISHES = [{"key": SOMAXCONN, "value": 65535}, {"key": WMEM, "value": "4096 65536 67108864"}]
LAYER = {"profile": "test", "match": None, "sysctl": WISHES}
KUBELET = "import signal; open('/proc/self/comm', 'w').write('kubelet'); print('up', flush=True); signal.pause()"


@contextmanager
def running(argv: list[str]) -> Iterator[int]:
    """Run a program that says a line when it is ready; it is killed at the end."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            yield process.pid
        finally:
            process.kill()


def cgroup_root() -> Path:
    """Return a hierarchy in which groups may be made: a named one of v1, else v2's only one."""
    for name in ("pids", "unified", ""):
        root = Path("/sys/fs/cgroup", name)
        if (root / "cgroup.procs").is_file():
            return root
    raise AssertionError("no cgroup hierarchy is mounted")


class Pod:
    """A process with a network and a name of its own in a cgroup as kubelet makes it."""

    def __init__(self, uid: str, name: str) -> None:
        self.uid, self.name = uid, name
        self.top = cgroup_root() / f"tune-nodes-test-{uid[:8]}"
        self.group = self.top / "kubepods" / "besteffort" / f"pod{uid}" / "c0"
        self.pid = 0

    @contextmanager
    def up(self) -> Iterator[Pod]:
        """Start it, and take it and its cgroup away."""
        self.group.mkdir(parents=True)
        try:
            script = f"hostname {self.name}; echo up; exec sleep 300"
            with running(["unshare", "--net", "--uts", "sh", "-c", script]) as self.pid:
                (self.group / "cgroup.procs").write_text(str(self.pid))
                yield self
        finally:
            for directory in (self.group, *self.group.parents):
                directory.rmdir()
                if directory == self.top:
                    break

    def sysctl(self, *arguments: str) -> str:
        """Run sysctl in its network."""
        argv = ["nsenter", f"--target={self.pid}", "--net", "sysctl", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout

    def value(self, key: str) -> str:
        """Return one of its sysctls, blanks made single."""
        return " ".join(self.sysctl("-n", key).split())


@pytest.fixture
def node(make_lab: MakeLab) -> LabNode:
    """Return a lab node."""
    return make_lab(1).nodes[0]


@pytest.fixture
def world(node: LabNode) -> Iterator[Pod]:
    """Return a pod that runs beside a kubelet on the node."""
    with ExitStack() as stack:
        stack.enter_context(running(node.argv(["/usr/bin/python3", "-I", "-c", KUBELET])))
        yield stack.enter_context(Pod(str(uuid4()), "shop-1").up())


def plan(node: LabNode) -> dict[str, Any]:
    result = call(node, "plan", layers=[LAYER])
    assert result["ok"], result["error"]
    assert result["warnings"] == []
    return result


def test_a_plan_says_what_the_pod_has(node: LabNode, world: Pod) -> None:
    before = world.sysctl("-a", "--pattern", "^net")
    (pod,) = plan(node)["pods"]
    assert (pod["uid"], pod["name"]) == (world.uid, "shop-1")
    found = {row["key"]: row for row in pod["values"]}
    assert (found[SOMAXCONN]["node"], found[SOMAXCONN]["pod"]) == ("65535", world.value(SOMAXCONN))
    assert found[SOMAXCONN]["reach"] == "default" and "securityContext.sysctls" in found[SOMAXCONN]["note"]
    assert found[WMEM]["pod"] == world.value(WMEM)
    # A lab node is a namespace itself: what pods inherit is not the node's.
    assert found[WMEM]["reach"] == "inherited" and "not this node's" in found[WMEM]["note"]
    assert world.sysctl("-a", "--pattern", "^net") == before, "it is only looked at"
    assert node.read_sysctl(SOMAXCONN) != "65535", "a plan changes nothing"


def test_a_pod_that_sets_its_own_falls_short_of_nothing(node: LabNode, world: Pod) -> None:
    world.sysctl("-w", f"{SOMAXCONN}=70000", f"{WMEM}=4096 65536 67108864")
    assert [(pod["uid"], pod["values"]) for pod in plan(node)["pods"]] == [(world.uid, [])]


def test_an_older_pod_is_asked_first(node: LabNode, world: Pod) -> None:
    with Pod(str(uuid4()), "shop-2").up():
        assert [pod["uid"] for pod in plan(node)["pods"]] == [world.uid]


def test_no_kubelet_no_pod(node: LabNode) -> None:
    with Pod(str(uuid4()), "shop-1").up():
        assert plan(node)["pods"] == []


def test_an_apply_does_not_look_and_observe_does(node: LabNode, world: Pod) -> None:
    applied = call(node, "apply", layers=[LAYER], run="p1", window=60, persist="auto")
    assert applied["ok"], applied["error"]
    assert "pods" not in applied and "pods" not in applied["timings"]
    (pod,) = call(node, "observe")["pods"]
    assert {row["key"]: row["node"] for row in pod["values"]} == {SOMAXCONN: "65535", WMEM: "4096 65536 67108864"}
    assert pod["uid"] == world.uid
