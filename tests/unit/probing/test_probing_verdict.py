"""From measurements of both ends to each direction, and to the layer that most likely eats the packets."""

from __future__ import annotations

from typing import Any

import pytest

from tune_nodes.probing.ends import End, Layers, Link, LinkFault, Measured, PodEnd
from tune_nodes.probing.likely import common_node, faults, likely
from tune_nodes.probing.verdict import records
from tune_nodes.runs.models import PathRecord

A, B = ("a", "b", "node", 4), ("b", "a", "node", 4)
ENDS = {"a": End(addresses={"4": "10.0.0.1"}), "b": End(addresses={"4": "10.0.0.2"})}
GOOD: dict[str, Any] = {"size": 1500, "small": "answered", "exact": "answered", "above": "too-large", "passes": 1500}
LOST: dict[str, Any] = {**GOOD, "exact": "silent", "passes": 1400}
DEAD: dict[str, Any] = {"size": 1500, "small": "silent"}


def judged(ours: dict[str, Any] | None, theirs: dict[str, Any] | None, sized: bool = False) -> list[PathRecord]:
    measures = {key: Measured(id="x", **said) for key, said in ((A, ours), (B, theirs)) if said is not None}
    return records([A, B], measures, ENDS, sized)


@pytest.mark.parametrize(
    ("ours", "theirs", "there", "back"),
    [
        (GOOD, GOOD, ("pass", ""), ("pass", "")),
        (
            {**LOST, "back": "answered", "forth": "silent"},
            {**LOST, "back": "silent", "forth": "answered"},
            ("fail", "forward"),
            ("pass", ""),
        ),
        (
            {**LOST, "back": "silent", "forth": "silent"},
            {**LOST, "back": "silent", "forth": "silent"},
            ("fail", "both"),
            ("fail", "both"),
        ),
        # A firewall keeps the closed port's answer back: the other end's pieces tell.
        (
            {**LOST, "back": "answered", "forth": "silent"},
            {**LOST, "back": "silent"},
            ("fail", "forward"),
            ("pass", ""),
        ),
        # Nothing but echoes passes: which way it is cannot be told.
        (LOST, LOST, ("fail", "unknown"), ("fail", "unknown")),
        # One end could not be asked: the other's probes are enough.
        ({**LOST, "back": "silent", "forth": "silent"}, None, ("fail", "both"), ("fail", "both")),
        ({**LOST, "back": "answered", "forth": "silent"}, None, ("fail", "forward"), ("pass", "")),
        (GOOD, None, ("pass", ""), ("pass", "")),
        (LOST, None, ("fail", "unknown"), ("", "")),
        (None, None, ("", ""), ("", "")),
        (DEAD, DEAD, ("fail", "unknown"), ("fail", "unknown")),
        (DEAD, None, ("fail", "unknown"), ("", "")),
        # One end's firewall drops echoes: the other's echo went both ways.
        (DEAD, GOOD, ("pass", ""), ("pass", "")),
        # Sizes differ: 9000 is lost on the way, 1500 passes the other way.
        (
            {**LOST, "size": 9000, "back": "answered", "forth": "silent", "passes": 1500},
            GOOD,
            ("fail", "forward"),
            ("pass", ""),
        ),
        (
            {**LOST, "exact": "too-large", "size": 2000, "passes": 1500},
            {**LOST, "exact": "too-large", "size": 2000},
            ("fail", "both"),
            ("fail", "both"),
        ),
        # The time was over, or it could not be sent: nothing is claimed.
        ({"size": 1500, "small": "failed", "trouble": "no route"}, None, ("", ""), ("", "")),
        ({"size": 1500, "small": ""}, None, ("", ""), ("", "")),
    ],
)
def test_each_direction_by_itself(
    ours: dict[str, Any] | None, theirs: dict[str, Any] | None, there: tuple[str, str], back: tuple[str, str]
) -> None:
    first, second = judged(ours, theirs)
    assert ((first.exact, first.direction), (second.exact, second.direction)) == (there, back)


def test_one_byte_more_that_passes_is_a_note_unless_a_size_was_asked_for() -> None:
    more = {**GOOD, "above": "answered"}
    assert judged(more, GOOD)[0].above == "pass"
    assert "carries more" in judged(more, GOOD)[0].note
    assert judged(more, GOOD, sized=True)[0].note == ""
    assert judged(GOOD, GOOD)[0].above == "fail"


# -- which layer ------------------------------------------------------------------------------------------------------


def path(**said: Any) -> PathRecord:
    row = {"from": "a", "to": "b", "layer": "node", "family": 4, "size": 1500, "exact": "fail", "passes": 1400}
    return PathRecord.model_validate({**row, "direction": "forward", **said})


def end(underlay: int = 1500, tunnel: int = 1450, bridge: int = 1450, pods: int = 1450, *words: str) -> End:
    return End(
        addresses={"4": "10.0.0.1"},
        pod=PodEnd(name="p", mtu=pods),
        layers=Layers(
            cni="flannel",
            underlay=(Link(name="eth0", mtu=underlay),),
            tunnels=(Link(name="flannel.1", mtu=tunnel, kind="vxlan", overhead=50),),
            bridges=(Link(name="cni0", mtu=bridge),),
            pods=(pods,),
            faults=tuple(LinkFault(word=word, at="flannel.1", text=f"{word} here") for word in words),
        ),
    )


POD = path(layer="pod", size=1450, passes=1300)


@pytest.mark.parametrize(
    ("one", "node_path", "ends", "word", "says"),
    [
        (path(), None, {"a": end(), "b": end()}, "underlay-hop", "above 1400"),
        (path(), None, {}, "underlay-hop", "above 1400"),
        (path(size=9000, passes=1500), None, {"a": end(9000), "b": end(1500)}, "own-mtu", "b: eth0 (1500)"),
        (path(size=2000, passes=1500), None, {"a": end(), "b": end()}, "own-mtu", "a: eth0 (1500)"),
        (path(passes=None), None, {"a": end(), "b": end()}, "filtered", "a firewall"),
        (
            path(layer="pod", passes=None, to_end="web-0"),
            None,
            {"a": end(), "b": end()},
            "filtered",
            "one pod stands for all of a node's, here web-0 for b: a NetworkPolicy that isolates it drops ICMP",
        ),
        (path(layer="pod", passes=None, to_end="bridge cni0"), None, {}, "filtered", "answered: a firewall"),
        (POD, path(passes=1350), {"a": end(), "b": end()}, "underlay-hop", "1350 bytes, and these packets are 1500"),
        (POD, path(exact="pass"), {"a": end(), "b": end(bridge=1300)}, "bridge-below", "b: bridge cni0 (1300)"),
        (POD, path(exact="pass"), {"a": end(bridge=1300), "b": end()}, "bridge-below", "a: bridge cni0 (1300)"),
        (POD, path(exact="pass"), {"a": end(tunnel=1300), "b": end()}, "pod-above-tunnel", "above flannel.1 (1300)"),
        (POD, path(exact="pass"), {"a": end(), "b": end(pods=1300)}, "own-mtu", "its pods have 1300"),
        (
            POD,
            None,
            {"a": end(1500, 1450, 1450, 1450, "tunnel-above-underlay"), "b": end()},
            "tunnel-above-underlay",
            "a: ",
        ),
        (POD, path(exact="pass"), {"a": end(), "b": end()}, "unknown", "fits"),
        # A hole in the nodes' own path that is too small to matter for these packets.
        (path(layer="pod", size=1250, passes=1100), path(passes=1400), {"a": end(), "b": end()}, "unknown", "fits"),
        # The receiver's tunnel does not limit what the sender wraps; of a hole both ways it may.
        (POD, path(exact="pass"), {"a": end(), "b": end(tunnel=1300)}, "unknown", "fits"),
        (
            path(layer="pod", size=1450, direction="both"),
            None,
            {"a": end(), "b": end(tunnel=1300)},
            "pod-above-tunnel",
            "b: ",
        ),
    ],
)
def test_the_layer_that_most_likely_eats_them(
    one: PathRecord, node_path: PathRecord | None, ends: dict[str, End], word: str, says: str
) -> None:
    cause = likely(one, node_path, ends)
    assert cause.likely == word
    assert says in cause.why
    assert cause.next


def both(one: str, other: str, direction: str = "both", passes: int | None = 1400) -> list[PathRecord]:
    there = path(**{"from": one, "to": other}, direction=direction, passes=passes)
    bad = {"direction": direction} if direction != "forward" else {"direction": "", "exact": "pass"}
    return [there, path(**{"from": other, "to": one}, passes=passes, **bad)]


def test_both_ways_is_one_fault_and_one_way_names_its_direction() -> None:
    (fault,) = faults(both("a", "b"), {})
    assert fault.text == "a <-> b (IPv4): 1500 bytes vanish, 1400 pass"
    (fault,) = faults(both("b", "a", "forward"), {})
    assert fault.text == "b -> a (IPv4): 1500 bytes vanish, 1400 pass"
    (fault,) = faults(both("a", "b", "unknown"), {})
    assert fault.text.endswith("in which direction cannot be told")


def test_a_node_that_is_down_is_no_paths_fault() -> None:
    silent = both("a", "b", "unknown", None)
    assert faults(silent, {}, {"b"}) == []
    assert faults(silent, {})[0].likely == "filtered"
    assert len(faults(both("a", "b"), {}, {"b"})) == 1, "small packets pass and large ones do not: that is one"


def test_the_node_that_all_faults_touch_is_named() -> None:
    whole = [path(**{"from": "a", "to": "c"}, exact="pass", direction="")]
    holes = [*both("a", "b"), *both("b", "c")]
    assert common_node([*holes, *whole], faults(holes, {})) == "b"
    healthy = path(**{"from": "b", "to": "d"}, exact="pass", direction="")
    assert common_node([*holes, healthy], faults(holes, {})) == "", "one of its paths is whole"
    assert common_node(both("a", "b"), faults(both("a", "b"), {})) == "", "of one pair it could be either"
    apart = [*both("a", "b"), *both("c", "d")]
    assert common_node(apart, faults(apart, {})) == ""
