"""What Flannel has made of a node, read from programs' answers and from a directory as root.

The addresses are a worker's as it ran (flannel-as-it-runs). Routes, neighbour and forwarding entries were not captured
in JSON: these are made, in the form that ``ip -j`` and ``bridge -j`` give them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import flannel
from ansible_collections.tune.nodes.plugins.module_utils.cni.command import Done
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import observe_host
from hypothesis import given
from hypothesis import strategies as st

RUNS = Path(__file__).parents[2] / "fixtures/cni/flannel-as-it-runs"
MAC = "12:a8:c5:fe:24:06"
PEER = "0a:37:d4:84:8d:bf"
ROUTES = [
    {"dst": "default", "gateway": "172.17.0.1", "dev": "eth0", "flags": []},
    {"dst": "10.244.0.0/24", "gateway": "10.244.0.0", "dev": "flannel.1", "flags": ["onlink"]},
    {"dst": "10.244.1.0/24", "dev": "cni0", "protocol": "kernel", "scope": "link", "prefsrc": "10.244.1.1"},
]
NEIGHBOURS = [
    {"dst": "10.244.0.0", "lladdr": PEER.upper(), "state": ["PERMANENT"]},
    {"dst": "10.244.9.0", "state": ["FAILED"]},
]
FORWARDING = [
    {"mac": PEER.upper(), "dst": "172.17.0.2", "flags": ["self"], "state": "permanent"},
    {"mac": PEER, "dst": "172.17.0.3", "flags": ["self"], "state": "permanent"},
    {"mac": "33:33:00:00:00:01", "flags": ["self"], "state": "permanent"},
]
PARSERS: list[Callable[[str], Any]] = [
    flannel.parse_neighbours,
    flannel.parse_forwarding,
    flannel.parse_routes,
    flannel.parse_addresses,
]


def addresses(device: str) -> str:
    """Return what ``ip -j -4 addr show dev`` said on that worker."""
    links = json.loads((RUNS / "addr.json").read_text())
    return json.dumps([link for link in links if link["ifname"] == device])


def test_the_addresses_of_a_worker_as_it_ran() -> None:
    assert flannel.parse_addresses(addresses("cni0")) == ["10.244.1.1/24"]
    assert flannel.parse_addresses(addresses("flannel.1")) == ["10.244.1.0/32"]
    assert flannel.parse_addresses(addresses("lo")) == [], "only global ones count"
    assert flannel.parse_addresses((RUNS / "addr.json").read_text()) == [
        "10.244.1.0/32",
        "10.244.1.1/24",
        "172.17.0.4/16",
    ]
    assert flannel.parse_addresses("[{},{}]") == [], "old versions print empty ones for links that are left out"


def test_entries_of_neighbours_and_forwarding() -> None:
    assert flannel.parse_neighbours(json.dumps(NEIGHBOURS)) == {"10.244.0.0": PEER}
    assert flannel.parse_forwarding(json.dumps(FORWARDING)) == {PEER: ["172.17.0.2", "172.17.0.3"]}


def test_routes() -> None:
    assert flannel.parse_routes(json.dumps(ROUTES)) == {
        "default": ("172.17.0.1", "eth0"),
        "10.244.0.0/24": ("10.244.0.0", "flannel.1"),
        "10.244.1.0/24": ("", "cni0"),
    }
    several = {"dst": "10.244.2.0/24", "nexthops": [{"gateway": "172.17.0.2", "dev": "eth0", "weight": 1}]}
    assert flannel.parse_routes(json.dumps([several])) == {"10.244.2.0/24": ("", "")}


def test_of_two_routes_to_a_network_the_kernel_takes_the_first() -> None:
    spare = {"dst": "10.244.0.0/24", "gateway": "172.17.0.2", "dev": "eth0", "metric": 100, "flags": []}
    found = flannel.parse_routes(json.dumps([*ROUTES, spare]))
    assert found is not None and found["10.244.0.0/24"] == ("10.244.0.0", "flannel.1")


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize("text", ["", "{}", "null", "7", "10.244.0.0 lladdr 0a:37 PERMANENT", "[{]", "[" * 100000])
def test_what_is_not_understood_is_not_known(parse: Callable[[str], Any], text: str) -> None:
    """An old ``bridge`` prints text in spite of ``-j``: no entry there is not the same as none understood."""
    assert parse(text) is None


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
def test_nothing_there_is_known(parse: Callable[[str], Any]) -> None:
    assert not parse("[ ]\n") and parse("[ ]\n") is not None
    assert not parse('[7, null, "x", {}]') and parse("[{}]") is not None


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
def test_more_than_is_read_is_not_known(parse: Callable[[str], Any]) -> None:
    assert parse(json.dumps([{}] * 10001)) is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["dst", "lladdr", "mac", "gateway", "dev", "addr_info", "scope", "local", "prefixlen"]),
            inner | st.just("global"),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JUNK, max_size=4).map(json.dumps) | st.text())
def test_any_answer_is_survived(text: str) -> None:
    for parse in PARSERS:
        parse(text)


@pytest.mark.parametrize(
    ("links", "vni", "tunnel"),
    [
        (["cni0", "eth0"], None, ""),
        (["flannel.1"], None, "flannel.1"),
        (["flannel.1", "flannel.4096"], None, ""),
        (["flannel.1", "flannel.4096"], 4096, "flannel.4096"),
        (["flannel.1", "flannel.4096"], 1, "flannel.1"),
        (["flannel.1"], 7, ""),
        (["flannel.1"], -1, ""),
        (["flannel.ipip", "flannel-v6.1", "flannel.1x", "flannel.", "flannel.1\n"], None, ""),
        (["flannel-v6.1", "flannel.1"], None, "flannel.1"),
    ],
)
def test_which_device_is_the_tunnel(links: Sequence[str], vni: int | None, tunnel: str) -> None:
    assert flannel.tunnel_of(links, vni) == tunnel


class Programs:
    """Programs that answer; what is not named ends with an error."""

    def __init__(self, **answers: object) -> None:
        self.answers = {
            "neigh": json.dumps(NEIGHBOURS),
            "fdb": json.dumps(FORWARDING),
            "addr": addresses("cni0"),
            "route": json.dumps(ROUTES),
            **answers,
        }
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], timeout: float) -> Done:
        assert timeout == flannel.LIMIT
        self.asked.append(" ".join(argv))
        answer = next(value for key, value in self.answers.items() if key in argv)
        if isinstance(answer, Exception):
            raise answer
        return Done(1, b"", "Option -j is unknown") if answer is None else Done(0, str(answer).encode(), "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's directory: subnet.env, the tunnel, the bridge with two ports."""
    env = tmp_path / "run/flannel/subnet.env"
    env.parent.mkdir(parents=True)
    env.write_text(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    net = tmp_path / "sys/class/net"
    for name in ("cni0/brif/veth2", "cni0/brif/veth1", "eth0", "flannel.1"):
        (net / name).mkdir(parents=True)
    (net / "flannel.1/address").write_text(f"{MAC.upper()}\n")
    return tmp_path


def test_all_of_it_is_seen(root: Path) -> None:
    run = Programs()
    assert flannel.observe(observe_host(str(root)), run, 1) == flannel.Seen(
        subnets=["10.244.1.1/24"],
        env=True,
        links=True,
        tunnel="flannel.1",
        mac=MAC,
        bridge=["10.244.1.1/24"],
        ports=["veth1", "veth2"],
        neighbours={"10.244.0.0": PEER},
        forwarding={PEER: ["172.17.0.2", "172.17.0.3"]},
        routes={
            "default": ("172.17.0.1", "eth0"),
            "10.244.0.0/24": ("10.244.0.0", "flannel.1"),
            "10.244.1.0/24": ("", "cni0"),
        },
    )
    assert run.asked == [
        "ip -j neigh show dev flannel.1",
        "bridge -j fdb show dev flannel.1",
        "ip -j -4 addr show dev cni0",
        "ip -j route",
    ]


def test_both_families_of_subnet_env(root: Path) -> None:
    (root / "run/flannel/subnet.env").write_text("FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_SUBNET=fd00:1::1/64\n")
    assert flannel.observe(observe_host(str(root)), Programs()).subnets == ["10.244.1.1/24", "fd00:1::1/64"]


def test_an_empty_node_says_nothing(tmp_path: Path) -> None:
    run = Programs(route="[]")
    assert flannel.observe(observe_host(str(tmp_path)), run) == flannel.Seen(routes={})
    assert run.asked == ["ip -j route"], "nothing is asked about a device that is not there"


def test_a_tunnel_of_another_number_is_not_this_ones(root: Path) -> None:
    seen = flannel.observe(observe_host(str(root)), Programs(), vni=4096)
    assert (seen.tunnel, seen.mac, seen.neighbours, seen.forwarding) == ("", "", None, None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (NodeError("there is no program bridge", code="missing"), "there is no program bridge"),
        (None, "bridge -j fdb show: Option -j is unknown"),
        ("0a:37:d4:84:8d:bf dst 172.17.0.2 self permanent", "bridge -j fdb show: its answer is not understood"),
        ("", "bridge -j fdb show: its answer is not understood"),
    ],
)
def test_what_a_program_does_not_say_is_not_known_and_named(root: Path, answer: object, said: str) -> None:
    seen = flannel.observe(observe_host(str(root)), Programs(fdb=answer))
    assert seen.forwarding is None and seen.neighbours == {"10.244.0.0": PEER}
    assert seen.unread == [said]
