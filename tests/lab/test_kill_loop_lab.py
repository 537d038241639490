"""Killed at every system call that changes something, a node is wholly old or wholly confirmed, never between.

strace counts each call by itself, so each is killed by itself: a request at its Nth write, its Nth fsync and so on, N
rising until one survives. Its ``-f`` follows the reverter too, which is then killed at its own Nth. Every N has a node
of its own, so that their windows pass side by side. The ioctls of loading the code (one for every file that Python
opens) are the same whatever is asked: of these only every eighth is killed.

A node's first change puts the code on it, compiled: that is killed on nodes that have none, all else on nodes that do.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.bundle import CODE_DIR
from nodecall import PYTHON, SHORT, apply_request, call, changed_before, payload, state_of, tune_processes, values

from tune_nodes.lab import Lab
from tune_nodes.lab.node import LabNode

MakeLab = Callable[..., Lab]
CALLS = ("write", "fsync", "rename", "renameat", "renameat2", "unlink", "ioctl")
LOADING = "ioctl"
FIRST = "first apply"
BATCH = 48
#: So many at once would leave the tests beside them a twentieth of the machine, and those have windows too.
POLITE = ("nice", "-n", "10")
WINDOW = 40.0
#: A call more or less, from one run to the next.
SPARE = 3
MOST = 40  # more calls than were counted, at the very most

Row = tuple[str, int]  # the call, and which of them


def traced(node: LabNode, request: dict[str, Any], calls: str, *words: str) -> str:
    """Run a request beneath strace until its reverter has ended too; returns what it answered."""
    # Output to a file: the reverter, followed by strace, would hold a pipe open for its whole window.
    asked, out = node.root / "tmp" / "request", node.root / "tmp" / "answer"
    asked.write_bytes(payload(request))
    strace = ["strace", "-f", "-qq", "-o", "/tmp/calls", "-e", f"trace={calls}", *words]
    with asked.open("rb") as question, out.open("wb") as answer:
        command = node.argv([*POLITE, *strace, *PYTHON])
        subprocess.run(command, stdin=question, stdout=answer, timeout=WINDOW + 90, check=False)
    return out.read_text(errors="replace")


def killed_at(node: LabNode, row: Row, request: dict[str, Any]) -> bool:
    """Run a request that is killed at its Nth call of one name; True if it survived."""
    call_, number = row
    return '"schema"' in traced(node, request, call_, "-e", f"inject={call_}:signal=KILL:when={number}")


def counted(node: LabNode, request: dict[str, Any], until: str = "") -> Counter[str]:
    """Return how many calls of each name a process of a request makes at most, up to the last that names ``until``."""
    assert '"schema"' in traced(node, request, ",".join(CALLS))
    lines = node.run(["cat", "/tmp/calls"]).stdout.splitlines()
    found: Counter[tuple[str, str]] = Counter()
    for line in lines[: 1 + max(number for number, line in enumerate(lines) if until in line)]:
        pid, _, rest = line.partition(" ")
        name, bracket, _ = rest.strip().partition("(")
        if bracket:
            found[pid, name] += 1
    return Counter({name: max(n for (_, one), n in found.items() if one == name) for _, name in found})


def rows(most: Counter[str], loading: int, spare: int) -> list[Row]:
    """Return which calls to kill, some after the last of each name too, which must survive."""
    assert {"write", "fsync", "rename"} <= set(most), most
    return [
        (name, number)
        for name, count in most.items()
        for number in range(1, count + spare + 1)
        if name != LOADING or number % 8 == 1 or number >= loading
    ]


def beyond(most: Counter[str], ends: dict[Row, bool]) -> list[Row]:
    """Return the next calls of each name of which none has survived yet: one run may make more than another."""
    found = []
    for name, count in most.items():
        last = max(number for one, number in ends if one == name)
        if not ends[name, last] and last < count + MOST - SPARE:
            found += [(name, last + more) for more in range(1, SPARE + 1)]
    return found


def side_by_side(work: Callable[[LabNode, Row], Any], nodes: Sequence[LabNode], some: Sequence[Row]) -> list[Any]:
    with ThreadPoolExecutor(BATCH) as pool:
        return list(pool.map(work, nodes, some))


def settle(node: LabNode) -> str:
    """Let the window pass, then let a later request resolve. Returns the transaction's final state."""
    for _ in range(120):
        state = state_of(node, "r1")
        if state in ("DONE", "REVERTED", ""):
            return state
        time.sleep(0.5)
    raise AssertionError(f"{node.name} is still {state}")


def check_whole(node: LabNode, row: Row, old: dict[str, str], etc: dict[str, str]) -> str:
    """See that a node is wholly old or wholly confirmed; returns the transaction's state."""
    state = settle(node)
    kept = {path for path in node.etc() if "tune-nodes" in path}
    held = values(node)
    if state == "DONE":
        assert held["net.core.somaxconn"] == "16384", row
        assert held["net.ipv4.tcp_fin_timeout"] == "30", row
        assert {"sysctl.d/90-tune-nodes.conf", "tune-nodes/settings.json"} <= {p.lstrip("/") for p in kept}, row
    else:
        assert held == old, (row, state)
        assert node.etc() == etc, (row, state)
    assert not [path for path in kept if "/." in path], f"{row}: a temporary file was left"
    return state


Fleet = Callable[[int], list[LabNode]]


@pytest.fixture
def fresh(make_lab: MakeLab) -> Fleet:
    return lambda count: make_lab(count, sudo=False).nodes


@pytest.fixture
def fleet(fresh: Fleet) -> Fleet:
    """Nodes that a change has left the compiled code on."""

    def make(count: int) -> list[LabNode]:
        nodes = fresh(count)
        changed_before(nodes)
        return nodes

    return make


@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", [FIRST, "apply", "confirm", "revert"])
def test_killed_at_every_call(step: str, request: pytest.FixtureRequest) -> None:
    fleet: Fleet = request.getfixturevalue("fresh" if step == FIRST else "fleet")

    def prepared(node: LabNode) -> dict[str, Any]:
        if step in (FIRST, "apply"):
            return apply_request("r1", SHORT)
        applied = call(node, **apply_request("r1", window=WINDOW))
        assert applied["ok"], applied["error"]
        return {"op": step, "tx": "r1"}

    def one(node: LabNode, row: Row) -> bool:
        return killed_at(node, row, prepared(node))

    trial, other = fleet(2)
    most = counted(trial, prepared(trial), CODE_DIR if step == FIRST else "")
    # What only asks loads as much. Once the code is there, the next step kills the rest.
    loading = most[LOADING] if step == FIRST else max(0, counted(other, {"op": "status"})[LOADING] - 12)
    trial.lab.down()
    states: dict[Row, str] = {}
    ends: dict[Row, bool] = {}
    left = rows(most, loading, 0 if step == FIRST else SPARE)
    while left:
        some, left = left[:BATCH], left[BATCH:]
        nodes = fleet(len(some))
        old, etc = [values(n) for n in nodes], [n.etc() for n in nodes]
        ends.update(zip(some, side_by_side(one, nodes, some), strict=True))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(check_whole, nodes, some, old, etc))
        states.update(zip(some, found, strict=True))
        for node in nodes:
            assert not tune_processes(node), node.name
        nodes[0].lab.down()
        if step != FIRST:
            left = left or beyond(most, ends)
    for name, count in most.items():
        assert not ends[name, 1], f"the first {name} was not killed: strace injects nothing"
        survived = step == FIRST or any(ends.get((name, count + more)) for more in range(1, MOST))
        assert survived, f"no run survived the {name}s"
    if step == "confirm":
        # Both ends were met: killed before the commit point, and after it.
        assert {"DONE", "REVERTED"} <= set(states.values())
    else:
        assert "DONE" not in states.values()
