"""Connections of pods, from what kernels really show."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import flows
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.flows import Flow
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[2] / "fixtures" / "policy"
CONNTRACK = (FIXTURES / "nf_conntrack.txt").read_text(encoding="utf-8")
SOCKETS = (FIXTURES / "proc_net_tcp.txt").read_text(encoding="utf-8")


def test_who_answered_is_told_not_whom_a_service_stands_for() -> None:
    found = set(flows.parse_conntrack(CONNTRACK))
    assert Flow("172.17.0.4", "172.17.0.2", 6443, "TCP", "conntrack") in found, "it called 10.96.0.1:443"
    assert Flow("10.244.0.1", "10.244.0.2", 8080, "TCP", "conntrack") in found
    assert not [flow for flow in found if flow.protocol == "UDP"], "none of these was answered"
    assert {flow.target for flow in found} == {"172.17.0.2", "172.17.0.4", "10.244.0.2", "10.244.0.3"}


def test_lines_of_the_conntrack_program_are_read_too() -> None:
    asked, answered = "src=fd00::1 dst=fd00::53 sport=40000 dport=53", "src=fd00::9 dst=fd00::1 sport=5353 dport=40000"
    line = f"udp      17 25 {asked} {answered} [ASSURED] use=1"
    assert list(flows.parse_conntrack(line)) == [Flow("fd00::1", "fd00::9", 5353, "UDP", "conntrack")]


def test_who_listens_was_called() -> None:
    found = set(flows.parse_sockets(SOCKETS, "little"))
    assert Flow("10.244.1.24", "10.244.1.175", 8080, "TCP", "socket") in found, "an IPv4 peer of an IPv6 socket"
    assert Flow("10.244.1.175", "10.96.0.1", 443, "TCP", "socket") in found
    assert Flow("127.0.0.1", "127.0.0.1", 8080, "TCP", "socket") in found


def test_the_machines_byte_order_counts() -> None:
    text = " 0: 0AF401AF:D9EC 0A600001:01BB 01 0:0"
    assert list(flows.parse_sockets(text, "big")) == [Flow("10.244.1.175", "10.96.0.1", 443, "TCP", "socket")]


@given(
    st.text()
    | st.lists(st.sampled_from(["tcp", "src=1", "dst=::", "sport=0", "dport=9", "[UNREPLIED]", "\n"])).map(" ".join)
)
def test_any_text_is_read(text: str) -> None:
    assert isinstance(list(flows.parse_conntrack(text)), list)
    assert isinstance(list(flows.parse_sockets(text)), list)


def test_one_look_tells_what_concerns_the_pods(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/nf_conntrack").write_text(CONNTRACK, encoding="utf-8")
    request = {"addresses": ["10.244.0.2"], "uids": [], "seconds": 0}
    found = flows.watch(request, Host(str(tmp_path)))
    assert found["flows"] == [
        ["10.244.0.1", "10.244.0.2", 8080, "TCP", "conntrack"],
        ["10.244.0.1", "10.244.0.2", 8181, "TCP", "conntrack"],
    ]
    assert (found["conntrack"], found["pods"], found["more"]) == (True, 0, False)


def test_a_kernel_that_shows_no_conntrack_is_said(tmp_path: Path) -> None:
    found = flows.watch({"addresses": [], "uids": [], "seconds": 0}, Host(str(tmp_path)))
    assert (found["flows"], found["conntrack"]) == ([], False)


@pytest.mark.parametrize("raw", [None, "10.0.0.1", [1], ["a"] * 5001])
def test_what_is_no_list_is_refused(raw: object, tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        flows.watch({"addresses": raw, "uids": [], "seconds": 0}, Host(str(tmp_path)))
    assert caught.value.code == "usage"
