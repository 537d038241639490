"""What the plan decides: a table of (wish, what the node is) -> change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.model import Change
from ansible_collections.tune.nodes.plugins.module_utils.sysctl import plan as plan_module
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.family import FAMILY
from ansible_collections.tune.nodes.plugins.module_utils.sysctl.read import related_keys
from hypothesis import given
from hypothesis import strategies as st

KUBE_PROXY = {"owner": "kube-proxy", "evidence": "process kube-proxy (pid 7)", "how_to_tell": "set maxPerCore: 0"}
CONNTRACK = "net.netfilter.nf_conntrack_max"


def observation(raw: Sequence[Mapping[str, Any]], held: Mapping[str, str | None], **more: Any) -> dict[str, Any]:
    """Return an observation of a node in the initial namespaces where every key may be written."""
    settings = FAMILY.parse(raw)
    keys = [s.key for s in settings] + related_keys(settings)
    found: dict[str, Any] = {
        "initial_netns": True,
        "root": True,
        "keys": {
            key: {"value": held.get(key), "exists": held.get(key) is not None, "writable": held.get(key) is not None}
            for key in keys
        },
        "modules": {},
        "algorithms": {},
        "owners": {},
        "shadows": {},
        "boot": {},
        "procps": {},
    }
    found.update(more)
    again: dict[str, Any] = json.loads(json.dumps(found))
    return again


def plan(raw: Sequence[Mapping[str, Any]], held: Mapping[str, str | None], **more: Any) -> list[Change]:
    return FAMILY.plan(FAMILY.parse(raw), observation(raw, held, **more))


def one(raw: dict[str, Any], held: str | None, **more: Any) -> Change:
    key = FAMILY.parse([raw])[0].key
    (change,) = plan([raw], {key: held}, **more)
    return change


@pytest.mark.parametrize(
    ("key", "cls", "wish", "held", "status", "want"),
    [
        ("net.core.somaxconn", "floor", "4096", "128", "pending", "4096"),
        ("net.core.somaxconn", "floor", "4096", "4096", "ok", "4096"),
        ("net.core.somaxconn", "floor", "4096", "65535", "ok", "65535"),
        ("net.core.somaxconn", "exact", "4096", "65535", "pending", "4096"),
        ("net.core.somaxconn", "ceiling", "4096", "65535", "pending", "4096"),
        ("net.core.somaxconn", "ceiling", "4096", "128", "ok", "128"),
        ("net.ipv4.tcp_rmem", "floor", "4096 131072 16777216", "4096 87380 6291456", "pending", "4096 131072 16777216"),
        (
            "net.ipv4.tcp_rmem",
            "floor",
            "4096 131072 16777216",
            "8192 87380 33554432",
            "pending",
            "8192 131072 33554432",
        ),
        ("net.ipv4.tcp_rmem", "floor", "4096 131072 16777216", "8192 131072 33554432", "ok", "8192 131072 33554432"),
        (
            "net.ipv4.tcp_rmem",
            "exact",
            "4096 131072 16777216",
            "8192 131072 33554432",
            "pending",
            "4096 131072 16777216",
        ),
        ("net.ipv4.tcp_rmem", "ceiling", "4096 65536 16777216", "1024 87380 6291456", "pending", "1024 65536 6291456"),
        ("net.ipv4.tcp_rmem", "floor", "4096 131072 16777216", "4096 87380", "unsupported", "4096 131072 16777216"),
        ("net.ipv4.tcp_notsent_lowat", None, "131072", "4294967295", "pending", "131072"),
        ("net.ipv4.tcp_notsent_lowat", None, "131072", "16384", "ok", "16384"),
        (CONNTRACK, "floor", "1048576", "0", "ok", "0"),
        (CONNTRACK, "ceiling", "1048576", "0", "pending", "1048576"),
        ("net.core.rps_default_mask", "exact", "0000000F", "f", "ok", "f"),
        ("kernel.core_pattern", "exact", "core.%p", "core", "pending", "core.%p"),
        ("net.odd.key", "floor", "5", "abc", "unsupported", "5"),
        ("net.odd.key", "exact", "5", "1 2", "unsupported", "5"),
        ("net.odd.key", "exact", "five", "1 2", "pending", "five"),
        ("net.odd.key", "exact", "5", "a\x01b", "unsupported", "5"),
    ],
)
def test_classes(key: str, cls: str | None, wish: str, held: str, status: str, want: str) -> None:
    raw: dict[str, Any] = {"key": key, "value": wish, "opt_in": True}
    if cls:
        raw["class"] = cls
    change = one(raw, held)
    assert (change.status, change.before, change.want) == (status, held, want)
    assert (change.persist is not None) == (status in ("ok", "pending"))
    assert bool(change.note) == (status == "unsupported")


def test_a_change_says_what_why_and_whence() -> None:
    change = one({"key": "net/core/somaxconn", "value": 4096}, "128")
    assert (change.family, change.key, change.requested) == ("sysctl", "net.core.somaxconn", "floor 4096")
    assert change.reason and change.source and change.scope == "netns"
    assert change.persist is not None and FAMILY.parse([change.persist])[0].value == "4096"


@pytest.mark.parametrize(
    ("key", "held", "more", "words", "persist"),
    [
        ("net.core.rmem_max", "212992", {"initial_netns": False}, "set it on the host", False),
        ("net.core.somaxconn", None, {}, "no such key", False),
        (CONNTRACK, None, {"modules": {"nf_conntrack": {"loaded": False, "available": True}}}, "not loaded yet", True),
        (CONNTRACK, None, {"modules": {"nf_conntrack": {"loaded": False, "available": None}}}, "not loaded yet", True),
        (CONNTRACK, None, {"modules": {"nf_conntrack": {"loaded": False, "available": False}}}, "no module", False),
        (CONNTRACK, None, {"modules": {"nf_conntrack": {"loaded": True, "available": True}}}, "no such key", False),
        (
            "net.core.somaxconn",
            "128",
            {"keys": {"net.core.somaxconn": {"value": "128", "exists": True, "writable": False}}},
            "read-only here",
            False,
        ),
        (
            "net.core.somaxconn",
            "128",
            {"keys": {"net.core.somaxconn": {"value": "128", "exists": True, "writable": False}}, "root": False},
            "needs root",
            False,
        ),
        (
            "net.core.somaxconn",
            None,
            {"keys": {"net.core.somaxconn": {"value": None, "exists": True, "writable": True, "error": "I/O error"}}},
            "could not be put back: I/O error",
            False,
        ),
    ],
)
def test_unsupported(key: str, held: str | None, more: dict[str, Any], words: str, persist: bool) -> None:
    change = one({"key": key, "value": 1048576}, held, **more)
    assert change.status == "unsupported" and words in change.note
    assert (change.persist is not None) == persist


def test_a_read_only_key_that_is_right_is_ok() -> None:
    keys = {"net.core.somaxconn": {"value": "9000", "exists": True, "writable": False}}
    assert one({"key": "net.core.somaxconn", "value": 4096}, "9000", keys=keys).status == "ok"


@pytest.mark.parametrize(("known", "status"), [(True, "pending"), (False, "unsupported"), (None, "unsupported")])
def test_an_algorithm_the_kernel_lacks_is_unsupported(known: bool | None, status: str) -> None:
    key = "net.ipv4.tcp_congestion_control"
    change = one({"key": key, "value": "bbr", "opt_in": True}, "cubic", algorithms={key: known})
    assert change.status == status


def test_an_owned_key_is_left_and_named() -> None:
    change = one({"key": CONNTRACK, "value": 1048576}, "262144", owners={CONNTRACK: KUBE_PROXY})
    assert (change.status, change.owner, change.persist) == ("owned", "kube-proxy", None)
    assert change.before == "262144" and change.want == "1048576"
    assert "left to kube-proxy (process kube-proxy (pid 7))" in change.note
    assert "holds 262144" in change.note and "set maxPerCore: 0" in change.note and "take: true" in change.note


def test_an_owned_key_that_is_right_needs_no_advice() -> None:
    change = one({"key": CONNTRACK, "value": 131072}, "262144", owners={CONNTRACK: KUBE_PROXY})
    assert change.status == "owned" and "take: true" not in change.note


def test_an_absent_owned_key_is_the_owners() -> None:
    modules = {"nf_conntrack": {"loaded": False, "available": True}}
    change = one({"key": CONNTRACK, "value": 1048576}, None, owners={CONNTRACK: KUBE_PROXY}, modules=modules)
    assert (change.status, change.persist) == ("owned", None)


def test_take_sets_the_key_and_says_how_to_tell_the_owner() -> None:
    raw = {"key": CONNTRACK, "value": 1048576, "take": True}
    change = one(raw, "262144", owners={CONNTRACK: KUBE_PROXY})
    assert (change.status, change.owner) == ("pending", "kube-proxy")
    assert "set maxPerCore: 0" in change.note
    assert change.persist is not None and change.persist["take"] is True


def test_a_host_key_in_a_namespace_is_unsupported_even_if_owned_or_right() -> None:
    for held in ("262144", "9999999"):
        raw = {"key": CONNTRACK, "value": 1048576}
        assert one(raw, held, initial_netns=False, owners={CONNTRACK: KUBE_PROXY}).status == "unsupported"


LATER = {"file": "/etc/sysctl.d/99-site.conf", "line": 12}


@pytest.mark.parametrize(
    ("cls", "where", "value", "words"),
    [
        ("exact", "shadows", "128", "/etc/sysctl.d/99-site.conf:12 sets it to 128 at boot, after ours"),
        ("exact", "shadows", None, "/etc/sysctl.d/99-site.conf:12 excludes it"),
        ("exact", "shadows", "4096", ""),
        ("exact", "boot", "128", ""),
        ("floor", "boot", "128", "99-site.conf:12 sets it to 128 at boot; tune-nodes-boot.service corrects"),
        ("floor", "boot", "9000", ""),
        ("floor", "shadows", "128", ""),
        ("floor", "procps", "128", "whenever `sysctl --system`"),
        ("floor", "procps", "9000", ""),
        ("exact", "procps", "9000", "whenever `sysctl --system`"),
        ("exact", "procps", "4096", ""),
    ],
)
@pytest.mark.parametrize("held", ["128", "4096"])
def test_a_line_that_wins_over_ours_is_named(cls: str, where: str, value: str | None, words: str, held: str) -> None:
    key = "net.core.somaxconn"
    change = one({"key": key, "value": 4096, "class": cls}, held, **{where: {key: {**LATER, "value": value}}})
    assert change.status == ("ok" if held == "4096" else "pending")
    assert words in change.note and bool(words) == bool(change.note)


def thresh(level: int, family: str = "ipv4") -> str:
    return f"net.{family}.neigh.default.gc_thresh{level}"


DEFAULTS: dict[str, str | None] = {thresh(1): "128", thresh(2): "512", thresh(3): "1024"}


def wishes(*values: int, cls: str = "floor") -> list[dict[str, Any]]:
    return [{"key": thresh(level), "value": value, "class": cls} for level, value in enumerate(values, 1) if value]


@pytest.mark.parametrize(
    ("raw", "held", "keys"),
    [
        (wishes(8192, 32768, 65536), DEFAULTS, [3, 2, 1]),
        (wishes(8, 16, 32, cls="exact"), DEFAULTS, [1, 2, 3]),
        (wishes(64, 2048, 8192, cls="exact"), DEFAULTS, [3, 2, 1]),
        (list(reversed(wishes(8192, 32768, 65536))), DEFAULTS, [3, 2, 1]),
    ],
)
def test_neighbour_limits_are_never_crossed_on_the_way(
    raw: list[dict[str, Any]], held: dict[str, str | None], keys: list[int]
) -> None:
    changes = plan(raw, held)
    assert [change.key for change in changes] == [thresh(level) for level in keys]
    assert {change.status for change in changes} == {"pending"}


def test_a_limit_above_the_next_one_is_refused() -> None:
    (change,) = plan(wishes(0, 32768), DEFAULTS)
    assert change.status == "unsupported" and change.persist is None
    assert f"{thresh(2)} (32768) would be above {thresh(3)} (1024): set both" in change.note


def test_a_refused_limit_takes_those_that_lean_on_it_along() -> None:
    owners = {thresh(3): {"owner": "bpftune", "evidence": "process bpftune (pid 1)", "how_to_tell": "ask it"}}
    changes = {change.key: change for change in plan(wishes(8192, 32768, 65536), DEFAULTS, owners=owners)}
    assert [changes[thresh(level)].status for level in (1, 2, 3)] == ["unsupported", "unsupported", "owned"]


def test_the_port_range_must_lie_above_the_privileged_ports() -> None:
    held = {"net.ipv4.ip_local_port_range": "32768 60999", "net.ipv4.ip_unprivileged_port_start": "1024"}
    (change,) = plan([{"key": "net.ipv4.ip_local_port_range", "value": "1000 65000"}], held)
    assert change.status == "unsupported"
    both: list[dict[str, Any]] = [
        {"key": "net.ipv4.ip_local_port_range", "value": "1000 65000"},
        {"key": "net.ipv4.ip_unprivileged_port_start", "value": 80},
    ]
    assert [c.key.rsplit(".", 1)[1] for c in plan(both, held)] == ["ip_unprivileged_port_start", "ip_local_port_range"]


def test_a_key_that_sets_every_interface_goes_first() -> None:
    keys = ["net.ipv4.conf.eth0.forwarding", "net.core.somaxconn", "net.ipv4.conf.all.forwarding"]
    changes = plan([{"key": key, "value": 1, "class": "exact"} for key in keys], dict.fromkeys(keys, "0"))
    assert [change.key for change in changes] == [keys[2], keys[0], keys[1]]
    assert "sets every interface" in changes[0].note


INTS = st.integers(min_value=1, max_value=2**31 - 1)
VECTOR = st.lists(INTS, min_size=3, max_size=3).map(lambda v: " ".join(map(str, sorted(v))))


@given(VECTOR, VECTOR, st.sampled_from(["floor", "ceiling", "exact"]))
def test_a_floor_never_lowers_and_is_settled_at_once(wish: str, held: str, cls: str) -> None:
    (setting,) = FAMILY.parse([{"key": "net.ipv4.tcp_rmem", "value": wish, "class": cls}])
    want = plan_module.target(setting, held)
    assert want is not None
    got, had = [int(n) for n in want.split()], [int(n) for n in held.split()]
    assert got == sorted(got)
    if cls == "floor":
        assert all(a >= b for a, b in zip(got, had, strict=True))
    if cls == "ceiling":
        assert all(a <= b for a, b in zip(got, had, strict=True))
    assert plan_module.target(setting, want) == want


@given(st.lists(INTS, min_size=3, max_size=3), st.lists(INTS, min_size=3, max_size=3), st.permutations([1, 2, 3]))
def test_no_state_on_the_way_is_out_of_order(wish: list[int], held: list[int], order: list[int]) -> None:
    now = {thresh(level): value for level, value in enumerate(sorted(held), 1)}
    by_level = dict(enumerate(sorted(wish), 1))
    raw = [{"key": thresh(level), "value": by_level[level], "class": "exact"} for level in order]
    changes = plan(raw, {key: str(value) for key, value in now.items()})
    assert {change.status for change in changes} <= {"ok", "pending"}
    for change in changes:
        if change.status == "pending":
            now[change.key] = int(change.want or "")
            assert now[thresh(1)] <= now[thresh(2)] <= now[thresh(3)]
    assert list(now.values()) == sorted(wish)
