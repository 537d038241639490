"""What of a node's kernel parameters a pod falls short of: tables for a pure function."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import catalogue, entry, reach
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.model import parse_setting
from hypothesis import given
from hypothesis import strategies as st

SOMAXCONN = "net.core.somaxconn"
RMEM = "net.ipv4.tcp_rmem"
FIN = "net.ipv4.tcp_fin_timeout"


def wish(key: str, value: Any, node: str = "", **more: Any) -> reach.Wish:
    setting = parse_setting({"key": key, "value": value, **more})
    return setting, node or setting.value


def rows(*wishes: reach.Wish, pod: dict[str, str | None], **more: Any) -> list[tuple[str, str, str, str]]:
    return [(r["key"], r["node"], r["pod"], r["reach"]) for r in reach.compare(wishes, pod, **more)]


@pytest.mark.parametrize(
    ("asked", "held", "reported"),
    [
        (wish(SOMAXCONN, 65535), "4096", "default"),
        (wish(SOMAXCONN, 65535), "65535", ""),
        (wish(SOMAXCONN, 4096, node="65535"), "4096", ""),  # the floor is met; the node has more for another reason
        (wish(SOMAXCONN, 4096), "70000", ""),
        (wish(FIN, 15), "60", "default"),  # a ceiling
        (wish(FIN, 15), "10", ""),
        (wish(FIN, 15, **{"class": "exact"}), "10", "default"),
        (wish(RMEM, "4096 131072 16777216"), "4096 131072 6291456", "inherited"),
        (wish(RMEM, "4096 131072 16777216"), "8192 131072 33554432", ""),
        (wish("net.ipv4.tcp_congestion_control", "bbr", opt_in=True), "cubic", "inherited"),
        (wish("net.ipv4.ip_local_reserved_ports", "30000"), "", "default"),
        (wish("net.core.rmem_max", 134217728), "212992", ""),  # one for all
        (wish("vm.swappiness", 1), "60", ""),
        (wish("net.ipv4.ip_forward", 1), "0", ""),  # the node forwards, the pod need not
        (wish("net.netfilter.nf_conntrack_tcp_timeout_established", 86400), "432000", ""),
        (wish("net.ipv4.conf.eth0.log_martians", 1), "0", ""),  # the node's eth0 is not the pod's
        (wish("net.ipv4.conf.default.log_martians", 1), "0", "inherited"),
        (wish("net.mptcp.enabled", 1, **{"class": "exact"}), "0", "unknown"),
        (wish("net.core.example", 1, scope="host", **{"class": "exact"}), "0", ""),
    ],
    ids=lambda value: value[0].key if isinstance(value, tuple) else str(value),
)
def test_what_is_reported(asked: reach.Wish, held: str, reported: str) -> None:
    found = reach.compare([asked], {asked[0].key: held})
    assert [(row["key"], row["node"], row["pod"], row["reach"]) for row in found] == [
        (asked[0].key, asked[1], held, reported)
    ] * bool(reported)


def test_a_key_the_pod_has_not_is_no_difference() -> None:
    asked = [wish(SOMAXCONN, 65535), wish(RMEM, "4096 131072 16777216")]
    assert rows(*asked, pod={SOMAXCONN: None}) == []


def test_rows_stand_in_the_order_of_the_wishes() -> None:
    asked = [wish(RMEM, "4096 131072 16777216"), wish(SOMAXCONN, 65535)]
    assert [row[0] for row in rows(*asked, pod={SOMAXCONN: "4096", RMEM: "4096 131072 6291456"})] == [RMEM, SOMAXCONN]


@pytest.mark.parametrize(
    ("key", "how"),
    [
        # net.core.devconf_inherit_init_net: 0, 1, 2, 3
        ("net.ipv4.conf.all.log_martians", ["inherited", "inherited", "default", "inherited"]),
        ("net.ipv6.conf.all.forwarding", ["default", "inherited", "default", "inherited"]),
        (RMEM, ["inherited"] * 4),
        (SOMAXCONN, ["default"] * 4),
        ("net.mptcp.enabled", ["unknown"] * 4),
    ],
)
def test_reach_follows_the_kernel_switch(key: str, how: list[str]) -> None:
    assert [reach.reach(key, str(switch)) for switch in range(4)] == how


@pytest.mark.parametrize(
    ("key", "value", "initial", "said"),
    [
        (SOMAXCONN, 65535, True, "the kubelet must allow it (allowedUnsafeSysctls)"),
        (FIN, 15, True, "a safe sysctl since Kubernetes 1.29"),
        ("net.ipv4.tcp_syncookies", 0, True, "(a safe sysctl)"),
        (RMEM, "4096 131072 67108864", True, "restart the workload"),
        (RMEM, "4096 131072 67108864", False, "initial network namespace, which is not this node's"),
    ],
)
def test_the_note_says_what_to_do_in_one_line(key: str, value: Any, initial: bool, said: str) -> None:
    (row,) = reach.compare([wish(key, value)], {key: "1 1 1" if key == RMEM else "99"}, initial) or [{"note": ""}]
    assert said in row["note"] and "\n" not in row["note"] and len(row["note"]) < 200


def test_the_safe_set_names_keys_that_pods_do_not_share() -> None:
    known = [catalogue.lookup(key) for key in reach.SAFE]
    assert all(row is None or (row.scope == entry.NETNS and not row.node_only) for row in known)


@given(st.sampled_from(sorted(catalogue.ENTRIES)), st.text(max_size=40), st.text(max_size=5))
def test_whatever_a_pod_says_is_compared(key: str, held: str, switch: str) -> None:
    row = catalogue.ENTRIES[key]
    value = {entry.STRING: "x", entry.BITMAP: "1"}.get(
        row.shape, " ".join([str(max(row.minimum or 0, 0))] * row.length)
    )
    raw = {"key": key.replace("*", "all"), "value": value, "opt_in": True}
    if row.multiple == 1 or int(value) % row.multiple == 0:
        setting = parse_setting(raw)
        for found in reach.compare([(setting, setting.value)], {setting.key: held}, True, switch):
            assert found["pod"] == held and found["note"]
