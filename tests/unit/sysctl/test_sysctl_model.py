"""Keys and values of the sysctl family: one spelling, nothing impossible, no way out of /proc/sys."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import model, read
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("written", "canonical", "path"),
    [
        ("net.core.somaxconn", "net.core.somaxconn", "net/core/somaxconn"),
        ("net/core/somaxconn", "net.core.somaxconn", "net/core/somaxconn"),
        ("net.ipv4.conf.eth0/100.forwarding", "net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        (
            "net.bridge.bridge-nf-call-iptables",
            "net.bridge.bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-iptables",
        ),
        ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.rp_filter", "net/ipv4/conf/all/rp_filter"),
    ],
)
def test_one_spelling_for_each_key(written: str, canonical: str, path: str) -> None:
    assert model.canonical_key(written) == canonical
    assert read.proc_path(canonical, Host()) == "/proc/sys/" + path


@pytest.mark.parametrize(
    "key",
    [
        "",
        "somaxconn",
        "/etc/passwd",
        "../etc/passwd",
        "net/../../etc/passwd",
        "net.//.core",
        "net..core",
        "net/core/",
        "net/./core",
        "net.ipv4.conf.*.rp_filter",
        "net.ipv4.conf.eth[0].rp_filter",
        "net.core.somaxconn = 1",
        "net.core.somaxconn\n",
        "net.core\0.x",
        "-net.core.somaxconn",
        "#net.core.x",
        "net.core.naïve",
        "net.core." + "x" * 300,
        "net.x/../y.z",
    ],
)
def test_a_key_that_is_not_one_file_is_refused(key: str) -> None:
    with pytest.raises(NodeError) as caught:
        model.canonical_key(key)
    assert caught.value.code == "usage"


@given(st.text(max_size=60) | st.from_regex(r"[a-z./]{1,40}", fullmatch=True))
def test_no_key_leaves_proc_sys(key: str) -> None:
    try:
        canonical = model.canonical_key(key)
    except NodeError as error:
        assert error.code == "usage"
        return
    assert model.canonical_key(canonical) == canonical
    parts = model.segments(canonical)
    assert all(part not in ("", ".", "..") and "/" not in part and "\0" not in part for part in parts)
    # What systemd makes of our spelling is the file we mean.
    assert model.normalise_path(canonical) == "/".join(parts)


@given(st.text(max_size=200))
def test_normalising_a_value_is_stable(text: str) -> None:
    for key in ("net.ipv4.tcp_rmem", "net.core.rps_default_mask", "kernel.core_pattern", "net.unknown.key"):
        once = model.normalise_value(key, text)
        assert model.normalise_value(key, once) == once


@pytest.mark.parametrize(
    ("key", "text", "canonical"),
    [
        ("net.ipv4.tcp_rmem", "4096\t131072\t33554432\n", "4096 131072 33554432"),
        ("net.core.somaxconn", "4096\n", "4096"),
        ("net.core.rps_default_mask", "00000000,0000000f\n", "f"),
        ("net.core.rps_default_mask", "f,00000000", "f,00000000"),
        ("net.core.rps_default_mask", "0\n", "0"),
        ("net.ipv4.ip_local_reserved_ports", "\n", ""),
        ("kernel.core_pattern", "|/usr/bin/dump  %p\n", "|/usr/bin/dump  %p"),
        ("net.ipv4.tcp_fastopen_key", "00000000-00000000\n", "00000000-00000000"),
        ("net.some.key", "9" * 5000, "9" * 5000),
    ],
)
def test_canonical_values(key: str, text: str, canonical: str) -> None:
    assert model.normalise_value(key, text) == canonical


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "no key"),
        ({"key": 5, "value": 1}, "no key"),
        ({"key": "net.core.somaxconn"}, "no value"),
        ({"key": "net.core.somaxconn", "value": ""}, "no value"),
        ({"key": "net.core.somaxconn", "value": None}, "a number or a text"),
        ({"key": "net.core.somaxconn", "value": True}, "write 1 or 0"),
        ({"key": "net.core.somaxconn", "value": 1.5}, "a number or a text"),
        ({"key": "net.core.somaxconn", "value": [1]}, "a number or a text"),
        ({"key": "net.core.somaxconn", "value": "16M"}, "not a whole number"),
        ({"key": "net.core.somaxconn", "value": "010"}, "octal"),
        ({"key": "net.core.somaxconn", "value": "1 2"}, "not a whole number"),
        ({"key": "net.core.somaxconn", "value": 0}, "impossible"),
        ({"key": "net.core.rmem_max", "value": 2147483648}, "impossible"),
        ({"key": "net.core.rmem_max", "value": -1}, "impossible"),
        ({"key": "net.ipv4.tcp_rmem", "value": "4096 131072"}, "3 whole numbers"),
        ({"key": "net.ipv4.tcp_rmem", "value": "4096 131072 65536"}, "must not decrease"),
        ({"key": "net.ipv4.ip_local_port_range", "value": "40000 70000"}, "impossible"),
        ({"key": "net.ipv4.tcp_tw_reuse", "value": 3}, "impossible"),
        ({"key": "net.netfilter.nf_conntrack_buckets", "value": 1000}, "multiple of 512"),
        ({"key": "net.core.rps_default_mask", "value": "zz", "opt_in": True}, "CPU mask"),
        ({"key": "net.core.busy_poll", "value": 50}, "opt_in: true"),
        ({"key": "net.ipv4.tcp_congestion_control", "value": "bbr"}, "opt_in: true"),
        ({"key": "net.core.somaxcon", "value": 1}, "did you mean net.core.somaxconn"),
        ({"key": "a.b", "value": 1}, "give class"),
        ({"key": "a.b", "value": "x", "class": "floor"}, "needs numbers"),
        ({"key": "a.b", "value": "x\ny", "class": "exact"}, "control characters"),
        ({"key": "a.b", "value": "x" * 5000, "class": "exact"}, "too long"),
        ({"key": "a.b", "value": 1, "class": "loose"}, "not a class"),
        ({"key": "net.ipv4.ip_local_reserved_ports", "value": "1", "class": "floor"}, "needs numbers"),
        ({"key": "net.core.somaxconn", "value": 1, "scope": "pod"}, "not a scope"),
        ({"key": "net.core.somaxconn", "value": 1, "take": "yes"}, "true or false"),
        ({"key": "net.core.somaxconn", "value": 1, "owners": "cilium"}, "list of program names"),
        ({"key": "net.core.somaxconn", "value": 1, "reason": 5}, "reason is a text"),
        ({"key": "net.core.somaxconn", "value": 1, "vaule": 2}, "no field 'vaule'"),
        ("net.core.somaxconn", "is a mapping"),
    ],
)
def test_bad_settings_are_named(raw: Any, words: str) -> None:
    with pytest.raises(NodeError) as caught:
        FAMILY.parse([raw])
    assert caught.value.code == "usage"
    assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["key", "value", "class", "scope", "owners", "take", "module", "opt_in", "reason", "x"]),
        JSON | st.sampled_from(["net.core.somaxconn", "net.ipv4.tcp_rmem", "exact", "floor", "4096 1 2"]),
        max_size=6,
    )
)
def test_parse_takes_junk_without_falling_over(raw: dict[str, Any]) -> None:
    try:
        settings = FAMILY.parse([raw])
    except NodeError as error:
        assert error.code == "usage"
        return
    # What is kept on a node is read back the same.
    assert FAMILY.parse([settings[0].to_raw()]) == settings


def test_the_catalogue_completes_a_setting() -> None:
    (setting,) = FAMILY.parse([{"key": "net/netfilter/nf_conntrack_max", "value": 1048576}])
    assert (setting.key, setting.cls, setting.scope) == ("net.netfilter.nf_conntrack_max", "floor", "host")
    assert (setting.module, setting.owners) == ("nf_conntrack", ("kube-proxy", "k3s"))
    assert setting.reason and setting.source.startswith("https://")


def test_a_profile_overrides_the_catalogue() -> None:
    raw = {"key": "net.core.rmem_max", "value": 134217728, "class": "exact", "reason": "chapter 5.2", "owners": []}
    (setting,) = FAMILY.parse([raw])
    assert (setting.cls, setting.reason, setting.owners) == ("exact", "chapter 5.2", ())


def test_the_later_of_two_settings_counts() -> None:
    settings = FAMILY.parse([{"key": "net.core.somaxconn", "value": 1}, {"key": "net/core/somaxconn", "value": 2}])
    assert [(s.key, s.value) for s in settings] == [("net.core.somaxconn", "2")]
