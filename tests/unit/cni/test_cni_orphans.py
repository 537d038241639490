"""Which things of CNIs are orphans: what real nodes print, read and judged; and what no text may make it do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import command
from ansible_collections.tune.nodes.plugins.module_utils.cni.detect import Conf, read_conf
from ansible_collections.tune.nodes.plugins.module_utils.cni.model import Sandbox
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans import firewall, links, path, plan, routes
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.model import Artefact
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.read import Node, read
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.read import used as used_by
from ansible_collections.tune.nodes.plugins.module_utils.host import Host

FIXTURES = Path(__file__).parents[2] / "fixtures/cni"
LEFT, RUNS = "cilium-with-flannel-left", "flannel-as-it-runs"
CILIUM = {"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni"}]}
FLANNEL = {"cniVersion": "0.3.1", "name": "cbr0", "plugins": [{"type": "flannel"}, {"type": "portmap"}]}
MULTUS = {"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus"}
ANSWERS = {
    "iptables-legacy-save": "iptables-legacy-save.txt",
    "ip6tables-legacy-save": "ip6tables-legacy-save.txt",
    "iptables-nft-save": "iptables-nft-save.txt",
    "ip6tables-nft-save": "ip6tables-nft-save.txt",
    "nft list tables": "nft-tables.txt",
    "nft -s list table ip flannel-ipv4": "nft-table-ip-flannel-ipv4.txt",
    "ipset save": "ipset-save.txt",
    "ip -4 -o -N route show table all": "route4.txt",
    "ip -6 -o -N route show table all": "route6.txt",
    "ip -4 -N rule show": "rule4.txt",
    "ip -6 -N rule show": "rule6.txt",
    "ip -j -d link": "link.json",
    "ip -j addr": "addr.json",
    "ip -j netns list-id": "netns.json",
}
SANDBOXES = {"a" * 64: Sandbox("a" * 64)}


@pytest.fixture
def node_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Node]:
    """Return the node that a directory of captured answers makes."""
    monkeypatch.setattr(command, "find", lambda program: "" if program == "bpftool" else program)

    def make(name: str) -> Node:
        def run(argv: Sequence[str], *_: Any) -> command.Done:
            return command.Done(0, (FIXTURES / name / ANSWERS[" ".join(argv)]).read_bytes(), "")

        for pin in (FIXTURES / name / "pins.txt").read_text().splitlines():
            place = tmp_path / pin.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        (tmp_path / "etc/cni/net.d").mkdir(parents=True)
        return read(Host(root=str(tmp_path)), "/etc/cni/net.d", run)

    return make


def conf(name: str, document: Mapping[str, Any]) -> Conf:
    """Return a configuration as it is read from a file of that name."""
    found = read_conf(f"/etc/cni/net.d/{name}", json.dumps(document))
    assert isinstance(found, Conf)
    return found


CIL, FLA, MUL = conf("05-cilium.conflist", CILIUM), conf("10-flannel.conflist", FLANNEL), conf("00-multus.conf", MULTUS)


def ask(node: Node, *confs: Conf, used: Mapping[str, str] | None = None, **more: Any) -> plan.Asked:
    """Return the question about a node."""
    return plan.Asked(node, confs, used or {}, more.pop("sandboxes", SANDBOXES), **more)


def shown(found: plan.Plan) -> dict[str, str]:
    """Return orphan -> why it stays."""
    return {f"{one.artefact.kind} {one.artefact.name}": one.refused for one in found.orphans}


FLANNEL_LEFT = {
    "chains iptables-legacy filter (flannel)",
    "chains iptables-legacy nat (flannel)",
    "chains iptables-nft filter (flannel)",
    "chains iptables-nft nat (flannel)",
    "chains ip6tables-nft filter (flannel)",
    "chains ip6tables-nft nat (flannel)",
    "table ip flannel-ipv4",
    "route ip4 10.77.3.0/24 via 10.77.3.0 dev flannel.1 onlink",
    "link flannel.1",
    "link cni0",
}


def test_what_flannel_left_on_a_cilium_node_is_named_with_proof(node_of: Callable[[str], Node]) -> None:
    node = node_of(LEFT)
    assert node.unread == []
    ours = {"cilium": "its agent cilium-agent runs on this node"}
    found = plan.judge(ask(node, CIL, used=ours, facts=plan.Facts(["cilium"])))
    assert found.refusals == [] and shown(found) == dict.fromkeys(FLANNEL_LEFT, "")
    assert found.orphans[0].proof == (
        "/etc/cni/net.d/05-cilium.conflist is the configuration in use: cilium",
        "no agent of flannel runs on this node (flanneld) and the API names none of its pods here",
        "it made none of the 1 sandboxes, and none of its devices leads into a live namespace",
    )
    kinds = [one.kind for one in found.removable]
    assert kinds == ["chains"] * 6 + ["table", "route", "link", "link"]
    unasked = plan.judge(ask(node, CIL, used=ours))
    assert shown(unasked).keys() == FLANNEL_LEFT and unasked.removable == []


def test_chains_go_rule_by_rule_and_come_back_in_their_places(node_of: Callable[[str], Node]) -> None:
    nat = next(one for one in node_of(LEFT).artefacts if one.name == "iptables-nft nat (flannel)")
    base = ("iptables-nft", "-w", "5", "-t", "nat")
    jump = ("-m", "comment", "--comment", "flanneld masq", "-j", "FLANNEL-POSTRTG")
    assert [step.argv for step in nat.remove] == [
        (*base, "-D", "POSTROUTING", *jump),
        (*base, "-F", "FLANNEL-POSTRTG"),
        (*base, "-X", "FLANNEL-POSTRTG"),
    ]
    assert nat.restore[0].argv == (*base, "-N", "FLANNEL-POSTRTG")
    assert nat.restore[1].argv[:7] == (*base, "-A", "FLANNEL-POSTRTG")
    assert nat.restore[-1].argv == (*base, "-I", "POSTROUTING", nat.restore[-1].argv[7], *jump)
    assert nat.restore[-1].otherwise == (*base, "-A", "POSTROUTING", *jump)


def test_on_a_flannel_node_nothing_of_flannel_is_an_orphan(node_of: Callable[[str], Node]) -> None:
    node = node_of(RUNS)
    assert {one.owner for one in node.artefacts} == {"flannel"}
    assert plan.judge(ask(node, FLA, used={"flannel": "its agent"})).orphans == []


def test_where_programs_stay_in_the_kernel_all_of_that_cni_stays(node_of: Callable[[str], Node]) -> None:
    found = plan.judge(ask(node_of(LEFT), FLA, facts=plan.Facts(["flannel"])))
    rows = {one.artefact.key: one for one in found.orphans}
    assert rows["bpf", "cilium"].artefact.content[0] == "/sys/fs/bpf/cilium/devices/cilium_host/links/cil_from_host"
    assert {one.artefact.owner for one in found.orphans} == {"cilium"}
    assert found.removable == []
    assert "only a reboot takes all of them away" in rows["chains", "iptables-nft raw (cilium)"].refused


@pytest.mark.parametrize(
    ("confs", "more", "code"),
    [
        ((CIL,), {"sandboxes": None}, "cri"),
        ((CIL,), {"sandboxes": {}}, "no-sandboxes"),
        ((), {}, "no-cni"),
        ((conf("10-x.conf", {"name": "x", "type": "somebodys"}),), {}, "no-cni"),
    ],
)
def test_without_certainty_no_orphan_is_named(
    node_of: Callable[[str], Node], confs: tuple[Conf, ...], more: dict[str, Any], code: str
) -> None:
    found = plan.judge(ask(node_of(LEFT), *confs, **more))
    assert found.orphans == [] and [one.code for one in found.refusals] == [code]


@pytest.mark.parametrize(
    ("used", "facts"),
    [
        ({"flannel": "its agent flanneld runs on this node"}, plan.NOTHING),
        ({}, plan.Facts(["cilium", "flannel"])),
    ],
)
def test_what_somebody_uses_is_no_orphan(
    node_of: Callable[[str], Node], used: dict[str, str], facts: plan.Facts
) -> None:
    assert plan.judge(ask(node_of(LEFT), CIL, used=used, facts=facts)).orphans == []


FIRST = Artefact("file", MUL.path, "multus", ("sha256 0",), path=MUL.path)


@pytest.mark.parametrize(
    ("agents", "used", "own", "files"),
    [
        (["flannel"], {}, {"flannel"}, [MUL.path]),  # its agent is gone: the file that comes first is a leftover
        (["flannel", "multus"], {}, {"flannel", "multus"}, []),
        (["flannel"], {"multus": "it made the network of sandbox a"}, {"flannel", "multus"}, []),
        (None, {}, {"flannel", "multus"}, []),  # nobody asked the API: not certain
        ([], {}, {"flannel", "multus"}, []),  # nobody else is there either: not certain what is wanted
    ],
)
def test_a_configuration_without_its_agent_is_a_leftover_only_by_the_api(
    agents: list[str] | None, used: dict[str, str], own: set[str], files: list[str]
) -> None:
    found = plan.judge(ask(Node([FIRST]), MUL, FLA, used=used, facts=plan.Facts(agents)))
    assert found.configured == own and [one.path for one in found.removable] == files


def route(line: str, family: int = 4) -> routes.Route:
    """Return the route of a line."""
    found = routes.parse_route(line, family)
    assert found is not None
    return found


GONE = "10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink"


@pytest.mark.parametrize(
    ("line", "facts", "gone"),
    [
        (GONE, plan.Facts(None, ["10.244.0.0/24", "10.244.1.0/24"]), True),
        (GONE, plan.Facts(None, ["10.244.0.0/24", "10.244.9.0/24"]), False),
        (GONE, plan.Facts(None, []), False),
        (GONE, plan.NOTHING, False),
        ("10.244.9.0/24 via 172.18.0.9 dev eth0", plan.Facts(None, ["10.244.1.0/24"], ["172.18.0.2"]), True),
        ("10.244.9.0/24 via 172.18.0.2 dev eth0", plan.Facts(None, ["10.244.1.0/24"], ["172.18.0.2"]), False),
        ("10.244.9.0/24 via 172.18.0.9 dev eth0", plan.Facts(None, ["10.244.1.0/24"]), False),
        ("192.168.9.0/24 via 172.18.0.9 dev eth0", plan.Facts(None, ["10.244.1.0/24"], ["172.18.0.2"]), False),
        ("default via 172.18.0.1 dev eth0", plan.Facts(None, ["10.244.1.0/24"], ["172.18.0.2"]), False),
        ("6 10.244.9.0/24 proto 12", plan.Facts(None, ["10.244.1.0/24"], ["172.18.0.2"]), False),
    ],
)
def test_routes_of_flannel_to_nodes_that_are_gone(line: str, facts: plan.Facts, gone: bool) -> None:
    node = Node(routes=[route(line)])
    found = plan.judge(ask(node, FLA, used={"flannel": "x"}, facts=facts, network=["10.244.0.0/16"]))
    assert [one.name for one in found.removable] == (["ip4 " + line] if gone else [])


OURS = path.Path(("172.18.0.1",), ("eth0",))
UNKNOWN = path.Path(("172.18.0.1",), (), False)


def link(name: str, kind: str, **more: Any) -> links.Link:
    """Return a device."""
    return links.parse_links(
        json.dumps(
            [{"ifname": name, "address": "02:00:00:00:00:01", "mtu": 1450, "linkinfo": {"info_kind": kind}, **more}]
        )
    )[0]


@pytest.mark.parametrize(
    ("artefact", "way", "why"),
    [
        (links.artefact(link("cilium_net", "dummy"), "calico", ()), path.NONE, ""),
        (links.artefact(link("eth0", "dummy"), "calico", ()), OURS, "our own connection to this node goes through it"),
        (links.artefact(link("x", "dummy"), "calico", ()), UNKNOWN, "which way our own connection goes"),
        (links.artefact(link("tunl0", "ipip"), "calico", ()), path.NONE, "the kernel's own"),
        (
            links.artefact(link("wg", "wireguard"), "calico", ()),
            path.NONE,
            "a device of kind wireguard cannot be made again",
        ),
        (routes.route(route("172.18.0.0/16 via 10.0.0.9 dev tunl0"), "calico"), OURS, "our own connection comes from"),
        (routes.route(route("default via 10.0.0.9 dev tunl0"), "calico"), OURS, "it is a default route"),
        (routes.route(route("10.9.0.0/16 via 10.0.0.9 dev tunl0"), "calico"), OURS, ""),
    ],
)
def test_what_our_own_connection_goes_through_stays(artefact: Artefact, way: path.Path, why: str) -> None:
    (orphan,) = plan.judge(ask(Node([artefact]), FLA, path=way, facts=plan.Facts(["flannel"]))).orphans
    assert orphan.refused.startswith(why) and bool(orphan.refused) == bool(why)


@pytest.mark.parametrize(
    ("policy", "after", "stays"),
    [
        ("ACCEPT", "", False),
        ("DROP", "", True),
        ("ACCEPT", "-A INPUT -j DROP", True),
        ("ACCEPT", "-A INPUT -j X", False),
    ],
)
def test_rules_that_may_be_all_that_lets_us_in_stay(policy: str, after: str, stays: bool) -> None:
    text = f"*filter\n:INPUT {policy} [0:0]\n:cali-INPUT - [0:0]\n:X - [0:0]\n-A INPUT -j cali-INPUT\n{after}\nCOMMIT\n"
    tables = firewall.parse_save(text)
    node = Node(firewall.artefacts(tables, "iptables-nft"), {"iptables-nft": tables})
    (orphan,) = plan.judge(ask(node, FLA, facts=plan.Facts(["flannel"]))).orphans
    assert bool(orphan.refused) is stays


@pytest.mark.parametrize(
    ("age", "ready", "master", "found"),
    [(1000, True, "cni0", True), (800, True, "cni0", False), (1000, False, "cni0", False), (1000, True, "br0", False)],
)
def test_a_veth_into_a_dead_namespace(age: float, ready: bool, master: str, found: bool) -> None:
    device = link("veth1", "veth", link_netnsid=3, master=master)
    artefact = links.artefact(device, "", (), "cni-1")
    node = Node([artefact], links=[device], dead={"veth1": ("cni-1", age)})
    boxes = {"a": Sandbox("a", ready)}
    rows = plan.judge(ask(node, FLA, used={"flannel": "x"}, sandboxes=boxes)).removable
    assert rows == ([artefact] if found else [])


@pytest.mark.parametrize(
    ("address", "subnet", "ports", "goes"),
    [
        ("10.244.9.1/24", "10.244.1.1/24", 0, True),
        ("10.244.1.1/24", "10.244.1.1/24", 0, False),
        ("10.244.9.1/24", "10.244.1.1/24", 1, False),  # a pod hangs on it
        ("10.244.1.1/24", "10.244.9.1/24", 0, False),  # not the bridge is wrong but what flanneld wrote
        ("10.244.9.1/24", "", 0, False),
    ],
)
def test_a_bridge_with_an_earlier_subnet_goes_only_where_nothing_hangs_on_it(
    address: str, subnet: str, ports: int, goes: bool
) -> None:
    bridge = link("cni0", "bridge")
    pods = [link(f"veth{number}", "veth", master="cni0", link_netnsid=number) for number in range(ports)]
    node = Node([links.artefact(bridge, "flannel", (address,))], links=[bridge, *pods])
    facts = plan.Facts(["flannel"], None, (), ["10.244.1.0/24"])
    found = plan.judge(ask(node, FLA, used={"flannel": "x"}, facts=facts, subnets=[subnet]))
    assert [one.name for one in found.removable] == (["cni0"] if goes else [])


@pytest.mark.parametrize(
    ("name", "kind", "owner"),
    [
        ("flannel.1", "vxlan", "flannel"),
        ("flannel.1", "dummy", ""),
        ("cali0123456789a", "veth", "calico"),
        ("calibration", "veth", ""),
        ("lxc0123456789ab", "veth", "cilium"),
        ("lxcbr0", "bridge", ""),
        ("tun-office", "tun", ""),
        ("tun-0123456789a", "ipip", "kube-router"),
        ("weave", "bridge", "weave"),
        ("cni0", "veth", ""),
        ("docker0", "bridge", ""),
    ],
)
def test_a_device_is_a_cnis_by_name_and_kind(name: str, kind: str, owner: str) -> None:
    assert links.owner_of(link(name, kind)) == owner


def test_who_uses_a_cni(node_of: Callable[[str], Node]) -> None:
    node = node_of(LEFT)
    assert list(used_by(Host(root="/nowhere"), node, {})) == ["cilium"]  # the pods' devices
    found = used_by(Host(root="/nowhere", processes={"flanneld": [7], "k3s-server": [8]}), Node(), {})
    assert set(found) == {"flannel", "kube-router"}


def test_an_artefact_survives_its_manifest(node_of: Callable[[str], Node]) -> None:
    found = node_of(LEFT).artefacts
    assert [Artefact.from_dict(json.loads(json.dumps(one.to_dict()))) for one in found] == found
    assert len({one.id for one in found}) == len(found)
