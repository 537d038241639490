"""Killed at every message to the kernel, and at every call that confirms, a node's MTUs are wholly old or confirmed.

strace kills a request at its Nth such call, N rising until one survives. Every N has a node of its own, so that their
windows pass side by side. Of a change in two rounds the first is killed (pins, then links), its confirmation, and the
second (pins off). What is the same whatever is changed (loading, arming, the journal) test_kill_loop_lab.py kills.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from mtu_overlay import Overlay
from nodecall import PYTHON, call, changed_before, payload, state_of

from tune_nodes.lab import Lab
from tune_nodes.lab.command import run
from tune_nodes.lab.node import LabNode

#: strace counts each call's Nth by itself, so each is killed by itself.
MESSAGES, FILES = "sendto", ("rename", "fsync", "unlink")
AT_ONCE = 8
ASKED = 8  # two plans, each of a node's links, addresses and routes
OLD = ({"eth0": 1500, "flannel.1": 1450, "cni0": 1450}, [], {})
HELD = (
    {"eth0": 9000, "flannel.1": 8950, "cni0": 1450},
    ["1450", "1500"],
    {"eth0": 1500, "flannel.1": 1450},
)
LAYER = {"profile": "test", "match": None, "mtu": [{"underlay": 9000, "pods": "auto"}]}


@dataclass(frozen=True)
class Step:
    """What is killed.

    Attributes:
        asked: the request.
        call: the system call it is killed at.
        before: requests that come first.
        ends: transaction's state -> what the node is then.
    """

    asked: dict[str, Any]
    call: str
    before: tuple[dict[str, Any], ...]
    ends: dict[str, Any]


def apply(run_id: str, **more: Any) -> dict[str, Any]:
    return {"op": "apply", "run": run_id, "window": 40, "layers": [LAYER], **more}


FIRST = apply("first", hold=True)
CONFIRM = {"op": "confirm", "tx": "first"}
STEPS = (
    Step(FIRST, MESSAGES, (), {"": OLD, "REVERTED": OLD}),
    *(Step(CONFIRM, name, (FIRST,), {"REVERTED": OLD, "DONE": HELD}) for name in FILES),
    Step(apply("second"), MESSAGES, (FIRST, CONFIRM), {"": HELD, "REVERTED": HELD}),
)


def state(overlay: Overlay, node: LabNode) -> Any:
    """Return MTUs and pins as the ip program says, and the pins that the node keeps."""
    shown = run(["ip", "-n", node.netns, "route"]).stdout
    path = node.root / "etc/tune-nodes/settings.json"
    kept = json.loads(path.read_text())["settings"]["mtu"]["eth0/mtu"]["pins"] if path.exists() else {}
    return overlay.mtus(node), sorted(set(re.findall(r" mtu ([0-9]+)", shown))), kept


def prepare(node: LabNode, step: Step) -> None:
    for asked in step.before:
        done = call(node, **asked)
        assert done["ok"], done["error"]


def traced(node: LabNode, step: Step, *words: str) -> bool:
    """Run a step's request beneath strace; True if it survived."""
    asked, out = node.root / "tmp/request", node.root / "tmp/answer"
    asked.write_bytes(payload(step.asked))
    strace = ["strace", "-qq", "-o", "/tmp/calls", "-e", f"trace={step.call}", *words]
    # Output to a file: the reverter would hold a pipe open for its whole window.
    with asked.open("rb") as question, out.open("wb") as answer:
        subprocess.run(node.argv([*strace, *PYTHON]), stdin=question, stdout=answer, timeout=140, check=False)
    return b'"schema"' in out.read_bytes()


def count(node: LabNode, step: Step) -> int:
    """Count the calls of the whole request."""
    prepare(node, step)
    assert traced(node, step)
    return sum("(" in line for line in (node.root / "tmp/calls").read_text().splitlines())


def numbers(step: Step, most: int) -> list[int]:
    """Return the calls to kill: all, but of the messages that only ask, before anything is armed, every fourth."""
    return [n for n in range(1, most + 1) if step.call != MESSAGES or n > ASKED or n % 4 == 0]


@pytest.mark.timeout(290)
def test_killed_at_every_message_and_at_every_step_of_the_confirmation(make_lab: Callable[..., Lab]) -> None:
    trial = Overlay(make_lab(len(STEPS), sudo=False), joined=1)
    with ThreadPoolExecutor(len(STEPS)) as pool:
        counts = list(pool.map(count, trial.nodes, STEPS))
    trial.close()
    rows = [(step, number) for step, most in zip(STEPS, counts, strict=True) for number in numbers(step, most)]
    overlay = Overlay(make_lab(len(rows), sudo=False), joined=1)
    changed_before(overlay.nodes)

    def one(node: LabNode, row: tuple[Step, int]) -> bool:
        prepare(node, row[0])
        return traced(node, row[0], "-e", f"inject={row[0].call}:signal=KILL:when={row[1]}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(one, overlay.nodes, rows))
    assert not any(ends), [row[1] for row, end in zip(rows, ends, strict=True) if end]
    met: set[tuple[str, str]] = set()
    for node, (step, number) in zip(overlay.nodes, rows, strict=True):
        tx = str(step.asked.get("run") or step.asked["tx"])
        final = settled(node, tx)
        met.add((tx, final))
        assert state(overlay, node) == step.ends[final], (step.asked["op"], tx, number, final)
    assert {("first", "REVERTED"), ("first", "DONE"), ("second", "REVERTED")} <= met
    overlay.close()


def settled(node: LabNode, tx: str) -> str:
    limit = time.monotonic() + 60
    while True:
        found = state_of(node, tx)
        if found in ("", "DONE", "REVERTED"):
            return found
        assert time.monotonic() < limit, (node.name, found)
        time.sleep(0.5)
