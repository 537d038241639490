"""rtnetlink's bytes: real dumps against what the ip program said of the same moment, and any bytes at all."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.mtu import links, netlink
from hypothesis import given
from hypothesis import strategies as st
from mtu_stacks import Row, captured

DUMPS = ("flannel-node", "namespace")


@pytest.mark.parametrize("name", DUMPS)
def test_links_are_what_ip_says(name: str) -> None:
    dump = captured(name)
    found = {row["name"]: row for row in dump["links"]}
    by_index = {row["index"]: row["name"] for row in dump["links"]}
    assert list(found) == [row["ifname"] for row in dump["ip"]["link"]]
    for said in dump["ip"]["link"]:
        row = found[said["ifname"]]
        info = said.get("linkinfo", {})
        assert row["index"] == said["ifindex"]
        assert (row["mtu"], row["min"], row["max"]) == (said["mtu"], said["min_mtu"], said["max_mtu"])
        assert row["kind"] == info.get("info_kind", "")
        assert row["port"] == info.get("info_slave_kind", "")
        assert by_index.get(row["master"], "") == said.get("master", "")
        assert row["up"] == ("UP" in said["flags"])
        assert row["mac"] == said["address"]
        assert row["away"] == ("link_netnsid" in said)
        _tunnel_is_what_ip_says(row, info, by_index)


def _tunnel_is_what_ip_says(row: Row, info: Row, by_index: dict[int, str]) -> None:
    data = info.get("info_data", {})
    if row["kind"] != "vxlan":
        assert row["tunnel"] is None
        return
    assert row["tunnel"]["external"] == bool(data.get("external"))
    assert row["tunnel"]["local"] == (data.get("local") or data.get("local6") or "")
    assert by_index.get(row["tunnel"]["link"], "") == data.get("link", "")
    assert row["tunnel"]["id"] == data.get("id", 0)


@pytest.mark.parametrize("name", DUMPS)
def test_addresses_and_routes_are_what_ip_says(name: str) -> None:
    dump = captured(name)
    said = [(a["ifindex"], i["local"]) for a in dump["ip"]["addr"] for i in a["addr_info"]]
    assert sorted((a["index"], a["address"]) for a in dump["addresses"]) == sorted(said)
    by_index = {row["index"]: row["name"] for row in dump["links"]}
    shown = {(r["dst"], r.get("gateway", ""), r["dev"]) for r in [*dump["ip"]["route"], *dump["ip"]["route6"]]}
    # ip leaves the length of a host's route out.
    mine = {(r["to"].replace("/32", ""), r["via"], by_index[r["index"]]) for r in dump["routes"]}
    assert shown <= mine


def test_routes_tell_mtu_lock_and_mss_and_the_cache_its_entry() -> None:
    dump = captured("namespace")
    pinned = {r["to"]: (r["mtu"], r["locked"], r["advmss"]) for r in dump["routes"] if r["mtu"]}
    assert pinned == {"10.244.1.0/24": (1400, True, 1360), "fd00:99::/64": (1400, False, 0)}
    assert [(r["to"], r["mtu"]) for r in dump["cached"]] == [("198.18.79.2/32", 1400)]


def attribute(kind: int, value: bytes) -> bytes:
    return netlink.pack_attribute(kind, value)


def info(kind: str, *data: bytes) -> Row:
    """Return the decoded link of a kind that this machine's kernel does not have."""
    linkinfo = attribute(1, kind.encode() + b"\0") + attribute(2, b"".join(data))
    body = struct.pack("=BBHiII", 0, 0, 768, 5, 1, 0) + attribute(3, b"t0\0") + attribute(18, linkinfo)
    found = links.decode_link(body)
    assert found is not None
    return found


FOUR, SIX = bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000000000000000000001")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # Numbers from include/uapi/linux/if_tunnel.h and if_link.h; these kinds were not captured.
        (info("ipip", attribute(1, b"\x02\0\0\0"), attribute(2, FOUR)), {"link": 2, "local": "192.0.2.1", "family": 4}),
        (info("ipip", attribute(15, b"\x01\0")), {"options": 8, "family": 4, "external": False}),  # FoU
        (info("ipip", attribute(15, b"\x02\0")), {"options": 12}),  # GUE
        (info("ipip", attribute(19, b"")), {"external": True}),
        (info("ip6tnl", attribute(2, SIX)), {"local": "2001:db8::1", "family": 6}),
        (info("sit", attribute(3, FOUR)), {"remote": "192.0.2.1", "family": 4}),
        (info("gre", attribute(6, FOUR), attribute(3, b"\x20\0")), {"local": "192.0.2.1", "options": 4}),
        (info("gretap", attribute(3, b"\xb0\0")), {"options": 12}),
        (info("ip6gre", attribute(6, SIX)), {"family": 6}),
        (
            info("geneve", attribute(1, b"\x07\0\0\0"), attribute(2, FOUR)),
            {"id": 7, "remote": "192.0.2.1", "family": 4},
        ),
        (info("geneve", attribute(6, b"")), {"external": True, "family": 0}),
        (info("wireguard"), {"external": False, "family": 0, "link": 0}),
    ],
)
def test_tunnels_this_kernel_does_not_have(found: Row, expected: Row) -> None:
    assert {key: found["tunnel"][key] for key in expected} == expected


def test_links_that_are_no_tunnel() -> None:
    for kind in ("vlan", "bond", "bridge", "veth", "macvlan"):
        assert info(kind)["tunnel"] is None


def test_the_kernels_own_words_are_found_behind_its_errno() -> None:
    words = attribute(1, b"mtu greater than device maximum\0")
    request = struct.pack("=IHHII", 40, 16, 5, 1, 0) + b"\0" * 24
    whole = struct.pack("=i", -errno.EINVAL) + request + words
    assert netlink.decode_error(whole, 0x200) == (errno.EINVAL, "mtu greater than device maximum")
    capped = struct.pack("=i", -errno.EINVAL) + request[:16] + words
    assert netlink.decode_error(capped, 0x300) == (errno.EINVAL, "mtu greater than device maximum")
    assert netlink.decode_error(whole, 0) == (errno.EINVAL, "")
    assert netlink.decode_error(struct.pack("=i", 0), 0) == (0, "")
    assert netlink.decode_error(b"", 0)[0] == errno.EIO


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer(data: bytes) -> None:
    decoders: tuple[Any, ...] = (links.decode_link, links.decode_address, links.decode_route)
    for decode in decoders:
        assert decode(data) is None or isinstance(decode(data), dict)
    for kind in ("vxlan", "geneve", "ipip", "gre", "wireguard", "x"):
        links.decode_tunnel(kind, netlink.attributes(data))
    assert all(len(body) <= len(data) for _, _, body in netlink.messages(data))
    code, words = netlink.decode_error(data, 0x200)
    assert isinstance(code, int)
    assert isinstance(words, str)


@given(st.data())
def test_a_real_dump_with_some_bytes_changed_is_an_answer(data: st.DataObject) -> None:
    import json

    from mtu_stacks import FIXTURES

    raw = json.loads((FIXTURES / "captured/namespace.json").read_text())
    body = bytearray(bytes.fromhex(data.draw(st.sampled_from(raw["links"] + raw["routes"] + raw["addresses"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    for decode in (links.decode_link, links.decode_address, links.decode_route):
        decode(bytes(body))
