"""Findings, rungs and the comparison of before and after: tables over pure functions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_nodes.errors import UsageError
from tune_nodes.recovery import guard, ladder, verify
from tune_nodes.recovery.run import Limits, _file_name, chosen
from tune_nodes.recovery.state import Fault, NetworkState, NodeState, Orphan, Ping, Refusal, state_of
from tune_nodes.runs.models import NodeRecord, Outcome

CONF = "/etc/cni/net.d/10-flannel.conflist"
FULL = NetworkState("cbr0", leases=253, usable=253, free=0, live=5, stale=248)
SOME = NetworkState("cbr0", leases=15, usable=253, free=238, live=5, stale=10)
CLEAN = NetworkState("cbr0", leases=5, usable=253, free=248, live=5)
WELL = NodeState("n1", "flannel", CONF, "cbr0", "cbr0", network_ready=True, sandboxes=7, networks=(CLEAN,))
REFUSED = (
    Refusal("cri", "the container runtime does not answer", "connection refused", "systemctl status containerd"),
)
NO_PLUGIN = Fault("no-plugin", "plugins are missing: portmap", "", "the package or image that brings them")
HIJACKED = Fault("hijacked", "05-cilium.conflist comes before 10-flannel.conflist", rung=3)
IN_KERNEL = "its programs are in the kernel"
HELD = (
    Orphan("1", "file", "05-cilium.conflist", "cilium", refused="cilium has left BPF programs"),
    Orphan("2", "bpf", "cil_from_netdev", "cilium", refused=IN_KERNEL),
)
AGENT_FAULT = Fault("vtep-mac", "the tunnel flannel.1 has another MAC", rung=1)
LEFT_FAULT = Fault("hijacked", "00-multus.conf comes before 10-flannel.conflist", rung=3)
REBUILD_FAULT = Fault("old-bridge", "cni0 has 10.99.7.1/24; 1 pod hangs on it", rung=4)
LEFT = Orphan("1", "link", "flannel.1", "flannel")
SILENT = (Ping("10.244.1.3", "shop/cart-0", False, "no answer"),)


@pytest.mark.parametrize(
    ("state", "wanted", "rungs"),
    [
        (WELL, None, []),
        (WELL, 0, [0]),
        (WELL, 2, [0]),
        (replace(WELL, networks=(FULL,)), None, [0, 2]),
        (replace(WELL, networks=(SOME,)), None, [0, 2]),
        (replace(WELL, networks=(FULL,)), 0, [0]),
        (replace(WELL, networks=(FULL,), refusals=REFUSED), None, []),
        (replace(WELL, networks=(FULL,), refusals=REFUSED), 2, [0]),
        (replace(WELL, networks=(replace(FULL, stale=0),)), None, []),
        (replace(WELL, network_ready=False), None, []),
        (replace(WELL, pings=SILENT), None, []),
        (replace(WELL, faults=(NO_PLUGIN,)), None, []),
        (replace(WELL, faults=(AGENT_FAULT,)), None, [0, 1]),
        (replace(WELL, faults=(AGENT_FAULT,)), 0, [0]),
        (WELL, 1, [0, 1]),
        (replace(WELL, faults=(AGENT_FAULT,), networks=(SOME,)), None, [0, 1, 2]),
        (replace(WELL, faults=(LEFT_FAULT,), orphans=(LEFT,)), None, [0, 3]),
        (replace(WELL, faults=(LEFT_FAULT,)), None, []),
        (replace(WELL, faults=(REBUILD_FAULT,)), None, []),
        (replace(WELL, faults=(REBUILD_FAULT,)), 4, [0, 4]),
        (replace(WELL, faults=(REBUILD_FAULT, AGENT_FAULT)), 4, [0, 1, 4]),
    ],
)
def test_rungs(state: NodeState, wanted: int | None, rungs: list[int]) -> None:
    assert [rung.number for rung in ladder.climb(state, wanted)] == rungs


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (WELL, []),
        (replace(WELL, networks=(FULL,)), ["no address of cbr0 is free: 253 leases for 253"]),
        (replace(WELL, networks=(SOME,)), ["10 of the 15 leases of cbr0 are stale"]),
        (replace(WELL, refusals=REFUSED), ["the container runtime does not answer"]),
        (replace(WELL, network_ready=False, reason="cni plugin not initialized"), ["not ready: cni plugin not init"]),
        (replace(WELL, faults=(NO_PLUGIN,)), ["plugins are missing: portmap"]),
        (replace(WELL, loaded="multus"), ["the runtime has multus in use, but the first configuration is"]),
        (replace(WELL, leftovers=("files of cilium: /var/lib/cilium",)), ["files of cilium"]),
        (replace(WELL, pings=SILENT), ["the pod shop/cart-0 (10.244.1.3) does not answer the node"]),
        (replace(WELL, waiting=2), ["2 pods wait for a network"]),
    ],
)
def test_findings_say_what_is_wrong_and_where_to_look(state: NodeState, words: list[str]) -> None:
    found = ladder.findings(state)
    assert len(found) == len(words)
    for finding, want in zip(found, words, strict=True):
        assert want in finding.what
        assert finding.next or finding.rung


def test_what_is_better_is_good_and_what_is_lost_is_not() -> None:
    before = replace(WELL, networks=(FULL,), waiting=1, pings=(Ping("10.0.0.2", "a/b", True),))
    after = replace(WELL, waiting=0, pings=(Ping("10.0.0.2", "a/b", True), Ping("10.0.0.9", "a/c", False)))
    assert verify.broken(verify.compare(before, after)) == []
    lost = replace(after, pings=(Ping("10.0.0.2", "a/b", False),))
    assert [row.what for row in verify.broken(verify.compare(before, lost))] == ["pods that answer the node"]
    gone = replace(after, pings=())  # the pod ended meanwhile
    assert verify.broken(verify.compare(before, gone)) == []


@pytest.mark.parametrize(
    ("after", "bad"),
    [
        (replace(WELL, networks=(SOME,)), "cbr0: stale leases"),
        (replace(WELL, networks=(replace(FULL, stale=0),)), "cbr0: free addresses"),
        (replace(WELL, networks=()), "cbr0: leases"),
        (replace(WELL, sandboxes=None), "sandboxes"),
        (replace(WELL, network_ready=False), "a new pod gets a network"),
        (replace(WELL, waiting=3), "pods that wait for one"),
    ],
)
def test_what_is_not_right_afterwards_is_named(after: NodeState, bad: str) -> None:
    before = replace(WELL, networks=(FULL,), waiting=1)
    assert bad in [row.what for row in verify.broken(verify.compare(before, after))]


MENDS = "faults that a rung mends"


@pytest.mark.parametrize(
    ("before", "after", "most", "shown"),
    [
        pytest.param((), (), None, None, id="none"),
        pytest.param((NO_PLUGIN,), (NO_PLUGIN,), None, None, id="no rung mends it"),
        pytest.param((AGENT_FAULT,), (), 1, ("1", "0", True), id="mended"),
        pytest.param((AGENT_FAULT,), (AGENT_FAULT,), 1, ("1", "1", False), id="not mended"),
        pytest.param((AGENT_FAULT, LEFT_FAULT), (LEFT_FAULT,), None, ("2", "1", False), id="one of two"),
        pytest.param((), (AGENT_FAULT,), 2, ("0", "1", False), id="a new one"),
        pytest.param((AGENT_FAULT,), (REBUILD_FAULT,), None, ("1", "1", False), id="another instead"),
        pytest.param((AGENT_FAULT,), (REBUILD_FAULT,), 1, ("1", "0", True), id="what showed is for a rung not taken"),
        pytest.param((REBUILD_FAULT,), (REBUILD_FAULT,), 2, None, id="what was not tried has not failed"),
        pytest.param((REBUILD_FAULT,), (REBUILD_FAULT,), 4, ("1", "1", False), id="what was tried has"),
        pytest.param((AGENT_FAULT, LEFT_FAULT), (LEFT_FAULT,), 2, ("1", "0", True), id="only up to what was taken"),
    ],
)
def test_faults_before_and_after(
    before: tuple[Fault, ...], after: tuple[Fault, ...], most: int | None, shown: tuple[str, str, bool] | None
) -> None:
    rows = verify.compare(replace(WELL, faults=before), replace(WELL, faults=after), most)
    found = [(row.before, row.after, row.good) for row in rows if row.what == MENDS]
    assert found == ([] if shown is None else [shown])


@pytest.mark.parametrize(
    ("state", "helps"),
    [
        (replace(WELL, networks=(SOME,)), 2),
        (replace(WELL, orphans=(LEFT,)), 3),
        (replace(WELL, faults=(LEFT_FAULT,)), 3),
    ],
)
def test_what_a_rung_above_would_mend_does_not_count_against_those_below(state: NodeState, helps: int) -> None:
    assert verify.broken(verify.compare(state, state, helps - 1)) == []
    assert len(verify.broken(verify.compare(state, state, helps))) == 1
    assert len(verify.broken(verify.compare(state, state))) == 1


def test_names_are_the_inventorys_or_refused() -> None:
    assert chosen(["b,a", "a"], ["a", "b", "c"]) == ["b", "a"]
    for names in (["a*"], ["all"], ["A"], [""], []):
        with pytest.raises(UsageError):
            chosen(names, ["a", "b"])


def test_r3_mends_only_what_it_may_remove_and_a_reboot_is_asked_for_with_the_reason() -> None:
    state = replace(WELL, faults=(HIJACKED,), orphans=(replace(HELD[0], refused=""),))
    assert [rung.number for rung in ladder.climb(state)] == [0, 3] and not ladder.asks_for_reboot(state)
    state = replace(WELL, faults=(HIJACKED,), orphans=HELD)
    assert ladder.climb(state) == [] and ladder.beyond(state) == []
    assert ladder.asks_for_reboot(state)
    assert any(IN_KERNEL in finding.what for finding in ladder.findings(state))


def test_control_plane_nodes_come_last() -> None:
    roles = {"m1": ["control-plane"], "w1": ["worker"], "e1": ["etcd"], "w2": []}
    assert guard.in_order(["m1", "w1", "e1", "w2"], roles) == ["w1", "w2", "m1", "e1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
PARTS = ("cni", "networks", "sandboxes", "leases", "refusals", "faults", "not_checked", "pings", "scan", "released")
REPORT = st.dictionaries(st.sampled_from(PARTS), JSON, max_size=4)


@given(REPORT)
def test_any_report_of_a_node_is_survived(report: dict[str, object]) -> None:
    record = NodeRecord(name="n1", outcome=Outcome.OK, host={"cni": report})
    state = state_of(record)
    ladder.findings(state)
    assert verify.compare(state, state)


@given(st.text())
def test_any_name_becomes_part_of_one_file_name(name: str) -> None:
    assert "/" not in _file_name(name) and len(_file_name(name)) < 120


def test_limits_travel_as_text() -> None:
    assert Limits(900, 2.5, 90).common("r")["between"] == "2.5"
