"""What a match holds against: tables for the grammar, hypothesis for junk, a laid-out root for the link's speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils import match
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from hypothesis import given
from hypothesis import strategies as st

HOST = Host(kernel="5.10.0-28-amd64", os_id="debian", cpus=8, memory_mib=16000, roles=["control-plane", "etcd"])
FACTS = match.facts(HOST, {"rack": "r1"}, ["workers", "prod"], link_speed_mbps=25000)


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"link_speed_mbps": ">=10000"},
        {"link_speed_mbps": 25000},
        {"cpus": "8..16"},
        {"cpus": "8.."},
        {"cpus": "..8"},
        {"cpus": "!=4"},
        {"cpus": "== 8"},
        {"memory_mib": "<16384"},
        {"kernel": ">=5.10"},
        {"kernel": "5.10"},
        {"kernel": "<=5.10"},
        {"kernel": "4.19..5.10"},
        {"kernel": "<5.10.1"},
        {"kernel": 5},
        {"role": "etcd"},
        {"role": ["worker", "control-plane"]},
        {"os_id": ["debian", "ubuntu"]},
        {"groups": "workers"},
        {"labels": {"rack": "r1"}},
        {"labels": {"rack": ["r0", "r1"]}},
        {"all_of": [{"cpus": 8}, {"cpus": ">4"}]},
    ],
)
def test_holds(condition: dict[str, Any]) -> None:
    assert match.refusal(condition, FACTS) == ""


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"link_speed_mbps": ">25000"}, "link_speed_mbps is 25000 (wanted >25000)"),
        ({"cpus": "9..16"}, "cpus is 8 (wanted 9..16)"),
        ({"cpus": "!=8"}, "cpus is 8 (wanted !=8)"),
        ({"kernel": ">5.10"}, "kernel is 5.10.0-28-amd64 (wanted >5.10)"),
        ({"kernel": ">=5.9.9", "cpus": 4}, "cpus is 8 (wanted 4)"),
        ({"kernel": "5.1"}, "kernel is 5.10.0-28-amd64 (wanted 5.1)"),
        ({"role": "worker"}, "role is control-plane, etcd (wanted worker)"),
        ({"groups": ["x", "y"]}, "groups is workers, prod (wanted x or y)"),
        ({"labels": {"rack": "r2"}}, "label rack is r1 (wanted r2)"),
        ({"labels": {"zone": "a"}}, "label zone is none (wanted a)"),
        ({"all_of": [{"cpus": 8}, {"cpus": "<8"}]}, "cpus is 8 (wanted <8)"),
    ],
)
def test_does_not_hold_and_says_why(condition: dict[str, Any], why: str) -> None:
    assert match.refusal(condition, FACTS) == why


@pytest.mark.parametrize("key", ["link_speed_mbps", "kernel"])
def test_what_is_unknown_never_holds(key: str) -> None:
    unknown = match.facts(Host(kernel=""))
    assert match.refusal({key: ">=1"}, unknown) == f"{key} is unknown here (wanted >=1)"
    assert match.refusal({key: "!=1"}, unknown)


@pytest.mark.parametrize(
    "condition",
    [
        {"cpus": ""},
        {"cpus": "many"},
        {"cpus": ">"},
        {"cpus": ">=x"},
        {"cpus": ".."},
        {"cpus": "16..8"},
        {"cpus": "1..2..3"},
        {"cpus": True},
        {"cpus": None},
        {"cpus": -1},
        {"cpus": 1.5},
        {"cpus": "9" * 5000},
        {"cpus": ">=٣"},
        {"kernel": "5.x"},
        {"kernel": ">=5.10-rc1"},
        {"kernel": "1.2.3.4.5"},
        {"role": []},
        {"role": ""},
        {"role": {"a": 1}},
        {"labels": "rack"},
        {"labels": {"rack": None}},
        {"groups": True},
        {"speed": 10000},
        {"all_of": {}},
        {"all_of": [{"all_of": [{"all_of": [{"all_of": [{"all_of": []}]}]}]}]},
        [],
        "cpus",
    ],
)
def test_what_is_no_condition_is_refused(condition: Any) -> None:
    with pytest.raises(NodeError) as err:
        match.check(condition)
    assert err.value.code == "usage"
    assert len(str(err.value)) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(match.KEYS) | st.text(max_size=6)


@given(JSON | st.dictionaries(KEYS, JSON, max_size=3), st.dictionaries(KEYS, JSON, max_size=4))
def test_junk_is_a_usage_error(condition: Any, facts: dict[str, Any]) -> None:
    try:
        why = match.refusal(condition, facts)
    except NodeError as err:
        assert err.code == "usage"
    else:
        assert isinstance(why, str)


@given(st.sampled_from(["<", "<=", "=", "!=", ">=", ">"]), st.integers(0, 10**9), st.integers(0, 10**9))
def test_operators_are_pythons(operator: str, have: int, want: int) -> None:
    held = match.refusal({"cpus": f"{operator}{want}"}, {"cpus": have}) == ""
    expected = {"<": have < want, "<=": have <= want, "=": have == want}
    expected |= {"!=": have != want, ">=": have >= want, ">": have > want}
    assert held is expected[operator]


VERSIONS = st.lists(st.integers(0, 99), min_size=1, max_size=3)


@given(VERSIONS, VERSIONS)
def test_versions_compare_as_far_as_they_are_written(have: list[int], want: list[int]) -> None:
    padded = ([*have, 0, 0, 0])[: len(want)]
    held = match.refusal({"kernel": ">=" + ".".join(map(str, want))}, {"kernel": ".".join(map(str, have)) + "-x"}) == ""
    assert held is (padded >= want)


ROUTE = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
V6_DEFAULT = "0" * 32 + " 00 " + "0" * 32 + " 00 fe800000000000000000000000000001 {metric} 00000001 0 00000003 {name}"


def _root(tmp_path: Path, route: str, route6: str = "", **speeds: str) -> str:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTE + route)
    (tmp_path / "proc/net/ipv6_route").write_text(route6)
    for name, speed in speeds.items():
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "speed").write_text(speed)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("route", "route6", "speed"),
    [
        ("eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "", 10000),
        (
            (
                "eth1\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
                "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
            ),
            "",
            10000,
        ),
        ("eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "", None),
        ("", V6_DEFAULT.format(metric="00000400", name="eth1"), 25000),
        ("", V6_DEFAULT.format(metric="zz", name="eth1"), None),
        ("wg0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "", None),
        ("../x\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "", None),
        ("junk\n\n\t\t\n", "junk", None),
    ],
)
def test_speed_of_the_default_routes_interface(tmp_path: Path, route: str, route6: str, speed: int | None) -> None:
    root = _root(tmp_path, route, route6, eth0="10000\n", eth1="25000\n", wg0="-1\n")
    assert match.link_speed(root) == speed


def test_no_proc_at_all(tmp_path: Path) -> None:
    assert match.link_speed(str(tmp_path)) is None
