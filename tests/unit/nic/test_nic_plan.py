# SPDX-License-Identifier: Apache-2.0
"""What a NIC's plan comes to: settings and observation in, changes out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.model import STATUSES, Change
from ansible_collections.tune.nodes.plugins.module_utils.nic import cpus
from ansible_collections.tune.nodes.plugins.module_utils.nic.family import FAMILY
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[2] / "fixtures/nic"

#: CPU layouts: online CPUs grouped by physical core.
LAYOUTS = {
    "2": [[0], [1]],
    "4": [[0], [1], [2], [3]],
    "2x2": [[0, 1], [2, 3]],
    "16": [[n] for n in range(16)],
    "64": [[n, n + 32] for n in range(32)],
}


def outline(**more: Any) -> dict[str, Any]:
    """Return an interface's outline: a plain physical NIC unless said otherwise."""
    base = {"device": True, "function": False, "representor": False, "wireless": False, "type": 1, "bond": False}
    return {**base, "active": "", "bridge": False, "master": "", "lower": [], "sysfs": True, **more}


def node(layout: str = "4", isolated: tuple[int, ...] = (), **nics: Any) -> dict[str, Any]:
    """Return an observation with these NICs: a fixture's name, or (name, changes to its detail)."""
    cores = LAYOUTS[layout]
    seen: dict[str, Any] = {
        "kernel": "6.1.0",
        "cpus": {"online": sorted(c for core in cores for c in core), "isolated": list(isolated), "cores": cores},
        "default_routes": [],
        "interfaces": {},
        "nics": {},
    }
    for name, wanted in nics.items():
        fixture, more = (wanted, {}) if isinstance(wanted, str) else wanted
        detail = json.loads((FIXTURES / f"constructed/{fixture}.json").read_text())["detail"]
        for key, value in more.items():
            detail[key] = {**detail[key], **value} if isinstance(detail[key], dict) else value
        seen["interfaces"][name] = outline()
        seen["nics"][name] = detail
    return seen


def plan(observation: dict[str, Any], *raw: dict[str, Any]) -> list[Change]:
    return FAMILY.plan(FAMILY.parse(raw), observation)


def only(observation: dict[str, Any], **wish: Any) -> Change:
    changes = plan(observation, {"interfaces": "physical", **wish})
    assert len(changes) == 1
    return changes[0]


CHANNELS = [
    # fixture, CPUs, wish, before, want, status, a word of the note
    ("virtio-2-of-4", "4", "auto", "combined=2", "combined=4", "pending", "4 cores on this node"),
    ("virtio-2-of-4", "2", "auto", "combined=2", "combined=2", "ok", "at most 4 queues"),
    ("virtio-2-of-4", "4", "max", "combined=2", "combined=4", "pending", ""),
    ("virtio-2-of-4", "2", 4, "combined=2", "combined=4", "pending", ""),
    ("virtio-max-2", "4", 4, "combined=1", "combined=2", "pending", "4 queues asked for, the device has at most 2"),
    ("virtio-max-2", "4", {"rx": 2, "tx": 2}, "combined=1", "combined=2", "pending", "combined queues only"),
    ("virtio-max-2", "4", {"rx": 4, "tx": 4}, "combined=1", "combined=2", "pending", "at most 2"),
    ("virtio-max-2", "4", {"rx": 2, "tx": 1}, "combined=1", None, "unsupported", "rx and tx cannot differ"),
    ("ena-8", "64", "auto", "combined=8", "combined=8", "ok", "32 cores on this node"),
    ("ena-8", "4", "auto", "combined=8", "combined=4", "pending", "4 cores on this node"),
    # Two cores of two threads: four queues bring nothing over two, but are no reason to interrupt.
    ("ena-4-of-4", "2x2", "auto", "combined=4", "combined=4", "ok", "not worth an interruption"),
    ("ena-4-of-4", "2", "auto", "combined=4", "combined=2", "pending", "2 cores"),
    ("mlx5-numa1", "64", "auto", "combined=63", "combined=16", "pending", "16 cores on NUMA node 1"),
    ("mlx5-numa1", "64", "max", "combined=63", "combined=63", "ok", ""),
    ("gve", "16", "auto", "rx=8 tx=8", "rx=16 tx=16", "pending", "16 cores"),
    ("gve", "16", 4, "rx=8 tx=8", "rx=4 tx=4", "pending", "no combined queues: rx=4 tx=4"),
    ("gve", "16", {"rx": 12}, "rx=8 tx=8", "rx=12 tx=8", "pending", ""),
    ("gve", "16", {"rx": 32, "tx": 8}, "rx=8 tx=8", "rx=16 tx=8", "pending", "32 rx queues asked for"),
    ("gve", "16", "max", "rx=8 tx=8", "rx=16 tx=16", "pending", ""),
    ("bnxt-combined", "16", "auto", "combined=8", "combined=8", "ok", "8 cores on NUMA node 0"),
    ("bnxt-combined", "16", 12, "combined=8", "combined=12", "pending", ""),
    ("bnxt-combined", "16", {"rx": 8, "tx": 4}, "combined=8", "rx=8 tx=4", "pending", ""),
    ("tg3", "16", "auto", "rx=4 tx=1", "rx=4 tx=4", "pending", "8 cores on NUMA node 0"),
    ("no-channels", "4", "auto", None, None, "unsupported", "1 receive queue and its driver e1000"),
]


@pytest.mark.parametrize(("fixture", "layout", "wish", "before", "want", "status", "word"), CHANNELS)
def test_channels(
    fixture: str, layout: str, wish: Any, before: str | None, want: str | None, status: str, word: str
) -> None:
    change = only(node(layout, eth0=fixture), channels=wish)
    assert (change.key, change.before, change.want, change.status) == ("eth0/channels", before, want, status)
    assert word in change.note
    assert (change.persist is not None) == (status in ("ok", "pending"))


HOLDERS = [
    # who holds on to the queues, queues asked for, status, owner, a word of the note
    ({"rss": [0, 1, 2, 3, 4, 5, 6, 7] * 16}, 4, "pending", "", ""),
    ({"rss": [0, 1, 2, 3] * 32}, 4, "pending", "", ""),
    ({"rss": [0, 1, 2, 3] * 32}, 2, "owned", "rss-table", "queue 3"),
    ({"rss": [0] * 100 + [7] * 28}, 4, "owned", "rss-table", "queue 7"),
    ({"rss": [0] * 100 + [7] * 28}, 8, "ok", "", ""),
    ({"contexts": [6]}, 4, "owned", "rss-table", "RSS context"),
    ({"ntuple": [1, 6]}, 4, "owned", "ntuple", "queue 6"),
    ({"ntuple": [1, 3]}, 4, "pending", "", ""),
    ({"xdp": [5]}, 4, "owned", "af_xdp", "queue 5"),
    ({"xdp": [0, 3]}, 4, "pending", "", ""),
    ({"unknown": {"xdp": "no diagnosis"}}, 4, "owned", "af_xdp", "no diagnosis"),
    ({"unknown": {"xdp": "no diagnosis"}}, 8, "ok", "", ""),
    ({"unknown": {"ntuple": "cannot be read"}}, 4, "owned", "ntuple", "cannot be read"),
]


@pytest.mark.parametrize(("users", "wish", "status", "owner", "word"), HOLDERS)
def test_queues_in_use_are_not_taken_away(users: dict[str, Any], wish: int, status: str, owner: str, word: str) -> None:
    change = only(node(eth0=("ena-8", {"users": users})), channels=wish)
    assert (change.status, change.owner, change.before) == (status, owner, "combined=8")
    assert word in change.note
    assert change.persist is None or status in ("ok", "pending")


def test_more_queues_beside_a_hand_set_table_say_so() -> None:
    seen = node("16", eth0=("bnxt-combined", {"users": {"rss": [0, 1] * 64}}))
    change = only(seen, channels=12)
    assert change.status == "pending"
    assert "hand-set RSS table is kept" in change.note


def test_refused_channels_leave_the_steering_to_the_queues_there_are() -> None:
    seen = node("64", eth0=("ena-8", {"users": {"ntuple": [7]}}))
    changes = plan(seen, {"interfaces": ["eth0"], "channels": 2, "rps": "0-1"})
    assert [c.status for c in changes] == ["owned"] + ["pending"] * 8
    assert changes[-1].key == "eth0/rps/rx-7"


RINGS = [
    ("ena-8", "max", "rx=1024 tx=1024", "rx=16384 tx=1024", "pending", ""),
    ("ena-8", 8192, "rx=1024 tx=1024", "rx=8192 tx=1024", "pending", "8192 tx descriptors asked for"),
    ("ena-8", {"rx": 5000}, "rx=1024 tx=1024", "rx=4096 tx=1024", "pending", "rounded down to a power of two"),
    ("ena-8", 1024, "rx=1024 tx=1024", "rx=1024 tx=1024", "ok", ""),
    ("bnxt-combined", 2047, "rx=511 tx=511", "rx=2047 tx=2047", "pending", ""),
    ("bnxt-combined", 4096, "rx=511 tx=511", "rx=2047 tx=2047", "pending", "at most 2047"),
    ("virtio-2-of-4", "max", "rx=256 tx=256", "rx=256 tx=256", "ok", ""),
]


@pytest.mark.parametrize(("fixture", "wish", "before", "want", "status", "word"), RINGS)
def test_rings(fixture: str, wish: Any, before: str, want: str, status: str, word: str) -> None:
    change = only(node(eth0=fixture), rings=wish)
    assert (change.key, change.before, change.want, change.status) == ("eth0/rings", before, want, status)
    assert word in change.note


def test_rings_of_a_device_without_any() -> None:
    seen = json.loads((FIXTURES / "captured/veth-4-queues.json").read_text())["observation"]
    changes = plan(seen, {"interfaces": ["v0"], "rings": "max"})
    assert [(c.key, c.status) for c in changes] == [("v0/rings", "unsupported")]


STEERING = [
    ("no-channels", "4", {"rps": "auto"}, [("rps/rx-0", "0", "f", "pending")]),
    ("virtio-2-of-4", "2", {"rps": "auto"}, [("rps/rx-0", "0", "0", "ok")]),
    ("virtio-2-of-4", "4", {"rps": "auto"}, [("rps/rx-0", "0", "f", "pending"), ("rps/rx-1", "0", "f", "pending")]),
    ("virtio-2-of-4", "2", {"rps": "off"}, [("rps/rx-0", "0", "0", "ok")]),
    ("virtio-2-of-4", "2", {"rps": "1"}, [("rps/rx-0", "0", "2", "pending"), ("rps/rx-1", "0", "2", "pending")]),
    ("virtio-2-of-4", "2", {"rps": "8-9"}, [("rps/rx-0", "0", None, "unsupported")]),
    ("virtio-2-of-4", "2", {"xps": "auto"}, [("xps/tx-0", "1", "1", "ok")]),
    ("virtio-2-of-4", "2x2", {"xps": "auto"}, [("xps/tx-0", "1", "3", "pending"), ("xps/tx-1", "2", "c", "pending")]),
    ("virtio-2-of-4", "2", {"xps": "off"}, [("xps/tx-0", "1", "0", "pending"), ("xps/tx-1", "2", "0", "pending")]),
    ("no-channels", "4", {"xps": "auto"}, [("xps/tx-0", None, None, "unsupported")]),
    # The queues that the channels bring count, and have the kernel's default before.
    (
        "virtio-2-of-4",
        "4",
        {"channels": "auto", "rps": "auto", "xps": "auto"},
        [
            ("channels", "combined=2", "combined=4", "pending"),
            ("rps/rx-0", "0", "0", "ok"),
            ("xps/tx-0", "1", "1", "ok"),
            ("xps/tx-1", "2", "2", "ok"),
            ("xps/tx-2", "0", "4", "pending"),
            ("xps/tx-3", "0", "8", "pending"),
        ],
    ),
    (
        "virtio-max-2",
        "4",
        {"channels": 4, "rps": "0,2"},
        [
            ("channels", "combined=1", "combined=2", "pending"),
            ("rps/rx-0", "0", "5", "pending"),
            ("rps/rx-1", "0", "5", "pending"),
        ],
    ),
]


@pytest.mark.parametrize(("fixture", "layout", "wish", "expected"), STEERING)
def test_steering(fixture: str, layout: str, wish: dict[str, Any], expected: list[Any]) -> None:
    changes = plan(node(layout, eth0=fixture), {"interfaces": ["eth0"], **wish})
    assert [(c.key[len("eth0/") :], c.before, c.want, c.status) for c in changes] == expected
    kept = [c.key for c in changes if c.persist and "rps" in c.persist]
    assert len(kept) <= 1  # the wish is kept once, under a key that every plan has


def test_steering_stays_in_the_memory_domain_and_off_isolated_cpus() -> None:
    seen = node("64", (16, 48), eth0=("mlx5-numa1", {"queues": {"rx": [0], "tx": [0]}, "rps": {"rx-0": "0"}}))
    seen["nics"]["eth0"]["rps"] = {"rx-0": "0"}
    change = plan(seen, {"interfaces": ["eth0"], "rps": "auto"})[0]
    assert cpus.parse_mask(change.want or "") == [*range(17, 32), *range(49, 64)]
    listed = plan(seen, {"interfaces": ["eth0"], "rps": "16-18,200"})[0]
    assert cpus.parse_mask(listed.want or "") == [17, 18]
    assert "CPUs 16,200 are not online or are isolated" in listed.note


def test_masks_of_vanishing_queues_are_cleared_first_so_that_a_rollback_knows_them() -> None:
    seen = node("4", eth0=("gve", {"rps": {f"rx-{n}": "3" for n in range(8)}}))
    changes = plan(seen, {"interfaces": ["eth0"], "channels": 6})
    assert [(c.key, c.before, c.want) for c in changes] == [
        ("eth0/rps/rx-6", "3", "0"),
        ("eth0/rps/rx-7", "3", "0"),
        ("eth0/channels", "rx=8 tx=8", "rx=6 tx=6"),
    ]
    assert [c.persist is None for c in changes] == [True, True, False]


@pytest.mark.parametrize(("sysfs", "word"), [("ro", "read-only"), ("foreign", "does not show this network namespace")])
def test_unreachable_sysfs_is_said_once(sysfs: str, word: str) -> None:
    changes = plan(node(eth0=("ena-8", {"sysfs": sysfs})), {"interfaces": ["eth0"], "rps": "auto", "channels": 8})
    assert [(c.key, c.status) for c in changes] == [("eth0/channels", "ok"), ("eth0/rps/rx-0", "unsupported")]
    assert word in changes[1].note


def test_bond_ports_come_one_after_the_other_the_active_one_last() -> None:
    seen = node("4", eno1="virtio-2-of-4", eno2="virtio-2-of-4", eno3="virtio-2-of-4")
    seen["interfaces"]["bond0"] = outline(device=False, bond=True, active="eno1", lower=["eno1", "eno2"])
    for port in ("eno1", "eno2"):
        seen["interfaces"][port]["master"] = "bond0"
    named = plan(seen, {"interfaces": ["bond0"], "channels": "auto"})
    assert [c.key for c in named] == ["eno2/channels", "eno1/channels"]
    assert "port of bond0" in named[0].note
    every = plan(seen, {"interfaces": "physical", "channels": "auto", "rps": "off"})
    assert [c.key.split("/")[0] for c in every if "/channels" in c.key] == ["eno3", "eno2", "eno1"]
    seen["default_routes"] = ["bond0.100"]
    seen["interfaces"]["bond0.100"] = outline(device=False, lower=["bond0"])
    routed = plan(seen, {"interfaces": "default-route", "channels": "auto"})
    assert [c.key for c in routed] == ["eno2/channels", "eno1/channels"]


def test_which_interfaces_are_physical() -> None:
    seen = node("4", eth0="ena-8", eth1="ena-8", eth2="ena-8", wlan0="ena-8", ib0="ena-8", sit0="ena-8")
    more: dict[str, dict[str, Any]] = {
        "eth1": {"function": True},
        "eth2": {"representor": True},
        "wlan0": {"wireless": True},
    }
    more.update(ib0={"type": 32}, sit0={"type": 776})
    for name, changes in more.items():
        seen["interfaces"][name].update(changes)
    seen["interfaces"]["cali1"] = outline(device=False)
    assert [c.key for c in plan(seen, {"interfaces": "physical", "channels": 8})] == ["eth0/channels", "ib0/channels"]


def test_a_container_tunes_what_its_default_route_leaves_through() -> None:
    seen = json.loads((FIXTURES / "captured/veth-4-queues.json").read_text())["observation"]
    seen["default_routes"] = ["v0"]
    changes = plan(seen, {"interfaces": "physical", "channels": 4})
    assert [(c.key, c.before, c.want, c.status) for c in changes] == [
        ("v0/channels", "rx=2 tx=2", "rx=4 tx=4", "pending")
    ]
    assert "no interface has a device of its own here" in changes[0].note
    assert changes[0].disruptive is False


MISSING = [
    (["eth9"], "eth9/channels", "no such interface"),
    (["ens*"], "ens*/channels", "no network device has such a name"),
    ("default-route", "default-route/channels", "there is no default route"),
]


@pytest.mark.parametrize(("interfaces", "key", "word"), MISSING)
def test_what_matches_nothing_is_one_unsupported_change(interfaces: Any, key: str, word: str) -> None:
    changes = plan(node(eth0="ena-8"), *[{"interfaces": interfaces, "channels": 4, "rps": "auto"}] * 2)
    assert [(c.key, c.status, c.want) for c in changes] == [(key, "unsupported", None)]
    assert word in changes[0].note


def test_globs_leave_stacked_interfaces_alone() -> None:
    seen = node("4", eth0="ena-8")
    seen["interfaces"]["eth0.100"] = outline(device=False, lower=["eth0"])
    seen["interfaces"]["ethbr"] = outline(device=False, bridge=True)
    assert [c.key for c in plan(seen, {"interfaces": ["eth*"], "channels": 8})] == ["eth0/channels"]


def test_the_last_setting_wins_aspect_by_aspect() -> None:
    seen = node("4", eth0="ena-8", eth1="ena-8")
    changes = plan(
        seen,
        {"interfaces": "physical", "channels": "auto", "rings": "max", "reason": "layer one"},
        {"interfaces": ["eth1"], "channels": 6, "reason": "layer two"},
    )
    assert [(c.key, c.want, c.reason) for c in changes] == [
        ("eth0/channels", "combined=4", "layer one"),
        ("eth0/rings", "rx=16384 tx=1024", "layer one"),
        ("eth1/channels", "combined=6", "layer two"),
        ("eth1/rings", "rx=16384 tx=1024", "layer one"),
    ]


def test_a_device_that_errs_is_named_and_the_others_go_on() -> None:
    seen = node("4", eth0="ena-8", eth1="ena-8")
    seen["nics"]["eth0"] = {"error": "eth0 does not answer: the device is busy"}
    changes = plan(seen, {"interfaces": "physical", "channels": 4})
    assert [(c.key, c.status) for c in changes] == [("eth0/channels", "unsupported"), ("eth1/channels", "pending")]


def test_what_is_kept_is_one_exact_interface_with_the_device_it_was_confirmed_on() -> None:
    change = only(node("4", eth0="ena-8"), channels="auto", reason="why")
    assert change.persist == {
        "interfaces": ["eth0"],
        "channels": "auto",
        "reason": "why",
        "identity": {"driver": "ena", "kernel": "6.1.0", "mac": "0a:58:a9:00:00:01"},
    }
    assert change.identity == {"driver": "ena", "mac": "0a:58:a9:00:00:01"}
    assert change.disruptive
    assert plan(node("4", eth0="ena-8"), change.persist)[0].want == change.want


def test_applying_a_plan_leaves_nothing_to_do() -> None:
    """A second plan over the state the first one wants is all ok."""
    seen = node("4", eth0="virtio-2-of-4")
    wish = {"interfaces": ["eth0"], "channels": "auto", "rps": "auto", "xps": "auto", "rings": 512}
    after = apply_to(seen, plan(seen, wish))
    assert {c.status for c in plan(after, wish)} == {"ok"}


def apply_to(observation: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """Return the observation of a node that took every pending change."""
    seen = copy.deepcopy(observation)
    for change in (c for c in changes if c.status == "pending"):
        name, aspect, *queue = change.key.split("/")
        nic = seen["nics"][name]
        if queue:
            nic[aspect][queue[0]] = change.want
            continue
        counts = dict(part.split("=") for part in (change.want or "").split())
        nic[aspect]["now"] = {side: int(counts.get(side, 0)) for side in nic[aspect]["now"]}
        if aspect == "channels":
            for side, steer in (("rx", "rps"), ("tx", "xps")):
                number = nic["channels"]["now"]["combined"] + nic["channels"]["now"][side]
                nic["queues"][side] = list(range(number))
                nic[steer] = {f"{side}-{n}": nic[steer].get(f"{side}-{n}", "0") for n in range(number)}
    return seen


COUNT = st.integers(0, 80)
TABLE = st.none() | st.lists(st.integers(0, 70), min_size=1, max_size=40)
WISH = st.sampled_from(["auto", "max"]) | st.integers(1, 90) | st.fixed_dictionaries({"rx": st.integers(1, 90)})


@given(
    most=st.fixed_dictionaries({"rx": COUNT, "tx": COUNT, "combined": COUNT}),
    now=st.fixed_dictionaries({"rx": COUNT, "tx": COUNT, "combined": COUNT}),
    table=TABLE,
    xdp=st.lists(COUNT, max_size=3),
    layout=st.sampled_from(sorted(LAYOUTS)),
    wish=WISH,
    steer=st.sampled_from(["auto", "off", "0-1"]),
)
def test_any_device_gives_a_plan_within_its_limits(
    most: dict[str, int],
    now: dict[str, int],
    table: list[int] | None,
    xdp: list[int],
    layout: str,
    wish: Any,
    steer: str,
) -> None:
    counts = {side: min(now[side], most[side]) for side in most}
    seen = node(layout, eth0=("gve", {"channels": {"max": most, "now": counts}, "users": {"rss": table, "xdp": xdp}}))
    changes = plan(seen, {"interfaces": ["eth0"], "channels": wish, "rps": steer, "xps": steer, "rings": 100})
    assert len({c.key for c in changes}) == len(changes)
    for change in changes:
        assert change.status in STATUSES
        if change.status == "pending" and change.key == "eth0/channels":
            wanted = dict(part.split("=") for part in (change.want or "").split())
            assert all(1 <= int(number) <= most[side] for side, number in wanted.items())
