"""The verification matrix: what is asked of nodes, and what their answers mean; tables over pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_nodes.recovery import matrix
from tune_nodes.recovery.matrix import Check, Ends
from tune_nodes.recovery.probepods import ProbePod
from tune_nodes.recovery.services import BESIDE, CLOSED, PEER, POD, Service, Try
from tune_nodes.recovery.verify import Row
from tune_nodes.runs.models import NodeRecord, Outcome, ProbeRecord

A = ProbePod(POD, "w1", "probe-a", "uid-a", {4: "10.244.1.2"}, 1.5)
B = ProbePod(BESIDE, "w1", "probe-b", "uid-b", {4: "10.244.1.3"}, 2.5)
P = ProbePod(PEER, "w2", "probe-p", "uid-p", {4: "10.244.2.2"}, 1.0)
API = Service("pod to ClusterIP (kubernetes)", Try(POD, "10.96.0.1", 443), Try(PEER, "10.96.0.1", 443))
PORT = Service("NodePort 30080 (shop/web)", Try(PEER, "172.18.0.3", 30080), Try(PEER, "172.18.0.4", 30080))
D = ProbePod(CLOSED, "w1", "probe-d", "uid-d", {4: "10.244.1.4"}, 1.0)
ENDS = Ends("w1", "w2", {POD: A, BESIDE: B, PEER: P}, {4: "172.18.0.3"}, (API,))


def said(name: str, *rows: Mapping[str, Any], probes: Mapping[str, bool] | None = None) -> NodeRecord:
    """Return what a node answers; every path carries its packets unless a row says otherwise."""
    found = [
        ProbeRecord(id=f"pod:{target}", kind="pod", target=target, ok=ok, detail="connected" if ok else "no answer")
        for target, ok in (probes or {}).items()
    ]
    return NodeRecord(name=name, outcome=Outcome.OK, paths={"measured": list(rows)}, probes_after=found)


def good(ident: str, **more: Any) -> dict[str, Any]:
    return {"id": ident, "size": 1450, "small": "answered", "exact": "answered", "passes": 1450, **more}


HERE = [good("a>b|4"), good("a>p|4"), good("node>a|4"), good("a>node|4")]
THERE = [good("p>a|4")]
REACHED = {"uid-a 10.96.0.1 443 TCP": True}


def test_each_node_is_asked_for_its_own_part() -> None:
    asked = matrix.requests(ENDS)
    assert [row["target"] for row in asked["w1"]["probes"]] == ["uid-a 10.96.0.1 443 TCP"]
    assert {(row["id"], row["pod"], row["address"]) for row in asked["w1"]["paths"]["targets"]} == {
        ("a>b|4", "uid-a", "10.244.1.3"),
        ("a>p|4", "uid-a", "10.244.2.2"),
        ("node>a|4", "", "10.244.1.2"),
        ("a>node|4", "uid-a", "172.18.0.3"),
    }
    assert [row["id"] for row in asked["w2"]["paths"]["targets"]] == ["p>a|4"]


def test_what_has_no_address_is_not_asked_for() -> None:
    dead = Ends("w1", "w2", {POD: ProbePod(POD, "w1", why="no address"), BESIDE: B, PEER: P}, {4: "172.18.0.3"}, (API,))
    assert matrix.requests(dead) == {
        "w1": {"probes": []},
        "w2": {"probes": [{"kind": "pod", "target": "uid-p 10.96.0.1 443 TCP"}]},
    }
    found = matrix.checks(dead, {"w1": said("w1"), "w2": said("w2")})
    assert found[0] == Check("a new pod gets a network", False, "no address")
    assert {check.ok for check in found[1:]} == {None}


def test_both_families_are_measured_where_both_are_there() -> None:
    both = {4: "10.244.1.2", 6: "fd00::2"}
    pods = {POD: ProbePod(POD, "w1", "a", "uid-a", both), BESIDE: ProbePod(BESIDE, "w1", "b", "uid-b", {6: "fd00::3"})}
    ends = Ends("w1", "", pods, {4: "172.18.0.3"})
    assert [row["id"] for row in matrix.requests(ends)["w1"]["paths"]["targets"]] == ["a>b|6", "node>a|4", "a>node|4"]
    words = [check.what for check in matrix.checks(ends, {"w1": said("w1", good("a>b|6"))})]
    assert words == ["a new pod gets a network", "pod to pod on the node (IPv6)", "node to pod", "pod to node"]


def test_all_well() -> None:
    found = matrix.checks(ENDS, {"w1": said("w1", *HERE, probes=REACHED), "w2": said("w2", *THERE)})
    assert {check.ok for check in found} == {True}
    assert [check.what for check in found] == [
        "a new pod gets a network",
        "pod to pod on the node",
        "pod to pod on w2",
        "pod on w2 to pod",
        "node to pod",
        "pod to node",
        "pod to ClusterIP (kubernetes)",
    ]
    assert found[0].said == "within 2.5 s"
    assert found[1].said == "1450 bytes, DF"


@pytest.mark.parametrize(
    ("row", "ok", "words"),
    [
        ({"small": "silent"}, False, "no answer"),
        ({"small": "failed", "trouble": "network is unreachable"}, False, "network is unreachable"),
        ({"exact": "silent", "passes": 1372}, False, "only 1372 of 1450 bytes pass"),
        ({"exact": "", "passes": None}, None, "not with 1450 bytes"),
    ],
)
def test_a_path_that_is_not_whole(row: dict[str, Any], ok: bool | None, words: str) -> None:
    rows = [good("a>p|4", **row) if one["id"] == "a>p|4" else one for one in HERE]
    found = matrix.checks(ENDS, {"w1": said("w1", *rows, probes=REACHED), "w2": said("w2", *THERE)})
    assert [check for check in found if check.what == "pod to pod on w2"] == [Check("pod to pod on w2", ok, words)]


@pytest.mark.parametrize(
    ("here", "there", "ok"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, None)],
)
def test_a_service_that_fails_from_the_peer_too_is_not_its_fault(here: bool, there: bool, ok: bool | None) -> None:
    records = {
        "w1": said("w1", *HERE, probes={"uid-a 10.96.0.1 443 TCP": here}),
        "w2": said("w2", *THERE, probes={"uid-p 10.96.0.1 443 TCP": there}),
    }
    assert matrix.checks(ENDS, records)[-1].ok is ok


@pytest.mark.parametrize(
    ("here", "there", "ok"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, None)],
)
def test_a_node_port_is_asked_for_by_the_peer_at_both(here: bool, there: bool, ok: bool | None) -> None:
    ends = replace(ENDS, services=(PORT,))
    asked = matrix.requests(ends)
    assert asked["w1"]["probes"] == []
    targets = [row["target"] for row in asked["w2"]["probes"]]
    assert targets == ["uid-p 172.18.0.3 30080 TCP", "uid-p 172.18.0.4 30080 TCP"]
    probes = dict(zip(targets, (here, there), strict=True))
    found = matrix.checks(ends, {"w1": said("w1", *HERE), "w2": said("w2", *THERE, probes=probes)})
    assert (found[-1].what, found[-1].ok) == (PORT.what, ok)


@pytest.mark.parametrize(
    ("row", "open_", "ok", "words"),
    [
        ({"small": "silent"}, "", True, "no answer"),
        ({}, "", False, "it is answered: policies are not enforced"),
        ({"small": "failed", "trouble": "network is unreachable"}, "", None, "network is unreachable"),
        (None, "", None, "the node did not say"),
        ({"small": "silent"}, "forbidden", None, "no policy of ours closes the pod: forbidden"),
    ],
)
def test_a_closed_pod(row: dict[str, Any] | None, open_: str, ok: bool | None, words: str) -> None:
    ends = replace(ENDS, services=(), pods={**ENDS.pods, CLOSED: replace(D, open=open_)})
    targets = matrix.requests(ends)["w1"]["paths"]["targets"]
    assert [(one["pod"], one["address"]) for one in targets if one["id"] == "a>d|4"] == [("uid-a", "10.244.1.4")]
    answers = HERE if row is None else [*HERE, good("a>d|4", **row)]
    found = matrix.checks(ends, {"w1": said("w1", *answers), "w2": said("w2", *THERE)})
    assert found[-1] == Check("a denied flow stays denied", ok, words, kept=True)


def denied(ok: bool | None) -> list[Check]:
    return [Check("a denied flow stays denied", ok, "", kept=True)]


@pytest.mark.parametrize(
    ("before", "now", "counts", "opened"),
    [
        (True, True, True, False),
        (True, False, False, True),
        (True, None, None, False),
        (False, False, None, False),
        (False, True, None, False),
        (None, False, None, False),
    ],
)
def test_denied_counts_only_where_it_was_denied_before(
    before: bool | None, now: bool | None, counts: bool | None, opened: bool
) -> None:
    assert matrix.compared(denied(before), denied(now))[0].good is counts
    assert matrix.opened(denied(before), denied(now)) is opened
    assert matrix.compared([], denied(now))[0].good is None


def test_a_peer_that_does_not_answer_leaves_the_rest() -> None:
    found = {check.what: check.ok for check in matrix.checks(ENDS, {"w1": said("w1", *HERE, probes=REACHED)})}
    assert found["pod on w2 to pod"] is None
    assert found["pod to pod on w2"] is True


LOOK = {"cni": {"networks": [{"name": "cbr0"}], "leases": [{"ip": "10.244.1.3"}]}}


@pytest.mark.parametrize(
    ("pods", "left", "host", "ok"),
    [
        ([A], [], LOOK, True),
        ([A, B], [], LOOK, False),  # B's address is still held
        ([A], ["probe-a"], LOOK, False),
        ([A], [], {"cni": {"networks": []}}, None),  # an IPAM without leases on the node
        ([A], [], {}, None),
        ([ProbePod(POD, "w1")], [], LOOK, None),
    ],
)
def test_addresses_given_back(pods: list[ProbePod], left: list[str], host: dict[str, Any], ok: bool | None) -> None:
    assert matrix.given_back(pods, left, NodeRecord(name="w1", outcome=Outcome.OK, host=host)).ok is ok
    assert matrix.given_back([A], [], None).ok is None


def test_the_table_has_before_and_after() -> None:
    before = [Check("DNS over UDP", False, "no answer")]
    after = [Check("DNS over UDP", True, "answered"), Check("node to pod", None, "an end has no address")]
    assert matrix.compared(before, after) == [
        Row("DNS over UDP", "no: no answer", "yes: answered", True),
        Row("node to pod", "not measured", "an end has no address", None),
    ]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(junk, max_size=3))
def test_junk_is_survived(many: list[Any]) -> None:
    closed = replace(ENDS, pods={**ENDS.pods, CLOSED: D})
    matrix.checks(closed, {"w1": said("w1", *(row for row in many if isinstance(row, dict)))})
