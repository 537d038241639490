"""R4: what speaks against opening a node for pods, what is said of a rebuild that did not end, and its backup."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tune_nodes.errors import TuneError
from tune_nodes.recovery.rebuild.work import Standing
from tune_nodes.recovery.rungs import rebuild
from tune_nodes.recovery.state import Fault, NetworkState, NodeState, Ping
from tune_nodes.runs.models import NodeRecord, Outcome

WELL = NodeState(
    "w",
    "flannel",
    "/etc/cni/net.d/10-flannel.conflist",
    network_ready=True,
    sandboxes=3,
    pings=(Ping("10.244.1.2", "shop/a", True),),
    waiting=0,
)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        pytest.param(WELL, [], id="well"),
        pytest.param(replace(WELL, network_ready=None), [], id="a runtime that does not say"),
        pytest.param(replace(WELL, waiting=None, pings=(), sandboxes=0), [], id="an empty node"),
        pytest.param(
            replace(WELL, networks=(NetworkState("cbr0", stale=3),), faults=(Fault("peer", "x", rung=1),)),
            [],
            id="what other rungs mend keeps no node closed",
        ),
        pytest.param(replace(WELL, conf=""), ["there is no CNI configuration"], id="no configuration"),
        pytest.param(
            replace(WELL, network_ready=False, reason="cni plugin not initialized"),
            ["the runtime says its network is not ready: cni plugin not initialized"],
            id="not ready",
        ),
        pytest.param(
            replace(WELL, missing=("flannel", "portmap")), ["plugins are missing: flannel, portmap"], id="plugins"
        ),
        pytest.param(
            replace(WELL, sandboxes=None), ["the runtime does not say which sandboxes there are"], id="runtime"
        ),
        pytest.param(
            replace(WELL, pings=(*WELL.pings, Ping("10.244.1.3", "shop/b", False))),
            ["pods do not answer the node: shop/b (10.244.1.3)"],
            id="silent",
        ),
        pytest.param(replace(WELL, waiting=2), ["2 of its pods still wait for a network"], id="waiting"),
        pytest.param(
            replace(WELL, conf="", waiting=1),
            ["there is no CNI configuration", "1 of its pods still wait for a network"],
            id="two things",
        ),
    ],
)
def test_what_speaks_against_opening_a_node(state: NodeState, words: list[str]) -> None:
    assert rebuild.unwell(state) == "; ".join(words)


def test_of_many_silent_pods_some_are_named() -> None:
    said = rebuild.unwell(replace(WELL, pings=tuple(Ping(f"10.0.0.{n}", f"a/{n}", False) for n in range(9))))
    assert "a/4 (10.0.0.4)" in said and "a/5" not in said


RECORD = NodeRecord(name="w", outcome=Outcome.OK)
RUN: Any = SimpleNamespace(fleet=SimpleNamespace(record=SimpleNamespace(nodes={"w": RECORD}, id="run-2")))


def failed(at: Standing) -> NodeRecord:
    problem = TuneError("pods could not all be moved", "a budget", "wait", data={"code": "budget"})
    return rebuild._failed(RUN, "w", RECORD, at, problem)


def test_before_anything_was_touched_it_is_refused() -> None:
    record = failed(Standing("run-1"))
    assert record.outcome is Outcome.REFUSED and record.error is not None
    assert (record.error.what, record.error.next, record.error.code) == (
        "pods could not all be moved",
        "wait",
        "budget",
    )


def test_afterwards_both_ways_on_are_named() -> None:
    record = failed(Standing("run-1", phase="begun"))
    assert record.outcome is Outcome.FAILED and record.error is not None
    assert record.error.next.startswith("wait; the node stays closed for pods; carry on: ")
    assert "recover cni --nodes w --rung 4" in record.error.next and "recover undo run-1" in record.error.next


class Run:
    """A run whose node has made a backup; ``fetched``: what arrived of it."""

    def __init__(self, directory: Path, fetched: bytes | None, digest: str) -> None:
        self.directory = directory
        self.asked: dict[str, Any] = {}
        self.fetched, self.digest = fetched, digest

    def file(self, what: str, name: str, ending: str) -> Path:
        return self.directory / f"{what}-{name}{ending}"

    def ask(self, playbook: str, wanted: dict[str, dict[str, Any]]) -> dict[str, NodeRecord]:
        assert playbook == "recover_rebuild"
        self.asked = wanted["w"]
        if self.fetched is not None:
            Path(self.asked["dest"]).write_bytes(self.fetched)
        made = {"path": "/var/lib/tune-nodes/b.tar.gz", "sha256": self.digest}
        host = {"cni": {"rebuild": {"backup": made}}}
        return {"w": NodeRecord(name="w", outcome=Outcome.CHANGED, host=host)}


def test_a_backup_is_on_this_machine_before_anything_is_touched(tmp_path: Path) -> None:
    run: Any = Run(tmp_path, b"packed", hashlib.sha256(b"packed").hexdigest())
    rebuild.Port(run, "w").node("begin", run="run-1", backup=True)
    kept = tmp_path / "backup-w.tar.gz"
    assert run.asked == {"step": "begin", "run": "run-1", "dest": str(kept)}
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("fetched", "said"), [(None, "could not be fetched"), (b"half", "not the one that was made")])
def test_a_backup_that_did_not_arrive_whole_ends_it(tmp_path: Path, fetched: bytes | None, said: str) -> None:
    run: Any = Run(tmp_path, fetched, hashlib.sha256(b"packed").hexdigest())
    with pytest.raises(TuneError, match=said):
        rebuild.Port(run, "w").node("begin", backup=True)
