"""One path's measurement over a wire that behaves as it is told."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ansible_collections.tune.nodes.plugins.module_utils.errors import NodeError
from ansible_collections.tune.nodes.plugins.module_utils.host import Host
from ansible_collections.tune.nodes.plugins.module_utils.paths import answer
from ansible_collections.tune.nodes.plugins.module_utils.paths.measure import Path
from ansible_collections.tune.nodes.plugins.module_utils.paths.wire import ANSWERED, DO, SILENT, TOO_LARGE, Wire
from hypothesis import given
from hypothesis import strategies as st


class FakeWire:
    """A path with a limit for each direction and for each end."""

    family = 4

    def __init__(
        self, own: int = 1500, forth: int = 9999, back: int = 9999, pieces: bool = True, closed: bool = True
    ) -> None:
        self.own, self.forth, self.back = own, forth, back
        self.pieces, self.closed = pieces, closed
        self.told = 0  # a router tells this MTU
        self.dead = False
        self.packets = self.bytes = 0
        self.trouble = ""

    def mtu(self) -> int:
        return self.own

    def echo(self, size: int, how: int, wait: float, tries: int = 1) -> str:
        self.packets += 1
        if size > self.own:
            return TOO_LARGE
        if self.told and size > self.told:
            self.own = self.told if how == DO else self.own
            return TOO_LARGE
        return SILENT if self.dead or size > min(self.forth, self.back) else ANSWERED

    def echo_back(self, size: int, wait: float, tries: int = 1) -> str:
        return ANSWERED if self.pieces and size <= self.back else SILENT

    def closed_port(self, size: int, wait: float, tries: int = 1) -> str:
        return ANSWERED if self.closed and size <= self.forth else SILENT


def measured(wire: FakeWire, size: int | None = None, until: float = 1e9, clock: Any = lambda: 0.0) -> dict[str, Any]:
    found: dict[str, Any] = Path(cast(Wire, wire), size, until, clock).measure()
    return found


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (FakeWire(), {"exact": ANSWERED, "above": TOO_LARGE, "passes": 1500, "back": "", "forth": ""}),
        (FakeWire(forth=1400), {"exact": SILENT, "passes": 1400, "back": ANSWERED, "forth": SILENT}),
        (FakeWire(back=1400), {"exact": SILENT, "passes": 1400, "back": SILENT, "forth": ANSWERED}),
        (FakeWire(forth=1400, back=1300), {"exact": SILENT, "passes": 1300, "back": SILENT, "forth": SILENT}),
        (FakeWire(back=1400, closed=False), {"back": SILENT, "forth": ""}),
        (FakeWire(back=1400, pieces=False), {"back": "", "forth": ANSWERED}),
        (FakeWire(forth=1400, pieces=False, closed=False), {"back": "", "forth": "", "passes": 1400}),
    ],
    ids=["whole", "forth", "back", "both", "firewall", "no-pieces", "cannot-tell"],
)
def test_the_direction_is_told_from_one_end(wire: FakeWire, expected: dict[str, Any]) -> None:
    found = measured(wire)
    assert {key: found[key] for key in expected} == expected
    assert wire.packets < 20


def test_a_dead_path_is_not_searched() -> None:
    wire = FakeWire()
    wire.dead = True
    found = measured(wire)
    assert (found["small"], found["exact"], found["passes"]) == (SILENT, "", None)
    assert wire.packets <= 3


def test_what_a_router_tells_is_the_size_from_then_on() -> None:
    wire = FakeWire()
    wire.told = 1420
    found = measured(wire)
    assert (found["size"], found["told"], found["exact"], found["passes"]) == (1420, 1420, ANSWERED, 1420)


@pytest.mark.parametrize(
    ("size", "exact", "above", "passes"), [(1300, ANSWERED, ANSWERED, 1300), (2000, TOO_LARGE, TOO_LARGE, 1500)]
)
def test_a_size_that_was_asked_for(size: int, exact: str, above: str, passes: int) -> None:
    found = measured(FakeWire(), size)
    assert (found["exact"], found["above"], found["passes"]) == (exact, above, passes)


@given(st.integers(96, 1499), st.integers(96, 1499))
def test_the_largest_that_passes_is_found_to_the_byte(forth: int, back: int) -> None:
    assert measured(FakeWire(forth=forth, back=back))["passes"] == min(forth, back)


def test_it_ends_when_the_time_is_over() -> None:
    ticks = iter(range(100))
    found = measured(FakeWire(forth=1400), until=8.0, clock=lambda: float(next(ticks)))
    assert "the time" in found["trouble"]
    assert found["passes"] is None


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1",
        {},
        {"address": "example.org"},
        {"address": "10.0.0.1; reboot"},
        {"address": "10.0.0.1", "source": "fd00::1"},
        {"address": "10.0.0.1", "size": 20},
        {"address": "10.0.0.1", "size": "1500"},
        {"address": "10.0.0.1", "size": 70000},
    ],
)
def test_what_is_no_target_is_refused(target: Any) -> None:
    with pytest.raises(NodeError) as caught:
        answer.answer({"targets": [target]}, Host())
    assert caught.value.code == "usage"


def test_a_pod_that_is_gone_is_told_for_each_of_its_targets() -> None:
    found = answer.answer({"targets": [{"address": "10.0.0.1", "pod": "none-such", "id": "x"}]}, Host())
    (row,) = found["measured"]
    assert row["id"] == "x"
    assert "ended" in row["trouble"]
