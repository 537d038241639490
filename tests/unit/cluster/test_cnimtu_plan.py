"""What the CNI's MTU in the API should be: tables of what nodes say and what objects hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cnimtu_objects import calico, config_map, daemonset, flannel, stack
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_nodes.cnimtu.model import OK, PENDING, UNSUPPORTED, CniPlan, Held, Layer, NodeStack
from tune_nodes.cnimtu.plan import plan
from tune_nodes.cnimtu.stacks import stack_of
from tune_nodes.cnimtu.values import key_of, merged, size, with_size


def of(held: Held, *stacks: NodeStack) -> CniPlan:
    return plan(stacks or (stack(),), [held])


# -- Flannel -------------------------------------------------------------------------------------------------------

VXLAN = {"Type": "vxlan"}


@pytest.mark.parametrize(
    ("backend", "node", "status", "want"),
    [
        (VXLAN, stack(), OK, None),  # automatic is right
        ({**VXLAN, "MTU": 1500}, stack(), OK, 1500),  # fixed, and right
        ({**VXLAN, "MTU": 1300}, stack(), PENDING, None),  # wrong: taken out, since automatic is right
        ({**VXLAN, "mtu": 9000}, stack(), PENDING, None),  # Go reads keys in any case
        ({**VXLAN, "MTU": 0}, stack(), OK, None),
        ({**VXLAN, "MTU": "junk"}, stack(), OK, None),
        # An IPv6 underlay costs 70, flanneld takes 50: only a fixed one is right.
        (VXLAN, stack(cost=70, pods=1430), PENDING, 1480),
        ({**VXLAN, "MTU": 1480}, stack(cost=70, pods=1430), OK, 1480),
        # A number was asked for.
        (VXLAN, stack(pods=1400, number=True), PENDING, 1450),
        ({**VXLAN, "MTU": 1450}, stack(pods=1400, number=True), OK, 1450),
        ({"Type": "wireguard"}, stack(cost=80, pods=1420), OK, None),
        ({"Type": "WireGuard", "MTU": 1500}, stack(cost=80, pods=1420), OK, 1500),
        ({"Type": "wireguard", "MTU": 1420}, stack(cost=80, pods=1420), PENDING, None),
        ({"Type": "host-gw", "MTU": 1300}, stack(pods=1500), OK, 1300),  # it looks at the interface alone
        ({"Type": "host-gw"}, stack(pods=1400, number=True), UNSUPPORTED, None),
        ({"Type": "ipip"}, stack(cost=20, pods=1480), OK, None),
        ({"Type": "extension"}, stack(), UNSUPPORTED, None),
        ({}, stack(), UNSUPPORTED, None),
    ],
)
def test_flannel(backend: dict[str, Any], node: NodeStack, status: str, want: int | None) -> None:
    (found,) = of(flannel(backend), node).settings
    assert (found.status, found.want) == (status, want)
    assert found.reason
    assert bool(found.patch) == (status == PENDING)


def test_flannels_text_keeps_what_is_not_its_mtu() -> None:
    held = flannel({"mtu": 1300, "Type": "vxlan", "VNI": 4096, "PSK": "secret"})
    (found,) = of(held).pending
    after = json.loads(found.patch["data"]["net-conf.json"])
    assert after == {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "VNI": 4096, "PSK": "secret"}}
    (found,) = of(flannel({"mtu": 1300, "Type": "vxlan"}), stack(pods=1400, number=True)).pending
    assert json.loads(found.patch["data"]["net-conf.json"])["Backend"] == {"mtu": 1450, "Type": "vxlan"}


def test_flannels_delegate_overrules_it() -> None:
    first, second = of(flannel(VXLAN, {"mtu": 1300})).settings
    assert (first.status, second.status, second.now, second.want) == (OK, PENDING, 1300, None)
    plugins = json.loads(second.patch["data"]["cni-conf.json"])["plugins"]
    assert plugins == [{"type": "flannel", "delegate": {"isDefaultGateway": True}}, {"type": "portmap"}]
    assert [one.status for one in of(flannel(VXLAN, {"mtu": 1450})).settings] == [OK, OK]


def test_canals_pods_are_calicos() -> None:
    net = json.dumps({"Network": "10.244.0.0/16", "Backend": VXLAN})
    for veth, statuses, want in (("0", [OK], None), ("1450", [OK, OK], 1450), ("1440", [OK, PENDING], 1450)):
        found = of(config_map("canal-config", {"net-conf.json": net, "veth_mtu": veth}))
        assert [one.status for one in found.settings] == statuses
        assert found.settings[-1].want == want
        assert found.restart == (("w1",) if PENDING in statuses else ())


def test_agents_start_anew_where_they_hand_out_an_old_one() -> None:
    fine, old = stack("w1"), stack("w2", given=1250)
    assert of(flannel(VXLAN), fine).restart == ()
    assert of(flannel(VXLAN), fine, old).restart == ("w2",)
    assert of(flannel({**VXLAN, "MTU": 1300}), fine, old).restart == ("w1", "w2")
    assert of(flannel(VXLAN), stack(given=None)).restart == ()  # nothing on the node says what it gives
    assert of(flannel({"Type": "extension"}), old).restart == ()  # it would hand out the same again


# -- Calico --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "number", "status", "want", "patch"),
    [
        (config_map("calico-config", {"veth_mtu": "0"}), None, OK, None, {}),
        (config_map("calico-config", {"veth_mtu": "1450"}), None, OK, 1450, {}),
        (config_map("calico-config", {"veth_mtu": "1440"}), None, PENDING, None, {"data": {"veth_mtu": "0"}}),
        (config_map("calico-config", {"veth_mtu": "0"}), 1400, PENDING, 1400, {"data": {"veth_mtu": "1400"}}),
        (calico("Installation", "default", {"calicoNetwork": {}}), None, OK, None, {}),
        (
            calico("Installation", "default", {"calicoNetwork": {"mtu": 1300}}),
            None,
            PENDING,
            None,
            {"spec": {"calicoNetwork": {"mtu": None}}},
        ),
        (calico("FelixConfiguration", "default", {"vxlanMTU": 1450}), None, OK, 1450, {}),
        (
            calico("FelixConfiguration", "default", {"vxlanMTU": 1300, "ipipMTU": 1300}),  # there is no tunl0
            None,
            PENDING,
            None,
            {"spec": {"vxlanMTU": None}},
        ),
        (
            calico("FelixConfiguration", "node.w1", {"vxlanMTU": 1300}),
            None,
            PENDING,
            None,
            {"spec": {"vxlanMTU": None}},
        ),
    ],
)
def test_calico(held: Held, number: int | None, status: str, want: int | None, patch: dict[str, Any]) -> None:
    (found,) = of(held, stack(cni="calico", pods=number or 1450, number=number is not None)).settings
    assert (found.status, found.want, found.patch) == (status, want, patch)


def test_what_starts_by_itself_is_not_started() -> None:
    wrong = {"spec.calicoNetwork.mtu": calico("Installation", "default", {"calicoNetwork": {"mtu": 1300}})}
    for held in (*wrong.values(), calico("FelixConfiguration", "default", {"vxlanMTU": 1300})):
        assert of(held, stack(cni="calico")).restart == ()
    assert of(config_map("calico-config", {"veth_mtu": "1"}), stack(cni="calico")).restart == ("w1",)
    nothing = of(calico("FelixConfiguration", "node.w9", {"vxlanMTU": 1300}), stack(cni="calico"))
    assert "no object of the API holds calico's MTU" in nothing.refused


# -- Cilium, kube-router, Weave ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "number", "status", "patch"),
    [
        ({}, None, OK, {}),
        ({"mtu": "0"}, None, OK, {}),
        ({"mtu": "1500"}, None, OK, {}),
        ({"mtu": "1400"}, None, PENDING, {"data": {"mtu": None}}),
        ({}, 1400, PENDING, {"data": {"mtu": "1400"}}),
    ],
)
def test_cilium(data: dict[str, str], number: int | None, status: str, patch: dict[str, Any]) -> None:
    node = stack(cni="cilium", cost=0, pods=number or 1500, number=number is not None, given=None)
    found = of(config_map("cilium-config", data), node)
    assert (found.settings[0].status, found.settings[0].patch) == (status, patch)
    assert found.restart == (("w1",) if patch else ())


def kube_router(mtu: int | None, *args: str) -> list[Held]:
    bridge = {"type": "bridge", "bridge": "kube-bridge", **({"mtu": mtu} if mtu else {})}
    conf = json.dumps({"name": "mynet", "plugins": [bridge]})
    return [
        config_map("kube-router-cfg", {"cni-conf.json": conf}),
        daemonset("kube-router", {"name": "kube-router", "args": ["--run-router=true", *args]}),
    ]


@pytest.mark.parametrize(
    ("held", "number", "status", "want"),
    [
        (kube_router(None), False, OK, None),
        (kube_router(1300), False, OK, 1300),  # overruled
        (kube_router(None), True, UNSUPPORTED, 1480),
        (kube_router(None, "--auto-mtu=false"), False, PENDING, 1480),
        (kube_router(1300, "--auto-mtu=false"), False, PENDING, 1480),
        (kube_router(1480, "--auto-mtu=false"), False, OK, 1480),
    ],
)
def test_kube_router(held: list[Held], number: bool, status: str, want: int | None) -> None:
    (found,) = plan([stack(cni="kube-router", cost=20, pods=1480, number=number)], held).settings
    assert (found.status, found.want) == (status, want)


@pytest.mark.parametrize(
    ("env", "status"),
    [([], OK), ([{"name": "WEAVE_MTU", "value": "1416"}], OK), ([{"name": "WEAVE_MTU", "value": "8916"}], UNSUPPORTED)],
)
def test_weave_is_told_and_not_changed(env: list[Any], status: str) -> None:
    found = of(daemonset("weave-net", {"name": "weave", "env": env}), stack(cni="weave"))
    assert found.settings[0].status == status
    assert found.pending == ()
    if status == UNSUPPORTED:
        assert found.settings[0].note == "kubectl -n kube-system set env daemonset/weave-net -c weave WEAVE_MTU=1416"


# -- What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stacks", "why"),
    [
        ([], "no node was looked at"),
        ([stack(problem="eth0: below 1280")], "w1 cannot be built on: eth0: below 1280"),
        ([stack(pods=None)], "it does not say what its pods should have"),
        ([stack(), stack("w2", "calico")], "the nodes have different CNIs: calico, flannel"),
        ([stack(), stack("w2", nic=9000, pods=8950)], "1450 on w1 and 8950 on w2"),
        ([stack(cni="unknown")], "its CNI is not known here: one would have to know which tunnels it makes"),
        ([stack(cni="ovn-kubernetes", tell="set the cluster network's MTU")], "(set the cluster network's MTU)"),
        (
            [stack(layers=(Layer("eth0", "", 1500, 1500), Layer("flannel.1", "vxlan", 1250, 1450, True)))],
            "pods would send more than w1 can carry yet",
        ),
    ],
)
def test_refused(stacks: list[NodeStack], why: str) -> None:
    found = plan(stacks, [flannel({**VXLAN, "MTU": 1300})])
    assert why in found.refused
    assert (found.pending, found.restart, found.work) == ((), (), False)


def test_lowering_does_not_wait_for_the_nodes() -> None:
    low = stack(layers=(Layer("eth0", "", 1500, 1500), Layer("flannel.1", "vxlan", 1480, 1450, True)))
    assert of(flannel({**VXLAN, "MTU": 1300}), low).work


def test_nodes_that_nobody_looked_at() -> None:
    found = plan([stack()], [flannel({**VXLAN, "MTU": 1300})], ["w9", "w8"])
    assert "w8, w9 too, which nobody looked at" in found.refused


def test_no_object() -> None:
    assert "k3s keeps it in a file of the node" in plan([stack()], []).refused


# -- What nodes say ------------------------------------------------------------------------------------------------


def change(key: str, before: str | None, want: str | None, **more: Any) -> dict[str, Any]:
    return {"family": "mtu", "key": key, "before": before, "want": want, "status": "ok", "note": "", **more}


def test_a_stack_from_a_plan() -> None:
    rows = [
        change("eth0/mtu", "1500", "1500", identity={"driver": "veth"}),
        change("flannel.1/mtu", "1250", "1450", identity={"kind": "vxlan"}, status="pending", note="too low"),
        change("cni0/mtu", "1250", "1250", identity={"kind": "bridge"}),
        change("pods/mtu", "1250", "1450", identity={"cni": "flannel"}, requested="pods auto", status="owned"),
        {"family": "sysctl", "key": "net.core.somaxconn", "before": "1", "want": "2"},
    ]
    found = stack_of("w1", rows)
    assert found.layers == (Layer("eth0", "", 1500, 1500), Layer("flannel.1", "vxlan", 1250, 1450, True))
    assert (found.cni, found.given, found.pods, found.number, found.problem) == ("flannel", 1250, 1450, False, "")
    assert found.faults == ("flannel.1: too low",)
    rows[1]["status"] = "unsupported"
    assert stack_of("w1", rows).problem == "flannel.1: too low"
    rows[3]["requested"] = "pods 1400"
    assert stack_of("w1", rows).number
    assert stack_of("w1", rows[:1]).problem == "nothing is known of a CNI on it"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["flannel", "calico", "cilium", "kube-router", "weave"]))
@settings(max_examples=150, deadline=None)
def test_objects_of_junk(value: Any, cni: str) -> None:
    data = {"net-conf.json": json.dumps(value), "cni-conf.json": json.dumps(value), "veth_mtu": value, "mtu": value}
    raw = {"metadata": {"name": "x", "namespace": "y"}, "data": data, "spec": value}
    for kind in ("ConfigMap", "Installation", "FelixConfiguration", "DaemonSet"):
        held = Held(config_map("x", {}).call, kind, raw)
        for one in plan([stack(cni=cni)], [held]).settings:
            assert one.to_dict()


@given(JSON)
@settings(deadline=None)
def test_sizes_of_junk(value: Any) -> None:
    assert size(value) is None or 0 < (size(value) or 0) <= 65535


def test_values() -> None:
    assert [size(one) for one in ("1450", " 1450", 0, "0", True, 70000, "x", None, 1450.0)] == [
        *(1450, 1450, None, None, None, None, None, None, None)
    ]
    assert key_of({"mtu": 1}, "MTU") == "mtu"
    assert with_size({"a": 1, "Mtu": 2}, "MTU", 3) == {"a": 1, "Mtu": 3}
    assert with_size({"a": 1, "Mtu": 2}, "MTU", None) == {"a": 1}
    assert merged({"a": {"b": 1}, "c": 1}, {"a": {"d": 2}, "c": 2}) == {"a": {"b": 1, "d": 2}, "c": 2}
