"""Killed at every system call that changes something, a node is wholly old or wholly confirmed, never between.

strace kills the request at its Nth such call, N rising until a run survives. Its ``-f`` follows the reverter too,
which is then killed at its own Nth call. Every N has a node of its own, so that their windows pass side by side.
The calls of loading the code (an ioctl for every file that Python opens) are the same whatever is asked: of these only
every eighth is killed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from nodecall import PYTHON, apply_request, call, payload, state_of, tune_processes, values

from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
CALLS = "write,rename,renameat,renameat2,fsync,unlink,ioctl"
BATCH = 48
LAST = 400  # no request makes that many
WINDOW = 40.0


def strace(number: int) -> list[str]:
    inject = f"inject={CALLS}:signal=KILL:when={number}"
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e", inject]


def killed_at(node: LabNode, number: int, request: dict[str, Any]) -> bool:
    """Run a request that is killed at its Nth call; True if it survived."""
    # Output to a file: the reverter, followed by strace, would hold a pipe open for its whole window.
    asked, out = node.root / "tmp" / "request", node.root / "tmp" / "answer"
    asked.write_bytes(payload(request))
    with asked.open("rb") as question, out.open("wb") as answer:
        command = node.argv([*strace(number), *PYTHON])
        subprocess.run(command, stdin=question, stdout=answer, timeout=WINDOW + 90, check=False)
    return b'"schema"' in out.read_bytes()


def calls_of_loading(node: LabNode, step: str) -> int:
    """Count the calls of a request that only reads, its few own ones taken off.

    A node that was changed before loads its code compiled, with far fewer calls: so it is for all but apply.
    """
    if step != "apply":
        assert call(node, **apply_request("before"))["ok"]
        assert call(node, "revert", tx="before")["ok"]
    trace = ["strace", "-f", "-qq", "-o", "/tmp/calls", "-e", f"trace={CALLS}"]
    call(node, "status", prefix=trace)
    return max(0, len(node.run(["cat", "/tmp/calls"]).stdout.splitlines()) - 12)


def batches(loading: int) -> Iterator[list[int]]:
    numbers = [*range(1, loading, 8), *range(loading, LAST)]
    for first in range(0, len(numbers), BATCH):
        yield numbers[first : first + BATCH]


def side_by_side(work: Callable[[LabNode, int], Any], nodes: Sequence[LabNode], numbers: Sequence[int]) -> list[Any]:
    with ThreadPoolExecutor(BATCH) as pool:
        return list(pool.map(work, nodes, numbers))


def settle(node: LabNode) -> str:
    """Let the window pass, then let a later request resolve. Returns the transaction's final state."""
    for _ in range(120):
        state = state_of(node, "r1")
        if state in ("DONE", "REVERTED", ""):
            return state
        time.sleep(0.5)
    raise AssertionError(f"{node.name} is still {state}")


def check_whole(node: LabNode, number: int, old: dict[str, str], etc: dict[str, str]) -> str:
    """See that a node is wholly old or wholly confirmed; returns the transaction's state."""
    state = settle(node)
    kept = {path for path in node.etc() if "tune-nodes" in path}
    held = values(node)
    if state == "DONE":
        assert held["net.core.somaxconn"] == "16384", number
        assert held["net.ipv4.tcp_fin_timeout"] == "30", number
        assert {"sysctl.d/90-tune-nodes.conf", "tune-nodes/settings.json"} <= {p.lstrip("/") for p in kept}, number
    else:
        assert held == old, (number, state)
        assert node.etc() == etc, (number, state)
    assert not [path for path in kept if "/." in path], f"{number}: a temporary file was left"
    return state


@pytest.fixture
def fleet(make_lab: MakeLab) -> Callable[[int], list[LabNode]]:
    return lambda count: make_lab(count, sudo=False).nodes


@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", ["apply", "confirm", "revert"])
def test_killed_at_every_call(step: str, fleet: Callable[[int], list[LabNode]]) -> None:
    states: dict[int, str] = {}
    survived = False
    loading = calls_of_loading(fleet(1)[0], step)
    for numbers in batches(loading):
        nodes = fleet(BATCH)
        old, etc = [values(n) for n in nodes], [n.etc() for n in nodes]

        def one(node: LabNode, number: int) -> bool:
            if step == "apply":
                return killed_at(node, number, apply_request("r1", window=20))
            applied = call(node, **apply_request("r1", window=WINDOW))
            assert applied["ok"], applied["error"]
            return killed_at(node, number, {"op": step, "tx": "r1"})

        ends = side_by_side(one, nodes, numbers)
        assert numbers[0] > 1 or not ends[0], "the first call was not killed: strace injects nothing"
        rows = list(zip(nodes, numbers, old, etc, strict=True))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda row: check_whole(*row), rows))
        states.update(zip(numbers, found, strict=True))
        for node in nodes:
            assert not tune_processes(node), node.name
        nodes[0].lab.down()
        survived = all(ends[-3:])
        if survived:
            break
    assert survived, f"no run of {step} survived {LAST} calls"
    # More calls than loading takes were killed one by one, up to the last.
    assert sum(number >= loading for number in states) > 10
    if step == "confirm":
        # Both ends were met: killed before the commit point, and after it.
        assert {"DONE", "REVERTED"} <= set(states.values())
    else:
        assert "DONE" not in states.values()
