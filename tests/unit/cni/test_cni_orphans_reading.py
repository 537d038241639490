"""What ip, iptables, nft, ipset and bpftool print, read: what is a CNI's and what is not, and no text breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni import catalogue
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans import firewall, links, path, routes, sets
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.model import Artefact, Step
from ansible_collections.tune.nodes.plugins.module_utils.cni.orphans.read import parse_bound
from hypothesis import given, settings
from hypothesis import strategies as st

FOREIGN = """*filter
:INPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:DOCKER-USER - [0:0]
:ufw-before-input - [0:0]
-A INPUT -m comment --comment "flannel masquerade of my own" -j ACCEPT
-A INPUT -m comment --comment "kubernetes load balancer firewall" -j KUBE-SERVICES
COMMIT
"""


def test_what_others_made_is_no_cnis() -> None:
    assert firewall.artefacts(firewall.parse_save(FOREIGN), "iptables-nft") == []
    assert sets.ipsets("create mine hash:ip family inet\nadd mine 192.0.2.1\n") == []
    assert [sets.owner_of_table(name) for name in ("kube-proxy", "firewalld", "filter", "cni_hostport")] == [""] * 4


def test_ipsets_go_lists_first_and_come_back_whole() -> None:
    text = "create cali40m hash:net family inet\nadd cali40m 10.0.0.0/8\n"
    found = sets.ipsets(text + "create cali40l list:set size 8\nadd cali40l cali40m\n")
    assert [one.name for one in found] == ["cali40l", "cali40m"]
    assert found[1].restore == (Step(("ipset", "-exist", "restore"), text),)


def test_rules_of_cnis_by_priority_mark_and_table() -> None:
    text = "0:\tfrom all lookup 255\n9:\tfrom all fwmark 0x200/0xf00 lookup 2004\n9:\tfrom all lookup 77\n"
    (found,) = routes.rules(text, 4)
    assert found.owner == "cilium"
    whole = ("priority", "9", "from", "all", "fwmark", "0x200/0xf00", "lookup", "2004")
    assert found.remove[0].argv == ("ip", "-4", "rule", "del", *whole)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("10.7.0.0/24 via 172.18.0.9 dev eth0 table 77 linkdown ", "10.7.0.0/24 via 172.18.0.9 dev eth0 table 77"),
        (
            "10.9.0.0/24 \\\tnexthop via 172.18.0.7 dev eth0 weight 1 \\\tnexthop via 172.18.0.8 dev eth0 weight 2 ",
            "10.9.0.0/24 nexthop via 172.18.0.7 dev eth0 weight 1 nexthop via 172.18.0.8 dev eth0 weight 2",
        ),
        (
            "fd00::/64 dev eth0 proto 2 metric 256 expires 86sec pref medium",
            "fd00::/64 dev eth0 proto 2 metric 256 pref medium",
        ),
    ],
)
def test_a_route_is_the_words_that_make_it(line: str, words: str) -> None:
    found = routes.parse_route(line, 4)
    assert found is not None and " ".join(found.words) == words


def test_the_other_end_of_our_connection() -> None:
    text = "head\n" + "   0: 0100007F:0016 0112A8C0:D2F0 01 00000000:00000000 00:00000000 00000000 0 0 4242 1\n"
    six = "head\n 0: 0:0 0000000000000000FFFF00000112A8C0:D2F0 01 0:0 0:0 0 0 0 4243 1\n"
    assert path.parse_tcp(text) == [("192.168.18.1", 4242)]
    assert path.parse_tcp(six) == [("192.168.18.1", 4243)]


def test_every_catalogue_pattern_is_narrow() -> None:
    for name in ("eth0", "lo", "lxc", "cali", "tun0", "flannel", "veth0123", "wg0", "br0", "vxlan0", "lxc-monitord"):
        assert catalogue.of_link(name) is None, name


@settings(deadline=None, max_examples=60)
@given(
    st.text(max_size=300) | st.from_regex(r"(\*filter\n)?(:[A-Z-]{0,9} -?\n|-A [A-Z\" -]{0,30}\n){0,6}", fullmatch=True)
)
def test_no_text_breaks_a_reader(text: str) -> None:
    tables = firewall.parse_save("*nat\n" + text)
    firewall.artefacts(tables, "iptables")
    sets.ipsets(text)
    sets.parse_tables(text)
    routes.parse_routes(text, 4)
    routes.rules(text, 4)
    links.parse_links(text)
    links.parse_addresses(text)
    links.parse_namespaces(text)
    parse_bound(text)
    path.parse_tcp(text)


KEYS = ("ifname", "linkinfo", "info_kind", "info_data", "addr_info", "nsid", "name", "tc", "xdp", "mtu", "flags")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_no_document_breaks_a_reader(document: Any) -> None:
    text = json.dumps([document])
    for one in links.parse_links(text):
        links.artefact(one, "flannel", ())
    links.parse_addresses(text)
    links.parse_namespaces(text)
    parse_bound(text)
    for raw in (document, {"kind": document}):
        try:
            Artefact.from_dict(raw)
        except (ValueError, KeyError, TypeError):
            continue
