"""Closing, draining and opening nodes, against a cluster that answers from a table."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tune_nodes.cluster.errors import FORBIDDEN, UNREACHABLE, ClusterError
from tune_nodes.cluster.model import Blocked, Drained
from tune_nodes.fleet.closing import AGAIN, Closing

RUN = "20261124-081530-a1b2c3"
PDB = "Cannot evict pod as it would violate the pod's disruption budget: The disruption budget web needs 2 healthy pods"


class Doors:
    """Nodes that are open ("") or closed by somebody; errors by (call, node), the last one for ever."""

    def __init__(self, **closed_by: str) -> None:
        self.closed_by = {"n1": "", "n2": "", "n3": "", **closed_by}
        self.errors: dict[tuple[str, str], list[ClusterError | None]] = {}
        self.drained: dict[str, Drained] = {}
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def _ask(self, call: str, node: str) -> None:
        with self._lock:
            self.asked.append((call, node))
            queue = self.errors.get((call, node), [None])
            error = queue.pop(0) if len(queue) > 1 else queue[0]
        if error is not None:
            raise error

    def cordon(self, node: str, run: str) -> bool:
        if self.closed_by[node] in ("", run):
            self.closed_by[node] = run  # also where the answer is lost
        self._ask("cordon", node)
        return self.closed_by[node] == run

    def uncordon(self, node: str, run: str) -> bool:
        self._ask("uncordon", node)
        opened = self.closed_by[node] == run
        if opened:
            self.closed_by[node] = ""
        return opened

    def drain(
        self, node: str, timeout: float, cancelled: Callable[[], bool], *, delete_emptydir: bool = False
    ) -> Drained:
        self._ask("drain", node)
        return Drained(cancelled=True) if cancelled() else self.drained.get(node, Drained(evicted=3))


def never() -> bool:
    return False


def closing(doors: Doors, slept: list[float] | None = None) -> Closing:
    return Closing(doors, RUN, 300, False, (slept if slept is not None else []).append)


def test_nodes_are_closed_drained_and_opened_again() -> None:
    doors = Doors()
    work = closing(doors)
    assert work.close(["n1", "n2"], never) == {}
    assert doors.closed_by == {"n1": RUN, "n2": RUN, "n3": ""}
    assert (work.closed_by, work.evicted) == ({"n1": "ours", "n2": "ours"}, {"n1": 3, "n2": 3})
    assert work.open() == {}
    assert set(doors.closed_by.values()) == {""}
    assert work.open() == {}
    assert [call for call, _ in doors.asked].count("uncordon") == 2


def test_what_somebody_else_closed_stays_closed() -> None:
    doors = Doors(n1="a person")
    work = closing(doors)
    assert work.close(["n1"], never) == {}
    assert work.closed_by == {"n1": "foreign"}
    assert ("drain", "n1") in doors.asked  # its pods are moved like any other's
    assert work.open() == {}
    assert doors.closed_by["n1"] == "a person"


def test_a_budget_that_holds_a_pod_is_named_and_the_node_refused() -> None:
    doors = Doors()
    doors.drained["n2"] = Drained(1, (Blocked("shop/web-1", PDB),), ("shop/slow-1",))
    work = closing(doors)
    refused = work.close(["n1", "n2"], never)
    assert set(refused) == {"n2"}
    error = refused["n2"]
    assert (error.code, error.what) == ("not-drained", "the Node n2 could not be drained, so it was not touched")
    assert error.why == f"shop/web-1: {PDB}; shop/slow-1 is still there after 300 s"
    assert work.open(["n2"]) == {}
    assert doors.closed_by == {"n1": RUN, "n2": "", "n3": ""}


def test_many_pods_in_the_way_are_counted() -> None:
    doors = Doors()
    doors.drained["n1"] = Drained(left=tuple(f"a/p{number}" for number in range(9)))
    (error,) = closing(doors).close(["n1"], never).values()
    assert error.why.endswith("a/p2 is still there after 300 s; and 6 more")


def test_a_stop_while_draining_touches_nobody() -> None:
    doors = Doors()
    refused = closing(doors).close(["n1", "n2"], lambda: True)
    assert {error.code for error in refused.values()} == {"skipped"}
    assert doors.asked == []
    stop = iter([False, True])
    doors = Doors()
    work = closing(doors)
    refused = work.close(["n1"], lambda: next(stop))
    assert refused["n1"].code == "skipped"
    assert work.open() == {}
    assert doors.closed_by["n1"] == ""


@pytest.mark.parametrize("call", ["cordon", "drain"])
def test_a_call_that_fails_refuses_the_node_and_may_have_closed_it(call: str) -> None:
    doors = Doors()
    doors.errors[call, "n1"] = [ClusterError(UNREACHABLE, "the API server does not answer", "nothing came", "wait")]
    work = closing(doors)
    refused = work.close(["n1", "n2"], never)
    assert [(e.what, e.why, e.next, e.code) for e in refused.values()] == [
        ("the API server does not answer", "nothing came", "wait", "not-drained")
    ]
    assert work.open() == {}
    assert set(doors.closed_by.values()) == {""}


def test_opening_is_tried_again_while_the_server_falters() -> None:
    doors, slept = Doors(), list[float]()
    work = closing(doors, slept)
    work.close(["n1"], never)
    away = ClusterError(UNREACHABLE, "the API server does not answer")
    doors.errors["uncordon", "n1"] = [away, away, None]
    assert work.open() == {}
    assert slept == list(AGAIN[:2])
    assert doors.closed_by["n1"] == ""


@pytest.mark.parametrize(("code", "tries"), [(UNREACHABLE, len(AGAIN) + 1), (FORBIDDEN, 1)])
def test_a_node_that_cannot_be_opened_is_said(code: str, tries: int) -> None:
    doors = Doors()
    work = closing(doors)
    work.close(["n1", "n2"], never)
    doors.errors["uncordon", "n1"] = [ClusterError(code, "it would not", "a reason")]
    assert work.open() == {"n1": "it would not: a reason"}
    assert doors.asked.count(("uncordon", "n1")) == tries
    assert doors.closed_by == {"n1": RUN, "n2": "", "n3": ""}
    del doors.errors["uncordon", "n1"]
    assert work.open() == {}
    assert doors.closed_by["n1"] == ""
