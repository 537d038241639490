"""What is stale and when nothing may be released: tables over a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.cni.model import Lease, Network, Sandbox, Scan
from ansible_collections.tune.nodes.plugins.module_utils.cni.plan import Limits, Plan, agreed, decide, duration, judge
from hypothesis import given
from hypothesis import strategies as st

NETWORK = Network("cbr0", "/var/lib/cni/networks/cbr0")
BOOT = 1_000_000.0  # the wall clock at boot
UP = 50_000.0
WALL = BOOT + UP
LIMITS = Limits(grace=900, between=120, max_stale=90)


def lease(ip: str = "10.0.0.2", sandbox: str = "gone", age: float = 5000.0, inode: int = 1) -> Lease:
    """Return a lease that is ``age`` seconds old."""
    return Lease("cbr0", ip, sandbox, "eth0", inode, int((WALL - age) * 1e9))


def scan(*leases: Lease, **fields: object) -> Scan:
    """Return a scan of a node that has been up for a while, with one sandbox."""
    base = Scan("boot", UP, WALL, list(leases), {"alive": Sandbox("alive", True, "pod", "ns")}, {}, (), 1, 0.2)
    return replace(base, **fields)  # type-checked by replace itself


@pytest.mark.parametrize(
    ("one", "fields", "verdict"),
    [
        (lease(), {}, "stale"),
        (lease(sandbox="alive"), {}, "live"),
        (lease(sandbox="alive"), {"sandboxes": {"alive": Sandbox("alive", False)}}, "live"),  # NotReady holds it too
        (lease(sandbox=""), {}, "unclear"),
        (lease(age=899), {}, "young"),
        (lease(age=901), {}, "stale"),
        (lease(age=100), {"wall": BOOT + 50, "taken": 50.0}, "young"),
        (lease(age=UP + 1), {}, "stale"),  # from before the boot
        (lease(), {"used": {"10.0.0.2": "the network namespace cni-1"}}, "in-use"),
        (lease("fd00::7"), {"used": {"fd00::7": "the node itself"}}, "in-use"),
        (lease(), {"pods": ("10.0.0.2",)}, "in-use"),
        (lease(), {"pods": ("10.0.0.3",)}, "stale"),
        (lease(), {"pods": None}, "stale"),
    ],
)
def test_verdicts(one: Lease, fields: dict[str, object], verdict: str) -> None:
    assert [row.verdict for row in judge(scan(one, **fields), 900)] == [verdict]


def test_a_lease_from_before_the_boot_needs_no_grace() -> None:
    early = scan(lease(age=60), wall=BOOT + UP, taken=30.0)  # up for 30 s: 60 s old is from before
    assert judge(early, 900)[0].verdict == "stale"


EARLIER = scan(taken=UP - 120, wall=WALL - 120)
LIVE = lease("10.0.0.9", "alive")


@pytest.mark.parametrize(
    ("first", "now", "code"),
    [
        (EARLIER, scan(lease(), LIVE), ""),
        (EARLIER, scan(lease(), LIVE, sandboxes={}), "no-sandboxes"),
        (EARLIER, scan(lease(), LIVE, lease("10.0.0.5", age=-60)), "clock"),  # from the future
        (EARLIER, scan(lease(), LIVE, lease("10.0.0.5", age=-4)), ""),  # coarse file times
        (EARLIER, scan(lease(), LIVE, wall=WALL + 3600), "clock"),  # set forward between the scans
        (EARLIER, scan(lease(), LIVE, wall=WALL - 3), "clock"),
        (EARLIER, scan(lease(), LIVE, wall=WALL + 1), ""),  # slewed
        (EARLIER, scan(lease(), LIVE, skew=3600.0), "clock"),  # set since the newest sandbox
        (EARLIER, scan(lease(), LIVE, skew=-3600.0), "clock"),
        (EARLIER, scan(lease(), LIVE, skew=250.0), ""),  # the pause image was pulled
        (EARLIER, scan(lease(), LIVE, boot_id="another"), "scans"),
        (scan(taken=UP - 60, wall=WALL - 60), scan(lease(), LIVE), "scans"),
        (EARLIER, scan(*[lease(f"10.0.0.{n}", f"gone{n}") for n in range(10, 30)], LIVE), "too-many-stale"),
        (EARLIER, scan(*[lease(f"10.0.0.{n}", f"gone{n}") for n in range(10, 19)], LIVE), ""),  # 90 % exactly
        (EARLIER, scan(), ""),
    ],
)
def test_refusals(first: Scan, now: Scan, code: str) -> None:
    plan = decide([NETWORK], first, [lease()], now, LIMITS)
    assert [refusal.code for refusal in plan.refusals][:1] == ([code] if code else [])
    assert all(refusal.what and refusal.next for refusal in plan.refusals)


def test_what_could_not_be_checked_is_said() -> None:
    plan = decide([NETWORK], EARLIER, [], scan(lease(), LIVE, pods=None, skew=None), LIMITS)
    assert len(plan.not_checked) == 2
    assert decide([NETWORK], EARLIER, [], scan(lease(), LIVE), LIMITS).not_checked == []


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (lease(), lease(), True),
        (lease(), lease(inode=2), False),  # given to somebody and left again
        (lease(), lease(sandbox="other"), False),
        (lease(), lease(age=4999), False),
        (lease(), lease("10.0.0.3"), False),
    ],
)
def test_two_scans_agree_on_the_very_same_file(before: Lease, after: Lease, same: bool) -> None:
    assert agreed([before], [after]) == ([after] if same else [])


def test_a_lease_that_came_between_the_scans_is_kept() -> None:
    late = lease("10.0.0.3", "made-since", age=5000)
    plan = decide([NETWORK], EARLIER, [lease()], scan(lease(), late, LIVE), LIMITS)
    assert plan.stale == [lease()] and plan.refusals == []


def test_a_sandbox_that_came_back_keeps_its_lease() -> None:
    plan = decide([NETWORK], EARLIER, [lease()], scan(lease(), LIVE, sandboxes={"gone": Sandbox("gone")}), LIMITS)
    assert plan.stale == []


IDS = st.sampled_from(["alive", "gone1", "gone2", ""])
ROWS = st.lists(st.builds(lease, st.sampled_from(["10.0.0.2", "10.0.0.3"]), IDS, st.floats(-10, 1e5)), max_size=6)


@given(ROWS, ROWS)
def test_nothing_is_ever_released_that_a_sandbox_holds_or_that_only_one_scan_saw(
    before: list[Lease], after: list[Lease]
) -> None:
    plan: Plan = decide([NETWORK], EARLIER, before, scan(*after), LIMITS)
    for one in plan.stale:
        assert one.id not in ("alive", "") and one in before and one in after


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200000, "2 d"), (-7300, "-2 h")]
)
def test_time_spans_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
