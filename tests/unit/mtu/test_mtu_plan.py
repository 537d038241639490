"""What a node's layers should be, in which order they change, and what is refused: tables of small stacks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.mtu.stack import Stack, faults
from hypothesis import given, settings
from hypothesis import strategies as st
from mtu_stacks import Row, bridge, by_key, constructed, flannel, link, node, pending, plan, pod, vxlan

AUTO = {"underlay": "keep", "pods": "auto"}
RAISE = {"underlay": 9000, "pods": "auto"}
LOWER = {"underlay": 1500, "pods": "auto"}


def test_a_node_that_is_right_is_left_alone_and_every_layer_is_named() -> None:
    changes = plan(flannel(), AUTO)
    assert [(c.key, c.want, c.status) for c in changes] == [
        ("eth0/mtu", "1500", "ok"),
        ("flannel.1/mtu", "1450", "ok"),
        ("cni0/mtu", "1450", "ok"),
        ("pods/mtu", "1450", "ok"),
    ]
    assert by_key(changes)["flannel.1/mtu"].reason == "eth0 less 50 bytes of vxlan"
    assert not [c for c in changes if c.persist]


def test_raised_from_the_outside_in_and_running_pods_stay() -> None:
    changes = plan(flannel(), RAISE)
    assert pending(changes) == ["eth0 1500>9000", "flannel.1 1450>8950"]
    found = by_key(changes)
    assert found["cni0/mtu"].want == "1450", "a bridge above its smallest port loses what is larger"
    assert "2 of its ports have less than 8950" in found["cni0/mtu"].note
    assert found["pods/mtu"].status == "owned"
    assert found["pods/mtu"].owner == "flanneld"
    assert "2 pods keep another MTU" in found["pods/mtu"].note
    assert "kube-flannel-cfg" in found["pods/mtu"].note


def test_lowered_from_the_inside_out() -> None:
    changes = plan(flannel(9000), LOWER)
    assert pending(changes) == ["cni0 8950>1450", "flannel.1 8950>1450", "eth0 9000>1500"]


def test_what_is_too_large_is_lowered_before_anything_is_raised() -> None:
    rows = [link("eth0"), vxlan(mtu=1500), bridge(mtu=1450), pod(1)]
    assert pending(plan(node(rows), AUTO)) == ["flannel.1 1500>1450"]
    rows = [link("eth0"), vxlan(mtu=1450), bridge(mtu=9000), pod(1)]
    assert pending(plan(node(rows), RAISE)) == ["cni0 9000>1450", "eth0 1500>9000", "flannel.1 1450>8950"]


@pytest.mark.parametrize(
    ("ports", "now", "wanted"),
    [
        ([], 1500, []),  # the kernel's own value of an empty bridge: its first pod raises or lowers it
        ([], 1400, ["cni0 1400>1450"]),  # somebody wrote it, so it follows nobody any more
        ([1450, 1450], 1400, ["cni0 1400>1450"]),
        ([1450, 1400], 1400, []),
        ([1450, 1400], 1450, ["cni0 1450>1400"]),
        ([9000], 1500, ["cni0 1500>1450"]),
    ],
)
def test_the_pods_bridge_is_what_pods_and_its_ports_allow(ports: list[int], now: int, wanted: list[str]) -> None:
    rows = [link("eth0"), vxlan(), bridge(mtu=now), *(pod(n, mtu) for n, mtu in enumerate(ports))]
    assert pending(plan(node(rows, given=1450), AUTO)) == wanted


@pytest.mark.parametrize(
    ("tunnel", "pods"),
    [
        (vxlan(), 1450),
        (vxlan(tunnel={"local": "2001:db8::1", "family": 6}), 1430),
        (link("flannel.ipip", 1480, "ipip", tunnel={"local": "192.0.2.1", "family": 4}), 1480),
        (link("flannel-wg", 1420, "wireguard", tunnel={}), 1420),  # Flannel reckons with 80 everywhere
    ],
)
def test_each_encapsulation_costs_its_own(tunnel: Row, pods: int) -> None:
    changes = plan(node([link("eth0"), tunnel], {"eth0": ["192.0.2.1", "2001:db8::1"]}), AUTO)
    assert by_key(changes)["pods/mtu"].want == str(pods)
    assert by_key(changes)[tunnel["name"] + "/mtu"].want == str(pods)


def test_two_tunnels_leave_the_smaller_for_pods() -> None:
    six = vxlan("flannel-v6.1", 1450, tunnel={"local": "2001:db8::1", "family": 6})
    changes = plan(node([link("eth0"), vxlan(), six], {"eth0": ["192.0.2.1", "2001:db8::1"]}), AUTO)
    assert by_key(changes)["pods/mtu"].want == "1430"
    assert pending(changes) == ["flannel-v6.1 1450>1430"], "flanneld takes 50 bytes off for IPv6 too"


def test_without_encapsulation_pods_have_what_the_interface_has() -> None:
    rows = [link("eth0", 9000), bridge(mtu=1500), pod(1, 1500)]
    changes = plan(node(rows, cni="plain", given=1500), AUTO)
    found = by_key(changes)["pods/mtu"]
    assert (found.want, found.status, found.reason) == ("9000", "owned", "no encapsulation: what the interface takes")
    assert pending(changes) == []


def test_a_node_without_a_cni_has_an_interface_all_the_same() -> None:
    changes = plan(node([link("eth0")], cni=""), RAISE)
    assert pending(changes) == ["eth0 1500>9000"]
    assert len(changes) == 1


def test_vlan_on_a_bond_is_raised_with_what_it_lies_on() -> None:
    observed = constructed("vlan-on-bond")
    changes = plan(observed, RAISE)
    assert pending(changes) == ["bond0 1500>9000", "bond0.100 1500>9000", "flannel.1 1450>8950"]
    found = by_key(changes)
    assert "hands it to its ports" not in found["bond0.100/mtu"].note
    straight = by_key(plan(observed, {"interfaces": ["bond0"], "underlay": 9000}))["bond0/mtu"]
    assert straight.note == "hands it to its ports: eth0, eth1"
    assert found["bond0/mtu"].persist["underlay"] == 9000
    assert found["bond0.100/mtu"].identity["driver"] == "vlan"
    assert "eth0/mtu" not in found, "the kernel hands a bond's MTU to its ports"


def test_a_bond_that_serves_others_is_not_lowered_with_one_vlan() -> None:
    observed = constructed("vlan-on-bond")
    for row in observed["links"]:
        row["mtu"] = {"flannel.1": 8950}.get(row["name"], 9000)
    assert pending(plan(observed, LOWER)) == ["flannel.1 8950>1450", "bond0.100 9000>1500"]
    alone = {**observed, "links": [row for row in observed["links"] if row["name"] != "bond0.200"]}
    assert pending(plan(alone, LOWER)) == ["flannel.1 8950>1450", "bond0.100 9000>1500", "bond0 9000>1500"]


def test_what_the_kernel_pulls_down_is_a_change_so_that_a_revert_raises_it_again() -> None:
    rows = [link("eth0", 9000), link("eth0.7", 9000, "vlan", over="eth0"), link("mv0", 1500, "macvlan", over="eth0")]
    changes = plan(node(rows, cni=""), LOWER)
    assert pending(changes) == ["eth0.7 9000>1500", "eth0 9000>1500"]
    assert by_key(changes)["eth0.7/mtu"].reason == "the kernel pulls it down with eth0"
    assert by_key(changes)["eth0.7/mtu"].persist is None


def test_a_bridge_of_the_nodes_own_is_raised_after_its_ports() -> None:
    rows = [link("eth0", master="br0", port="bridge"), link("br0", kind="bridge"), vxlan(over="br0")]
    changes = plan(node(rows, {"br0": ["192.0.2.1"]}, default="br0"), RAISE)
    assert pending(changes) == ["eth0 1500>9000", "br0 1500>9000", "flannel.1 1450>8950"]


UNKNOWN = {
    "name": "unknown",
    "file": "/etc/cni/net.d/10-antrea.conflist",
    "types": ["antrea"],
    "mtu": None,
    "mtu_from": "",
    "bridge": "",
    "env": False,
    "agent": False,
}
BONDED = [link("bond0", kind="bond"), link("eth0", master="bond0", port="bond", max=1500)]
TAKEN = {"cilium_vxlan": 8950}


@pytest.mark.parametrize(
    ("observed", "wish", "key", "words"),
    [
        (flannel(addresses={"eth0": ["192.0.2.1", "fe80::1"]}), {"underlay": 1279}, "eth0", "1280 that IPv6 needs"),
        (
            flannel(addresses={"eth0": ["192.0.2.1"], "cni0": ["fe80::2"]}, mtu=1500),
            {"underlay": 1300},
            "cni0",
            "1280 that IPv6 needs",
        ),
        (flannel(), {"underlay": 9217}, "eth0", "above the 9216 that the device takes"),
        (
            node(BONDED, {"bond0": ["192.0.2.1"]}, "bond0"),
            RAISE,
            "bond0",
            "1500 that the device of its port eth0 takes",
        ),
        (
            node(BONDED, {"bond0": ["192.0.2.1"]}, "bond0"),
            {"interfaces": ["eth0"], "underlay": 1400},
            "eth0",
            "port of bond0, which hands its MTU to its ports: name bond0",
        ),
        (node([link("eth0"), vxlan(over="gone")]), RAISE, "flannel.1", "nothing says which interface carries it"),
        (
            node([link("eth0"), vxlan(over="", tunnel={"local": "198.51.100.1"})]),
            RAISE,
            "flannel.1",
            "no interface has its local address",
        ),
        (flannel(cni="") | {"cni": UNKNOWN}, RAISE, "pods", "plugin antrea) is not known here"),
        (flannel(), {"interfaces": ["eth7"], "underlay": 9000}, "eth7", "no such interface"),
        (flannel(), {"interfaces": ["flannel.1"], "underlay": 9000}, "flannel.1", "follows from what carries it"),
        (flannel(), {"interfaces": ["cni0"], "underlay": 9000}, "cni0", "belongs to the CNI"),
        (flannel(), {"interfaces": ["lo"], "underlay": 9000}, "lo", "no such interface"),
        (flannel(), {"pods": 1451}, "pods", "1451 asked for pods, eth0 carries 1500 less 50 bytes of vxlan"),
        (flannel(cloud="Amazon EC2"), {"underlay": 9100}, "eth0", "above the 9001 that the network of Amazon EC2"),
        (node([link("eth0")], cni="", default=""), RAISE, "auto", "there is no default route"),
        (
            node([link("eth0", 9000), link("wg0", 8920, "wireguard", tunnel={})], cni=""),
            LOWER,
            "eth0",
            "wg0 (8920) would be above it less 60 bytes of wireguard, and is not the CNI's",
        ),
        (
            node([link("eth0", 9000), vxlan("vxlan.calico", 8950)], cni="calico", given=8950),
            LOWER,
            "eth0",
            "is calico-node's to lower first",
        ),
        (
            node([link("eth0"), link("eth0.7", kind="vlan", over="eth0")], {"eth0.7": ["192.0.2.1"]}, "eth0.7", "")
            | {"keepers": {"eth0": {"by": "NetworkManager", "file": "", "id": "", "type": "", "dhcp": ""}}},
            RAISE,
            "eth0.7",
            "above the 1500 of eth0 beneath it, which NetworkManager keeps",
        ),
    ],
)
def test_refused_as_a_whole_with_the_reason_at_its_link(observed: Row, wish: Row, key: str, words: str) -> None:
    changes = plan(observed, wish)
    assert not pending(changes)
    assert not [c for c in changes if c.persist]
    refused = by_key(changes)[key + "/mtu"]
    assert refused.status == "unsupported"
    assert words in refused.note


def test_a_refusal_is_told_at_every_layer_that_would_have_changed() -> None:
    changes = by_key(plan(flannel(cloud="Google"), RAISE))
    assert "above the 8896" in changes["eth0/mtu"].note
    assert changes["flannel.1/mtu"].note.startswith("not changed because of eth0: 9000 is above the 8896")
    assert changes["flannel.1/mtu"].status == "unsupported"


def test_what_refuses_a_change_does_not_refuse_to_look() -> None:
    changes = plan(flannel(cni="") | {"cni": UNKNOWN}, AUTO)
    assert [(c.key, c.status) for c in changes] == [("eth0/mtu", "ok")]


@pytest.mark.parametrize(
    ("keeper", "owner", "words"),
    [
        ({"dhcp": "9001"}, "DHCP", "its lease brings 9001"),
        ({"by": "NetworkManager"}, "NetworkManager", "nmcli connection modify"),
        ({"by": "ifupdown"}, "ifupdown", "/etc/network/interfaces"),
        ({"by": "several", "file": "networkd and ifupdown"}, "several", "networkd and ifupdown both configure eth0"),
        ({"by": "netplan", "id": "a: b", "type": "ethernets"}, "netplan", "cannot be written safely"),
        ({"by": "netplan", "id": "wlan0", "type": ""}, "netplan", "no mtu for this kind"),
    ],
)
def test_an_interface_that_cannot_be_kept_is_its_owners_and_the_rest_follows_it(
    keeper: Row, owner: str, words: str
) -> None:
    changes = plan(flannel(keepers={"eth0": keeper}), RAISE)
    found = by_key(changes)
    assert (found["eth0/mtu"].status, found["eth0/mtu"].owner) == ("owned", owner)
    assert words in found["eth0/mtu"].note
    assert found["flannel.1/mtu"].want == "1450", "a tunnel follows from what its interface is, not from the wish"
    assert pending(changes) == []


def test_an_owned_interface_that_is_right_already_is_no_matter() -> None:
    changes = plan(flannel(9000, keepers={"eth0": {"dhcp": "9000"}}), RAISE)
    assert by_key(changes)["eth0/mtu"].status == "ok"
    assert by_key(changes)["eth0/mtu"].persist is None


def test_what_is_kept_is_the_interface_and_who_keeps_it() -> None:
    networkd = {"by": "networkd", "file": "/etc/systemd/network/10-eth0.network.d/90-tune-nodes.conf"}
    changes = plan(flannel(keepers={"eth0": networkd}), RAISE)
    assert [c.persist for c in changes if c.persist] == [
        {
            "interfaces": ["eth0"],
            "underlay": 9000,
            "pods": "auto",
            "identity": {"driver": "mlx5_core", "mac": "02:00:00:00:00:01", "kernel": "6.1.0"},
            "keeper": networkd,
        }
    ]
    assert by_key(changes)["eth0/mtu"].disruptive
    assert not by_key(changes)["flannel.1/mtu"].disruptive


@pytest.mark.parametrize(
    ("cni", "tunnel", "owner"),
    [
        ("calico", vxlan("vxlan.calico", 1450), "calico-node"),
        ("cilium", vxlan("cilium_vxlan", 1500, over="", tunnel={"local": "", "external": True}), "cilium-agent"),
    ],
)
def test_tunnels_of_an_agent_that_sets_them_are_left_to_it(cni: str, tunnel: Row, owner: str) -> None:
    changes = plan(node([link("eth0"), tunnel], cni=cni), RAISE)
    assert pending(changes) == ["eth0 1500>9000"]
    found = by_key(changes)[tunnel["name"] + "/mtu"]
    assert (found.status, found.owner) == ("owned", owner)
    assert not plan(node([link("eth0"), tunnel], cni=cni), AUTO)[1].owner, "nothing to tell where it is right"


def test_the_last_setting_that_speaks_of_an_interface_or_of_pods_counts() -> None:
    changes = plan(
        flannel(), {"underlay": 4000, "pods": 1400}, {"interfaces": ["eth0"], "underlay": 9000, "pods": "auto"}
    )
    assert pending(changes) == ["eth0 1500>9000", "flannel.1 1450>8950"]
    changes = plan(flannel(), {"underlay": 9000, "pods": 1400})
    assert pending(changes) == ["cni0 1450>1400", "flannel.1 1450>1400", "eth0 1500>9000"]


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (flannel(), []),
        (node([link("eth0"), vxlan(mtu=1500)]), ["tunnel-above-underlay"]),
        (node([link("eth0"), vxlan(over="gone")]), ["tunnel-without-underlay"]),
        (node([link("eth0"), vxlan(), bridge(mtu=1500), pod(1, 1500)]), ["pod-above-tunnel"]),
        (node([link("eth0"), vxlan(), bridge(mtu=1400), pod(1, 1400), pod(2)]), ["pods-mixed"]),
        (node([link("eth0"), vxlan(), bridge(), pod(1, 1400)]), ["bridge-above-port"]),
        (node([link("eth0"), vxlan(), bridge(mtu=1400), pod(1)]), ["bridge-below-ports"]),
        (node([link("eth0"), link("eth0.7", 1600, "vlan", over="eth0")], cni=""), ["vlan-above-parent"]),
        (node([link("b0", kind="bond"), link("eth0", 9000, master="b0")], {}, "b0", cni=""), ["bond-port-differs"]),
        (flannel(given=1400), ["conf-differs"]),
        (flannel(9100, cloud="Amazon EC2"), ["above-cloud-limit"]),
        # Cilium's device has the underlay's MTU, and that is right.
        (node([link("eth0"), vxlan("cilium_vxlan", 1500)], cni="cilium"), []),
    ],
)
def test_faults_have_names(observed: Row, words: list[str]) -> None:
    assert [fault.word for fault in faults(Stack(observed))] == words


SIZES = st.sampled_from([576, 1280, 1400, 1450, 1500, 1550, 8950, 9000, 9216])


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.lists(SIZES, max_size=3), SIZES | st.just("keep"), SIZES | st.just("auto"))
def test_no_order_of_writes_ever_puts_a_layer_above_what_lies_below(
    eth: int, tunnel: int, cni: int, cables: list[int], underlay: Any, pods: Any
) -> None:
    rows = [link("eth0", eth), vxlan(mtu=tunnel), bridge(mtu=cni), *(pod(n, mtu) for n, mtu in enumerate(cables))]
    changes = plan(node(rows), {"underlay": underlay, "pods": pods})
    now = {"eth0": eth, "flannel.1": tunnel, "cni0": cni}
    fits = [now["flannel.1"] <= now["eth0"] - 50]
    for change in changes:
        if change.status == "pending":
            now[change.key[:-4]] = int(change.want)
            fits.append(now["flannel.1"] <= now["eth0"] - 50)
    assert fits == sorted(fits), "what fitted once must fit at every moment after"
    if not [c for c in changes if c.status == "unsupported"]:
        assert fits[-1]
        assert not cables or now["cni0"] <= min(cables)
        again = [{**row, "mtu": now.get(row["name"], row["mtu"])} for row in rows]
        assert pending(plan(node(again), {"underlay": underlay, "pods": pods})) == []
