"""What is wrong with a node's CNI, by table: what was seen, which fault that is, which rung helps.

Each row begins with a node that is well and changes one thing. A fault that is none would cost an agent or a node.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import calls, faults
from ansible_collections.tune.nodes.plugins.module_utils.cni.detect import Cni, Conf
from ansible_collections.tune.nodes.plugins.module_utils.cni.faults import Asked, Cluster, Peer
from ansible_collections.tune.nodes.plugins.module_utils.cni.flannel import Seen
from cni_node import Node
from hypothesis import given
from hypothesis import strategies as st

DIR = "/etc/cni/net.d"
AGENT, ORPHANS, REBUILD = 1, 3, 4
OTHER_MAC = "aa:aa:aa:aa:aa:aa"


def conf(name: str, *types: str, **first: Any) -> Conf:
    """Return a configuration with these plugins."""
    plugins: list[dict[str, Any]] = [{"type": kind} for kind in types]
    plugins[0].update(first)
    return Conf(f"{DIR}/{name}", "cbr0", plugins)


FLANNEL = conf("10-flannel.conflist", "flannel", "portmap", delegate={"isDefaultGateway": True})
CALICO = conf("10-calico.conflist", "calico", "portmap")
CILIUM = conf("05-cilium.conflist", "cilium-cni")
MULTUS = conf("00-multus.conf", "multus")
OWN = Peer("w1", ("10.244.1.0/24",), "172.18.0.2", "82:24:af:7a:b8:e4", 1, managed=True)
TWO = Peer("w2", ("10.244.2.0/24",), "172.18.0.4", "0a:37:d4:84:8d:bf", 1, managed=True)
THREE = Peer("w3", ("10.244.3.0/24",), "172.18.0.5", "6e:c1:ee:f1:c6:1f", 1, managed=True)
SEEN = Seen(
    subnets=["10.244.1.1/24"],
    env=True,
    tunnel="flannel.1",
    mac=OWN.vtep_mac,
    bridge=["10.244.1.1/24"],
    ports=["veth1", "veth2"],
    neighbours={"10.244.2.0": TWO.vtep_mac, "10.244.3.0": THREE.vtep_mac},
    forwarding={TWO.vtep_mac: [TWO.public_ip], THREE.vtep_mac: [THREE.public_ip]},
    routes={"10.244.2.0/24": ("10.244.2.0", "flannel.1"), "10.244.3.0/24": ("10.244.3.0", "flannel.1")},
)
WELL = Asked(
    Cni("flannel", FLANNEL.path, "cbr0", FLANNEL.types, conf_dir=DIR),
    [FLANNEL],
    ["flannel"],
    {"systemd", "kubelet", "flanneld"},
    Cluster(OWN, [], [TWO, THREE]),
    SEEN,
)


def of(first: Conf, name: str, **more: Any) -> Cni:
    """Return what is in use with a configuration."""
    return Cni(name, first.path, "cbr0", first.types, conf_dir=DIR, **more)


def found(ask: Asked) -> list[tuple[str, int | None]]:
    """Return code and rung of each fault."""
    return [(one.code, one.rung) for one in faults.judge(ask)]


def seen(**fields: Any) -> Asked:
    """Return the node that is well but for what Flannel made of it."""
    return replace(WELL, flannel=replace(SEEN, **fields))


def peers(*others: Peer, own: Peer | None = OWN) -> Asked:
    """Return the node that is well but for what the API says."""
    return replace(WELL, cluster=Cluster(own, [], others))


def plain(first: Conf, name: str, agents: list[str] | None, running: Set[str] = frozenset(), **more: Any) -> Asked:
    """Return a node on which Flannel is not looked at."""
    rest = more.pop("rest", [])
    return Asked(of(first, name, **more), [first, *rest], agents, set(running), Cluster(OWN, []))


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        pytest.param(WELL, [], id="well"),
        pytest.param(Asked(Cni()), [], id="nothing known"),
        pytest.param(replace(WELL, cluster=faults.NOTHING, agents=None, flannel=Seen()), [], id="no API was asked"),
        # the agent
        pytest.param(
            replace(WELL, cluster=replace(WELL.cluster, unready=["flannel"])),
            [("agent-not-ready", AGENT)],
            id="unready",
        ),
        pytest.param(replace(WELL, cluster=replace(WELL.cluster, unready=None)), [], id="readiness not known"),
        pytest.param(
            replace(
                plain(CALICO, "canal", ["calico", "canal", "flannel"]),
                cluster=Cluster(OWN, ["calico", "canal", "flannel"]),
            ),
            [("agent-not-ready", AGENT)],
            id="canal is one pod",
        ),
        pytest.param(plain(CILIUM, "cilium", []), [("agent-missing", None)], id="no pod, no process"),
        pytest.param(plain(CILIUM, "cilium", None), [], id="agents not known"),
        pytest.param(plain(CILIUM, "cilium", [], {"cilium-agent"}), [], id="a process without a pod"),
        pytest.param(plain(FLANNEL, "flannel", [], {"k3s-server"}), [], id="k3s has Flannel in itself"),
        pytest.param(plain(CILIUM, "cilium", [], {"rke2"}), [], id="RKE2 may have anything"),
        pytest.param(plain(CALICO, "canal", ["flannel"]), [], id="canal by its part"),
        pytest.param(plain(CALICO, "canal", []), [("agent-missing", None)], id="canal without either"),
        pytest.param(plain(CALICO, "canal", [], {"calico-node"}), [], id="canal's process"),
        pytest.param(plain(conf("10-bridge.conf", "bridge"), "plain", []), [], id="a plugin without an agent"),
        pytest.param(plain(conf("10-x.conf", "x"), "unknown", []), [], id="a CNI that is not in the catalogue"),
        # the configuration
        pytest.param(
            replace(WELL, cni=Cni(conf_dir=DIR), confs=[]), [("no-configuration", AGENT)], id="no configuration"
        ),
        pytest.param(Asked(Cni(conf_dir=DIR), [], []), [("no-configuration", None)], id="nobody who writes one"),
        pytest.param(Asked(Cni(conf_dir=DIR), [], None), [("no-configuration", None)], id="who writes it not known"),
        pytest.param(
            replace(WELL, cni=of(MULTUS, "multus"), confs=[MULTUS, FLANNEL]), [("hijacked", ORPHANS)], id="hijacked"
        ),
        pytest.param(
            replace(WELL, cni=of(MULTUS, "multus", missing=["multus"]), confs=[MULTUS, FLANNEL]),
            [("hijacked", ORPHANS)],
            id="what a hijacker misses is no matter",
        ),
        pytest.param(
            replace(WELL, cni=of(MULTUS, "multus"), confs=[MULTUS, FLANNEL], agents=["flannel", "multus"]),
            [],
            id="multus is here",
        ),
        pytest.param(
            replace(WELL, cni=of(MULTUS, "multus"), confs=[MULTUS, FLANNEL], running={"thin_entrypoint"}),
            [],
            id="a process of multus",
        ),
        pytest.param(
            replace(WELL, cni=of(MULTUS, "multus"), confs=[MULTUS, FLANNEL], running={"k3s-agent"}),
            [],
            id="k3s may carry the first",
        ),
        pytest.param(plain(MULTUS, "multus", None, rest=[FLANNEL]), [], id="agents not known: no hijacker"),
        pytest.param(
            plain(MULTUS, "multus", ["cilium"], rest=[FLANNEL]), [("agent-missing", None)], id="none of them is right"
        ),
        pytest.param(
            replace(WELL, cni=of(FLANNEL, "flannel", missing=["flannel", "portmap"])),
            [("no-plugin", AGENT)],
            id="its own plugin",
        ),
        pytest.param(
            replace(WELL, cni=of(FLANNEL, "flannel", missing=["portmap"])), [("no-plugin", None)], id="another's plugin"
        ),
        pytest.param(
            plain(CILIUM, "cilium", None, missing=["cilium-cni"]), [("no-plugin", None)], id="whose agent is not known"
        ),
        # the subnet
        pytest.param(peers(own=replace(OWN, pod_cidrs=())), [("no-pod-cidr", None)], id="no podCIDR"),
        pytest.param(seen(env=False, subnets=[]), [("no-subnet-env", AGENT)], id="no subnet.env"),
        pytest.param(seen(subnets=["10.244.2.1/24"]), [("subnet-env", AGENT)], id="another node's"),
        pytest.param(seen(subnets=["10.99.0.1/24"]), [("subnet-env", AGENT)], id="nobody's"),
        pytest.param(seen(subnets=["10.244.0.1/16"]), [("subnet-env", AGENT)], id="larger than the podCIDR"),
        pytest.param(seen(subnets=["junk"]), [("subnet-env", AGENT)], id="no network"),
        pytest.param(seen(subnets=[]), [], id="subnet.env without a subnet"),
        pytest.param(
            replace(
                peers(own=replace(OWN, pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))),
                flannel=replace(SEEN, subnets=["10.244.1.1/24", "fd00:10:244:1::1/64"]),
            ),
            [],
            id="two families",
        ),
        pytest.param(
            replace(
                peers(own=replace(OWN, pod_cidrs=("10.244.1.0/24", "fd00:10:244:1::/64"))),
                flannel=replace(SEEN, subnets=["10.244.1.1/24", "fd00:10:244:2::1/64"]),
            ),
            [("subnet-env", AGENT)],
            id="IPv6 of another",
        ),
        pytest.param(
            replace(peers(own=Peer("w1", ("10.1.1.0/24",))), flannel=replace(SEEN, bridge=["10.244.1.1/24"])),
            [],
            id="subnets from an etcd are not the podCIDR",
        ),
        pytest.param(replace(peers(own=Peer("w1"))), [], id="nor is one needed"),
        pytest.param(
            replace(peers(own=Peer("w1", ("10.244.1.0/24",))), flannel=Seen()),
            [("no-subnet-env", AGENT)],
            id="an agent that has not written anything yet",
        ),
        # the bridge
        pytest.param(seen(bridge=None), [], id="no bridge"),
        pytest.param(seen(bridge=[]), [], id="a bridge without an address"),
        pytest.param(seen(bridge=["/24"]), [], id="an address that is not understood"),
        pytest.param(seen(bridge=["10.244.7.1/24"]), [("old-bridge", REBUILD)], id="old, with pods"),
        pytest.param(seen(bridge=["10.244.7.1/24"], ports=[]), [("old-bridge", ORPHANS)], id="old, without pods"),
        pytest.param(seen(bridge=["10.244.1.1/16"], ports=[]), [("old-bridge", ORPHANS)], id="another length"),
        pytest.param(
            seen(bridge=["10.244.7.1/24", "10.244.1.1/24"]), [("old-bridge", None)], id="its own is the second"
        ),
        pytest.param(seen(bridge=["10.244.1.1/24", "10.244.7.1/24"]), [], id="another after its own"),
        pytest.param(
            seen(bridge=["10.244.2.1/24"], subnets=["10.244.2.1/24"]), [("subnet-env", AGENT)], id="the subnet is first"
        ),
        pytest.param(
            replace(peers(own=Peer("w1")), flannel=replace(SEEN, bridge=["10.244.7.1/24"], ports=[])),
            [("old-bridge", None)],
            id="without a podCIDR no leftover is proved",
        ),
        pytest.param(
            replace(
                seen(bridge=["10.9.9.1/24"]),
                confs=[CALICO],
                agents=["calico", "canal", "flannel"],
                cni=of(CALICO, "canal"),
            ),
            [],
            id="canal has no bridge: this one is a leftover",
        ),
        pytest.param(
            replace(
                seen(bridge=["10.9.9.1/24"]), confs=[conf("10.conflist", "flannel", delegate={"bridge": "mynet0"})]
            ),
            [],
            id="pods hang on another bridge",
        ),
        pytest.param(
            replace(seen(bridge=["10.9.9.1/24"]), confs=[conf("10.conflist", "flannel", delegate={"type": "ipvlan"})]),
            [],
            id="pods hang on no bridge",
        ),
        pytest.param(
            replace(seen(bridge=["10.9.9.1/24"]), confs=[conf("10.conflist", "flannel", delegate=7)]),
            [],
            id="who hangs pods where is not understood",
        ),
        # the tunnel
        pytest.param(seen(mac=OTHER_MAC), [("vtep-mac", AGENT)], id="another MAC than the API has"),
        pytest.param(seen(mac=""), [], id="no MAC"),
        pytest.param(seen(links=True, tunnel="", mac=""), [("no-tunnel", AGENT)], id="no tunnel"),
        pytest.param(seen(tunnel="", mac=""), [], id="devices could not be listed"),
        pytest.param(
            replace(seen(links=True, tunnel="", mac=""), cluster=Cluster(replace(OWN, vni=None), [])),
            [],
            id="no tunnel with a number in the API",
        ),
        pytest.param(
            replace(seen(links=True, tunnel="", mac=""), cluster=Cluster(replace(OWN, vtep_mac=""), [])),
            [],
            id="no tunnel that others know of",
        ),
        pytest.param(peers(TWO, THREE, own=replace(OWN, vtep_mac="")), [], id="the API has none"),
        # other nodes
        pytest.param(seen(routes={"10.244.2.0/24": ("10.244.2.0", "flannel.1")}), [("peer", AGENT)], id="no route"),
        pytest.param(seen(neighbours={"10.244.2.0": TWO.vtep_mac}), [("peer", AGENT)], id="no neighbour entry"),
        pytest.param(
            seen(neighbours={"10.244.2.0": TWO.vtep_mac, "10.244.3.0": OTHER_MAC}), [("peer", AGENT)], id="wrong MAC"
        ),
        pytest.param(seen(forwarding={TWO.vtep_mac: [TWO.public_ip]}), [("peer", AGENT)], id="no forwarding entry"),
        pytest.param(
            seen(forwarding={TWO.vtep_mac: [TWO.public_ip], THREE.vtep_mac: ["172.18.0.99"]}),
            [("peer", AGENT)],
            id="forwarded to another node",
        ),
        pytest.param(
            seen(
                routes={"10.244.2.0/24": (TWO.public_ip, "eth0"), "10.244.3.0/24": (THREE.public_ip, "eth0")},
                neighbours={},
                forwarding={},
            ),
            [],
            id="direct routing",
        ),
        pytest.param(seen(routes={**(SEEN.routes or {}), "10.244.3.0/24": ("", "")}), [], id="a route of several ways"),
        pytest.param(seen(neighbours=None), [], id="neighbours not known"),
        pytest.param(seen(forwarding=None), [], id="forwarding not known"),
        pytest.param(seen(routes=None), [], id="routes not known"),
        pytest.param(seen(tunnel="", mac=""), [], id="no tunnel"),
        pytest.param(peers(replace(TWO, vtep_mac="")), [], id="a peer of another backend"),
        pytest.param(peers(replace(TWO, public_ip="")), [], id="a peer that is not reached by an address"),
        pytest.param(peers(replace(TWO, pod_cidrs=("fd00::/64", "junk"))), [], id="IPv6 and junk are not compared"),
        pytest.param(peers(replace(TWO, pod_cidrs=())), [], id="a peer without a podCIDR"),
        pytest.param(
            peers(replace(TWO, vtep_mac=OTHER_MAC), own=replace(OWN, vtep_mac="")),
            [],
            id="this node has no vxlan: an old tunnel is no fault",
        ),
        # who carries Flannel
        pytest.param(
            replace(seen(mac=OTHER_MAC, routes={}), agents=[], running={"k3s-agent"}),
            [("vtep-mac", None), ("peer", None)],
            id="k3s: no pod that could be started anew",
        ),
        pytest.param(
            replace(seen(env=False), agents=[], running=set()),
            [("agent-missing", None), ("no-subnet-env", None)],
            id="no agent that could write it",
        ),
        pytest.param(
            replace(seen(env=False), cni=of(CILIUM, "cilium"), confs=[CILIUM, FLANNEL], agents=["cilium"]),
            [],
            id="Flannel's configuration is a leftover",
        ),
        pytest.param(
            replace(seen(mac=OTHER_MAC), cni=of(CALICO, "canal"), confs=[CALICO], agents=["calico"]),
            [],
            id="Calico with a tunnel that Flannel left",
        ),
    ],
)
def test_faults(ask: Asked, expected: list[tuple[str, int | None]]) -> None:
    assert found(ask) == expected
    for fault in faults.judge(ask):
        assert fault.rung or fault.next, "who is not helped by a rung wants to know where to look"


def test_what_is_said() -> None:
    (other,) = faults.judge(seen(subnets=["10.244.2.1/24"]))
    assert other.what == "subnet.env says 10.244.2.1/24, which is not in this node's podCIDR 10.244.1.0/24"
    assert "the node w2" in other.why
    (nobodys,) = faults.judge(seen(subnets=["10.99.0.1/24"]))
    assert nobodys.why == ""
    (old,) = faults.judge(seen(bridge=["10.244.7.1/24"]))
    assert old.what == "cni0 has 10.244.7.1/24, but this node's subnet is 10.244.1.1/24; 2 pods hang on it"
    (one,) = faults.judge(seen(bridge=["10.244.7.1/24"], ports=["veth1"]))
    assert one.what.endswith("; 1 pod hangs on it")
    (second,) = faults.judge(seen(bridge=["10.244.7.1/24", "10.244.1.1/24"]))
    assert second.next.startswith("ip address del 10.244.7.1/24 dev cni0")
    (mac,) = faults.judge(seen(mac=OTHER_MAC))
    assert mac.what == f"the tunnel flannel.1 has the MAC {OTHER_MAC}, but the API tells the other nodes {OWN.vtep_mac}"
    (hijacked,) = faults.judge(replace(WELL, cni=of(MULTUS, "multus"), confs=[MULTUS, FLANNEL]))
    assert hijacked.what.startswith(f"{MULTUS.path} comes before 10-flannel.conflist: ")
    assert "by multus, whose agent is not here" in hijacked.what
    (by_hand,) = faults.judge(replace(seen(mac=OTHER_MAC), agents=[], running={"k3s-agent"}))
    assert "k3s" in by_hand.next


def test_each_way_that_is_wrong_is_named_and_many_are_counted() -> None:
    (one,) = faults.judge(seen(forwarding={TWO.vtep_mac: [TWO.public_ip], THREE.vtep_mac: ["172.18.0.99"]}))
    assert one.what == (
        "the way through flannel.1 to another node is not as it says "
        f"(w3: {THREE.vtep_mac} is forwarded to 172.18.0.99, not to {THREE.public_ip})"
    )
    (none,) = faults.judge(seen(neighbours={"10.244.2.0": TWO.vtep_mac}))
    assert f"w3: 10.244.3.0 has the MAC none, not {THREE.vtep_mac}" in none.what
    many = [replace(TWO, name=f"n{number}", pod_cidrs=(f"10.244.{number}.0/24",)) for number in range(10, 15)]
    (several,) = faults.judge(peers(*many))
    assert "to 5 other nodes is not as they say (n10: no route to 10.244.10.0/24; " in several.what
    assert several.what.endswith("; and 2 more)") and "n13" not in several.what


def test_no_more_faults_than_anybody_reads() -> None:
    assert len(faults.judge(replace(WELL, cluster=Cluster(OWN, [f"c{n}" for n in range(99)])))) == faults.MOST


@pytest.mark.parametrize(
    ("cni", "confs", "agents", "wanted"),
    [
        (of(FLANNEL, "flannel"), [FLANNEL], None, True),
        (of(FLANNEL, "flannel"), [FLANNEL], [], True),
        (of(MULTUS, "multus"), [MULTUS, FLANNEL], [], True),
        (of(MULTUS, "multus"), [MULTUS], ["flannel"], True),
        (Cni(), [], ["canal"], True),
        (of(CALICO, "canal"), [CALICO], None, True),
        (of(CALICO, "canal"), [CALICO], ["calico"], False),
        (of(CALICO, "calico"), [CALICO], None, False),
        (of(CILIUM, "cilium"), [CILIUM, FLANNEL], ["cilium"], False),
        (of(MULTUS, "multus"), [MULTUS, CILIUM, FLANNEL], ["cilium"], False),
        (Cni(), [], None, False),
    ],
)
def test_flannel_is_looked_at_where_it_is_in_use(
    cni: Cni, confs: list[Conf], agents: list[str] | None, wanted: bool
) -> None:
    assert faults.wants_flannel(cni, confs, agents) is wanted


def test_a_request_says_what_the_api_said() -> None:
    own = {
        "name": "w1",
        "pod_cidrs": ["10.244.1.0/24"],
        "public_ip": "172.18.0.2",
        "vtep_mac": "82:24:AF:7A:B8:E4",
        "vni": 1,
        "managed": True,
        "unready": ["flannel"],
    }
    two = {"name": "w2", "pod_cidrs": ["10.244.2.0/24"], "public_ip": "172.18.0.4", "vtep_mac": TWO.vtep_mac}
    asked = faults.cluster_of({"own": own, "peers": [two]})
    assert asked.own == OWN and asked.unready == ["flannel"]
    assert asked.peers == [replace(TWO, vni=None, managed=False)]
    assert faults.cluster_of({}) is faults.NOTHING and faults.cluster_of({"own": "w1"}) is faults.NOTHING
    silent = faults.cluster_of({"own": {"vni": True, "managed": "yes", "pod_cidrs": "10.0.0.0/8"}})
    assert silent == Cluster(Peer(""), None, [])
    assert len(faults.cluster_of({"own": {}, "peers": [{}] * 2000}).peers) == faults.MOST_PEERS


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["name", "pod_cidrs", "public_ip", "vtep_mac", "vni", "managed", "unready"])


@given(st.dictionaries(FIELDS, JUNK), st.lists(JUNK | st.dictionaries(FIELDS, JUNK), max_size=3))
def test_whatever_a_request_says_is_judged(own: dict[str, Any], others: list[Any]) -> None:
    faults.judge(replace(WELL, cluster=faults.cluster_of({"own": own, "peers": others})))


@pytest.mark.parametrize(
    ("cidr", "codes"), [("10.244.1.0/24", ["agent-missing"]), ("10.244.2.0/24", ["agent-missing", "subnet-env"])]
)
def test_a_look_at_a_captured_node_reports_them(node: Node, cidr: str, codes: list[str]) -> None:
    own = {"name": "w1", "pod_cidrs": [cidr], "managed": True, "unready": []}
    params = {"agents": [], "pod_cidrs": [cidr], "node_ips": [], "own": own, "peers": []}
    asked = calls.asked({**params, "grace": None, "between": None})
    report = calls.look(node.ask(facts=asked.facts, cluster=asked.cluster))["cni"]
    assert [fault["code"] for fault in report["faults"]] == codes
    assert report["faults_not_checked"] == ["ip -j route: its answer is not understood"], "this node's ip says nothing"


def test_a_look_without_a_cluster_names_what_was_not_compared(node: Node) -> None:
    report = calls.look(node.ask())["cni"]
    assert report["faults"] == [] and "no cluster was asked" in report["faults_not_checked"][-1]
